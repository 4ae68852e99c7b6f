"""The entropy coder: integer symbols and integer frequency tables to bytes and back.

Range asymmetric numeral systems with a 32-bit state (Duda, "Asymmetric numeral systems", 2013). The work is done
in C (`rans.c`); where that could not be built its Python twin (`rans_python.py`) gives the same bytes, slowly.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import VcodecError
from ..native import INT, INT64, POINTER, c_library
from . import rans_python

DAMAGED = "the entropy-coded bytes are damaged: they were not written by this encoder"


@dataclass(frozen=True)
class FrequencyTables:
    """Rows of cumulative frequencies. Row r rises from 0 to 65536; its last entry stands for "outside the row".

    cdf: uint32, all rows one after another; row_start: int32 (rows + 1); minimum: int32 (rows), the row's first symbol.
    """

    cdf: np.ndarray
    row_start: np.ndarray
    minimum: np.ndarray

    @classmethod
    def from_rows(cls, rows: list[np.ndarray], minimum: list[int]) -> "FrequencyTables":
        starts = np.cumsum([0, *(len(row) for row in rows)])
        return cls(
            np.ascontiguousarray(np.concatenate(rows), np.uint32),
            np.ascontiguousarray(starts, np.int32),
            np.ascontiguousarray(minimum, np.int32),
        )

    @classmethod
    def load(cls, path: Path) -> "FrequencyTables":
        """The tables that a file of the package holds."""
        with np.load(path) as stored:
            return cls(
                stored["cdf"].astype(np.uint32),
                stored["row_start"].astype(np.int32),
                stored["minimum"].astype(np.int32),
            )


class RansEncoder:
    """Collects symbols in coding order and gives the bytes that `RansDecoder` reads in the same order."""

    def __init__(self, *, use_c: bool | None = None):
        self._segments: list[tuple[np.ndarray, np.ndarray, FrequencyTables | None]] = []
        self._encode, self._write, _ = _functions(use_c)

    def push(self, symbols: np.ndarray, rows: np.ndarray, tables: FrequencyTables) -> None:
        """Appends symbols (any integers of 32 bits), symbol i under the table row rows[i]."""
        self._segments.append((_int32(symbols), _int32(rows), tables))

    def push_decisions(self, probabilities: np.ndarray, bits: np.ndarray) -> None:
        """Appends bits (uint8), each with the probability of a one in 65536ths (uint16, not zero)."""
        self._segments.append((bits, probabilities, None))

    def finish(self) -> bytes:
        """The bytes of all that was pushed; empty if everything was certain."""
        # the longest code word of a symbol: 16 bits, then 65 plain ones
        room = sum(symbols.size * (3 if tables is None else 12) for symbols, _, tables in self._segments)
        buffer = np.empty(room, np.uint8)
        state, position = 0, buffer.size
        for symbols, rows, tables in reversed(self._segments):
            if tables is None:
                state, position = self._write(state, position, buffer, symbols, rows)
            else:
                state, position = self._encode(state, position, buffer, symbols, rows, tables)
        return state.to_bytes((state.bit_length() + 7) // 8, "big") + buffer[position:].tobytes()


class RansDecoder:
    """Reads symbols in the order in which they were pushed."""

    def __init__(self, data: bytes, *, use_c: bool | None = None):
        self._data = np.frombuffer(data, np.uint8)
        self._state, self._position = 0, 0
        *_, self._decode = _functions(use_c)

    def pull(self, rows: np.ndarray, tables: FrequencyTables) -> np.ndarray:
        """The next rows.size symbols (int32). Raises VcodecError when the bytes are damaged."""
        try:
            symbols, self._state, self._position = self._decode(
                self._state, self._position, self._data, _int32(rows), tables
            )
        except ValueError as error:
            raise VcodecError(DAMAGED) from error
        return symbols

    def pull_decisions(self, read: Callable[[int, int, np.ndarray], tuple[int, int]]) -> None:
        """Hands state, position and bytes to a reader of decisions, and takes the first two back."""
        self._state, self._position = read(self._state, self._position, self._data)

    def finish(self) -> None:
        """Raises VcodecError unless all bytes were used and the state is back where the encoder began."""
        if self._state != 0 or self._position != self._data.size:
            raise VcodecError(DAMAGED)


def has_c_coder() -> bool:
    """Whether the C coder was built (else the slow Python one is used)."""
    return _library() is not None


def _functions(use_c: bool | None) -> tuple[Callable, Callable, Callable]:
    if use_c is None:
        use_c = has_c_coder()
    if use_c:
        return _encode_in_c, _write_in_c, _decode_in_c
    return rans_python.encode, rans_python.write, rans_python.decode


def _encode_in_c(
    state: int,
    position: int,
    buffer: np.ndarray,
    symbols: np.ndarray,
    rows: np.ndarray,
    tables: FrequencyTables,
) -> tuple[int, int]:
    c_state, c_position = ctypes.c_uint32(state), ctypes.c_int64(position)
    _library().rans_encode(
        ctypes.byref(c_state), ctypes.byref(c_position), buffer.ctypes.data, symbols.ctypes.data, rows.ctypes.data,
        symbols.size, tables.cdf.ctypes.data, tables.row_start.ctypes.data, tables.minimum.ctypes.data,
    )  # fmt: skip
    return c_state.value, c_position.value


def _write_in_c(
    state: int, position: int, buffer: np.ndarray, bits: np.ndarray, probabilities: np.ndarray
) -> tuple[int, int]:
    c_state, c_position = ctypes.c_uint32(state), ctypes.c_int64(position)
    _library().rans_write(
        ctypes.byref(c_state), ctypes.byref(c_position), buffer.ctypes.data, probabilities.ctypes.data,
        bits.ctypes.data, bits.size,
    )  # fmt: skip
    return c_state.value, c_position.value


def _decode_in_c(
    state: int, position: int, data: np.ndarray, rows: np.ndarray, tables: FrequencyTables
) -> tuple[np.ndarray, int, int]:
    c_state, c_position = ctypes.c_uint32(state), ctypes.c_int64(position)
    symbols = np.empty(rows.size, np.int32)
    if _library().rans_decode(
        ctypes.byref(c_state), ctypes.byref(c_position), data.ctypes.data, data.size, symbols.ctypes.data,
        rows.ctypes.data, rows.size, tables.cdf.ctypes.data, tables.row_start.ctypes.data, tables.minimum.ctypes.data,
    ):  # fmt: skip
        raise ValueError("a code word that no encoder writes")
    return symbols, c_state.value, c_position.value


@cache
def _library() -> Any:
    tables = [POINTER] * 3
    return c_library(
        "vcodec.entropy._rans",
        rans_encode=(None, [*[POINTER] * 5, INT64, *tables]),
        rans_write=(None, [*[POINTER] * 5, INT64]),
        rans_decode=(INT, [*[POINTER] * 3, INT64, *[POINTER] * 2, INT64, *tables]),
    )


def _int32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.int32).reshape(-1)
