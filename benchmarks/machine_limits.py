"""What this machine can do at best, measured: exponentials a second, bytes of memory a second.

Samples of some milliseconds, to be taken in turn with what is compared with them.
"""

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch

from vcodec.kernels import cpu

if find_spec("triton"):
    import triton
    import triton.language as tl

    @triton.jit
    def _exp_in_registers(x, y, REPETITIONS: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
        index = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
        z = tl.load(x + index)
        for _ in range(REPETITIONS):
            z = tl.exp(-z)
        tl.store(y + index, z)


def exp_rates(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Exponentials a second by every way at hand, on numbers that stay in the caches or registers."""
    count = 4096 * torch.get_num_threads() if device == "cpu" else 1 << 22
    x = -torch.rand(count, device=device, dtype=dtype)
    y = torch.empty_like(x)
    large = -torch.rand(1 << 16 if device == "cpu" else 1 << 22, device=device, dtype=dtype)
    rates = {"torch.exp": _rate(partial(torch.exp, large, out=torch.empty_like(large)), large.numel(), device)}
    if device == "cpu" and cpu.unavailable() is None:
        rates["the kernel's own"] = _rate(partial(cpu.exp, x, y, 64), 64 * count, device)
    if device == "cuda" and find_spec("triton"):
        run = partial(_exp_in_registers[count // 1024,], x, y, REPETITIONS=64, SIZE=1024)
        rates["Triton"] = _rate(run, 64 * count, device)
    return rates


def bandwidths(device: str) -> dict[str, float]:
    """Bytes a second, read and written, on arrays that no cache holds."""
    count = 1 << (24 if device == "cpu" else 28)
    x, y = torch.ones(count, device=device), torch.ones(count, device=device)
    return {
        "reading": _rate(x.sum, 4 * count, device),
        "copying": _rate(partial(y.copy_, x), 8 * count, device),
    }


def _rate(call: Callable[[], object], count: int, device: str) -> float:
    """`count` over the time of a call, the best of three (a sample should meet no other work on the machine)."""
    times = []
    for _ in range(4):
        start = now(device)
        call()
        times.append(now(device) - start)
    return count / min(times[1:])


_clock = time.perf_counter


def count_processor_time(threads: int) -> None:
    """From now on, let `now` tell the process's processor time over its threads: what a busy machine leaves to tell."""
    global _clock
    _clock = lambda: time.process_time() / threads  # noqa: E731


def now(device: str) -> float:
    """Seconds, once the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return _clock()
