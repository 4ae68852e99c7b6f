"""Adaptive context mixing: symbols under the probabilities of their table rows, mended by what was coded before.

Networks predict the spread of each symbol. How it turns out, around a place, in a channel, in this video, is learnt
while coding, by encoder and decoder alike. The work is done in C (`context_mixing.c`); where that could not be built
its Python twin (`context_mixing_python.py`) does the same, slowly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np

from ..errors import VcodecError
from ..native import FLOAT, INT, INT64, POINTER, c_library
from . import context_mixing_python, mixing_python
from .adaptive_model import AdaptiveModel
from .block_vectors import FieldMixer
from .context_mixing_python import CHECKERBOARD, LARGEST, LATER_PART, NO_PREDICTION, RASTER
from .rans import DAMAGED, FrequencyTables, RansDecoder, RansEncoder

LEVELS = 64  # of what contexts know of a row
LONGEST_ESCAPE = 80  # decisions
KINDS = context_mixing_python.KINDS
KINDS_WITHOUT_DC = KINDS - 1  # LENGTH is there for DC prediction alone
DCPrediction = Literal["checkerboard", "raster"] | None
_FIRST_PARTS: dict[DCPrediction, int] = {None: NO_PREDICTION, "checkerboard": CHECKERBOARD, "raster": RASTER}


class Statistics:
    """What coding the frames of a group of pictures has taught, for each stream of symbols ("residual/y", ...).

    Every I-frame starts with nothing, or with what the model was taught (`Experience`). A coder works on a copy, so a
    frame that was tried and dropped leaves no trace.
    """

    def __init__(self) -> None:
        self._mixers: dict[str, ContextMixer] = {}
        self._field_mixers: dict[str, FieldMixer] = {}

    def copy(self) -> Statistics:
        other = Statistics()
        other._mixers = {name: mixer.copy() for name, mixer in self._mixers.items()}
        other._field_mixers = {name: mixer.copy() for name, mixer in self._field_mixers.items()}
        return other

    def mixer(self, stream: str) -> ContextMixer:
        """The mixer of a stream, new where it was never used."""
        return self._mixers.setdefault(stream, ContextMixer())

    def without_pictures(self) -> Statistics:
        """A copy that knows no frame before."""
        other = self.copy()
        for mixer in other._mixers.values():
            mixer.forget_picture()
        return other

    def mixers(self) -> dict[str, ContextMixer | FieldMixer]:
        """All that there are, by the names of their streams."""
        return {**self._mixers, **self._field_mixers}

    def field_mixer(self, stream: str) -> FieldMixer:
        """That of a stream of block motion."""
        return self._field_mixers.setdefault(stream, FieldMixer())


@dataclass(frozen=True)
class SymbolMap:
    """Symbols to code of one map of latents: arrays (H, W, C), the channels of a place lying together.

    coded: uint8, 1 for symbols that are coded now; rows: int32, the table row of each; levels: uint8 under 64, what the
    contexts know of a row; symbols: int32, for an encoder. spacing: how far apart a place and its neighbours are.
    exact: float32, what symbols were rounded from, if the coder is to choose again, by what its bits are: between each
    and the next one nearer to zero, at `price` bits for a squared error of one. C alone does that.
    """

    coded: np.ndarray
    rows: np.ndarray
    levels: np.ndarray
    symbols: np.ndarray | None = None
    spacing: int = 1
    exact: np.ndarray | None = None
    price: float = 0.0


class ContextMixer(AdaptiveModel):
    """The adaptive model of one stream of symbols. Frames begin with `begin`; a frame's map may be coded in parts."""

    RECORDS = mixing_python.learnt_type(context_mixing_python.CONTEXTS, context_mixing_python.ENTRIES)

    def __init__(self, *, use_c: bool | None = None):
        self._c = _library() is not None if use_c is None else use_c
        self._state: Any = _new_c_state() if self._c else context_mixing_python.new_statistics()
        self._previous: np.ndarray | None = None
        self._current = np.zeros((0, 0, 0), np.int32)
        self._dc = NO_PREDICTION

    def copy(self) -> Self:
        other = super().copy()
        other._current = self._current.copy()
        return other

    def forget_picture(self) -> None:
        """Keeps what was learnt, but not what was coded last."""
        self._previous, self._current = None, np.zeros((0, 0, 0), np.int32)

    def begin(self, shape: tuple[int, ...], dc_prediction: DCPrediction = None) -> None:
        """A new frame, of a map (H, W, C): what was coded last becomes the frame before.

        dc_prediction: None, or which places the frame's first part has of the first channel: those of a "checkerboard",
        or all ("raster"). There its symbols are coded as their distance from what their neighbours make likely, and
        large numbers everywhere by learnt lengths.
        """
        self._previous = self._current if self._current.shape == shape else None
        self._current = np.zeros(shape, np.int32)
        self._dc = _FIRST_PARTS[dc_prediction]

    @property
    def chooses(self) -> bool:
        """Whether `SymbolMap.exact` is heeded."""
        return self._c

    def encode(self, part: SymbolMap, rans: RansEncoder, tables: FrequencyTables) -> np.ndarray:
        """Codes the part's symbols. The whole map (H, W, C) as a decoder will know it by then."""
        assert part.symbols is not None, "an encoder is given the symbols"
        encode = _encode_in_c if self._c else _encode_in_python
        rans.push_decisions(*encode(self._state, part, self._current, self._previous, tables, self._dc))
        self._end_part()
        return self._current

    def decode(self, part: SymbolMap, rans: RansDecoder, tables: FrequencyTables) -> np.ndarray:
        """The whole map (H, W, C) as known by now, the part's symbols included. Raises VcodecError on damaged bytes."""
        decode = _decode_in_c if self._c else _decode_in_python
        try:
            rans.pull_decisions(
                lambda state, position, data: decode(
                    self._state, state, position, data, part, self._current, self._previous, tables, self._dc
                )
            )
        except ValueError as error:
            raise VcodecError(DAMAGED) from error
        self._end_part()
        return self._current

    def _end_part(self) -> None:
        self._dc = min(self._dc, LATER_PART)


