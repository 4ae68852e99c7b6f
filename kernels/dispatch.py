"""Which back end runs a scan: chosen by device, dtype and what is installed, or named by the caller.

A back end is a module with three functions:

    unavailable() -> str | None             why it can't be used on this machine
    supports(device, dtype) -> bool         device is the type as text ("cpu", "cuda"), dtype the one of u
    forward(u, delta, A, B, C, D, delta_bias, delta_softplus) -> y
    backward(dy, u, delta, A, B, C, D, delta_bias, delta_softplus) -> one gradient per tensor argument

Shapes are those of the general scan that both public functions are cases of (K directions, G groups of channels):
u (batch, D, H, W), delta (batch, K, D, H, W), A (K, D, N), B and C (batch, K, G, N, H, W), D and delta_bias (K, D).
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch

from vcodec.errors import VcodecError

# Fastest first: the first one that supports a device and dtype is used.
MODULES = {
    "triton": "triton_scan",
    "mamba_ssm": "mamba",
    "cpu": "cpu",
    "reference": "reference",
}


class _Named(threading.local):
    """The back end that the innermost `use_backend` of this thread names (torch.compile can't read a ContextVar)."""

    backend: str | None = None


_named = _Named()


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run every scan inside the `with` block on the named back end; None restores the automatic choice."""
    if name is not None:
        load_backend(name)
    before = _named.backend
    _named.backend = name
    try:
        yield
    finally:
        _named.backend = before


def available_backends() -> dict[str, str | None]:
    """Every back end by name, with None where it can be used and else one sentence that says what it lacks."""
    return {name: _module(name).unavailable() for name in MODULES}


def resolve_backend(device: torch.device | str, dtype: torch.dtype, backend: str | None = None) -> str:
    """The name of the back end that a scan on this device and dtype uses.

    `backend` (an argument of the scans) comes first, then the innermost `use_backend`, then the fastest that fits.
    Raises VcodecError for an unknown name, and for a back end that is missing or can't take this device and dtype.
    """
    return _resolve(torch.device(device).type, dtype, backend or _named.backend)


def load_backend(name: str) -> ModuleType:
    """The module of a back end by name; VcodecError with the reason where it can't be used."""
    if name not in MODULES:
        raise VcodecError(f"there is no scan back end {name!r}; there are {', '.join(sorted(MODULES))}")
    reason = _module(name).unavailable()
    if reason is not None:
        raise VcodecError(f"the scan back end {name!r} can't be used: {reason}")
    return _module(name)


@torch.compiler.assume_constant_result
def _resolve(device: str, dtype: torch.dtype, name: str | None) -> str:
    return _choose(device, dtype, name)


@cache
def _choose(device: str, dtype: torch.dtype, name: str | None) -> str:
    if name is None:
        return next(
            name
            for name in MODULES
            if _module(name).unavailable() is None and _module(name).supports(device, dtype)
        )
    if not load_backend(name).supports(device, dtype):
        raise VcodecError(f"the scan back end {name!r} does not take {dtype} on {device}")
    return name


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{MODULES[name]}", __package__)
