"""Latents as a `ContextMixer` takes them: maps (H, W, C) with the channels of a place lying together.

That is how channels-last tensors lie in memory, so most of the way there and back is no copy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .context_mixing import LEVELS, SymbolMap


class ChannelRange(NamedTuple):
    """Which of all channels a call codes: the first one's number, and how many there are in all."""

    first: int
    total: int


def latent_map(levels: Tensor, coded: Tensor, spacing: int, channels: ChannelRange | None,
               symbols: Tensor | None = None, exact: Tensor | None = None,
               price: float = 0.0) -> SymbolMap:  # fmt: skip
    """Latents (1, C, H, W) whose rows are their scales' levels; other channels than theirs are not coded.

    spacing, exact, price: see SymbolMap.
    """
    return SymbolMap(
        to_map(coded, torch.uint8, channels), to_map(levels, torch.int32, channels),
        to_map(levels, torch.uint8, channels),
        None if symbols is None else to_map(symbols, torch.int32, channels), spacing,
        None if exact is None else to_map(exact, torch.float32, channels), price,
    )  # fmt: skip


def hyper_map(rows: Tensor, symbols: Tensor | None = None) -> SymbolMap:
    """All hyper latents (1, C, H, W); the contexts know a row by its channel."""
    levels = (torch.arange(rows.shape[1], device=rows.device) % LEVELS)[:, None, None].expand(rows.shape)
    return SymbolMap(
        to_map(torch.ones_like(rows), torch.uint8), to_map(rows, torch.int32), to_map(levels, torch.uint8),
        None if symbols is None else to_map(symbols, torch.int32),
    )  # fmt: skip


def map_shape(shape: tuple[int, ...], channels: ChannelRange | None = None) -> tuple[int, int, int]:
    """(H, W, C) of the map in which latents (1, C, H, W) lie."""
    return shape[2], shape[3], shape[1] if channels is None else channels.total


def to_map(values: Tensor, dtype: torch.dtype, channels: ChannelRange | None = None) -> np.ndarray:
    """Values (1, C, H, W) in their place, zeros in that of other channels. May share their memory."""
    placed = values[0].permute(1, 2, 0).to("cpu", dtype)
    if channels is not None and channels.total != placed.shape[2]:
        full = placed.new_zeros(*placed.shape[:2], channels.total)
        full[:, :, channels.first : channels.first + placed.shape[2]] = placed
        placed = full
    array: np.ndarray = placed.contiguous().numpy()
    return array


def from_map(symbols: np.ndarray, count: int, channels: ChannelRange | None = None) -> Tensor:
    """The symbols (1, count, H, W) as a view of a map, which changes as the map does: copy to keep."""
    first = 0 if channels is None else channels.first
    return torch.from_numpy(symbols)[:, :, first : first + count].permute(2, 0, 1)[None]
