"""The encoder's motion search finds translations."""

import pytest
import torch

from vcodec.flow.motion_search import motion_search
from vcodec.flow.warp import gaussian_blur


def smooth_noise(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = gaussian_blur(torch.rand(1, 3, height, width, generator=generator), 2.5)
    return (noise - noise.mean()) * 5 + 0.5


@pytest.mark.parametrize(("x", "y"), [(0, 0), (4, -6), (-12, 3), (20, 10), (1, 1)])
def test_a_translation_is_found(x, y):
    scene = smooth_noise(160, 192)
    reference = scene[:, :, 32:128, 32:160]
    current = scene[:, :, 32 + y : 128 + y, 32 + x : 160 + x]
    flow = motion_search(current, reference, torch.tensor([0.1]))
    assert flow.shape == (1, 2, 24, 32)
    inner = flow[0, :, 6:-6, 6:-6].flatten(1).median(dim=1).values
    assert inner.tolist() == pytest.approx([x, y], abs=0.3)


@pytest.mark.parametrize("size", [(4, 4), (8, 16), (12, 4)])
def test_small_pictures_are_no_trouble(size):
    assert motion_search(torch.rand(1, 3, *size), torch.rand(1, 3, *size), torch.tensor([0.01])).isfinite().all()


def test_a_flat_picture_does_not_move():
    flat = torch.full((2, 3, 32, 32), 0.4)
    assert not motion_search(flat, flat, torch.tensor([0.001, 1.0])).any()
