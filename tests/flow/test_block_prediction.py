"""Predictions from blocks: exact where nothing moves by fractions, alike in C and PyTorch, gradients included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_fields import random_field

from vcodec.entropy.block_vectors import BOTH, MODE, OLDER, X0, X1, Y0
from vcodec.flow.block_prediction import block_prediction, has_c_prediction, predict_in_pytorch
from vcodec.flow.block_search import field_size

needs_c = pytest.mark.skipif(not has_c_prediction(), reason="the C library was not built")
PREDICTIONS = [pytest.param(block_prediction, id="default"), pytest.param(predict_in_pytorch, id="pytorch")]


def still_field(height: int, width: int, **planes: int) -> torch.Tensor:
    field = torch.zeros(1, 6, *field_size(height, width), dtype=torch.int16)
    for name, value in planes.items():
        field[:, {"mode": MODE, "x": X0, "y": Y0, "older_x": X1}[name]] = value
    return field


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_without_motion_it_is_the_reference(predict):
    newest, older = torch.rand(2, 1, 3, 21, 37)
    assert torch.equal(predict(newest, None, still_field(21, 37)), newest)
    assert torch.equal(predict(newest, older, still_field(21, 37, mode=OLDER)), older)
    mean = predict(newest, older, still_field(21, 37, mode=BOTH))
    torch.testing.assert_close(mean, (newest + older) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_whole_pixels_are_fetched_from_where_the_vector_points_and_the_border_is_repeated(predict):
    newest = torch.rand(1, 3, 20, 30)
    moved = predict(newest, None, still_field(20, 30, x=12, y=-8))
    rows, columns = (torch.arange(20) - 2).clamp(0, 19), (torch.arange(30) + 3).clamp(0, 29)
    torch.testing.assert_close(moved, newest[:, :, rows][..., columns], rtol=0, atol=1e-6)
    far = predict(newest, None, still_field(20, 30, x=2047, y=2047))
    torch.testing.assert_close(far, newest[:, :, -1:, -1:].expand_as(far), rtol=0, atol=1e-5)


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_quarters_of_a_pixel_follow_a_smooth_picture(predict):
    x = torch.arange(48.0).expand(1, 3, 32, 48)
    moved = predict(torch.sin(x / 4), None, still_field(32, 48, x=3))
    torch.testing.assert_close(moved[..., 8:-8], torch.sin((x + 0.75) / 4)[..., 8:-8], rtol=0, atol=5e-3)


def test_neighbours_share_the_pixels_at_their_edge():
    field = still_field(16, 16)
    field[:, MODE, :, 1:] = OLDER
    newest, older = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    edge = block_prediction(newest, older, field)[0, 0, 0, 4:12] * 32
    torch.testing.assert_close(edge, torch.tensor([1.0, 3, 5, 7, 25, 27, 29, 31]))


@needs_c
@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([20, 300]))
def test_c_predicts_what_pytorch_predicts_and_so_do_the_gradients(height, width, seed, reach):
    size = field_size(height, width)
    fields = torch.from_numpy(np.stack([random_field(seed + i, *size, reach=reach) for i in (0, 1)]))
    newest, older, weights = torch.rand(3, 2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    newest.requires_grad_(), older.requires_grad_()
    ours, theirs = block_prediction(newest, older, fields), predict_in_pytorch(newest, older, fields)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    gradients = [torch.autograd.grad((p * weights).sum(), (newest, older)) for p in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_autocast_changes_nothing():
    fields = torch.from_numpy(random_field(3, 4, 6))[None]
    newest, older = torch.rand(2, 1, 3, 30, 41)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = [predict(newest, older, fields) for predict in (block_prediction, predict_in_pytorch)]
    for prediction in predicted:
        torch.testing.assert_close(prediction, predict_in_pytorch(newest, older, fields), rtol=0, atol=1e-5)


@needs_c
def test_threads_change_nothing():
    fields = torch.from_numpy(random_field(3, 12, 14))[None]
    newest, older = torch.rand(2, 1, 3, 90, 101)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            newest.requires_grad_()
            prediction = block_prediction(newest, older, fields)
            results.append((prediction.detach(), *torch.autograd.grad(prediction.square().sum(), newest)))
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
