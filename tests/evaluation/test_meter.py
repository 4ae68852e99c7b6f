"""Seconds and memory: what is counted and what is not."""

import sys
import time

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.meter import Meter


def slowly(count: int, pause: float = 0.05):
    for index in range(count):
        time.sleep(pause)
        yield index


def test_reading_is_not_counted():
    meter = Meter()
    with meter.running():
        assert list(meter.excluded(slowly(3))) == [0, 1, 2]
    assert meter.seconds < 0.1


def test_only_the_making_of_decoded_frames_is_counted():
    meter = Meter()
    for _ in meter.included(slowly(3)):
        time.sleep(0.2)
    assert 0.15 <= meter.seconds < 0.55


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
