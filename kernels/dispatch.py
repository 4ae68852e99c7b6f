"""Which back end runs a scan: chosen by device, dtype and what is installed, or named by the caller.

A back end is a module with four functions:

    unavailable() -> str | None           why it can't be used on this machine
    supports(device, dtype) -> bool       device is the type as text ("cpu", "cuda"), dtype the one of u
    forward(u, delta, A, B, C, D, delta_bias, delta_softplus) -> y
    backward(dy, u, delta, A, B, C, D, delta_bias, delta_softplus) -> a gradient for each tensor, None for None

Their arguments are those of the general scan that both public functions are cases of, with K directions and G groups
of channels: u (batch, D, H, W), delta (batch, K, D, H, W), A (K, D, N), B and C (batch, K, G, N, H, W), D and
delta_bias (K, D). Gradients have the type and the memory layout of their tensors.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch

from vcodec.errors import VcodecError

# The first one that supports a device and dtype is used.
MODULES = {
    "cpu": "cpu",
    "triton": "triton_scan",
    "mamba_ssm": "mamba",
    "reference": "reference",
}


class _Named(threading.local):
    """The back end that this thread's innermost `use_backend` names (torch.compile can't read a ContextVar)."""

    backend: str | None = None


_named = _Named()


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run every scan inside the `with` block on the named back end; None restores the automatic choice."""
    if name is not None:
        _check(name)
    before = _named.backend
    _named.backend = name
    try:
        yield
    finally:
        _named.backend = before


def available_backends() -> dict[str, str | None]:
    """Every back end by name, with None where it can be used and else a sentence that says what it lacks."""
    return {name: backend_module(name).unavailable() for name in MODULES}


def resolve_backend(device: torch.device | str, dtype: torch.dtype, backend: str | None = None) -> str:
    """The name of the back end that a scan on this device and dtype uses.

    `backend` (an argument of the scans) comes first, then the innermost `use_backend`, then the fastest that fits.
    Raises VcodecError for an unknown name, and for a back end that is missing or can't take the device or dtype.
    """
    return _resolve(torch.device(device).type, dtype, backend or _named.backend)


@cache
def backend_module(name: str) -> ModuleType:
    return importlib.import_module(f".{MODULES[name]}", __package__)


@torch.compiler.assume_constant_result
def _resolve(device: str, dtype: torch.dtype, name: str | None) -> str:
    return _choose(device, dtype, name)


@cache
def _choose(device: str, dtype: torch.dtype, name: str | None) -> str:
    if name is None:
        modules = ((name, backend_module(name)) for name in MODULES)
        return next(name for name, m in modules if m.unavailable() is None and m.supports(device, dtype))
    _check(name)
    if not backend_module(name).supports(device, dtype):
        raise VcodecError(f"the scan back end {name!r} does not take {dtype} on {device}")
    return name


def _check(name: str) -> None:
    if name not in MODULES:
        raise VcodecError(f"there is no scan back end {name!r}; there are {', '.join(MODULES)}")
    reason = backend_module(name).unavailable()
    if reason is not None:
        raise VcodecError(f"the scan back end {name!r} can't be used: {reason}")
