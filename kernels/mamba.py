"""The back end that calls mamba-ssm's `selective_scan_fn`, on four copies of the map in the orders of the directions.

It takes several times the memory of the Triton back end and is there to compare with.
"""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .reference import fold, unfold

PACKAGE = "mamba_ssm"


def unavailable() -> str | None:
    if find_spec(PACKAGE) is None:
        return "the package mamba-ssm is not installed (pip install vcodec[cuda], on a machine with CUDA)"
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    return None


def supports(device: str, dtype: torch.dtype) -> bool:
    return device == "cuda" and dtype in (torch.float32, torch.float16, torch.bfloat16)


@cache
def _interface() -> ModuleType:
    from mamba_ssm.ops import selective_scan_interface

    return selective_scan_interface


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """The general scan (shapes in dispatch.py)."""
    u_, delta_, A_, B_, C_, D_, bias = _as_sequences(u, delta, A, B, C, D, delta_bias)
    y = _interface().selective_scan_fn(u_, delta_, A_, B_, C_, D_, delta_bias=bias, delta_softplus=delta_softplus)
    return torch.empty_like(u).copy_(_merge(y, delta.shape))


def backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """The gradient of every tensor argument, None for one that is None."""
    inputs = _as_sequences(u, delta, A, B, C, D, delta_bias)
    context, function = _Context(), _interface().SelectiveScanFn
    function.forward(context, *inputs[:6], None, inputs[6], delta_softplus)
    dys = _split(dy.to(u.dtype).unsqueeze(1).expand(delta.shape))
    du, ddelta, dA, dB, dC, dD, _, dbias = function.backward(context, dys)[:8]
    gradients = (
        _merge(du, delta.shape),
        _restore(ddelta, delta.shape),
        dA.view(A.shape),
        _restore(dB, B.shape),
        _restore(dC, C.shape),
        None if D is None else dD.view(D.shape),
        None if delta_bias is None else dbias.view(delta_bias.shape),
    )
    inputs = (u, delta, A, B, C, D, delta_bias)
    return tuple(
        None if x is None or g is None else torch.empty_like(x).copy_(g) for x, g in zip(inputs, gradients, strict=True)
    )


class _Context:
    """What `SelectiveScanFn` keeps between its forward and its backward."""

    saved_tensors: tuple[Any, ...]

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors


def _as_sequences(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> tuple[Any, ...]:
    """The directions side by side, as channels, and as groups of B and C."""
    states = A.shape[2]
    return (
        _split(u.unsqueeze(1).expand(delta.shape)),
        _split(delta.to(u.dtype)),
        A.float().reshape(-1, states).contiguous(),
        _split(B.to(u.dtype)).unflatten(1, (-1, states)),
        _split(C.to(u.dtype)).unflatten(1, (-1, states)),
        None if D is None else D.float().reshape(-1).contiguous(),
        None if delta_bias is None else delta_bias.float().reshape(-1).contiguous(),
    )


def _split(x: Tensor) -> Tensor:
    """(batch, K, ..., H, W) -> (batch, K * ..., L), each direction in its order."""
    return torch.cat([unfold(x[:, k], k).flatten(1, -2) for k in range(x.shape[1])], dim=1)


def _restore(x: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_split`."""
    parts = x.reshape(shape[0], shape[1], -1, x.shape[-1]).unbind(1)
    return torch.stack([fold(part, k, shape[-2:]) for k, part in enumerate(parts)], dim=1).view(shape)


def _merge(x: Tensor, shape: torch.Size) -> Tensor:
    """The same, summed over the directions."""
    return _restore(x, shape).sum(1)
