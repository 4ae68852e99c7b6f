"""What adaptive coding starts with: statistics that training clips taught."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .block_vectors import FieldMixer
from .context_mixing import ContextMixer, Statistics

FIELD = "motion/field"  # the stream of block motion
MOST_VISITS = 12  # that an entry is trusted for: what a video teaches itself soon counts more


class Experience(nn.Module):
    """The statistics that every group of pictures starts with: buffers, part of the weights, not trained by gradient.

    Args: streams, by the names that coders give them, and of each how many kinds of decisions it takes. Until `learn`
    coding starts with nothing.
    """

    def __init__(self, streams: Mapping[str, int]):
        super().__init__()
        self._streams = dict(streams)
        for stream, kinds in self._streams.items():
            record = _record(stream)
            shape = (kinds, *record["entries"].shape)
            self.register_buffer(_name(stream, "probabilities"), torch.zeros(shape, dtype=torch.int32))
            self.register_buffer(_name(stream, "visits"), torch.zeros(shape, dtype=torch.uint8))
            weights = torch.zeros((kinds, *record["weights"].shape), dtype=torch.int32)
            self.register_buffer(_name(stream, "weights"), weights)

    def learn(self, statistics: Statistics) -> None:
        """Takes over what coding has taught."""
        mixers = statistics.mixers()
        for stream in mixers.keys() & self._streams.keys():
            records = mixers[stream].records[: self._streams[stream]]
            entries = records["entries"]
            probabilities = np.where(entries["visits"] > 0, entries["probability"], 0)
            self._set(stream, "probabilities", probabilities.astype(np.int32))
            self._set(stream, "visits", np.minimum(entries["visits"], MOST_VISITS))
            self._set(stream, "weights", records["weights"])

    def statistics(self) -> Statistics:
        """A copy to start coding with."""
        statistics = Statistics()
        for stream, kinds in self._streams.items():
            if self._get(stream, "weights").any():
                mixer = statistics.field_mixer(stream) if stream == FIELD else statistics.mixer(stream)
                records = mixer.records
                records["entries"]["visits"][:kinds] = self._get(stream, "visits")
                records["entries"]["probability"][:kinds] = self._get(stream, "probabilities").clip(0, 65535)
                records["weights"][:kinds] = self._get(stream, "weights")
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


def _record(stream: str) -> np.dtype:
    """What is learnt of one kind of decision."""
    return FieldMixer.RECORDS if stream == FIELD else ContextMixer.RECORDS
