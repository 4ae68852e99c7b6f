"""The back end for CPUs: C, vectorised over the channels, with threads (scan_forward.h, scan_backward.h)."""

import ctypes
import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def _load() -> Any:
    """The C module, on the thread pool that PyTorch uses: two pools would fight for the cores."""
    for path in Path(torch.__file__).parent.glob("lib/libgomp*.so*"):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    try:
        return importlib.import_module("._selective_scan", __package__)
    except ImportError:
        return None


_library = _load()
# By name, best first; AVX-512, AVX2 and the baseline on x86-64.
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
    y = torch.empty_like(u)
    out = y if _is_channels_last(y, inputs[0].dtype) else torch.empty_like(inputs[0])
    _library.forward(*_arguments(inputs, delta_softplus, 1), _strides(out, 1), out.data_ptr())
    return y if out is y else y.copy_(out)


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
    dtype, batch, groups = inputs[0].dtype, u.shape[0], B.shape[2]
    slices = _slices(batch, groups, u.shape[1], 8 if dtype == torch.float64 else 16)
    dy = _channels_last(dy, dtype)
    du, ddelta = (_writable(x, y) for x, y in ((u, inputs[0]), (delta, inputs[1])))
    dB, dC = (x.new_empty(slices, *B.shape[:3], *B.shape[4:], B.shape[3]) for x in inputs[3:5])
    dA, dbias, dD = (inputs[2].new_empty(batch, *shape) for shape in (A.shape, A.shape[:2], A.shape[:2]))
    _library.backward(
        *_arguments(inputs, delta_softplus, slices),
        _strides(dy, 1),
        _strides(du, 1),
        _strides(ddelta, 2),
        tuple(x.data_ptr() for x in (dy, du, ddelta, dA, dB, dC, dD, dbias)),
    )
    gradients = (du, ddelta, dA.sum(0), dB.sum(0).movedim(-1, -3), dC.sum(0).movedim(-1, -3), dD.sum(0), dbias.sum(0))
    tensors = (u, delta, A, B, C, D, delta_bias)
    return tuple(None if x is None else _like(x, g) for x, g in zip(tensors, gradients, strict=True))


def exp(x: Tensor, y: Tensor, repetitions: int = 1) -> None:
    """y = exp(x) as the scans compute it, `repetitions` times over, for tests and benchmarks.

    x and y are contiguous, float32 or float64, with a multiple of 64 numbers for each of PyTorch's threads.
    """
    threads = torch.get_num_threads()
    count = x.numel() // threads
    _library.exp(_best, x.dtype == torch.float64, threads, repetitions, count, x.data_ptr(), y.data_ptr())


def _slices(batch: int, groups: int, channels: int, block: int) -> int:
    """How many parts the channels of a group are cut into, so that 16 units can run at once: a rule that does not
    know the number of threads, since the order of the sums in dB and dC depends on it."""
    return max(1, min(4, 16 // (batch * groups), -(-(channels // groups) // block)))


def _prepare(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *parameters: Tensor | None) -> list[Any]:
    """Every tensor in the type and layout that the C code takes; most often none is copied."""
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, delta, B, C = (x if _is_channels_last(x, dtype) else _channels_last(x, dtype) for x in (u, delta, B, C))
    rest = [x if x is None else x.to(dtype).contiguous() for x in parameters]
    return [u, delta, A.to(dtype).contiguous(), B, C, *rest]


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
        tuple([0 if x is None else x.data_ptr() for x in inputs]),
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


def _writable(x: Tensor, prepared: Tensor) -> Tensor:
    """Memory for a gradient, in x's layout where the C code can write that."""
    result = torch.empty_like(x)
    return result if _is_channels_last(result, prepared.dtype) else torch.empty_like(prepared)


def _like(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in x's type and layout."""
    target = torch.empty_like(x)
    if target.dtype == gradient.dtype and target.stride() == gradient.stride():
        return gradient
    return target.copy_(gradient)