def most_decisions(part: SymbolMap, dc: int) -> int:
    """How many decisions an encoder can need for a part."""
    assert part.symbols is not None
    sizes = np.abs(part.symbols.astype(np.int64))
    if dc >= CHECKERBOARD:
        sizes[..., 0] = LARGEST  # distances may be larger than symbols
    sizes = sizes[part.coded.astype(bool)]
    return int(
        sizes.size + (LARGEST + 1) * np.count_nonzero(sizes)
        + LONGEST_ESCAPE * np.count_nonzero(sizes >= LARGEST)
    )  # fmt: skip


def _encode_in_c(
    state: np.ndarray, part: SymbolMap, current: np.ndarray, previous: np.ndarray | None, tables: FrequencyTables,
    dc: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    room = most_decisions(part, dc)
    probabilities, bits = np.empty(room, np.uint16), np.empty(room, np.uint8)
    count = _library().mixing_encode(
        state.ctypes.data, probabilities.ctypes.data, bits.ctypes.data, part.symbols.ctypes.data,  # type: ignore
        None if part.exact is None else part.exact.ctypes.data, part.price,
        *_arguments(part, current, previous, tables, dc),
    )  # fmt: skip
    if count < 0:
        raise MemoryError("no memory for the counts of a map")
    return probabilities[:count], bits[:count]


def _decode_in_c(
    statistics: np.ndarray, state: int, position: int, data: np.ndarray, part: SymbolMap, current: np.ndarray,
    previous: np.ndarray | None, tables: FrequencyTables, dc: int,
) -> tuple[int, int]:  # fmt: skip
    c_state, c_position = ctypes.c_uint32(state), ctypes.c_int64(position)
    if _library().mixing_decode(
        statistics.ctypes.data, ctypes.byref(c_state), ctypes.byref(c_position), data.ctypes.data, data.size,
        *_arguments(part, current, previous, tables, dc),
    ):  # fmt: skip
        raise ValueError("a code word that no encoder writes")
    return c_state.value, c_position.value


def _encode_in_python(
    state: mixing_python.Statistics, part: SymbolMap, current: np.ndarray, previous: np.ndarray | None,
    tables: FrequencyTables, dc: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    writer = mixing_python.Writer()
    context_mixing_python.code_map(state, writer, part, current, previous, tables, dc)
    return np.array(writer.probabilities, np.uint16), np.array(writer.bits, np.uint8)


def _decode_in_python(
    statistics: mixing_python.Statistics, state: int, position: int, data: np.ndarray, part: SymbolMap,
    current: np.ndarray, previous: np.ndarray | None, tables: FrequencyTables, dc: int,
) -> tuple[int, int]:  # fmt: skip
    reader = mixing_python.Reader(state, position, data)
    context_mixing_python.code_map(statistics, reader, part, current, previous, tables, dc)
    return reader.state, reader.position


def _arguments(
    part: SymbolMap, current: np.ndarray, previous: np.ndarray | None, tables: FrequencyTables, dc: int
) -> Iterator[int | None]:
    height, width, channels = part.rows.shape
    yield current.ctypes.data
    yield None if previous is None else previous.ctypes.data
    yield from (part.rows.ctypes.data, part.levels.ctypes.data, part.coded.ctypes.data, channels, height, width)
    yield from (tables.cdf.ctypes.data, tables.row_start.ctypes.data, tables.minimum.ctypes.data, part.spacing, dc)


def _new_c_state() -> np.ndarray:
    state = np.empty(_library().mixing_size(), np.uint8)
    _library().mixing_start(state.ctypes.data)
    return state


@cache
def _library() -> Any:
    part = [*[POINTER] * 5, *[INT64] * 3, *[POINTER] * 3, INT64, INT]  # as `_arguments` gives them
    library = c_library(
        "vcodec.entropy._rans",
        mixing_prepare=(None, []),
        mixing_size=(INT64, []),
        mixing_start=(None, [POINTER]),
        mixing_encode=(INT64, [*[POINTER] * 5, FLOAT, *part]),
        mixing_decode=(INT, [*[POINTER] * 4, INT64, *part]),
    )
    if library is not None:
        library.mixing_prepare()
    return library
