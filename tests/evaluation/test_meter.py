"""Seconds and memory: what is counted and what is not."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation import meter as meter_module
from vcodec.evaluation.meter import Meter


class Clock:
    """Stands still unless something takes its time."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def items(self, count: int, seconds: float) -> Iterator[int]:
        for index in range(count):
            self.now += seconds
            yield index


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(meter_module, "time", clock)
    return clock


def test_reading_is_not_counted(clock):
    meter = Meter()
    with meter.running():
        for _ in meter.excluded(clock.items(3, seconds=10)):
            clock.now += 1
    assert meter.seconds == 3


def test_only_the_making_of_decoded_frames_is_counted(clock):
    meter = Meter()
    for _ in meter.included(clock.items(3, seconds=10)):
        clock.now += 1
    assert meter.seconds == 30


def test_a_pause_is_not_counted(clock):
    meter = Meter()
    with meter.running():
        clock.now += 1
        with meter.paused():
            clock.now += 10
        clock.now += 2
    assert meter.seconds == 3


# Eight allocations of 8 MiB before the meter, four under it.
PEAK = """
from vcodec.evaluation.meter import Meter
from vcodec.memory import keep_freed_memory
keep_freed_memory()
before = [bytes([1]) * (8 << 20) for _ in range(8)]
del before
meter = Meter()
with meter.running():
    held = [bytes([1]) * (8 << 20) for _ in range(4)]
    del held
print(meter.peak_bytes >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_is_that_of_what_ran_and_not_of_before():
    """Also where freed memory is kept, as this package's programs do."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 30 <= int(done.stdout) <= 40


def test_a_programs_memory_is_counted():
    meter = Meter()
    printed = meter.run([sys.executable, "-c", "print(len(bytes(range(256)) * (64 << 12)))"])
    assert printed.strip() == str(64 << 20)
    assert meter.peak_bytes > 60 << 20


def test_a_failing_program_is_named_with_its_last_words():
    with pytest.raises(VcodecError, match="exit code 3: no such luck"):
        Meter().run([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"])


def test_a_missing_program_is_named():
    with pytest.raises(VcodecError, match="/no/such/program: can't be run"):
        Meter().run(["/no/such/program"])
