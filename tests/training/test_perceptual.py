"""The perceptual distance, and its place in the objective."""

import pytest
import torch

from vcodec.errors import VcodecError
from vcodec.training.objective import rate_distortion
from vcodec.training.perceptual import NLPD_RATIO, normalized_laplacian_distance
from vcodec.training.schedule import Stage


def textured(seed: int, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, side, side, generator=generator)


def test_equal_pictures_have_no_distance_and_worse_ones_more() -> None:
    x = textured(0) * 0.5 + 0.25
    noise = textured(1) - 0.5
    distances = [normalized_laplacian_distance(x + share * noise, x) for share in (0.0, 0.1, 0.4)]
    assert torch.all(distances[0].abs() < 1e-6)
    assert torch.all(distances[0] < distances[1])
    assert torch.all(distances[1] < distances[2])


def test_noise_is_masked_by_texture() -> None:
    noise = 0.05 * (textured(1) - 0.5)
    flat, busy = torch.full((2, 3, 64, 64), 0.5), textured(2)
    on_flat = normalized_laplacian_distance(flat + noise, flat)
    on_busy = normalized_laplacian_distance(busy + noise, busy)
    assert torch.all(on_flat > 3 * on_busy)


@pytest.mark.parametrize("side", [1, 3, 5, 17, 40])
def test_any_size_has_a_finite_gradient(side: int) -> None:
    x_hat = textured(3, side).requires_grad_()
    normalized_laplacian_distance(x_hat, textured(4, side)).sum().backward()
    assert x_hat.grad is not None
    assert x_hat.grad.isfinite().all()
    assert x_hat.grad.abs().sum() > 0


def test_the_objective_adds_it_by_its_weight() -> None:
    frames, x_hat = textured(5)[:, None], textured(6)[:, None]
    bits, lmbda = torch.zeros(2, 1), torch.tensor([0.01, 0.02])
    stages = [Stage("s", "image", 1, crop=(64, 64), train="image", perceptual=weight) for weight in (0.0, 1.0, 2.0)]
    plain, once, twice = (float(rate_distortion(x_hat, bits, frames, lmbda, stage).loss) for stage in stages)
    distance = normalized_laplacian_distance(x_hat[:, 0], frames[:, 0])
    assert once - plain == pytest.approx(float((lmbda * distance).mean()) * 255**2 * NLPD_RATIO, rel=1e-4)
    assert twice - plain == pytest.approx(2 * (once - plain), rel=1e-4)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(VcodecError, match="perceptual is -1, a negative weight"):
        Stage("s", "image", 1, crop=(64, 64), train="image", perceptual=-1)
