"""The Gaussian model of the latents: its scale grid, its likelihood for training, its integer tables for coding.

Scales are handled as logarithms throughout: networks give log-scales, the grid is even in them, and so coding
needs neither exp nor log (Ballé et al. 2018, "Variational image compression with a scale hyperprior").
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .rans import FrequencyTables

SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 64
LOG_SCALE_MIN = math.log(SCALE_MIN)
LOG_SCALE_STEP = (math.log(SCALE_MAX) - LOG_SCALE_MIN) / (SCALE_LEVELS - 1)

# Symbols under this level are certain zeros: at scale 0.11 one in 200 000 would differ. They are not coded.
FIRST_CODED_LEVEL = 1


def level_position(log_scales: Tensor) -> Tensor:
    """Where log-scales fall on the grid, so that floor() gives the level; clamped to [0, levels)."""
    position = (log_scales - LOG_SCALE_MIN) * (1 / LOG_SCALE_STEP) + 0.5
    return position.clamp(0, SCALE_LEVELS - 0.5)


def gaussian_bits(residuals: Tensor, log_scales: Tensor) -> Tensor:
    """Bits of unit intervals around `residuals` (y - means) under N(0, scale^2); differentiable, tails included."""
    inverse_scale = torch.exp(-bounded_log_scales(log_scales))
    distance = residuals.abs()  # seen from below, where the distribution function keeps its digits
    upper = torch.special.log_ndtr((0.5 - distance) * inverse_scale)
    lower = torch.special.log_ndtr((-0.5 - distance) * inverse_scale)
    return (upper + torch.log(-torch.expm1(lower - upper))) * (-1 / math.log(2))


def bounded_log_scales(log_scales: Tensor) -> Tensor:
    """Log-scales kept within the grid; those below it may still rise."""
    bounded = lower_bound(log_scales, LOG_SCALE_MIN)
    return bounded.clamp_max(math.log(SCALE_MAX))


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) whose gradient still lets a value under the bound rise."""
    bounded: Tensor = _LowerBound.apply(x, bound)
    return bounded


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


@cache
def gaussian_tables() -> FrequencyTables:
    """The frequency tables of the 64 levels: data of the format, read from the package, never recomputed."""
    return FrequencyTables.load(Path(__file__).parent / "gaussian_tables.npz")


def build_gaussian_tables() -> FrequencyTables:
    """How the stored tables were made: each level's normal distribution out to where a tail is under 2^-17."""
    return build_tables(
        lambda edge, scale: 0.5 * math.erfc(-edge / scale * 0.5**0.5), lambda scale: max(1, math.ceil(4.3 * scale))
    )


def build_tables(cumulative: Callable[[float, float], float], reach: Callable[[float], int]) -> FrequencyTables:
    """A row for each level of the grid: of the symbols -reach(scale) .. reach(scale), under cumulative(edge, scale)."""
    rows, minimum = [], []
    for level in range(SCALE_LEVELS):
        scale = math.exp(LOG_SCALE_MIN + level * LOG_SCALE_STEP)
        last = reach(scale)
        edges = np.arange(-last, last + 2) - 0.5
        rows.append(quantized_cdf(np.diff(np.array([cumulative(edge, scale) for edge in edges]))))
        minimum.append(-last)
    return FrequencyTables.from_rows(rows, minimum)


def quantized_cdf(probabilities: np.ndarray) -> np.ndarray:
    """Cumulative frequencies (0 .. 65536, uint32) of the symbols and, last, of "outside"; none is zero."""
    probabilities = np.append(probabilities, max(0.0, 1.0 - probabilities.sum()))
    spare = 65536 - probabilities.size
    cumulative = np.floor(np.cumsum(probabilities) / probabilities.sum() * spare + 0.5).astype(np.int64)
    cdf = np.concatenate([[0], cumulative + np.arange(1, probabilities.size + 1)])
    cdf[-1] = 65536
    return cdf.astype(np.uint32)
