"""Seconds and memory: what is counted and what is not."""

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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_is_that_of_what_ran_and_not_of_before():
    before = bytearray(64 << 20)
    del before
    meter = Meter()
    with meter.running():
        held = bytearray(32 << 20)
        held[::4096] = bytes(len(held[::4096]))
        del held
    assert 30 << 20 <= meter.peak_bytes < 60 << 20


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
