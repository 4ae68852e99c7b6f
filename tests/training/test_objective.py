"""The loss is the formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vcodec.models import lambda_of_quality
from vcodec.training import Stage
from vcodec.training.objective import (
    BALANCED_LAMBDA,
    MS_SSIM_LAMBDA_RATIO,
    UNCODED,
    quality_of_lambda,
    rate_distortion,
    residual_cost,
)


def stage(**changes: object) -> Stage:
    return Stage("s", "video", 1, 2, (192, 192), frames=3, **changes)  # type: ignore[arg-type]


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 3, 192, 192, generator=generator)
    x_hat = (frames + 0.05 * torch.randn(frames.shape, generator=generator)).requires_grad_()
    bits = (1e4 * torch.rand(2, 3, generator=generator)).requires_grad_()
    return x_hat, bits, frames, torch.tensor([0.01, 0.1])


def test_it_is_lambda_times_squared_error_plus_rate(batch):
    x_hat, bits, frames, lmbda = batch
    result = rate_distortion(x_hat, bits, frames, lmbda, stage())
    expected = 0.0
    for b in range(2):
        for t in range(3):
            mse = float((255 * (x_hat[b, t].detach() - frames[b, t])).square().mean())
            expected += (float(lmbda[b]) * mse + bits[b, t].item() / 192**2) / 6
    assert float(result.loss) == pytest.approx(expected, rel=1e-5)
    assert result.bpp.shape == result.mse.shape == (2, 3)
    result.loss.backward()
    assert torch.allclose(bits.grad, torch.full((2, 3), 1 / 192**2 / 6))
    gradient = lmbda.view(2, 1, 1, 1, 1) * 255**2 * 2 * (x_hat - frames) / (3 * 192**2) / 6
    assert torch.allclose(x_hat.grad, gradient, rtol=1e-4, atol=1e-9)


def test_frame_weights_weigh_the_distortion_of_each_frame(batch):
    x_hat, bits, frames, lmbda = batch
    plain = rate_distortion(x_hat, bits, frames, lmbda, stage())
    weighted = rate_distortion(x_hat, bits, frames, lmbda, stage(frame_weights=(2.0, 0.5, 1.0)))
    distortion = lmbda[:, None] * 255**2 * plain.mse
    expected = (distortion * torch.tensor([2.0, 0.5, 1.0]) + plain.bpp).mean()
    assert float(weighted.loss) == pytest.approx(float(expected), rel=1e-5)


def test_ms_ssim_of_equal_pictures_costs_nothing(batch):
    x_hat, bits, frames, lmbda = batch
    exact = rate_distortion(frames, bits, frames, lmbda, stage(distortion="ms-ssim"))
    assert float(exact.loss) == pytest.approx(float(exact.bpp.mean()), abs=1e-4)
    worse = rate_distortion(x_hat, bits, frames, lmbda, stage(distortion="ms-ssim"))
    assert 0 < float(worse.loss) - float(worse.bpp.mean()) < 0.1 * MS_SSIM_LAMBDA_RATIO
    worse.loss.backward()
    assert x_hat.grad.isfinite().all()


def test_balance_weighs_each_sample_by_its_lambda(batch):
    x_hat, bits, frames, lmbda = batch
    plain = rate_distortion(x_hat, bits, frames, lmbda, stage())
    balanced = rate_distortion(x_hat, bits, frames, lmbda, stage(balance=0.5))
    costs = (lmbda[:, None] * 255**2 * plain.mse + plain.bpp).mean(dim=1)
    assert float(balanced.loss) == pytest.approx(float((costs * (BALANCED_LAMBDA / lmbda) ** 0.5).mean()), rel=1e-5)


def test_the_cost_of_a_residual_is_its_error_until_coding_it_is_cheaper():
    x, lmbda = torch.full((2, 3, 16, 16), 0.5), torch.tensor([0.001, 1.0])
    prediction = (x + 0.05).requires_grad_()
    price = lmbda * 255**2 * 0.05**2
    assert price[0] < UNCODED < price[1]
    cost = residual_cost(prediction, x, lmbda)
    assert cost[0].item() == pytest.approx(price[0].item(), rel=1e-5)
    assert cost[1].item() == pytest.approx(UNCODED * (1 + torch.log(price[1] / UNCODED).item()), rel=1e-5)
    cost.sum().backward()
    assert (prediction.grad > 0).all()


def test_a_motion_stage_is_about_the_cost_of_the_residual(batch):
    x_hat, bits, frames, lmbda = batch
    result = rate_distortion(x_hat, bits, frames, lmbda, stage(train="motion"))
    costs = [residual_cost(x_hat[:, t], frames[:, t], lmbda) for t in range(3)]
    expected = torch.stack(costs, 1).mean() + result.bpp.mean()
    assert float(result.loss.detach()) == pytest.approx(float(expected), rel=1e-5)


@given(st.floats(0, 63))
def test_quality_and_lambda_are_inverse(quality: float):
    assert quality_of_lambda(lambda_of_quality(quality)) == pytest.approx(quality, abs=1e-9)


def test_lambdas_beyond_the_scale_take_its_ends():
    assert quality_of_lambda(1e-5) == 0
    assert quality_of_lambda(10.0) == 63
