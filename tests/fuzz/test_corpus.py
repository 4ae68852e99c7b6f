"""The inputs that are kept of the fuzzing hold in every test run, without a fuzzer."""

from pathlib import Path

import pytest
from stream_target import check_stream
from synthetic import TEST_DATA

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", [*CORPUS, TEST_DATA / "golden.vcb"], ids=lambda path: path.name)
def test_whatever_is_read_every_way_of_reading_agrees(path):
    check_stream(path.read_bytes())
