"""Quality and lambda: one scale for training and coding."""

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

LAMBDA_MIN = 0.00021
OCTAVES = 10.8
QUALITY_MAX = 63


def lambda_of_quality(quality: Number) -> Number:
    """lambda of L = lambda * 255^2 * MSE + bpp for a quality of 0 .. 63: 0.00021 * 2 ** (quality * 10.8 / 63).

    So six qualities are about an octave of lambda; the paper's nine lambdas, 0.00125 to 0.32, lie at the qualities
    15 to 62, and below there is room for pictures that x265 makes at CRF 35.
    """
    return LAMBDA_MIN * 2 ** (quality * (OCTAVES / QUALITY_MAX))


#: The cascade: offsets from the quality that is asked for, of I-frames and of P-frames by their place in turns of four.
#: A good reference pays for all frames that follow; standard codecs do the same with their quantisers.
IFRAME_OFFSET = 5
PFRAME_OFFSETS = (-4, -1, -4, 0)


def frame_quality(quality: int, position: int) -> int:
    """The quality, 0 .. 63, of the frame at `position` of its GOP (0: the I-frame) where `quality` is asked for."""
    return min(QUALITY_MAX, max(0, quality + _offset(position)))


def cascaded(quality: Tensor, frames: int) -> Tensor:
    """The qualities (batch, frames) of the first frames of GOPs for which `quality` (batch,) is asked for."""
    offsets = torch.tensor([_offset(position) for position in range(frames)], device=quality.device)
    return (quality[:, None] + offsets).clamp(0, QUALITY_MAX)


def _offset(position: int) -> int:
    return PFRAME_OFFSETS[(position - 1) % len(PFRAME_OFFSETS)] if position else IFRAME_OFFSET
