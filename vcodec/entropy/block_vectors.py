"""Adaptive coding of block motion: the vectors of a frame's blocks under what was coded before.

A field of block motion is int16 (6, rows, columns), with a column for each cell of 8x8 pixels; rows and columns are
even. Its planes: SPLIT, whether the square of 16x16 pixels is cut into its four cells; MODE, which reference pictures
a block is predicted from (NEWEST, OLDER, BOTH); X0 and Y0, the vector into the newest in quarters of a pixel; X1 and
Y1, that into the older one. A vector that is not used is twice, or half, the other. All cells of a block are alike.

The work is done in C (`block_vectors.c`); where that could not be built its Python twin (`block_vectors_python.py`)
does the same, slowly.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from ..errors import VcodecError
from ..native import INT, INT64, POINTER, c_library
from . import block_vectors_python, mixing_python
from .adaptive_model import AdaptiveModel
from .block_vectors_python import BOTH, LONGEST, MODE, NEWEST, OLDER, PLANES, SPLIT, X0, X1, Y0, Y1
from .rans import DAMAGED, RansDecoder, RansEncoder

__all__ = ["BOTH", "LONGEST", "MODE", "NEWEST", "OLDER", "PLANES", "SPLIT", "X0", "X1", "Y0", "Y1", "FieldMixer"]

MOST_DECISIONS = 448  # of a square, at most
KINDS = block_vectors_python.KINDS


class FieldMixer(AdaptiveModel):
    """The adaptive model of the fields of block motion of a group of pictures."""

    RECORDS = mixing_python.learnt_type(block_vectors_python.CONTEXTS, block_vectors_python.ENTRIES)

    def __init__(self, *, use_c: bool | None = None):
        self._c = _library() is not None if use_c is None else use_c
        self._state: Any = _new_c_state() if self._c else block_vectors_python.new_statistics()

    def encode(self, field: np.ndarray, previous: np.ndarray | None, two: bool, rans: RansEncoder) -> np.ndarray:
        """Codes a field; returns it as a decoder will know it, with what is not used filled in.

        previous: that of the frame before, if there is one; two: whether there is an older picture, without which every
        MODE has to be NEWEST. Raises ValueError for vectors beyond +-LONGEST.
        """
        cells, probabilities, bits = self._decisions(field, previous, two)
        rans.push_decisions(probabilities, bits)
        return cells

    def bits(self, field: np.ndarray, previous: np.ndarray | None, two: bool) -> float:
        """How many bits it would cost to code a field; nothing is learnt from it."""
        _, probabilities, bits = self.copy()._decisions(field, previous, two)
        ones = probabilities / 65536
        return -float(np.log2(np.where(bits, ones, 1 - ones)).sum())

    def decode(self, rows: int, columns: int, previous: np.ndarray | None, two: bool, rans: RansDecoder) -> np.ndarray:
        """The next field. Raises VcodecError on damaged bytes."""
        shape = (PLANES, rows, columns)
        cells, before = np.zeros(shape, np.int16), _checked(previous, shape)
        read = self._read_in_c if self._c else self._read_in_python
        try:
            rans.pull_decisions(lambda state, position, data: read(state, position, data, cells, before, two))
        except ValueError as error:
            raise VcodecError(DAMAGED) from error
        return cells

    def _decisions(
        self, field: np.ndarray, previous: np.ndarray | None, two: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The field as a decoder will know it, and the decisions that code it: the probability of a one in 65536ths,
        and the bit, of each."""
        field, previous = np.ascontiguousarray(field, np.int16), _checked(previous, field.shape)
        cells = np.zeros_like(field)
        if not self._c:
            writer = mixing_python.Writer()
            block_vectors_python.code_field(self._state, writer, field, cells, previous, two)
            return cells, np.array(writer.probabilities, np.uint16), np.array(writer.bits, np.uint8)
        room = MOST_DECISIONS * field[0].size // 4
        probabilities, bits = np.empty(room, np.uint16), np.empty(room, np.uint8)
        count = _library().block_vectors_encode(
            self._state.ctypes.data, probabilities.ctypes.data, bits.ctypes.data, field.ctypes.data,
            cells.ctypes.data, None if previous is None else previous.ctypes.data, two, *field.shape[1:],
        )  # fmt: skip
        _check_result(count)
        return cells, probabilities[:count], bits[:count]

    def _read_in_c(
        self, state: int, position: int, data: np.ndarray, cells: np.ndarray, previous: np.ndarray | None, two: bool
    ) -> tuple[int, int]:
        c_state, c_position = ctypes.c_uint32(state), ctypes.c_int64(position)
        result = _library().block_vectors_decode(
            self._state.ctypes.data, ctypes.byref(c_state), ctypes.byref(c_position), data.ctypes.data, data.size,
            cells.ctypes.data, None if previous is None else previous.ctypes.data, two, *cells.shape[1:],
        )  # fmt: skip
        _check_result(result)
        return c_state.value, c_position.value

    def _read_in_python(
        self, state: int, position: int, data: np.ndarray, cells: np.ndarray, previous: np.ndarray | None, two: bool
    ) -> tuple[int, int]:
        reader = mixing_python.Reader(state, position, data)
        block_vectors_python.code_field(self._state, reader, None, cells, previous, two)
        return reader.state, reader.position


def _checked(previous: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """The field of the frame before as C reads it."""
    assert shape[1] % 2 == shape[2] % 2 == 0, "a field is made of squares of two by two cells"
    assert previous is None or previous.shape == shape, "fields of a group of pictures have one size"
    return None if previous is None else np.ascontiguousarray(previous, np.int16)


def _check_result(result: int) -> None:
    if result == -2:
        raise MemoryError("no memory for the notes of a field")
    if result < 0:
        raise ValueError("a vector that no encoder writes")


def _new_c_state() -> np.ndarray:
    state = np.empty(_library().block_vectors_size(), np.uint8)
    _library().block_vectors_start(state.ctypes.data)
    return state


@cache
def _library() -> Any:
    library = c_library(
        "vcodec.entropy._rans",
        block_vectors_prepare=(None, []),
        block_vectors_size=(INT64, []),
        block_vectors_start=(None, [POINTER]),
        block_vectors_encode=(INT64, [*[POINTER] * 6, INT, INT64, INT64]),
        block_vectors_decode=(INT, [*[POINTER] * 4, INT64, *[POINTER] * 2, INT, INT64, INT64]),
    )
    if library is not None:
        library.block_vectors_prepare()
    return library
