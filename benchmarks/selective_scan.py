"""How fast the selective scan runs, as a fraction of what the machine can do, and how much memory it takes.

    python benchmarks/selective_scan.py [--json] [--threads 2] [--device cpu|cuda] [--sizes 16 64x64] [--states 1 16]

The four-direction operator in its fastest memory layout, forward and backward. On a CPU the C back end stands beside
the two forms of the PyTorch reference, and, with --before, beside the C library of another build; on a GPU the Triton
one beside mamba-ssm's operator on four copies of the map, at (8, 192, 64, 64) and (1, 192, 540, 960).

The limit is the larger of two times: that of the scan's exponentials, 4 * D * L * N, at the measured rate of exp (the
fastest way found), and that of its bytes (forward: u and y once, delta, B and C once a direction; backward: u, dy and
du once, the others and their gradients once a direction) at the measured bandwidth. Rates and scans are timed in turn,
in every round, and medians count, so that other work on the machine hurts all alike. peak_bytes is the most that a
pass allocates at a time, its results included.

The backward of the sequential form grows with the square of the length, to minutes: it is left out on maps of more than
1024 positions.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from machine_limits import bandwidths, count_processor_time, exp_rates, now
from torch import Tensor
from tqdm import tqdm

from vcodec.kernels import available_backends, cpu, reference, selective_scan_2d
from vcodec.memory import keep_freed_memory

BACKENDS = {"cpu": ("cpu", "chunked", "sequential"), "cuda": ("triton", "mamba_ssm")}
SIZES = {"cpu": ("16x16", "64x64", "128x128"), "cuda": ("8x64x64", "1x540x960")}
LONGEST = 5.0  # seconds, after which a back end has no more rounds of a shape
LONGEST_SEQUENTIAL_BACKWARD = 1024
PASSES = ("forward", "backward")
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="a list of records as JSON on standard output")
    parser.add_argument("--device", default="cpu", choices=list(BACKENDS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--states", type=int, nargs="+", default=[1, 16], metavar="N")
    parser.add_argument("--sizes", nargs="+", metavar="[BATCHx]HxW", help="one number means a square map")
    parser.add_argument("--channels", type=int, default=192, metavar="D")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--backends", nargs="+", help="default: all that the device has")
    parser.add_argument("--before", metavar="FILE", help="another build's _selective_scan*.so, to take turns with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--busy", action="store_true", help="for a machine with other work: processor time over threads, not wall time"
    )
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)  # back end and pass: in a process of its own
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        return print(_peak(_case(arguments.sizes[0], arguments.states[0], arguments), *arguments.peak_of))
    keep_freed_memory()
    if arguments.busy:
        count_processor_time(arguments.threads)
    cases = [_case(size, n, arguments) for n in arguments.states for size in arguments.sizes or SIZES[arguments.device]]
    records: list[Record] = []
    for case in tqdm(cases, file=sys.stderr, disable=None):
        found = _measure(case, arguments)
        if not arguments.json:
            _print(found)
        records += found
    if arguments.json:
        print(json.dumps(records, indent=1))


class Case:
    """The inputs of one shape, with step sizes as networks have them, and the passes over them by back end."""

    def __init__(
        self, batch: int, channels: int, height: int, width: int, d_state: int, dtype: torch.dtype, device: str
    ) -> None:
        self.shape = {"d_state": d_state, "batch": batch, "height": height, "width": width, "channels": channels}
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator(device).manual_seed(0)
        self.exps = 4 * batch * channels * height * width * d_state
        item, direction = batch * height * width * dtype.itemsize, 4 * (channels + 2 * d_state)
        self.bytes = {"forward": item * (2 * channels + direction), "backward": item * (3 * channels + 2 * direction)}
        u = self._random(batch, height, width, channels).permute(0, 3, 1, 2)
        delta, B, C = (
            self._random(batch, height, width, 4, n).permute(0, 3, 4, 1, 2) for n in (channels, d_state, d_state)
        )
        A = -torch.arange(1, d_state + 1, dtype=dtype, device=device).expand(4, channels, d_state).contiguous()
        self.inputs = [u, delta, A, B, C, self._random(4, channels), self._random(4, channels) - 3]
        self.leaves = [x.detach().requires_grad_() for x in self.inputs]
        self.dy = torch.empty_like(u).copy_(u)
        self.before: Any = None  # the C library of another build

    def _random(self, *shape: int) -> Tensor:
        return 0.5 * torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self.device)

    def has(self, backend: str, direction: str) -> bool:
        """Whether a pass is worth its time."""
        positions = self.shape["height"] * self.shape["width"]
        return (backend, direction) != ("sequential", "backward") or positions <= LONGEST_SEQUENTIAL_BACKWARD

    @contextmanager
    def library_of(self, backend: str) -> Iterator[None]:
        """Let the C back end be that of the other build meanwhile, if `backend` asks for it."""
        own = cpu._library
        cpu._library = self.before if backend == "before" else own
        try:
            yield
        finally:
            cpu._library = own

    def forward(self, backend: str, with_gradients: bool = False) -> Tensor:
        u, delta, A, B, C, D, bias = self.leaves if with_gradients else self.inputs
        if backend == "sequential":  # the reference's other form, its gradients left to autograd
            return reference.forward(u, delta, A, B.unsqueeze(2), C.unsqueeze(2), D, bias, True, sequential=True)
        name = {"chunked": "reference", "before": "cpu"}.get(backend, backend)
        with self.library_of(backend):
            return selective_scan_2d(u, delta, A, B, C, D, bias, True, backend=name)

    def backward(self, backend: str, y: Tensor) -> Any:
        with self.library_of(backend):
            return torch.autograd.grad(y, self.leaves, self.dy, retain_graph=True)


def _case(size: str, d_state: int, arguments: argparse.Namespace) -> Case:
    numbers = [int(n) for n in size.split("x")]
    height, width = numbers[-2:] if len(numbers) > 1 else numbers * 2
    batch, dtype = numbers[0] if len(numbers) == 3 else 1, getattr(torch, arguments.dtype)
    case = Case(batch, arguments.channels, height, width, d_state, dtype, arguments.device)
    case.before = _load_library(arguments.before) if arguments.before else None
    return case


def _load_library(file: str) -> Any:
    loader = importlib.machinery.ExtensionFileLoader("_selective_scan", file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_selective_scan", loader, origin=file))
    loader.exec_module(module)
    return module


def _measure(case: Case, arguments: argparse.Namespace) -> list[Record]:
    """Every back end and the machine's two rates, in turn, round after round; slow back ends stop earlier."""
    missing = available_backends()
    names = list(arguments.backends or [b for b in BACKENDS[case.device] if missing.get(b) is None])
    names += ["before"] if case.before else []
    seconds: dict[tuple[str, str], list[float]] = {(name, p): [] for name in names for p in PASSES if case.has(name, p)}
    rates: dict[str, list[dict[str, float]]] = {"exp": [], "memory": []}
    spent = dict.fromkeys(names, 0.0)
    for i in range(arguments.rounds):
        rates["exp"].append(exp_rates(case.device, case.dtype))
        rates["memory"].append(bandwidths(case.device))
        for name in names if i % 2 else reversed(names):  # who runs first finds the caches as others left them
            if spent[name] > LONGEST:
                continue
            start = now(case.device)
            seconds[name, "forward"].append(_seconds(partial(case.forward, name), case.device))
            if (name, "backward") in seconds:
                y = case.forward(name, with_gradients=True)
                seconds[name, "backward"].append(_seconds(partial(case.backward, name, y), case.device))
                del y
            spent[name] += now(case.device) - start
    (exp_rate, exp_name), (byte_rate, byte_name) = (_best(samples) for samples in rates.values())
    load = f"; load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    limits = f"exp {exp_rate / 1e9:.2f} G/s ({exp_name}), memory {byte_rate / 1e9:.2f} GB/s ({byte_name}){load}"
    print(f"\nlimits: {limits}", file=sys.stderr)
    if ("sequential", "forward") in seconds and ("sequential", "backward") not in seconds:
        print("left out: sequential backward, which takes minutes on such a map", file=sys.stderr)
    records = []
    for (name, direction), times in seconds.items():
        limit, median = max(case.exps / exp_rate, case.bytes[direction] / byte_rate), statistics.median(times)
        peak = _peak(case, name, direction) if case.device == "cuda" else _peak_of_process(case, name, direction)
        measured = {"ms": round(median * 1e3, 4), "limit_fraction": round(limit / median, 4), "peak_bytes": peak}
        records.append({"backend": name, "pass": direction, **case.shape, **measured})
    return records


