"""What the adaptive models of symbols and of block motion share: statistics in C, or in Python where C wasn't built."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np

from .mixing_python import Statistics


class AdaptiveModel:
    """Statistics of one stream. Subclasses set `_c`, whether they are C's, and `_state`, and name their RECORDS."""

    RECORDS: ClassVar[np.dtype]
    _c: bool
    _state: Any

    @property
    def records(self) -> np.ndarray:
        """What it has learnt, as records of `mixing_python.learnt_type`."""
        return self._state.view(self.RECORDS).copy() if self._c else self._state.records()

    @records.setter
    def records(self, records: np.ndarray) -> None:
        self._state = np.ascontiguousarray(records).view(np.uint8).copy() if self._c else Statistics.of_records(records)

    def copy(self) -> Self:
        """One that learns for itself from here on."""
        other = copy.copy(self)
        other._state = self._state.copy()
        return other
