"""The back end for CPUs: C, vectorised over the channels, with threads (scan_forward.h, scan_backward.h)."""

import ctypes
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def _load() -> ModuleType | None:
    """The C module, on the thread pool that PyTorch uses: two pools would fight for the cores."""
    for path in Path(torch.__file__).parent.glob("lib/libgomp*.so*"):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    try:
        return importlib.import_module("._selective_scan", __package__)
    except ImportError:
        return None


_library: Any = _load()
_instruction_sets: dict[str, int] = _library.instruction_sets() if _library else {}
_best = min(_instruction_sets.values(), default=0)


def unavailable() -> str | None:
    if _library is None:
        return "its C library was not built (install a C compiler, then install vcodec again)"
    return None


def supports(device: str, dtype: torch.dtype) -> bool:
    return device == "cpu" and dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)


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
    inputs = _prepare(u, delta, A, B, C, D, delta_bias)
    y = _like(u, inputs[0])
    _library.forward(*_arguments(inputs, delta_softplus, 1), _strides(y, 1), y.data_ptr())
    return _as(u, y)


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
    inputs = _prepare(u, delta, A, B, C, D, delta_bias)
    u_, delta_, A_, B_ = inputs[:4]
    dy = _channels_last(dy, u_.dtype)
    du, ddelta = _like(u, u_), _like(delta, delta_)
    batch, directions, groups, states, height, width = B.shape
    slices = _slices(batch, groups, u.shape[1], 8 if u.dtype == torch.float64 else 16)
    dB, dC = (B_.new_empty(slices, batch, directions, groups, height, width, states) for _ in range(2))
    dA = A_.new_empty(batch, *A.shape)
    dbias, dD = (A_.new_empty(batch, *A.shape[:2]) for _ in range(2))
    _library.backward(
        *_arguments(inputs, delta_softplus, slices),
        _strides(dy, 1),
        _strides(du, 1),
        _strides(ddelta, 2),
        tuple(x.data_ptr() for x in (dy, du, ddelta, dA, dB, dC, dD, dbias)),
    )
    return (
        _as(u, du),
        _as(delta, ddelta),
        _as(A, dA.sum(0)),
        _as(B, dB.sum(0).movedim(-1, -3)),
        _as(C, dC.sum(0).movedim(-1, -3)),
        None if D is None else _as(D, dD.sum(0)),
        None if delta_bias is None else _as(delta_bias, dbias.sum(0)),
    )


def _slices(batch: int, groups: int, channels: int, block: int) -> int:
    """How many parts the channels of a group are cut into, so that 16 units can run at once: a rule that does not
    know the number of threads, since the order of the sums in dB and dC depends on it."""
    return max(1, min(4, 16 // (batch * groups), -(-(channels // groups) // block)))


def _prepare(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *parameters: Tensor | None) -> list[Any]:
    """Every tensor in the type and layout that the C code takes; most often none is copied."""
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    maps = [_channels_last(x, dtype) for x in (u, delta, B, C)]
    others = [None if x is None else x.to(dtype).contiguous() for x in (A, *parameters)]
    return [*maps[:2], others[0], *maps[2:], *others[1:]]


def _arguments(inputs: list[Any], delta_softplus: bool, slices: int) -> tuple[Any, ...]:
    u, delta, _, B, C = inputs[:5]
    return (
        _best,
        u.dtype == torch.float64,
        torch.get_num_threads(),
        delta_softplus,
        (*B.shape[:3], *u.shape[1:], B.shape[3], slices),
        _strides(u, 1),
        _strides(delta, 2),
        _strides(B, 3),
        _strides(C, 3),
        tuple(0 if x is None else x.data_ptr() for x in inputs),
    )


def _strides(x: Tensor, leading: int) -> tuple[int, ...]:
    """Those of the leading dimensions, and the one from position to position."""
    stride = x.stride()
    return *stride[:leading], stride[-1] if x.shape[-1] > 1 else stride[-2]


def _is_channels_last(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether the C code can walk it: stride 1 in the third last dimension, one stride over the positions."""
    channels, height, width = x.shape[-3:]
    stride = x.stride()
    return (
        x.dtype == dtype
        and (stride[-3] == 1 or channels == 1)
        and (height == 1 or width == 1 or stride[-2] == width * stride[-1])
    )


def _channels_last(x: Tensor, dtype: torch.dtype) -> Tensor:
    if _is_channels_last(x, dtype):
        return x
    return x.movedim(-3, -1).to(dtype).contiguous().movedim(-1, -3)


def _like(x: Tensor, prepared: Tensor) -> Tensor:
    """Memory for a result with x's layout where the C code can write that, else with that of the prepared x."""
    result = torch.empty_like(x)
    return result if _is_channels_last(result, prepared.dtype) else torch.empty_like(prepared)


def _as(x: Tensor, result: Tensor) -> Tensor:
    """The result in x's type and layout."""
    target = torch.empty_like(x)
    if target.dtype == result.dtype and target.stride() == result.stride():
        return result
    return target.copy_(result)
