"""Gains: more quality never quantises more coarsely, and levels are met exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.layers.gains import Modulation, QuantizationGain, interpolate_levels, level_weights


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_gains_rise_with_quality_whatever_the_parameters(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    gain = QuantizationGain(5, levels, step=0.35, span=16.0)
    with torch.no_grad():
        for parameter in gain.parameters():
            parameter.copy_(3 * torch.randn(parameter.shape, generator=generator))
        values, _ = gain(torch.linspace(0, 63, 200))
    assert (values.flatten(1).diff(dim=0) >= 0).all()


def test_the_starting_steps_span_what_is_asked():
    gain = QuantizationGain(2, 9, step=0.4, span=16.0)
    values, inverse = gain(torch.tensor([0.0, 31.5, 63.0]))
    steps = 1 / values.flatten(1)[:, 0]
    assert steps.tolist() == pytest.approx([0.4, 0.1, 0.025], rel=1e-5)
    assert torch.allclose(values * inverse, torch.ones_like(values))


def test_levels_are_met_exactly_and_between_them_lines_are_drawn():
    table = torch.tensor([[1.0, -1.0], [3.0, 5.0], [4.0, 0.0]])
    at = interpolate_levels(table, torch.tensor([0.0, 31.5, 63.0, 15.75, 80.0]))
    assert at.shape == (5, 2, 1, 1)
    assert at[:3, :, 0, 0].tolist() == table.tolist()
    assert at[3, :, 0, 0].tolist() == [2.0, 2.0]
    assert at[4, :, 0, 0].tolist() == [4.0, 0.0]  # beyond the scale the last level holds


def test_one_level_serves_every_quality():
    lower, upper, weight = level_weights(torch.tensor([0.0, 30.0, 63.0]), 1)
    assert lower.tolist() == upper.tolist() == [0, 0, 0]
    assert weight.tolist() == [0, 0, 0]


def test_modulation_starts_as_the_identity():
    x = torch.rand(2, 4, 3, 3)
    assert torch.equal(Modulation(4, 9)(x, torch.tensor([3.0, 50.0])), x)
