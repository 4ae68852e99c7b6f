"""The encoder's choice of block motion: it finds what moved, where it moved, and which picture shows it best."""

import pytest
import torch
from synthetic_fields import random_field
from test_motion_search import moving_pair, smooth_noise

from vcodec.entropy.block_vectors import BOTH, MODE, OLDER, SPLIT, X0, Y0
from vcodec.entropy.coders import RateEstimator, SymbolDecoder, SymbolEncoder
from vcodec.flow import BlockMotion, FlowConfig, block_search
from vcodec.flow.block_prediction import block_prediction
from vcodec.flow.block_search import field_size, has_c_search

needs_c = pytest.mark.skipif(not has_c_search(), reason="the C library was not built")
LAMBDA = torch.tensor([0.1])


def square_error(x: torch.Tensor, newest: torch.Tensor, older: torch.Tensor | None, field: torch.Tensor) -> float:
    return float((block_prediction(newest, older, field) - x).square().mean())


def test_what_moved_gets_its_vector_and_the_rest_none():
    newest = smooth_noise(64, 96)
    x = newest.clone()
    x[:, :, 32:48, 48:64] = newest[:, :, 30:46, 51:67]  # fetched from 3 right, 2 up
    field = block_search.block_search(x, newest, None, LAMBDA, None)
    expected = torch.zeros(2, 8, 12, dtype=torch.int16)
    expected[0, 4:6, 6:8], expected[1, 4:6, 6:8] = 12, -8
    assert torch.equal(field[0, [X0, Y0]], expected)
    assert not field[:, [SPLIT, MODE]].any()


@needs_c
def test_small_blocks_where_a_square_moves_in_two_ways():
    newest = smooth_noise(64, 96)
    x = newest.clone()
    x[:, :, 32:40, 48:56] = newest[:, :, 30:38, 51:59]
    field = block_search.block_search(x, newest, None, LAMBDA, None)
    assert field[0, SPLIT, 4, 6]
    assert field[0, [X0, Y0], 4, 6].tolist() == [12, -8]
    assert field[0, [X0, Y0], 5, 7].tolist() == [0, 0]


@needs_c
def test_the_older_picture_where_the_newest_is_covered_and_the_mean_where_both_are_noisy():
    clean = smooth_noise(64, 96)
    covered = clean.clone()
    covered[:, :, 16:48, 16:48] = 0.5
    assert (block_search.block_search(clean, covered, clean, LAMBDA, None)[0, MODE, 2:6, 2:6] == OLDER).all()
    generator = torch.Generator().manual_seed(1)
    noisy = [clean + 0.05 * torch.randn(clean.shape, generator=generator) for _ in range(2)]
    assert (block_search.block_search(clean, *noisy, LAMBDA, None)[0, MODE] == BOTH).float().mean() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (96, 128)])
@pytest.mark.parametrize("two", [False, True])
def test_fields_are_sound_and_no_worse_than_standing_still(size, two):
    x, newest = moving_pair(96, 128)
    x, newest = x[..., : size[0], : size[1]], newest[..., : size[0], : size[1]]
    older = newest.flip(-1) if two else None
    previous = torch.from_numpy(random_field(3, *field_size(*size)))[None]
    field = block_search.block_search(x, newest, older, LAMBDA, previous)
    still = torch.zeros_like(field)
    assert field.shape == (1, 6, *field_size(*size))
    assert square_error(x, newest, older, field) <= square_error(x, newest, older, still) + 1e-6
    coder = SymbolEncoder()
    coder.begin("motion")
    coder.code_fields(field, (1, *field_size(*size)), previous, two)
    decoder = SymbolDecoder(coder.finish())
    decoder.begin("motion")
    assert torch.equal(decoder.code_fields(None, (1, *field_size(*size)), previous, two), field)
    decoder.finish()


def test_motion_pays_more_where_quality_is_high():
    x, newest = moving_pair(96, 128)
    bits, errors = [], []
    for quality in (5.0, 60.0):
        coder = RateEstimator(1, training=False)
        motion = BlockMotion(FlowConfig(blocks=True)).code(coder, x, newest, torch.tensor([quality]))
        bits.append(float(coder.bits))
        errors.append(float((motion.prediction - x).square().mean()))
    assert bits[0] < bits[1]
    assert errors[0] >= errors[1]


def test_without_the_library_motion_is_still_found(monkeypatch):
    x, newest = moving_pair(96, 128)
    monkeypatch.setattr(block_search, "has_c_search", lambda: False)
    field = block_search.block_search(x, newest, None, LAMBDA, None)
    assert square_error(x, newest, None, field) < 0.5 * square_error(x, newest, None, torch.zeros_like(field))
    assert field[0, SPLIT].any()
