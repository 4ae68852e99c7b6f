"""Quality and lambda: one scale for training and coding."""

from typing import TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)

LAMBDA_MIN = 0.00125
OCTAVES = 9.0
QUALITY_MAX = 63


def lambda_of_quality(quality: Number) -> Number:
    """lambda of L = lambda * 255^2 * MSE + bpp for a quality of 0 .. 63: 0.00125 * 2 ** (quality / 7).

    So the paper's nine lambdas, 0.00125 to 0.32, are the qualities 0, 7, 14, ... 56, and 63 is 0.64.
    """
    return LAMBDA_MIN * 2 ** (quality * (OCTAVES / QUALITY_MAX))
