"""The entropy coder: exact bytes, the same from C and from Python, and no surprise from damaged ones."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.entropy.gaussian import gaussian_tables
from vcodec.entropy.rans import FrequencyTables, RansDecoder, RansEncoder, has_c_coder
from vcodec.errors import VcodecError

INT32 = np.iinfo(np.int32)

int32s = st.integers(INT32.min, INT32.max) | st.integers(-300, 300) | st.sampled_from([INT32.min, INT32.max])


@st.composite
def tables_and_symbols(draw) -> tuple[FrequencyTables, np.ndarray, np.ndarray]:
    rows, minimum = [], []
    for _ in range(draw(st.integers(1, 4))):
        inner = draw(st.lists(st.integers(1, 65535), max_size=12, unique=True))
        rows.append(np.array([0, *sorted(inner), 65536]))
        minimum.append(draw(st.integers(-1000, 1000)))
    chosen = draw(st.lists(st.tuples(st.integers(0, len(rows) - 1), int32s), max_size=60))
    symbols = np.array([symbol for _, symbol in chosen], np.int32)
    return FrequencyTables.from_rows(rows, minimum), np.array([row for row, _ in chosen], np.int32), symbols


def encode(symbols: np.ndarray, rows: np.ndarray, tables: FrequencyTables, use_c: bool) -> bytes:
    coder = RansEncoder(use_c=use_c)
    coder.push(symbols, rows, tables)
    return coder.finish()


def decode(data: bytes, rows: np.ndarray, tables: FrequencyTables, use_c: bool) -> list[int]:
    coder = RansDecoder(data, use_c=use_c)
    symbols = coder.pull(rows, tables)
    coder.finish()
    return symbols.tolist()


def test_the_c_coder_is_built():
    assert has_c_coder(), "the C coder is missing: install a C compiler and run `make build`"


@pytest.mark.parametrize("use_c", [True, False])
def test_the_bytes_never_change(use_c):
    symbols = np.array([0, 1, -1, 3, -7, 100, -2000, 0, 0, 12, INT32.max, INT32.min], np.int32)
    rows = np.array([1, 5, 9, 20, 30, 40, 63, 2, 0, 3, 10, 50], np.int32)
    data = encode(symbols, rows, gaussian_tables(), use_c)
    assert data.hex() == "01c80c1d9b50fe68fffe0003cdf89b0d7fff0000007c7fffff867ffe0000007f7fff8000"
    assert decode(data, rows, gaussian_tables(), use_c) == symbols.tolist()


@given(tables_and_symbols())
def test_c_and_python_write_the_same_bytes_and_read_them_back(case):
    tables, rows, symbols = case
    data = encode(symbols, rows, tables, use_c=True)
    assert data == encode(symbols, rows, tables, use_c=False)
    assert decode(data, rows, tables, use_c=True) == decode(data, rows, tables, use_c=False) == symbols.tolist()


@given(tables_and_symbols(), tables_and_symbols())
def test_segments_under_different_tables_share_one_string(first, second):
    coder = RansEncoder()
    for tables, rows, symbols in (first, second):
        coder.push(symbols, rows, tables)
    reader = RansDecoder(coder.finish())
    for tables, rows, symbols in (first, second):
        assert reader.pull(rows, tables).tolist() == symbols.tolist()
    reader.finish()


@given(tables_and_symbols(), st.data())
def test_damaged_bytes_end_in_symbols_or_in_a_sentence_alike_in_c_and_python(case, data):
    tables, rows, symbols = case
    damaged = bytearray(encode(symbols, rows, tables, use_c=True))
    for at in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=3)):
        damaged[at : at + 1] = data.draw(st.binary(max_size=2))
    outcomes = []
    for use_c in (True, False):
        try:
            outcomes.append(decode(bytes(damaged), rows, tables, use_c))
        except VcodecError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(VcodecError):
        decode(data, np.arange(64, dtype=np.int32), gaussian_tables(), use_c=True)


def test_bytes_that_are_left_over_are_refused():
    rows = np.full(100, 20, np.int32)
    data = encode(np.arange(100, dtype=np.int32) % 5, rows, gaussian_tables(), use_c=True)
    with pytest.raises(VcodecError, match="damaged"):
        decode(data + b"\x01", rows, gaussian_tables(), use_c=True)
    with pytest.raises(VcodecError, match="damaged"):
        decode(data, rows[:-1], gaussian_tables(), use_c=True)
    with pytest.raises(VcodecError, match="damaged"):
        decode(data[:-1], rows, gaussian_tables(), use_c=True)


def test_nothing_costs_nothing():
    assert RansEncoder().finish() == b""
    RansDecoder(b"").finish()


@settings(max_examples=20)
@given(st.integers(1, 63), st.integers(0, 2**32 - 1))
def test_the_length_is_that_of_the_information(level, seed):
    tables = gaussian_tables()
    start, stop = tables.row_start[level : level + 2]
    frequencies = np.diff(tables.cdf[start:stop].astype(np.int64))
    rng = np.random.default_rng(seed)
    k = rng.choice(len(frequencies) - 1, 5000, p=frequencies[:-1] / frequencies[:-1].sum())
    data = encode(tables.minimum[level] + k, np.full(5000, level), tables, use_c=True)
    bits = -np.log2(frequencies[k] / 65536)
    # the last symbol is coded first, into the state 0, where it may be free
    assert bits[:-1].sum() <= 8 * len(data) <= 1.002 * bits.sum() + 32
