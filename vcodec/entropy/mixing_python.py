"""The Python twin of mixing.h: one decision by context mixing, for machines without a compiler and for the tests.

See there for what is mixed. Right shifts of negative numbers round down, in C as here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np

from .rans_python import LOWER, PLAIN

CERTAIN, LEARNING_RATE, HEAVIEST = 255, 16, 1 << 22
LONGEST = 33  # digits of a number after its leading one
FIRST_WEIGHT, FIRST_ROW_WEIGHT = 16000, 10000
SIGMOID = (
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
    57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
)  # fmt: skip


class Statistics:
    """Probabilities [probability, visits] by (kind, context's number, its value), and weights by kind.

    Args: kinds of decisions; contexts, of a decision at most; size of a context's table.
    """

    def __init__(self, kinds: int, contexts: int, size: int) -> None:
        self.contexts, self.size = contexts, size
        self.entries: dict[tuple[int, int, int], list[int]] = {}
        self.weights = [[*[FIRST_WEIGHT] * contexts, FIRST_ROW_WEIGHT, 0] for _ in range(kinds)]

    @classmethod
    def of_records(cls, records: np.ndarray) -> Statistics:
        """From records of `learnt_type`, one a kind."""
        contexts, size = records["entries"].shape[1:]
        statistics = cls(0, contexts, size)
        statistics.weights = [list(map(int, weights)) for weights in records["weights"]]
        for kind, i, value in np.argwhere(records["entries"]["visits"]).tolist():
            probability, visits = records["entries"][kind, i, value].tolist()
            statistics.entries[kind, i, value] = [probability, visits]
        return statistics

    def records(self) -> np.ndarray:
        """As records of `learnt_type`, one a kind."""
        records = np.zeros(len(self.weights), learnt_type(self.contexts, self.size))
        records["weights"] = self.weights
        for (kind, i, value), (probability, visits) in self.entries.items():
            records["entries"][kind, i, value] = probability, visits
        return records

    def copy(self) -> Statistics:
        other = Statistics(0, self.contexts, self.size)
        other.entries = {key: list(entry) for key, entry in self.entries.items()}
        other.weights = [list(weights) for weights in self.weights]
        return other


def learnt_type(contexts: int, size: int) -> np.dtype:
    """What `learnt` of mixing.h holds of one kind of decision, as a record of numpy."""
    entry = np.dtype([("probability", np.uint16), ("visits", np.uint16)])
    return np.dtype([("entries", entry, (contexts, size)), ("weights", np.int32, (contexts + 2,))])


class Channel(Protocol):
    """Where decisions go to or come from; probability: of a one, in 65536ths."""

    def decide(self, probability: int, bit: int) -> int: ...


class Writer:
    """Collects decisions."""

    def __init__(self) -> None:
        self.probabilities: list[int] = []
        self.bits: list[int] = []

    def decide(self, probability: int, bit: int) -> int:
        self.probabilities.append(probability)
        self.bits.append(bit)
        return bit


class Reader:
    """Reads decisions from the bytes of the rANS coder."""

    def __init__(self, state: int, position: int, data: np.ndarray):
        self.state, self.position, self._data = state, position, data
        self._renew()

    def decide(self, probability: int, bit: int) -> int:
        bit = int((self.state & 0xFFFF) < probability)
        start, frequency = (0, probability) if bit else (probability, 65536 - probability)
        self.state = frequency * (self.state >> 16) + (self.state & 0xFFFF) - start
        self._renew()
        return bit

    def _renew(self) -> None:
        while self.state < LOWER and self.position < self._data.size:
            self.state = self.state << 8 | int(self._data[self.position])
            self.position += 1


def elias_gamma(channel: Channel, number: int, learnt: Callable[[int, int, int], int] | None = None) -> int:
    """A number of at least 1 as an Elias gamma code: how many digits follow the leading one, then these.

    In plain bits, but for the length and the first digit where `learnt` codes them: given how long the code is so far,
    whether it is about the digit, and the bit.
    """

    def code(longer: int, leading: int, bit: int) -> int:
        return learnt(longer, leading, bit) if learnt else channel.decide(PLAIN, bit)

    length, longer = max(number.bit_length() - 1, 0), 0
    while code(longer, 0, int(longer < length)) and longer < LONGEST:
        longer += 1
    coded = 1
    for i in reversed(range(longer)):
        bit = number >> i & 1
        coded = coded << 1 | (code(longer, 1, bit) if i == longer - 1 else channel.decide(PLAIN, bit))
    return coded


def decide(statistics: Statistics, channel: Channel, kind: int, contexts: list[int], row: int, bit: int) -> int:
    """One decision: mixes, codes, learns. row: the probability of a one by the symbol's table."""
    size = statistics.size
    entries = [statistics.entries.setdefault((kind, i, c % size), [row, 0]) for i, c in enumerate(contexts)]
    weights = statistics.weights[kind]
    used = [*range(len(contexts)), statistics.contexts, statistics.contexts + 1]
    inputs = [*(_logits()[entry[0] >> 4] for entry in entries), _logits()[row >> 4], 64]
    logit = sum(weights[i] * value for i, value in zip(used, inputs, strict=True)) >> 16
    probability = _probability(max(-2047, min(2047, logit)))
    bit = channel.decide(probability, bit)

    error = (bit << 16) - probability
    for i, value in zip(used, inputs, strict=True):
        moved = weights[i] + (value * error + (1 << LEARNING_RATE - 1) >> LEARNING_RATE)
        weights[i] = max(-HEAVIEST, min(HEAVIEST, moved))
    for entry in entries:
        moved = entry[0] + (((65535 if bit else 0) - entry[0]) * (131072 // (2 * entry[1] + 3)) >> 16)
        entry[0] = max(16, min(65519, moved))
        entry[1] = min(entry[1] + 1, CERTAIN)
    return bit


def _probability(logit: int) -> int:
    position = logit + 2048
    lower, upper = SIGMOID[position >> 7], SIGMOID[(position >> 7) + 1]
    return lower + ((upper - lower) * (position & 127) >> 7)


@cache
def _logits() -> list[int]:
    """The logits of the probabilities of 12 bits: the inverse of `_probability`."""
    logits, logit = [], -2047
    for p in range(4096):
        while logit < 2047 and _probability(logit) < 16 * p + 8:
            logit += 1
        logits.append(logit)
    return logits
