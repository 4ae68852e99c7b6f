"""The Gaussian model: its tables are data, and its likelihood agrees with them."""

import math

import numpy as np
import pytest
import torch

from vcodec.entropy.gaussian import (
    LOG_SCALE_MIN,
    LOG_SCALE_STEP,
    SCALE_LEVELS,
    build_gaussian_tables,
    gaussian_bits,
    gaussian_tables,
    level_position,
    quantized_cdf,
)


def test_the_stored_tables_are_those_that_the_formula_gives():
    stored, built = gaussian_tables(), build_gaussian_tables()
    np.testing.assert_array_equal(stored.cdf, built.cdf)
    np.testing.assert_array_equal(stored.row_start, built.row_start)
    np.testing.assert_array_equal(stored.minimum, built.minimum)


def test_every_row_rises_from_nothing_to_all():
    tables = gaussian_tables()
    assert len(tables.minimum) == SCALE_LEVELS
    for start, stop in zip(tables.row_start[:-1], tables.row_start[1:], strict=True):
        row = tables.cdf[start:stop].astype(np.int64)
        assert row[0] == 0
        assert row[-1] == 65536
        assert (np.diff(row) > 0).all()


@pytest.mark.parametrize("level", [1, 10, 30, 50])
def test_the_likelihood_agrees_with_the_tables(level):
    tables = gaussian_tables()
    row = tables.cdf[tables.row_start[level] : tables.row_start[level + 1]].astype(np.float64)
    table_bits = -np.log2(np.diff(row)[:-1] / 65536)
    symbols = torch.arange(len(table_bits)) + int(tables.minimum[level])
    log_scale = torch.full((len(symbols),), LOG_SCALE_MIN + level * LOG_SCALE_STEP)
    bits = gaussian_bits(symbols.float(), log_scale).numpy()
    likely = table_bits < 9  # the tables round rare symbols to a frequency of at least one
    np.testing.assert_allclose(bits[likely], table_bits[likely], atol=0.05)


@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0, 200.0])
def test_likelihoods_of_all_integers_add_up_to_one(scale):
    reach = int(10 * scale) + 2
    residuals = torch.arange(-reach, reach + 1).double() + 0.3
    bits = gaussian_bits(residuals, torch.full_like(residuals, math.log(scale)))
    assert torch.exp2(-bits).sum() == pytest.approx(1.0, abs=1e-6)


def test_far_tails_stay_finite_and_keep_their_gradient():
    residuals = torch.tensor([0.0, 50.0, -1e4, 1e6], requires_grad=True)
    log_scales = torch.tensor([-9.0, -2.0, 0.0, 12.0], requires_grad=True)
    bits = gaussian_bits(residuals, log_scales)
    bits.sum().backward()
    assert bits.isfinite().all()
    assert residuals.grad is not None
    assert residuals.grad.isfinite().all()
    assert (residuals.grad[1:].abs() > 0).tolist() == [True, True, True]


def test_a_scale_under_the_bound_can_still_rise():
    log_scale = torch.tensor([LOG_SCALE_MIN - 1.0, LOG_SCALE_MIN - 1.0], requires_grad=True)
    gaussian_bits(torch.tensor([3.0, 0.0]), log_scale).sum().backward()
    assert log_scale.grad is not None
    assert log_scale.grad[0] < 0  # a large residual wants a larger scale
    assert log_scale.grad[1] == 0  # a small one wants a smaller scale, and there is none


def test_levels_are_the_nearest_ones_of_the_grid():
    offsets = torch.tensor([-0.49, 0.0, 0.49], dtype=torch.float64)
    for level in (0, 1, 31, 63):
        log_scales = LOG_SCALE_MIN + (level + offsets) * LOG_SCALE_STEP
        assert level_position(log_scales).floor().tolist() == [level] * 3
    extremes = torch.tensor([-1e300, 1e300, -math.inf, math.inf], dtype=torch.float64)
    assert level_position(extremes).floor().tolist() == [0, 63, 0, 63]


@pytest.mark.parametrize("size", [1, 2, 500])
def test_no_symbol_has_frequency_zero(size):
    probabilities = np.zeros(size)
    probabilities[size // 2] = 1.0
    cdf = quantized_cdf(probabilities).astype(np.int64)
    assert cdf[0] == 0
    assert cdf[-1] == 65536
    assert (np.diff(cdf) > 0).all()
    assert len(cdf) == size + 2