def _best(samples: list[dict[str, float]]) -> tuple[float, str]:
    return max((statistics.median(sample[name] for sample in samples), name) for name in samples[0])


def _seconds(call: Any, device: str) -> float:
    """The mean over as many calls as take some milliseconds, after one that warms up where calls are short."""
    start = now(device)
    call()
    seconds = now(device) - start
    if seconds > 1:
        return seconds
    count, start = max(1, min(20, int(0.005 / seconds))), now(device)
    for _ in range(count):
        call()
    return (now(device) - start) / count


def _peak_of_process(case: Case, backend: str, direction: str) -> int | None:
    """The peak in a fresh process, whose allocator takes every tensor from the system and gives it back."""
    s = case.shape
    command = [sys.executable, __file__, "--peak-of", backend, direction, "--threads", str(torch.get_num_threads())]
    command += ["--sizes", f"{s['batch']}x{s['height']}x{s['width']}", "--states", str(s["d_state"])]
    command += ["--channels", str(s["channels"]), "--dtype", str(case.dtype).removeprefix("torch.")]
    command += ["--before", case.before.__file__] if case.before else []
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    return int(output) if output != "None" else None


def _peak(case: Case, backend: str, direction: str) -> int | None:
    """Bytes that the pass allocates at most at a time; None where the system can't tell (it can on Linux and CUDA)."""
    tiny = Case(1, case.shape["channels"], 4, 4, case.shape["d_state"], case.dtype, case.device)
    tiny.before = case.before
    peak = None
    for each in (tiny, case):  # the first loads what is loaded once
        y = each.forward(backend, with_gradients=True) if direction == "backward" else None
        before = _reset_peak(case.device)
        result = each.forward(backend) if y is None else each.backward(backend, y)
        after = _read_memory("VmHWM", case.device)
        peak = None if before is None or after is None else after - before
        del result, y
    return peak


