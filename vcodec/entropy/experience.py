"""What adaptive coding starts with: statistics that training clips taught."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from . import block_vectors, context_mixing
from .context_mixing import Statistics

FIELD = "motion/field"  # the stream of block motion
MOST_VISITS = 12  # that an entry is trusted for: what a video teaches itself soon counts more


class Experience(nn.Module):
    """The statistics that every group of pictures starts with: buffers, part of the weights, not trained by gradient.

    Args: streams, by the names that coders give them. Until `learn` coding starts with nothing.
    """

    def __init__(self, streams: Iterable[str]):
        super().__init__()
        self._streams = tuple(streams)
        for stream in self._streams:
            kinds, record = _layout(stream)
            shape = (kinds, *record["entries"].shape)
            self.register_buffer(_name(stream, "probabilities"), torch.zeros(shape, dtype=torch.int32))
            self.register_buffer(_name(stream, "visits"), torch.zeros(shape, dtype=torch.uint8))
            weights = torch.zeros((kinds, *record["weights"].shape), dtype=torch.int32)
            self.register_buffer(_name(stream, "weights"), weights)

    def learn(self, statistics: Statistics) -> None:
        """Takes over what coding has taught."""
        mixers = statistics.mixers()
        for stream in mixers.keys() & set(self._streams):
            records = mixers[stream].records
            entries = records["entries"]
            probabilities = np.where(entries["visits"] > 0, entries["probability"], 0)
            self._set(stream, "probabilities", probabilities.astype(np.int32))
            self._set(stream, "visits", np.minimum(entries["visits"], MOST_VISITS))
            self._set(stream, "weights", records["weights"])

    def statistics(self) -> Statistics:
        """A copy to start coding with."""
        statistics = Statistics()
        for stream in self._streams:
            kinds, record = _layout(stream)
            records = np.zeros(kinds, record)
            records["entries"]["visits"] = self._get(stream, "visits")
            records["entries"]["probability"] = self._get(stream, "probabilities").clip(0, 65535)
            records["weights"] = self._get(stream, "weights")
            if records["weights"].any():
                mixer = statistics.field_mixer(stream) if stream == FIELD else statistics.mixer(stream)
                mixer.records = records
        return statistics

    def _set(self, stream: str, what: str, values: np.ndarray) -> None:
        buffer: Tensor = getattr(self, _name(stream, what))
        buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)))

    def _get(self, stream: str, what: str) -> np.ndarray:
        buffer: Tensor = getattr(self, _name(stream, what))
        return buffer.cpu().numpy().astype(np.int32)


def _name(stream: str, what: str) -> str:
    return f"{stream.replace('/', '_')}_{what}"


def _layout(stream: str) -> tuple[int, np.dtype]:
    """Kinds of decisions, and the record of each."""
    if stream == FIELD:
        return block_vectors.KINDS, block_vectors.FieldMixer.RECORDS
    return context_mixing.KINDS, context_mixing.ContextMixer.RECORDS
