"""Latents as a `ContextMixer` takes them: maps (H, W, C) with the channels of a place lying together.

The coders have flat lists of the symbols that a pass codes. These are laid out on the map of all channels, whichever
slice of them and whichever places the pass has, and taken from the map that comes back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .context_mixing import LEVELS, SymbolMap


class ChannelRange(NamedTuple):
    """Which of all channels a call codes: the first one's number, and how many there are in all."""

    first: int
    total: int


class LatentSlice(NamedTuple):
    """Where latents (1, C, H, W) lie in the map of all channels that a mixer codes."""

    shape: tuple[int, int, int]  # of that map: channels, height, width
    first: int  # number of the latents' first value in it
    size: int  # how many values the latents have

    @classmethod
    def of(cls, shape: tuple[int, ...], channels: ChannelRange | None) -> LatentSlice:
        _, count, height, width = shape
        first, total = channels or (0, count)
        return cls((total, height, width), first * height * width, count * height * width)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.shape[1], self.shape[2], self.shape[0]

    def part(self, where: Tensor | None, levels: np.ndarray, coded: np.ndarray, spacing: int,
             symbols: np.ndarray | None = None, exact: np.ndarray | None = None,
             price: float = 0.0) -> SymbolMap:  # fmt: skip
        """The latents at the places `where` (None: all), whose rows are their scales' levels."""
        index = self._index(where)

        def planes(values: np.ndarray) -> np.ndarray:
            full = np.zeros(math.prod(self.shape), values.dtype)
            full[index] = values
            return full.reshape(self.shape)

        rows = planes(levels)
        return SymbolMap.of_planes(
            planes(coded), rows, rows, None if symbols is None else planes(symbols), spacing,
            None if exact is None else planes(exact), price,
        )  # fmt: skip

    def taken(self, symbols: np.ndarray, where: Tensor | None) -> np.ndarray:
        """The symbols of a map (H, W, C) at the places `where`."""
        return channel_by_channel(symbols)[self._index(where)]

    def _index(self, where: Tensor | None) -> slice | np.ndarray:
        return slice(self.first, self.first + self.size) if where is None else where.cpu().numpy() + self.first


def hyper_map(rows: np.ndarray, shape: tuple[int, ...], symbols: np.ndarray | None = None) -> SymbolMap:
    """All hyper latents; the contexts know a row by its channel."""
    size = shape[1:]
    levels = np.arange(shape[1])[:, None, None] % LEVELS
    return SymbolMap.of_planes(
        np.ones(size, np.uint8), rows.reshape(size), np.broadcast_to(levels, size),
        None if symbols is None else symbols.reshape(size),
    )  # fmt: skip


def channel_by_channel(symbols: np.ndarray) -> np.ndarray:
    """(H, W, C) in the order of channels, rows, columns."""
    return np.ascontiguousarray(symbols.transpose(2, 0, 1)).reshape(-1)
