"""The Laplace rows: data of the format, and the likelihood that training sees is theirs."""

import math

import numpy as np
import pytest
import torch

from vcodec.entropy.gaussian import LOG_SCALE_MIN, LOG_SCALE_STEP, SCALE_LEVELS
from vcodec.entropy.laplace import build_laplace_tables, laplace_bits, laplace_tables


def test_the_stored_tables_are_what_their_definition_gives():
    stored, built = laplace_tables(), build_laplace_tables()
    for name in ("cdf", "row_start", "minimum"):
        assert np.array_equal(getattr(stored, name), getattr(built, name))


@pytest.mark.parametrize("level", [1, 10, 30, 50])
def test_coding_takes_the_bits_that_training_counts(level):
    tables = laplace_tables()
    start, stop = tables.row_start[level : level + 2]
    frequencies = np.diff(tables.cdf[start:stop].astype(np.int64))[:-1] / 65536
    symbols = torch.arange(len(frequencies)) + int(tables.minimum[level])
    log_scale = torch.full((len(frequencies),), LOG_SCALE_MIN + level * LOG_SCALE_STEP)
    expected = (frequencies * laplace_bits(symbols.float(), log_scale).numpy()).sum()
    assert -(frequencies * np.log2(frequencies)).sum() == pytest.approx(expected, rel=0.02, abs=2e-3)


@pytest.mark.parametrize("scale", [0.11, 0.5, 3.0])
def test_the_likelihood_is_a_distribution_over_the_integers(scale):
    symbols = torch.arange(-200.0, 201.0, dtype=torch.float64)
    bits = laplace_bits(symbols, torch.full_like(symbols, math.log(scale)))
    assert float((2**-bits).sum()) == pytest.approx(1, abs=1e-9)


def test_gradients_are_finite_from_the_peak_to_the_far_tail():
    residuals = torch.tensor([0.0, 0.3, 0.5, 1.0, 1000.0]).repeat(SCALE_LEVELS, 1).requires_grad_()
    log_scales = (LOG_SCALE_MIN + LOG_SCALE_STEP * torch.arange(SCALE_LEVELS)).view(-1, 1).requires_grad_()
    laplace_bits(residuals, log_scales.expand_as(residuals)).sum().backward()
    assert residuals.grad.isfinite().all()
    assert log_scales.grad.isfinite().all()
