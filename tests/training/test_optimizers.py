"""Every optimizer learns, saves its state exactly, and leaves frozen parameters alone."""

import copy

import pytest
import torch
from torch import nn

from vcodec.entropy.checkerboard import CheckerboardHyperprior
from vcodec.entropy.config import EntropyConfig
from vcodec.training.ema import ExponentialMovingAverage
from vcodec.training.muon import orthogonalise
from vcodec.training.optimizers import create_optimizer, kernels_of

NAMES = ["adamw", "muon", "soap"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 3, 1),
    )


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> list[float]:
    losses = []
    for step in range(start, start + steps):
        x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :, 3:-3, 3:-3]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 3e-3
        optimizer.step()
        losses.append(loss.item())
    return losses


def create(name: str, model: nn.Module, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    return create_optimizer(name, model, betas=(0.9, 0.99), weight_decay=weight_decay)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str):
    model = network()
    losses = learn(model, create(name, model), 80)
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])


@pytest.mark.parametrize("name", NAMES)
def test_its_state_goes_on_exactly(name: str):
    model = network()
    optimizer = create(name, model)
    learn(model, optimizer, 13)
    again = copy.deepcopy(model)
    other = create(name, again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert learn(model, optimizer, 12, start=13) == learn(again, other, 12, start=13)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_gradient_stay(name: str):
    model = network()
    model[2].requires_grad_(False)
    before = copy.deepcopy(model[2].state_dict())
    learn(model, create(name, model, weight_decay=0.1), 3)
    assert all(torch.equal(before[key], value) for key, value in model[2].state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_for_kernels(name: str):
    model = network()
    model.zero_grad()
    optimizer = create(name, model, weight_decay=0.5)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):  # without a gradient only the decay moves
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.step()
    after = model.state_dict()
    assert float(after["2.weight"].norm() / before["2.weight"].norm()) < 0.96
    assert torch.equal(after["2.bias"], before["2.bias"])
    assert torch.equal(after["4.weight"], before["4.weight"])


def test_kernels_are_dense_and_wide():
    model = network()
    assert [tuple(kernel.shape) for kernel in kernels_of(model)] == [(32, 32, 3, 3)]


def test_a_linear_map_of_the_past_is_no_kernel():
    config = EntropyConfig(model="checkerboard", temporal=True, linear=True, width=16)
    model = CheckerboardHyperprior(32, config)
    assert model.linear_past is not None
    assert all(kernel is not model.linear_past.weight for kernel in kernels_of(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (90, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int], dtype: torch.dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrix.to(dtype)).float())
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_the_average_follows_slowly_and_forgets_the_start():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = ExponentialMovingAverage(model, 0.9)
    nn.init.ones_(model.weight)
    ema.update(model)  # the first update counts 9/10: decay is min(0.9, 1/10)
    assert float(ema.averages["weight"]) == pytest.approx(0.9)
    for _ in range(100):
        ema.update(model)
    with ema.averaged(model) as averaged:
        assert averaged.weight.item() == pytest.approx(1.0, abs=1e-3)
        assert averaged is not model
        assert not averaged.training
