"""The warp: pixel units, the sharp plane at scale zero, the last pixel beyond the border."""

import pytest
import torch

from vcodec.flow.warp import gaussian_blur, scale_space_planes, scale_space_warp


def flow_of(x: float, y: float, scale: float, size: tuple[int, int]) -> torch.Tensor:
    return torch.tensor([x, y, scale]).view(1, 3, 1, 1).expand(1, 3, *size).contiguous()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(17, 24), (1, 1), (2, 3)])
def test_no_flow_gives_the_reference(interpolation, size):
    reference = torch.rand(1, 3, *size)
    predicted = scale_space_warp(reference, torch.zeros(1, 3, *size), 3, interpolation=interpolation)
    assert torch.allclose(predicted, reference, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_whole_pixels_are_fetched_from_where_the_flow_points(interpolation):
    reference = torch.rand(1, 3, 20, 30)
    predicted = scale_space_warp(reference, flow_of(3, -2, 0, (20, 30)), 3, interpolation=interpolation)
    assert torch.allclose(predicted[:, :, 4:-1, 1:-5], reference[:, :, 2:-3, 4:-2], atol=1e-5)


def test_beyond_the_border_the_last_pixel_is_repeated():
    reference = torch.rand(1, 3, 8, 8)
    predicted = scale_space_warp(reference, flow_of(1000, 1000, 0, (8, 8)), 2)
    assert torch.allclose(predicted, reference[:, :, -1:, -1:].expand_as(reference), atol=1e-5)


@pytest.mark.parametrize("sigma", [1.5, 0.0])
def test_scale_blends_neighbouring_planes(sigma):
    reference, size = torch.rand(1, 3, 16, 16), (16, 16)
    at = [scale_space_warp(reference, flow_of(0, 0, scale, size), 2, sigma=sigma) for scale in (0, 0.25, 1, 1.5, 2)]
    assert torch.allclose(at[1], 0.75 * at[0] + 0.25 * at[2], atol=1e-5)
    assert torch.allclose(at[3], 0.5 * at[2] + 0.5 * at[4], atol=1e-5)
    beyond = scale_space_warp(reference, flow_of(0, 0, 9, size), 2, sigma=sigma)
    assert torch.allclose(beyond, at[4], atol=1e-6)
    sharpness = [float(picture.var()) for picture in (at[0], at[2], at[4])]
    assert sharpness == sorted(sharpness, reverse=True)


@pytest.mark.parametrize("sigma", [1.5, 0.0])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 24)])
def test_planes_of_a_plain_picture_are_plain(sigma, size):
    for plane in scale_space_planes(torch.full((1, 3, *size), 0.3), 3, sigma):
        assert torch.allclose(plane, torch.full_like(plane, 0.3), atol=1e-6)
        if sigma > 0:
            assert plane.shape[-2:] == size


def test_the_blur_has_the_width_it_is_asked_for():
    point = torch.zeros(1, 1, 31, 31)
    point[0, 0, 15, 15] = 1
    blurred = gaussian_blur(point, 1.5)[0, 0]
    offsets = torch.arange(31) - 15.0
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert float((blurred.sum(0) * offsets**2).sum()) == pytest.approx(1.5**2, rel=0.05)


def test_gradients_reach_flow_and_reference():
    reference = torch.rand(1, 3, 9, 9, requires_grad=True)
    flow = (torch.rand(1, 3, 9, 9) + 0.1).requires_grad_()
    scale_space_warp(reference, flow, 2, sigma=0.0, interpolation="bicubic").square().sum().backward()
    for tensor in (reference, flow):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.flatten(2).any(dim=2).all()
