"""Fields of block motion for tests."""

import numpy as np


def random_field(seed: int, rows: int, columns: int, *, two: bool = True, reach: int = 60) -> np.ndarray:
    """A field int16 (6, rows, columns) as an encoder could choose it: vectors within +-reach, some of them often."""
    random = np.random.default_rng(seed)
    field = np.zeros((6, rows, columns), np.int16)
    for row in range(0, rows, 2):
        for column in range(0, columns, 2):
            split = random.random() < 0.4
            for i in range(4 if split else 1):
                block = (slice(row, row + 2), slice(column, column + 2))
                if split:
                    block = tuple(slice(at + step, at + step + 1) for at, step in ((row, i // 2), (column, i % 2)))
                field[(slice(None), *block)] = _block(random, split, two, reach)[:, None, None]
    return field


def _block(random: np.random.Generator, split: bool, two: bool, reach: int) -> np.ndarray:
    mode = int(random.integers(0, 3)) if two else 0
    newest, older = random.integers(-reach, reach, 2), random.integers(-reach, reach, 2)
    if random.random() < 0.5:
        newest = np.array([3, -5])
    if mode == 0:
        older = np.clip(2 * newest, -2047, 2047)
    if mode == 1:
        newest = np.trunc(older / 2)
    return np.array([split, mode, *newest, *older]).astype(np.int16)
