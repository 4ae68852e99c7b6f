"""The Python twin of block_vectors.c and block_field.h: the same decisions, for machines without a compiler and as the
tests' reference. See there for the layout of a field."""

from __future__ import annotations

import numpy as np

from .mixing_python import Channel, Statistics, decide
from .rans_python import PLAIN

SPLIT, MODE, X0, Y0, X1, Y1, PLANES = range(7)
NEWEST, OLDER, BOTH = range(3)
LONGEST, LENGTHS = 2047, 12
CUT, OTHER, MIXED, FRESH, NEW, WHICH, MOVED, NEGATIVE, LONGER, UPPER, KINDS = range(11)
CONTEXTS, ENTRIES = 4, 256

Vector = tuple[int, int]


def new_statistics() -> Statistics:
    """What is known before the first field: nothing, and that the rows are right."""
    return Statistics(KINDS, CONTEXTS, ENTRIES)


def code_field(statistics: Statistics, channel: Channel, source: np.ndarray | None, cells: np.ndarray,
               previous: np.ndarray | None, two: bool) -> None:  # fmt: skip
    """Codes a field (6, rows, columns), filling `cells`. Raises ValueError for one that no encoder writes."""
    _Coding(statistics, channel, source, cells, previous, two).run()


class _Coding:
    def __init__(self, statistics: Statistics, channel: Channel, source: np.ndarray | None, cells: np.ndarray,
                 previous: np.ndarray | None, two: bool):  # fmt: skip
        self._statistics, self._channel, self._two = statistics, channel, two
        self._source, self._cells, self._previous = source, cells, previous
        self._rows, self._columns = cells.shape[1:]
        self._known = np.zeros((self._rows, self._columns), bool)
        self._fresh = np.zeros((self._rows, self._columns), np.uint8)

    def run(self) -> None:
        for row in range(0, self._rows, 2):
            for column in range(0, self._columns, 2):
                wanted = 0 if self._source is None else int(self._source[SPLIT, row, column])
                if self._code_split(row, column, wanted):
                    for i in range(4):
                        self._code_block(row + i // 2, column + i % 2, 1)
                else:
                    self._code_block(row, column, 2)

    def _decide(self, kind: int, contexts: list[int], row: int, bit: int) -> int:
        return decide(self._statistics, self._channel, kind, contexts, row, bit)

    def _is_known(self, row: int, column: int) -> bool:
        return 0 <= row < self._rows and 0 <= column < self._columns and bool(self._known[row, column])

    def _known_or(self, plane: int, row: int, column: int, otherwise: int) -> int:
        return int(self._cells[plane, row, column]) if self._is_known(row, column) else otherwise

    def _before(self, plane: int, row: int, column: int, otherwise: int) -> int:
        return otherwise if self._previous is None else int(self._previous[plane, row, column])

    def _freshness(self, reference: int, row: int, column: int) -> int:
        return int(self._fresh[row, column]) >> reference & 1 if self._is_known(row, column) else 0

    def _code_split(self, row: int, column: int, split: int) -> int:
        left, above = self._known_or(SPLIT, row, column - 1, 0), self._known_or(SPLIT, row - 1, column, 0)
        once = self._before(SPLIT, row, column, 2)
        return self._decide(CUT, [left * 2 + above, (left + above) * 3 + once, once], 13000, split)

    def _code_mode(self, row: int, column: int, small: int, mode: int) -> int:
        left, above = self._known_or(MODE, row, column - 1, 3), self._known_or(MODE, row - 1, column, 3)
        once = self._before(MODE, row, column, 3)
        contexts = [left * 4 + above, (small * 4 + left) * 4 + above, once, (left * 4 + above) * 4 + once]
        if not self._decide(OTHER, contexts, 20000, int(mode != NEWEST)):
            return NEWEST
        return BOTH if self._decide(MIXED, contexts, 45000, int(mode == BOTH)) else OLDER

    def _code_block(self, row: int, column: int, side: int) -> None:
        mode, vectors = NEWEST, [(0, 0), (0, 0)]
        if self._source is not None:
            mode, x0, y0, x1, y1 = (int(value) for value in self._source[MODE:, row, column])
            vectors = [(x0, y0), (x1, y1)]
        mode = self._code_mode(row, column, int(side == 1), mode) if self._two else NEWEST
        fresh = 0
        for reference in (0, 1):
            if mode == (OLDER, NEWEST)[reference]:
                continue
            newest = vectors[0] if reference and mode == BOTH else None
            vectors[reference], is_fresh = self._code_vector(reference, row, column, side, newest, vectors[reference])
            fresh |= is_fresh << reference
        self._settle(row, column, side, mode, vectors, fresh)

    def _code_vector(
        self, reference: int, row: int, column: int, side: int, newest: Vector | None, vector: Vector
    ) -> tuple[Vector, int]:
        """The vector, and whether it is not the first candidate."""
        candidates, distance = self._candidates(reference, row, column, side, newest)
        count, small, spread = len(candidates), int(side == 1), _rough(distance)
        chosen = candidates.index(vector) if vector in candidates else count
        around = self._freshness(reference, row, column - 1) + self._freshness(reference, row - 1, column)
        contexts = [
            (reference * 2 + small) * 3 + around,
            (int(newest is not None) * 2 + reference) * 8 + count,
            (reference * 2 + small) * 8 + spread,
        ]
        if not self._decide(FRESH, contexts, 20000, int(chosen != 0)):
            return candidates[0], 0
        contexts = [(reference * 2 + small) * 8 + count, spread, around]
        if self._decide(NEW, contexts, 32768, int(chosen == count)):
            first = candidates[0]
            x, moved = self._code_difference(reference, 0, small, spread, 0, vector[0] - first[0])
            y, _ = self._code_difference(reference, 1, small, spread, moved, vector[1] - first[1])
            vector = first[0] + x, first[1] + y
            if max(abs(vector[0]), abs(vector[1])) > LONGEST:
                raise ValueError("a vector that no encoder writes")
            return vector, 1
        which = 1
        while which < count - 1:
            if not self._decide(WHICH, [which * 8 + count, reference * 8 + which], 32768, int(chosen > which)):
                break
            which += 1
        return candidates[which if which < count else 0], 1

    def _code_difference(
        self, reference: int, axis: int, small: int, spread: int, other_moved: int, value: int
    ) -> tuple[int, int]:
        contexts = [(reference * 2 + axis) * 2 + small, axis * 8 + spread, axis * 2 + other_moved]
        if not self._decide(MOVED, contexts, 45000, int(value != 0)):
            return 0, 0
        negative = self._decide(NEGATIVE, [reference * 2 + axis, axis], 32768, int(value < 0))
        size, length = abs(value), 0
        while self._decide(LONGER, [axis * 16 + length, spread * 16 + length, small * 16 + length], 32768,
                           int(size >> length > 1)):  # fmt: skip
            if length == LENGTHS:
                raise ValueError("a vector that no encoder writes")
            length += 1
        coded = 1
        for bit in reversed(range(length)):
            wanted = size >> bit & 1
            if bit == length - 1:
                wanted = self._decide(UPPER, [axis * 16 + length, length], 32768, wanted)
            else:
                wanted = self._channel.decide(PLAIN, wanted)
            coded = coded << 1 | wanted
        return (-coded if negative else coded), 1

    def _candidates(
        self, reference: int, row: int, column: int, side: int, newest: Vector | None
    ) -> tuple[list[Vector], int]:
        places = [(row, column - 1), (row - 1, column), (row - 1, column + side)]
        if not self._is_known(*places[2]):
            places[2] = row - 1, column - 1
        there = [self._is_known(*place) for place in places]
        x, y = (X0, Y0) if reference == 0 else (X1, Y1)
        around = [
            (int(self._cells[x][place]), int(self._cells[y][place])) if known else (0, 0)
            for place, known in zip(places, there, strict=True)
        ]
        if sum(there) == 1:
            first = around[there.index(True)]
        else:
            first = sorted(v[0] for v in around)[1], sorted(v[1] for v in around)[1]
        found = [first]
        if newest is not None:
            found.append(_doubled(newest))
        found += [vector for vector, known in zip(around, there, strict=True) if known]
        if self._previous is not None:
            found.append((int(self._previous[x, row, column]), int(self._previous[y, row, column])))
        found.append((0, 0))
        spread = abs(around[0][0] - around[1][0]) + abs(around[0][1] - around[1][1]) if there[0] and there[1] else 0
        return list(dict.fromkeys(found)), spread

    def _settle(self, row: int, column: int, side: int, mode: int, vectors: list[Vector], fresh: int) -> None:
        newest, older = vectors
        if mode == NEWEST:
            older = _doubled(newest)
        if mode == OLDER:
            newest = int(older[0] / 2), int(older[1] / 2)  # towards zero
        block = slice(row, row + side), slice(column, column + side)
        for plane, value in enumerate((int(side == 1), mode, *newest, *older)):
            self._cells[plane][block] = value
        self._known[block] = True
        self._fresh[block] = fresh


def _doubled(vector: Vector) -> Vector:
    return _within(2 * vector[0]), _within(2 * vector[1])


def _within(value: int) -> int:
    return max(-LONGEST, min(LONGEST, value))


def _rough(count: int) -> int:
    return sum(count >= step for step in (1, 2, 4, 8, 16, 32, 64))
