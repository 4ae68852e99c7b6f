"""The back end for GPUs: Triton (the kernels are in triton_kernels.py).

Two directions at a time, the rows' and then the columns': nothing is permuted in memory, and besides inputs and outputs
there are only the states at the borders of chunks (and, for the gradients, of their adjoints).
"""

import os
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def unavailable() -> str | None:
    if find_spec("triton") is None:
        return "the package triton is not installed (pip install vcodec[cuda])"
    if not torch.cuda.is_available() and not _interpreted():
        return "PyTorch sees no CUDA device"
    return None


def supports(device: str, dtype: torch.dtype) -> bool:
    return device == ("cpu" if _interpreted() else "cuda") and dtype.is_floating_point


def _interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on the CPU: for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _kernels() -> ModuleType:
    from . import triton_kernels

    return triton_kernels


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
    if not u.numel():
        return torch.empty_like(u)
    scan = _Scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    y = torch.empty_like(u, dtype=scan.dtype)
    for first in range(0, scan.directions, 2):
        starts, _ = scan.states(first)
        _kernels().chunk_outputs[scan.chunks, scan.batch, scan.blocks](
            *scan.tensors, scan.skip, starts, y, *scan.strides, _strides(y), *scan.groups, *scan.sizes, first,
            DIRECTIONS=scan.pair, FIRST=first == 0, COLUMNS=first == 2, **scan.constants,
        )  # fmt: skip
    return y.to(u.dtype)


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
    if not u.numel():
        return tuple(None if x is None else torch.zeros_like(x) for x in (u, delta, A, B, C, D, delta_bias))
    scan = _Scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    batch, directions, groups, states, height, width = B.shape
    new = partial(torch.empty, dtype=scan.dtype, device=u.device)
    du, ddelta, dB, dC = torch.empty_like(u, dtype=scan.dtype), *(torch.empty_like(x) for x in (delta, B, C))
    dA, dD, dbias = new(A.shape), new(A.shape[:2]), new(A.shape[:2])
    per_program = -(-scan.chunks * batch * groups // 1024)  # 1024 programs keep a GPU busy
    programs = -(-scan.chunks // per_program)
    for first in range(0, directions, 2):
        starts, dstarts = scan.states(first, dy)
        parts = [new(programs, batch, scan.pair, *x.shape[1:]) for x in (dA, dbias, dD)]
        sums = [new(batch, scan.pair, groups, height * width, states) for _ in range(2)]
        for j in range(scan.pair):
            _kernels().chunk_gradients[programs, batch, groups](
                *scan.tensors, scan.skip, dy, starts, dstarts, du, ddelta, parts[0], *sums, *parts[1:],
                *scan.strides, _strides(dy), _strides(du), _strides(ddelta), *scan.groups, *scan.sizes,
                scan.pair, first, per_program,
                REVERSE=j == 1, FIRST=first + j == 0, COLUMNS=first == 2, **scan.constants,
            )  # fmt: skip
        pair = slice(first, first + scan.pair)
        for gradient, part in zip((dA, dbias, dD), parts, strict=True):
            gradient[pair] = part.sum((0, 1))
        for gradient, total in zip((dB, dC), sums, strict=True):
            total = total.movedim(-1, -2)
            rows = total.unflatten(-1, (width, height)).mT if first == 2 else total.unflatten(-1, (height, width))
            gradient[:, pair] = rows
    gradients = (du, ddelta, dA, dB, dC, dD, dbias)
    inputs = (u, delta, A, B, C, D, delta_bias)
    return tuple(None if x is None else g.to(x.dtype) for x, g in zip(inputs, gradients, strict=True))


class _Scan:
    """The arguments of a scan as the kernels take them."""

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
    ) -> None:
        self.dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
        self.batch, self.directions, groups, states = B.shape[:4]
        channels, height, width = u.shape[1:]
        self.pair = min(self.directions, 2)
        self.device = u.device
        bias = None if delta_bias is None else delta_bias.contiguous()
        self.skip = None if D is None else D.to(self.dtype).sum(0)
        self.A = A.contiguous()
        self.tensors = (u, delta, self.A, B, C, bias)
        self.strides = tuple(_strides(x) for x in (u, delta, B, C))
        self.groups = (B.stride(2), C.stride(2))
        tile = _tile(channels // groups, states)
        self.chunks = -(-height * width // tile["STEPS"])
        self.blocks = groups * -(-(channels // groups) // tile["CHANNELS"])
        self.sizes = ((channels, height, width), channels // groups, states, self.chunks)
        import triton.language as tl

        real = tl.float64 if self.dtype == torch.float64 else tl.float32
        self.constants: dict[str, Any] = {"num_warps": 8, "SOFTPLUS": delta_softplus, "REAL": real, **tile}

    def states(self, first: int, dy: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The states that the chunks of directions `first` and `first + 1` meet, and with dy their gradients."""
        channels, states = self.A.shape[1:]
        shape = (self.batch, self.pair, self.chunks, channels)
        total = torch.empty(shape, dtype=self.dtype, device=self.device)
        ends = torch.empty((*shape, states), dtype=self.dtype, device=self.device)
        dends = None if dy is None else torch.empty_like(ends)
        _kernels().chunk_ends[self.chunks, self.batch * self.pair, self.blocks](
            *self.tensors, dy, total, ends, dends, *self.strides, None if dy is None else _strides(dy), *self.groups,
            *self.sizes, self.pair, first, COLUMNS=first == 2, **self.constants,
        )  # fmt: skip
        tile = {name: self.constants[name] for name in ("REAL", "CHANNELS", "STATES", "num_warps")}
        for x, gradient in ((ends, False), (dends, True)):
            if x is not None:
                _kernels().carry_states[self.batch * self.pair, -(-channels // tile["CHANNELS"])](
                    self.A, total, x, channels, states, self.chunks, self.pair, first,
                    GRADIENT=gradient, CHUNKS=self.constants["STEPS"], **tile,
                )  # fmt: skip
        return ends, dends


def _tile(channels: int, states: int) -> dict[str, int]:
    """How many steps, channels and states are in a tile: powers of 2, together about 4096 numbers.

    The interpreter takes its time for every single number, so there the tiles are small.
    """
    states = 1 << (states - 1).bit_length()
    steps, numbers = (4, 32) if _interpreted() else (32, 4096)
    fit = max(1, min(64, numbers // (steps * states)))
    return {"STEPS": steps, "CHANNELS": min(fit, 1 << (channels - 1).bit_length()), "STATES": states}


def _strides(x: Tensor) -> tuple[int, ...]:
    """Of (batch, direction, row, column, channel or state)."""
    stride = x.stride()
    if x.dim() == 4:
        return stride[0], 0, stride[2], stride[3], stride[1]
    return *stride[:2], stride[-2], stride[-1], stride[-3]
