"""The Python twin of rans.c: the same bytes, for machines without a compiler and as the tests' reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .rans import FrequencyTables

LOWER = 1 << 23
PLAIN = 1 << 15  # frequency of a plain bit


def encode(
    state: int,
    position: int,
    buffer: np.ndarray,
    symbols: np.ndarray,
    rows: np.ndarray,
    tables: FrequencyTables,
) -> tuple[int, int]:
    """Codes the symbols, last one first, into the buffer's end; gives the new state and position."""

    def put(start: int, frequency: int) -> None:
        nonlocal state, position
        while state >= (LOWER >> 16 << 8) * frequency:
            position -= 1
            buffer[position] = state & 255
            state >>= 8
        state = (state // frequency << 16) + start + state % frequency

    for symbol, row in zip(symbols.tolist()[::-1], rows.tolist()[::-1], strict=True):
        cdf = tables.cdf[tables.row_start[row] : tables.row_start[row + 1]].tolist()
        inside, k = len(cdf) - 2, symbol - int(tables.minimum[row])
        if not 0 <= k < inside:
            number = -2 * k if k < 0 else 2 * (k - inside) + 1
            length = number.bit_length() - 1
            for bit in [*((number >> i) & 1 for i in range(length)), 1, *([0] * length)]:
                put(bit * PLAIN, PLAIN)
            k = inside
        put(cdf[k], cdf[k + 1] - cdf[k])
    return state, position


def write(
    state: int, position: int, buffer: np.ndarray, bits: np.ndarray, probabilities: np.ndarray
) -> tuple[int, int]:
    """Codes bits, last one first, each with the probability of a one in 65536ths."""
    for bit, one in zip(bits.tolist()[::-1], probabilities.tolist()[::-1], strict=True):
        start, frequency = (0, one) if bit else (one, 65536 - one)
        while state >= (LOWER >> 16 << 8) * frequency:
            position -= 1
            buffer[position] = state & 255
            state >>= 8
        state = (state // frequency << 16) + start + state % frequency
    return state, position


def decode(
    state: int, position: int, data: np.ndarray, rows: np.ndarray, tables: FrequencyTables
) -> tuple[np.ndarray, int, int]:
    """Reads one symbol a row; gives them, the new state and position. Raises ValueError on impossible bytes."""

    def renew() -> None:
        nonlocal state, position
        while state < LOWER and position < data.size:
            state = state << 8 | int(data[position])
            position += 1

    def advance(start: int, frequency: int) -> None:
        nonlocal state
        state = frequency * (state >> 16) + (state & 0xFFFF) - start
        renew()

    def get_bit() -> int:
        bit = (state & 0xFFFF) >> 15
        advance(bit * PLAIN, PLAIN)
        return bit

    renew()
    symbols = []
    for row in rows.tolist():
        cdf = tables.cdf[tables.row_start[row] : tables.row_start[row + 1]]
        inside, minimum = len(cdf) - 2, int(tables.minimum[row])
        k = int(np.searchsorted(cdf, state & 0xFFFF, side="right")) - 1
        advance(int(cdf[k]), int(cdf[k + 1] - cdf[k]))
        value = minimum + k
        if k == inside:
            length = 0
            while not get_bit():
                length += 1
                if length > 33:
                    raise ValueError("a code word that no encoder writes")
            number = 1
            for _ in range(length):
                number = number << 1 | get_bit()
            value = minimum + inside + number // 2 if number & 1 else minimum - number // 2
            if not -(2**31) <= value < 2**31:
                raise ValueError("a code word that no encoder writes")
        symbols.append(value)
    return np.array(symbols, np.int32), state, position
