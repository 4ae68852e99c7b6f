"""The mamba-ssm back end, with a stand-in for its interface that keeps mamba-ssm's contract in plain PyTorch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vcodec.kernels import mamba, reference, selective_scan, selective_scan_2d
from vcodec.kernels.operators import _general_from_sequence
from vcodec.kernels.reference import per_channel


def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False,
) -> Tensor:  # fmt: skip
    """What mamba-ssm documents for u, delta (batch, D, L), A (D, N), B, C (batch, G, N, L), D and delta_bias (D,)."""
    assert z is None
    assert u.shape == delta.shape
    assert B.shape[3] == C.shape[3] == u.shape[2]
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    step = torch.nn.functional.softplus(delta) if delta_softplus else delta
    B, C = per_channel(B, u.shape[1]), per_channel(C, u.shape[1])
    state, out = torch.zeros_like(B[..., 0]), []
    for t in range(u.shape[2]):
        state = torch.exp(step[..., t, None] * A) * state + (step * u)[..., t, None] * B[..., t]
        out.append((state * C[..., t]).sum(-1))
    y = torch.stack(out, -1)
    return y if D is None else y + D[:, None] * u


class SelectiveScanFn:
    """mamba-ssm's autograd function: forward keeps what backward needs in the context; a gradient an argument."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: None,
        delta_bias: Tensor | None, delta_softplus: bool, return_last_state: bool = False,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(u, delta, A, B, C, D, delta_bias)
        ctx.delta_softplus = delta_softplus
        return selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus)

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        """By the reference's formulas, for a map of one row and one direction: autograd is off in a back end."""
        inputs = ctx.saved_tensors
        row = _general_from_sequence(*inputs)
        gradients = reference.backward(dout.unsqueeze(2), *row, ctx.delta_softplus)
        du, ddelta, dA, dB, dC, dD, dbias = (
            None if x is None or g is None else g.reshape(x.shape) for x, g in zip(inputs, gradients, strict=True)
        )
        return du, ddelta, dA, dB, dC, dD, None, dbias, None, None


class Interface:
    selective_scan_fn = staticmethod(selective_scan_fn)
    SelectiveScanFn = SelectiveScanFn


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mamba, "_interface", lambda: Interface)
    monkeypatch.setattr(mamba, "unavailable", lambda: None)
    monkeypatch.setattr(mamba, "supports", lambda device, dtype: True)
    monkeypatch.setattr("vcodec.kernels.dispatch._choose", lambda device, dtype, name: name or "reference")


def results(scan: Any, inputs: list[Tensor | None], backend: str) -> list[Tensor]:
    leaves = [None if x is None else x.clone().requires_grad_() for x in inputs]
    y = scan(*leaves, delta_softplus=True, backend=backend)
    weight = torch.sin(torch.arange(y.numel(), dtype=torch.float32)).reshape(y.shape)
    return [y.detach(), *torch.autograd.grad(y, [x for x in leaves if x is not None], weight)]


@pytest.mark.parametrize("left_out", [None, 5, 6])
def test_maps_are_handed_over_in_four_orders_and_come_back(left_out: int | None) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 2, 4), (2, 4, 3, 2, 4), (4, 3, 2), (2, 4, 2, 2, 4), (2, 4, 2, 2, 4), (4, 3), (4, 3))
    inputs: list[Tensor | None] = [torch.randn(s, generator=random) for s in shapes]
    inputs[2] = -torch.rand(shapes[2], generator=random)
    if left_out is not None:
        inputs[left_out] = None
    for found, expected in zip(
        results(selective_scan_2d, inputs, "mamba_ssm"), results(selective_scan_2d, inputs, "reference"), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_sequences_keep_their_groups(groups: int) -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 6), (2, 4, 6), (4, 3), (2, groups, 3, 6), (2, groups, 3, 6), (4,), (4,))
    inputs: list[Tensor | None] = [torch.randn(s, generator=random) for s in shapes]
    inputs[2] = -torch.rand(shapes[2], generator=random)
    for found, expected in zip(
        results(selective_scan, inputs, "mamba_ssm"), results(selective_scan, inputs, "reference"), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