def _reset_peak(device: str) -> int | None:
    """Forget the highest use of memory so far; the present one."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return None
    return _read_memory("VmRSS", device)


def _read_memory(field: str, device: str) -> int | None:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(field)), None)


def _print(records: list[Record]) -> None:
    """One shape: a row for each back end and pass, then how the first back end compares with the others."""
    first, shape = records[0]["backend"], records[0]
    sizes = {r["backend"]: r for r in records}
    print(f"d_state {shape['d_state']}, {shape['batch']} x {shape['channels']} x {shape['height']} x {shape['width']}")
    for r in records:
        own = next(x for x in records if x["backend"] == first and x["pass"] == r["pass"])
        peak = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 2**20:9.1f} MiB"
        ratio = "" if r is own else f"  {first} is {r['ms'] / own['ms']:.1f} times as fast"
        figures = f"{r['ms']:10.3f} ms {r['limit_fraction']:7.1%} of the limit {peak}{ratio}"
        print(f"  {r['backend']:10s} {r['pass']:8s} {figures}")
    for name in sizes:
        ms = {r["pass"]: r["ms"] for r in records if r["backend"] == name}
        if "backward" not in ms:
            continue
        own = sum(r["ms"] for r in records if r["backend"] == first) / sum(ms.values())
        both = "" if name == first else f"; forward + backward, {first} is {1 / own:.2f} times as fast"
        print(f"  {name:10s} backward / forward {ms['backward'] / ms['forward']:.2f}{both}")


if __name__ == "__main__":
    main()
