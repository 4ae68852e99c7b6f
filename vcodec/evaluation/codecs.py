"""One interface for every codec that is compared, and the codecs by name.

A codec turns a source into one real file and that file into frames. What it is asked to do (`settings`, a command or
options as data) is apart from doing it (`encode`, `decode`), so that it can be shown, stored and compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vcodec.errors import VcodecError
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source
from vcodec.video import Frame


class Codec(ABC):
    """A codec under one preset. Codecs are small and can be pickled: they travel to worker processes."""

    label: str
    """The name in tables, plots and files."""
    extension: str
    """Of its files, with the dot."""
    is_precomputed: ClassVar[bool] = False
    """Whether its files were made before, so that there is no encoding time to report."""

    @abstractmethod
    def qualities(self, source: Source) -> tuple[int, ...]:
        """The quality settings of its curve, in the codec's own unit (CRF, QP, quality level)."""

    @abstractmethod
    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        """All that determines the file, as JSON: stored with the results and compared when a run goes on."""

    def prepare(self, quality: int) -> None:
        """Load what encode and decode will need; what this costs is not counted."""
        return None

    @abstractmethod
    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        """Write the coded source to `path`; returns the bytes of each frame. The meter is running."""

    @abstractmethod
    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        """The frames of a file that `encode` wrote, in the source's format. The meter is run by the caller."""

    def complexity(self, source: Source) -> dict[str, float] | None:
        """Parameters and kMAC per pixel of a neural codec; None for others."""
        return None


@dataclass(frozen=True)
class CodecOptions:
    """Where programs, streams and checkpoints lie that codecs need, and the qualities asked for."""

    threads: int = 1
    device: str = "auto"
    hm_encoder: Path | None = None
    hm_decoder: Path | None = None
    hm_config: Path | None = None
    hm_streams: Path | None = None
    ffmpeg: str | None = None
    ssf2020_checkpoints: tuple[Path, ...] = ()
    model_qualities: tuple[int, ...] | None = None


def create_codec(label: str, preset: Preset, options: CodecOptions) -> Codec:
    """The codec of this label: x264, x265, svtav1, hm, vvenc, ssf2020, or a vcodec model.

    Raises:
        VcodecError: an unknown label, or something is missing that the codec needs.
    """
    # Each is imported when asked for: the learned codecs bring large packages with them.
    if label in ("x264", "x265", "svtav1"):
        from vcodec.evaluation.standard_codecs import EXTENSIONS, StandardCodec

        return StandardCodec(label, EXTENSIONS[label], preset, options.threads)
    if label == "hm":
        from vcodec.evaluation.hm import create_hm_codec

        return create_hm_codec(preset, options)
    if label == "vvenc":
        from vcodec.evaluation.vvenc import VvencCodec

        return VvencCodec.find(preset, options)
    if label == "ssf2020":
        from vcodec.evaluation.ssf2020 import Ssf2020Codec

        return Ssf2020Codec.from_checkpoints(preset, options)
    from vcodec.evaluation.model_codec import ModelCodec

    return ModelCodec.named(label, preset, options)


STANDARD_LABELS = ("x264", "x265", "svtav1", "hm", "vvenc", "ssf2020")


def create_codecs(labels: list[str], preset: Preset, options: CodecOptions) -> list[Codec]:
    """The codecs of these names; two with the same label are refused, as their results would mix."""
    codecs = [create_codec(label, preset, options) for label in labels]
    if len({codec.label for codec in codecs}) < len(codecs):
        raise VcodecError(f"Two codecs have the same label: {', '.join(codec.label for codec in codecs)}.")
    return codecs
