"""The Python twin of context_mixing.c: the same decisions, for machines without a compiler and for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .mixing_python import Channel, Statistics, decide, elias_gamma
from .rans_python import PLAIN

if TYPE_CHECKING:
    from .context_mixing import SymbolMap
    from .rans import FrequencyTables

ZERO, SIGN, MORE, LENGTH, KINDS = range(5)
# Of a map with DC prediction, or of one without; CHECKERBOARD, RASTER: the first part, with some places or all
NO_PREDICTION, LATER_PART, CHECKERBOARD, RASTER = range(4)
CONTEXTS, ENTRIES, LARGEST = 7, 4096, 15
SHARES = 6, 23, 3, 32  # of an expected DC, in 64ths


def new_statistics() -> Statistics:
    """What is known before the first symbol: nothing, and that the rows are right."""
    return Statistics(KINDS, CONTEXTS, ENTRIES)


def code_map(statistics: Statistics, channel: Channel, part: SymbolMap, current: np.ndarray,
             previous: np.ndarray | None, tables: FrequencyTables, dc: int) -> None:  # fmt: skip
    """Codes the part's symbols place by place, filling `current`. Raises ValueError for one no encoder writes."""
    counts = np.count_nonzero(current, axis=2)
    for y, x, c in np.argwhere(part.coded).tolist():
        symbol = 0 if part.symbols is None else int(part.symbols[y, x, c])
        around = _Surroundings(current, previous, counts, part.spacing, y, x, c)
        row = _Row(tables, int(part.rows[y, x, c]))
        expected = _expected(current, part.spacing, y, x, dc) if c == 0 else 0
        learnt = dc != NO_PREDICTION
        symbol -= expected
        symbol = _code_symbol(statistics, channel, around, row, c, int(part.levels[y, x, c]), symbol, learnt) + expected
        if not -(2**31) <= symbol < 2**31:
            raise ValueError("a code word that no encoder writes")
        current[y, x, c] = symbol
        counts[y, x] += symbol != 0


class _Surroundings:
    """The symbols around that are known."""

    def __init__(self, current: np.ndarray, previous: np.ndarray | None, counts: np.ndarray, spacing: int,
                 y: int, x: int, c: int):  # fmt: skip
        def at(values: np.ndarray | None, down: int, right: int) -> int:
            return int(values[place][c]) if values is not None and (place := beside(down, right)) is not None else 0

        def beside(down: int, right: int) -> tuple[int, int] | None:
            place = y + spacing * down, x + spacing * right
            return place if 0 <= place[0] < counts.shape[0] and 0 <= place[1] < counts.shape[1] else None

        above, below, left, right = (at(current, *step) for step in ((-1, 0), (1, 0), (0, -1), (0, 1)))
        self.vertical, self.horizontal = _sign(above) + _sign(below), _sign(left) + _sign(right)
        self.beside = _size(above) + _size(below) + _size(left) + _size(right)
        self.across = sum(_size(at(current, down, right)) for down in (-1, 1) for right in (-1, 1))
        self.before = at(previous, 0, 0)
        self.before_around = sum(_size(at(previous, *step)) for step in ((-1, 0), (1, 0), (0, -1), (0, 1)))
        self.lower = [int(current[y, x, c - k]) if c >= k else 0 for k in (1, 2, 3, 4)]
        self.here = int(counts[y, x])
        self.near = sum(
            int(counts[place]) for step in ((-1, 0), (1, 0), (0, -1), (0, 1)) if (place := beside(*step)) is not None
        )


class _Row:
    """One row of the frequency tables."""

    def __init__(self, tables: FrequencyTables, row: int):
        self._cdf = tables.cdf[tables.row_start[row] : tables.row_start[row + 1]]
        self._inside = len(self._cdf) - 2
        self._zero = -int(tables.minimum[row])
        self.outside = 65536 - int(self._cdf[self._inside])

    def beyond(self, negative: int, k: int) -> int:
        """The frequency of symbols beyond k on one side, that of "outside" included."""
        edge = min(max(self._zero - k if negative else self._zero + k + 1, 0), self._inside)
        cumulative = int(self._cdf[edge])
        return (cumulative if negative else int(self._cdf[self._inside]) - cumulative) + self.outside


