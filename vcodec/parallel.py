"""GOPs coded by several processes or machines at once, with the bytes and pictures of a single one.

No GOP depends on another. Each worker holds an encoder or a decoder; GOPs go out and come back in order, a few at a
time, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import torch

from .bitstream import Damage, Packet
from .codec import CodedFrame, Decoder, Encoder, Lost, decode_packets, encode_frames
from .errors import VcodecError
from .video import Frame, VideoFormat

MAX_GOP_BYTES = 1 << 30  # of pictures: longer GOPs are coded by one process, picture by picture

Make = Callable[[], Any]


class Submit(Protocol):
    """Has a worker run function(its encoder or decoder, *arguments); gives a function that waits for the result."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]: ...


def fits(format: VideoFormat, gop_size: int) -> bool:
    """Whether GOPs of this size may lie in memory as a whole."""
    return 1 <= gop_size <= MAX_GOP_BYTES // format.frame_bytes


def encode_gops(submit: Submit, jobs: int, frames: Iterable[Frame], gop_size: int,
                measure_psnr: bool) -> Iterator[CodedFrame]:  # fmt: skip
    """As `encode_frames`, with the GOPs spread over workers that hold an Encoder."""
    frames = iter(frames)
    gops = iter(lambda: list(itertools.islice(frames, gop_size)), [])
    for coded in _in_order(submit, jobs, _encode_gop, ((gop, measure_psnr) for gop in gops)):
        yield from coded


def decode_gops(submit: Submit, jobs: int, items: Iterable[Packet | Damage], number: int, pts_step: int, strict: bool,
                damage: list[Damage], longest: int) -> Iterator[Frame | Lost]:  # fmt: skip
    """As `decode_packets`, with the GOPs spread over workers that hold a Decoder.

    longest: how many packets a GOP may have; VcodecError for more.
    """
    tasks = ((gop, first, pts_step, strict) for gop, first in _gops(items, number, longest))
    for decoded, lost in _in_order(submit, jobs, _decode_gop, tasks):
        damage += lost
        yield from decoded


def workers(make: Make, jobs: int, threads: int, ray_address: str | None) -> contextlib.AbstractContextManager[Submit]:
    """Workers of a Ray cluster where an address is given, else processes of this machine."""
    return processes(make, jobs, threads) if ray_address is None else ray_workers(make, jobs, threads, ray_address)


@contextlib.contextmanager
def processes(make: Make, jobs: int, threads: int) -> Iterator[Submit]:
    """Workers on this machine: `jobs` processes of `threads` threads, each with its own make()."""
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start, initargs=(make, threads)
    )

    def submit(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        with _interrupts_held_back():  # the processes that start here end with this one
            future = executor.submit(_run, function, *arguments)
        return lambda: _result(future)

    try:
        yield submit
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def ray_workers(make: Make, jobs: int, threads: int, address: str) -> Iterator[Submit]:
    """Workers of a Ray cluster: `jobs` actors of `threads` CPUs each.

    address: of the cluster's head ("auto", "HOST:6379", "ray://HOST:10001"), or "local" for one on this machine.
    Raises VcodecError when Ray is missing, or there is no cluster, or a worker is lost.
    """
    try:
        import ray
    except ImportError as error:
        raise VcodecError("coding over a cluster needs Ray: pip install 'vcodec[cluster]'") from error
    started_here = not ray.is_initialized()
    if started_here:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise VcodecError(f"there is no Ray cluster at {address} ({error})") from error
    try:
        worker = ray.remote(num_cpus=threads)(_Worker)
        shared = ray.put(make)
        actors = itertools.cycle([worker.remote(shared, threads) for _ in range(jobs)])

        def submit(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            reference = next(actors).run.remote(function, *arguments)

            def result() -> Any:
                try:
                    return ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise VcodecError(f"a worker of the cluster at {address} was lost: {error}") from error

            return result

        yield submit
    finally:
        if started_here:
            ray.shutdown()


def _in_order(submit: Submit, jobs: int, function: Callable[..., Any], tasks: Iterable[tuple]) -> Iterator[Any]:
    """The results in the order of the tasks; one task waits for every worker, besides the one it is at."""
    waiting: deque[Callable[[], Any]] = deque()
    for task in tasks:
        waiting.append(submit(function, *task))
        if len(waiting) == 2 * jobs:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def _gops(items: Iterable[Packet | Damage], number: int, longest: int) -> Iterator[tuple[list[Packet | Damage], int]]:
    """Packets from one I-frame up to the next, with the number of the first."""
    gop: list[Packet | Damage] = []
    first = number
    for item in items:
        if gop and isinstance(item, Packet) and item.frame_type == "I":
            yield gop, first
            gop, first = [], number
        gop.append(item)
        number += item.count if isinstance(item, Damage) else 1
        if len(gop) > 2 * longest:  # there may be damage between the packets
            raise VcodecError(f"the GOP at frame {first} is longer than the header says: decode with one job")
    if gop:
        yield gop, first


def _encode_gop(encoder: Encoder, frames: list[Frame], measure_psnr: bool) -> list[CodedFrame]:
    return list(encode_frames(encoder, frames, measure_psnr))


def _decode_gop(
    decoder: Decoder, items: list[Packet | Damage], number: int, pts_step: int, strict: bool
) -> tuple[list[Frame | Lost], list[Damage]]:
    decoder.forget()
    damage: list[Damage] = []
    return list(decode_packets(decoder, items, number, pts_step, strict, damage)), damage


# --- In a worker ---


class _Worker:
    """Makes its encoder or decoder when the first task comes, so that a failure is that task's."""

    def __init__(self, make: Make, threads: int):
        torch.set_num_threads(threads)
        self._make, self._coder = make, None

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._coder is None:
            self._coder = self._make()
        return function(self._coder, *arguments)


_worker: _Worker | None = None


def _start(make: Make, threads: int) -> None:
    global _worker
    _worker = _Worker(make, threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed can't tell its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    assert _worker is not None
    return _worker.run(function, *arguments)


def _result(future: Future) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise VcodecError(
            "a worker process ended too early: take fewer jobs if memory was short; "
            "a script that codes with several jobs has to guard its start by `if __name__ == '__main__':`"
        ) from error


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C goes to every process of a terminal, but the first one alone should answer.

    Processes that start within inherit the mask and never see it; this one answers at the end. The handler is for
    signals that another thread takes, which the mask of this one does not hold back. On Windows, where there are no
    masks, and in other threads than the main one, which get no signals, nothing is held back.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
