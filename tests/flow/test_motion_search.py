"""The encoder's motion search finds translations, and C finds what PyTorch finds."""

import importlib.util
import sys
import threading
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vcodec.flow.motion_search import _library, has_c_search, motion_search, search_in_pytorch
from vcodec.flow.warp import gaussian_blur, sample, sampling_grid

needs_c = pytest.mark.skipif(not has_c_search(), reason="the C library was not built")


def smooth_noise(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = gaussian_blur(torch.rand(1, 3, height, width, generator=generator), 2.5)
    return (noise - noise.mean()) * 5 + 0.5


def moving_pair(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two frames (1, 3, height, width): texture of all sizes, turned a little, before which a square moves; noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 3, height // k + 2, width // k + 2, generator=generator) for k in (2, 8, 32)]
    scene = sum(F.interpolate(c, (height, width), mode="bicubic") for c in coarse) / 3
    rows = torch.linspace(-3, 5, height)[:, None].expand(height, width)
    columns = torch.linspace(4, -7, width).expand(height, width)
    current = sample(scene, sampling_grid(torch.stack([rows, columns])[None]))
    side, patch = height // 3, torch.rand(1, 3, height // 3, height // 3, generator=generator)
    scene[:, :, 8 : 8 + side, 16 : 16 + side] = current[:, :, 14 : 14 + side, 4 : 4 + side] = patch
    noise = 0.02 * torch.randn(2, 3, height, width, generator=generator)
    return (current + noise[:1]).clamp(0, 1), (scene + noise[1:]).clamp(0, 1)


def error(flow: Tensor, x: Tensor, reference: Tensor) -> float:
    """Mean square of what a prediction by the flow leaves."""
    warped = sample(reference, sampling_grid(F.interpolate(flow, scale_factor=4.0, mode="bilinear")))
    return (warped - x[..., : warped.shape[-2], : warped.shape[-1]]).square().mean().item()


@pytest.mark.parametrize("search", [motion_search, search_in_pytorch])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, -6), (-12, 3), (20, 10), (1, 1)])
def test_a_translation_is_found(search, x, y):
    scene = smooth_noise(160, 192)
    reference = scene[:, :, 32:128, 32:160]
    current = scene[:, :, 32 + y : 128 + y, 32 + x : 160 + x]
    flow = search(current, reference, torch.tensor([0.1]))
    assert flow.shape == (1, 2, 24, 32)
    inner = flow[0, :, 6:-6, 6:-6].flatten(1).median(dim=1).values
    assert inner.tolist() == pytest.approx([x, y], abs=0.3)


@pytest.mark.parametrize("size", [(4, 4), (8, 16), (12, 4)])
def test_small_pictures_are_no_trouble(size):
    assert motion_search(torch.rand(1, 3, *size), torch.rand(1, 3, *size), torch.tensor([0.01])).isfinite().all()


def test_a_flat_picture_does_not_move():
    flat = torch.full((2, 3, 32, 32), 0.4)
    assert not motion_search(flat, flat, torch.tensor([0.001, 1.0])).any()


@needs_c
@pytest.mark.parametrize("size", [(96, 128), (64, 208), (44, 60)])
def test_c_and_pytorch_find_the_same_motion(size):
    x, reference = (torch.cat(pair) for pair in zip(*(moving_pair(*size, seed) for seed in range(3)), strict=True))
    lmbda = torch.tensor([0.001, 0.02, 0.3])
    found, expected = motion_search(x, reference, lmbda), search_in_pytorch(x, reference, lmbda)
    assert found.shape == expected.shape == (3, 2, size[0] // 4, size[1] // 4)
    assert ((found - expected).abs().amax(1) > 0.05).float().mean() < 0.02
    for sample_ in range(3):
        ours, theirs = (error(flow[sample_, None], x[sample_, None], reference[sample_, None])
                        for flow in (found, expected))  # fmt: skip
        assert ours < 1.005 * theirs


@needs_c
def test_the_result_depends_neither_on_threads_nor_on_memory_format_nor_on_the_rest_of_the_batch():
    pairs = [moving_pair(96, 128, seed) for seed in range(2)]
    x, reference = (torch.cat(pair) for pair in zip(*pairs, strict=True))
    lmbda, threads = torch.tensor([0.01, 0.1]), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = motion_search(x, reference, lmbda)
        torch.set_num_threads(2)
        for _ in range(3):
            assert torch.equal(motion_search(x, reference, lmbda), expected)
    finally:
        torch.set_num_threads(threads)
    last = x.to(memory_format=torch.channels_last), reference.to(memory_format=torch.channels_last)
    assert torch.equal(motion_search(*last, lmbda), expected)
    wider = F.pad(x, (3, 5, 2, 0))[:, :, 2:, 3:-5]
    assert torch.equal(motion_search(wider, reference, lmbda), expected)
    assert torch.equal(motion_search(x[1:], reference[1:], lmbda[1:]), expected[1:])


@needs_c
def test_other_threads_run_while_c_searches():
    x, reference = moving_pair(256, 512)
    searching = threading.Thread(target=lambda: [motion_search(x, reference, torch.tensor([0.02])) for _ in range(8)])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)  # this thread goes on only if the search lets it
    try:
        searching.start()
        beside = 0
        while searching.is_alive():
            beside += 1
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    searching.join()
    assert beside > 1


def test_without_the_c_library_pytorch_searches(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "_motion_search" in name else find(name))
    x, reference = moving_pair(32, 48)
    lmbda = torch.tensor([0.1])
    _library.cache_clear()
    try:
        assert not has_c_search()
        assert torch.equal(motion_search(x, reference, lmbda), search_in_pytorch(x, reference, lmbda))
    finally:
        _library.cache_clear()


@pytest.mark.parametrize("search", [motion_search, search_in_pytorch])
def test_the_reach_grows_with_the_picture(search):
    scene = smooth_noise(128, 1280)
    flow = search(scene[:, :, :, 90:1178], scene[:, :, :, :1088], torch.tensor([0.1]))
    assert flow[0, 0, 8:-8, 8:-32].median().item() == pytest.approx(90, abs=0.3)
