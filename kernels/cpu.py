"""The back end for CPUs: C, vectorised over the channels, with threads (scan_forward.h, scan_backward.h)."""

import ctypes
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor


def _load() -> ModuleType | None:
    """The C module, on the thread pool that PyTorch uses: two pools would fight for the cores."""
    for path in Path(torch.__file__).parent.glob("lib/libgomp*.so*"):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    try:
        from . import _selective_scan
    except ImportError:
        return None
    return _selective_scan


_library = _load()
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
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_, delta, B, C = (_channels_last(x, dtype) for x in (u, delta, B, C))
    A, D, delta_bias = (None if x is None else x.to(dtype).contiguous() for x in (A, D, delta_bias))
    y = torch.empty_like(u)
    out = y if _is_channels_last(y, dtype) else torch.empty_like(u_)
    batch, directions, groups, states = B.shape[:4]
    channels, height, width = u.shape[1:]
    if u.numel() == 0:
        return y
    w = -1 if width > 1 else -2
    su, sd, sB, sC, sy = u_.stride(), delta.stride(), B.stride(), C.stride(), out.stride()
    _library.forward(
        _best,
        dtype == torch.float64,
        torch.get_num_threads(),
        delta_softplus,
        (batch, directions, groups, channels, height, width, states),
        (su[0], su[w]),
        (sd[0], sd[1], sd[w]),
        (sB[0], sB[1], sB[2], sB[w]),
        (sC[0], sC[1], sC[2], sC[w]),
        (sy[0], sy[w]),
        u_.data_ptr(),
        delta.data_ptr(),
        A.data_ptr(),
        B.data_ptr(),
        C.data_ptr(),
        0 if D is None else D.data_ptr(),
        0 if delta_bias is None else delta_bias.data_ptr(),
        out.data_ptr(),
    )
    return y if out is y else y.copy_(out)


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


from .reference import backward  # noqa: E402, F401
