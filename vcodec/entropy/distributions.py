"""The distributions that latents can be coded under, by name."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .gaussian import gaussian_bits, gaussian_tables
from .laplace import laplace_bits, laplace_tables
from .rans import FrequencyTables


class Distribution(NamedTuple):
    """bits(residuals, log_scales): the differentiable rate; tables(): the integer rows, one a level of the scale."""

    bits: Callable[[Tensor, Tensor], Tensor]
    tables: Callable[[], FrequencyTables]


GAUSSIAN = Distribution(gaussian_bits, gaussian_tables)
LAPLACE = Distribution(laplace_bits, laplace_tables)
DISTRIBUTIONS = {"gaussian": GAUSSIAN, "laplace": LAPLACE}