def _code_symbol(statistics: Statistics, channel: Channel, around: _Surroundings, row: _Row, c: int, level: int,
                 symbol: int, learnt: bool) -> int:  # fmt: skip
    beside, across, before = min(around.beside, 3), min(around.across, 3), _size(around.before)
    before_around, here, near = min(around.before_around, 3), _rough(around.here), _rough(around.near)
    lower = [_size(s) for s in around.lower]
    half, lowers = level >> 1, _rough(sum(lower))

    negatives, positives = row.beyond(1, 0), row.beyond(0, 0)
    contexts = [
        (level * 4 + beside) * 4 + across,
        c * 4 + beside,
        (level * 4 + before) * 4 + before_around,
        (here * 8 + near) * 32 + half,
        ((lower[0] * 4 + lower[1]) * 4 + lower[2]) * 32 + half,
        c * 8 + here,
        ((near * 4 + beside) * 4 + before) * 8 + lowers,
    ]
    share = _share(negatives + positives, 65536 + row.outside)
    if not decide(statistics, channel, ZERO, contexts, share, int(symbol != 0)):
        return 0

    both = around.vertical + around.horizontal
    contexts = [
        c,
        (both + 4) * 3 + _sign(around.before) + 1,
        c * 9 + both + 4,
        c * 3 + _sign(around.before) + 1,
        ((around.horizontal + 2) * 5 + around.vertical + 2) * 3 + _sign(around.lower[0]) + 1,
        c * 3 + _sign(around.lower[0]) + 1,
    ]
    share = _share(negatives, negatives + positives)
    negative = decide(statistics, channel, SIGN, contexts, share, int(symbol < 0))

    size = abs(symbol)
    for k in range(1, LARGEST):
        step = min(k, 3)
        contexts = [
            c * 4 + step,
            (level * 4 + beside) * 4 + step,
            (level * 4 + before) * 4 + step,
            (here * 8 + _rough(around.beside + around.across)) * 4 + step,
            ((lower[0] * 4 + lower[1]) * 4 + beside) * 4 + step,
        ]
        share = _share(row.beyond(negative, k), row.beyond(negative, k - 1))
        if not decide(statistics, channel, MORE, contexts, share, int(size > k)):
            return -k if negative else k

    def code_length(longer: int, leading: int, bit: int) -> int:
        known = min(longer, 15) * 2 + leading
        return decide(statistics, channel, LENGTH, [c * 32 + known, level * 32 + known, known], PLAIN, bit)

    size = elias_gamma(channel, size - LARGEST + 1, code_length if learnt else None) + LARGEST - 1
    return -size if negative else size


def _expected(current: np.ndarray, spacing: int, y: int, x: int, dc: int) -> int:
    """What is taken off a symbol of the first channel before it is coded."""
    if dc == CHECKERBOARD:
        return _expected_on_checkerboard(current, spacing, y, x)
    return _expected_in_raster(current, y, x) if dc == RASTER else 0


def _expected_on_checkerboard(current: np.ndarray, spacing: int, y: int, x: int) -> int:
    """The symbol of the first channel that its neighbours in the first part, a checkerboard, make likely.

    They are those at both sides above, two places above and two to the left; beyond the edge another one stands in.
    """

    def known(*places: tuple[int, int]) -> int:
        for down, right in places:
            row, column = y + spacing * down, x + spacing * right
            if row >= 0 and 0 <= column < current.shape[1]:
                return int(current[row, column, 0])
        return 0

    left, right, above, before = (-1, -1), (-1, 1), (-2, 0), (0, -2)
    beside = (
        known(left, right, before), known(right, left, before), known(above, left, right, before),
        known(before, left, right),
    )  # fmt: skip
    return sum(share * symbol for share, symbol in zip(SHARES, beside, strict=True)) + 32 >> 6


def _expected_in_raster(current: np.ndarray, y: int, x: int) -> int:
    """The same where every place is coded: by the left one, the one above and the one above to the left (LOCO-I)."""
    if not y or not x:
        return int(current[y, x - 1, 0] if x else current[y - 1, x, 0] if y else 0)
    left, above, corner = int(current[y, x - 1, 0]), int(current[y - 1, x, 0]), int(current[y - 1, x - 1, 0])
    return sorted((left, above, left + above - corner))[1]


def _share(part: int, whole: int) -> int:
    return max(32, min(65504, (part << 16) // whole)) if whole else 32768


def _size(symbol: int) -> int:
    return min(abs(symbol), 3)


def _sign(symbol: int) -> int:
    return (symbol > 0) - (symbol < 0)


def _rough(count: int) -> int:
    return sum(count >= step for step in (1, 2, 3, 5, 8, 13, 22))
