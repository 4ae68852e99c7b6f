"""Quality and lambda: one scale for training and coding."""

from typing import TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)

LAMBDA_MIN = 0.0025
OCTAVES = 8.0
QUALITY_MAX = 63


def lambda_of_quality(quality: Number) -> Number:
    """lambda of L = lambda * 255^2 * MSE + bpp for a quality of 0 (0.0025) .. 63 (0.64), even in octaves."""
    return LAMBDA_MIN * 2 ** (quality * (OCTAVES / QUALITY_MAX))
