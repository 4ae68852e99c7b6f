"""What coding costs: seconds and peak memory, of this process and of programs that it runs."""

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from vcodec.errors import VcodecError

Item = TypeVar("Item")


class Meter:
    """Counts the seconds and the memory of what runs under it.

    `seconds` leaves out what is produced by `excluded(...)` (reading the source) and, of an iterable given to
    `included(...)`, counts only the producing (decoding), not what the caller does with the items (measuring).

    `peak_bytes` is the resident memory at its highest, above what the process held when the meter was made; for a
    program run by `run`, the program's own peak. None where the system does not tell (it does on Linux).
    """

    def __init__(self) -> None:
        _return_freed_memory()
        self.seconds = 0.0
        self._baseline = _status_bytes("VmRSS")
        self._peak = 0
        self._started: float | None = None

    @property
    def peak_bytes(self) -> int | None:
        return None if self._baseline is None else max(self._peak, 0)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within `running`: what is done here is not counted."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def excluded(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, the clock standing still while each is made."""
        iterator = iter(items)
        while True:
            try:
                with self.paused():
                    item = next(iterator)
            except StopIteration:
                return
            yield item

    def included(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, the clock running only while each is made."""
        iterator = iter(items)
        while True:
            with self.running():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def run(self, command: Sequence[str | Path]) -> str:
        """Run a program to its end, counting its memory; returns what it printed.

        Raises:
            VcodecError: the program is missing or fails; with its last line of output.
        """
        arguments = [str(argument) for argument in command]
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            try:
                process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            except OSError as error:
                raise VcodecError(f"{arguments[0]}: can't be run ({error.strerror}).") from error
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            self._peak = max(self._peak, usage.ru_maxrss * 1024)
            output.seek(0)
            printed = output.read()
        if process.returncode != 0:
            last = next((line.strip() for line in reversed(printed.splitlines()) if line.strip()), "no output")
            raise VcodecError(f"{arguments[0]}: failed with exit code {process.returncode}: {last}")
        return printed

    def _start(self) -> None:
        _reset_peak()
        self._started = time.perf_counter()

    def _stop(self) -> None:
        if self._started is None:
            return
        self.seconds += time.perf_counter() - self._started
        self._started = None
        peak = _status_bytes("VmHWM")
        if peak is not None and self._baseline is not None:
            self._peak = max(self._peak, peak - self._baseline)


def _return_freed_memory() -> None:
    """Give what earlier work freed back to the system (glibc keeps it), so that it does not hide the next peak."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    with suppress(OSError):  # without it the peak is that since the start of the process
        Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(key + ":")]
    return int(values[0]) * 1024 if values else None
