"""The two public functions, and the PyTorch operators `vcodec::selective_scan` and `vcodec::selective_scan_2d`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from vcodec.errors import VcodecError

from .dispatch import backend_module, resolve_backend


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Scan a sequence; the arguments mean what they mean in mamba-ssm's `selective_scan_fn`.

        delta_t = softplus(delta_t + delta_bias)              (each part where asked for)
        h_t = exp(delta_t * A) * h_{t-1} + delta_t * B_t * u_t
        y_t = <C_t, h_t> + D * u_t

    Args:
        u, delta: (batch, D, L).
        A: (D, N); negative for a state that decays.
        B, C: (batch, N, L), or (batch, G, N, L) where group g serves channels g * D/G to (g + 1) * D/G.
        D, delta_bias: (D,).
        backend: a name out of `available_backends()` in place of the automatic choice.

    Returns y (batch, D, L) with u's dtype and memory layout. The state is float32, or float64 for float64 inputs.
    Differentiable in every tensor. Raises VcodecError for shapes that do not fit each other.

    Source: Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023, section 3.
    """
    if B.dim() == 3:
        B = B.unsqueeze(1)
    if C.dim() == 3:
        C = C.unsqueeze(1)
    _check_sequence(u, delta, A, B, C, D, delta_bias)
    backend = resolve_backend(u.device, u.dtype, backend)
    return _scan_operator(u, delta, A, B, C, D, delta_bias, delta_softplus, backend)


def selective_scan_2d(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Scan a feature map in four directions and add up the four results.

    Direction 0 goes row by row, 1 is its reverse, 2 goes column by column, 3 is its reverse. delta, B and C are given
    at the map's own positions: nothing is permuted, neither by the caller nor in here.

    Args:
        u: (batch, D, H, W).
        delta: (batch, 4, D, H, W).
        A: (4, D, N); negative for a state that decays.
        B, C: (batch, 4, N, H, W).
        D, delta_bias: (4, D).
        delta_softplus: whether the step is softplus(delta + delta_bias).
        backend: a name out of `available_backends()` in place of the automatic choice.

    Returns y (batch, D, H, W) with u's dtype and memory layout. The state is float32, or float64 for float64 inputs.
    Differentiable in every tensor. Any strides are legal; fastest is channels last: u as (batch, H, W, D) in memory,
    delta with stride 1 in D, B and C with stride 1 in N. Raises VcodecError for shapes that do not fit each other.

    Source: Qin et al., "MambaVC: learned visual compression with selective state spaces", 2024, section 3.2.3.
    """
    _check_map(u, delta, A, B, C, D, delta_bias)
    backend = resolve_backend(u.device, u.dtype, backend)
    return _scan_2d_operator(u, delta, A, B, C, D, delta_bias, delta_softplus, backend)


def _check_sequence(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> None:
    batch, channels, length = u.shape if u.dim() == 3 else (-1, -1, -1)
    groups, states = (B.shape[1], A.shape[-1]) if B.dim() == 4 else (0, 0)
    fits = (
        u.dim() == 3
        and groups > 0
        and states > 0
        and channels % groups == 0
        and delta.shape == u.shape
        and A.shape == (channels, states)
        and B.shape == C.shape == (batch, groups, states, length)
        and (D is None or D.shape == (channels,))
        and (delta_bias is None or delta_bias.shape == (channels,))
    )
    if not fits:
        raise VcodecError(
            "selective_scan needs u and delta (batch, D, L), A (D, N), B and C (batch, N, L) or (batch, G, N, L), "
            f"D and delta_bias (D,), but got {_shapes(u, delta, A, B, C, D, delta_bias)}"
        )


def _check_map(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> None:
    batch, channels, height, width = u.shape if u.dim() == 4 else (-1, -1, -1, -1)
    states = A.shape[-1] if A.dim() else 0
    fits = (
        u.dim() == 4
        and states > 0
        and delta.shape == (batch, 4, channels, height, width)
        and A.shape == (4, channels, states)
        and B.shape == C.shape == (batch, 4, states, height, width)
        and (D is None or D.shape == (4, channels))
        and (delta_bias is None or delta_bias.shape == (4, channels))
    )
    if not fits:
        raise VcodecError(
            "selective_scan_2d needs u (batch, D, H, W), delta (batch, 4, D, H, W), A (4, D, N), B and C "
            "(batch, 4, N, H, W), D and delta_bias (4, D), "
            f"but got {_shapes(u, delta, A, B, C, D, delta_bias)}"
        )


def _shapes(*tensors: Tensor | None) -> str:
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias")
    return ", ".join(f"{n} {tuple(x.shape)}" for n, x in zip(names, tensors, strict=True) if x is not None)


Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def _general_from_sequence(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> Tensors:
    """A sequence is a map of one row that is scanned in one direction."""
    return (
        u.unsqueeze(2),
        delta.unsqueeze(1).unsqueeze(3),
        A.unsqueeze(0),
        B.unsqueeze(1).unsqueeze(4),
        C.unsqueeze(1).unsqueeze(4),
        None if D is None else D.unsqueeze(0),
        None if delta_bias is None else delta_bias.unsqueeze(0),
    )


def _general_from_map(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None
) -> Tensors:
    """A map has one group of channels."""
    return u, delta, A, B.unsqueeze(2), C.unsqueeze(2), D, delta_bias


def _register(name: str, general: Callable[..., Tensors]) -> Callable[..., Tensor]:
    """Make the operator `vcodec::name` and its backward; `general` views its arguments as the back ends take them."""

    @custom_op(f"vcodec::{name}", mutates_args=())
    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        backend: str,
    ) -> Tensor:
        arguments = general(u, delta, A, B, C, D, delta_bias)
        return backend_module(backend).forward(*arguments, delta_softplus).view(u.shape)

    @scan.register_fake
    def _(u: Tensor, *_: Any) -> Tensor:
        return torch.empty_like(u)

    @custom_op(f"vcodec::{name}_backward", mutates_args=())
    def scan_backward(
        dy: Tensor,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        backend: str,
    ) -> list[Tensor]:
        inputs = (u, delta, A, B, C, D, delta_bias)
        dy = dy.unsqueeze(2) if dy.dim() == 3 else dy
        gradients = backend_module(backend).backward(dy, *general(*inputs), delta_softplus)
        return [g.view(x.shape) for g, x in zip(gradients, inputs, strict=True) if x is not None]

    @scan_backward.register_fake
    def _(dy: Tensor, *inputs: Any) -> list[Tensor]:
        return [torch.empty_like(x) for x in inputs[:7] if x is not None]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:7])
        ctx.delta_softplus, ctx.backend = inputs[7:]

    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gradients = iter(scan_backward(dy, *ctx.saved_tensors, ctx.delta_softplus, ctx.backend))
        return *(None if x is None else next(gradients) for x in ctx.saved_tensors), None, None

    scan.register_autograd(backward, setup_context=setup_context)
    return scan


_scan_operator = _register("selective_scan", _general_from_sequence)
_scan_2d_operator = _register("selective_scan_2d", _general_from_map)
