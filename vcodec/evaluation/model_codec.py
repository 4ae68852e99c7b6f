"""vcodec's own models among the codecs that are compared, through the encode and decode of the command line."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from vcodec.codec import Decoder, Encoder, check_gop_size
from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec, CodecOptions
from vcodec.evaluation.complexity import kmac_per_pixel, parameters
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source
from vcodec.files import choose_device, decode, encode, find_model
from vcodec.models import ImageModel
from vcodec.models.weights import weights_hash
from vcodec.video import Frame

QUALITIES = (0, 16, 32, 48, 63)
MODEL_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelCodec(Codec):
    """A model of variable rate, or a family of models with one rate each."""

    label: str
    preset: Preset
    models: tuple[tuple[int, str], ...]
    """(quality, the name or file of the model that codes it)."""
    device: str = "cpu"
    extension: str = ".vcb"

    @classmethod
    def named(cls, name: str, preset: Preset, options: CodecOptions) -> "ModelCodec":
        """A model by registered name or weight file, or a folder of weight files with one rate each.

        Raises:
            VcodecError: there is no such model, or it has no trained weights.
        """
        device = choose_device(options.device)
        if Path(name).is_dir():
            files = sorted(Path(name).glob("*" + MODEL_SUFFIX))
            if not files:
                raise VcodecError(f"{name}: there are no weight files ({MODEL_SUFFIX}) in this folder.")
            models = tuple(sorted((_fixed_quality(str(file)), str(file)) for file in files))
            return cls(Path(name).resolve().name, preset, models, device)
        network = _load(name)
        label = Path(name).stem if Path(name).suffix == MODEL_SUFFIX else name
        variable = options.model_qualities or QUALITIES
        qualities = variable if network.variable_rate else (_fixed_quality(name),)
        return cls(label, preset, tuple((quality, name) for quality in qualities), device)

    def qualities(self, source: Source) -> tuple[int, ...]:
        return tuple(quality for quality, _ in self.models)

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        network = self._network(quality)
        return {"model": network.name, "weights": _hash(self._name(quality)), "gop_size": self._gop_size}

    def prepare(self, quality: int) -> None:
        self._network(quality)

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        with _readable_file(source, meter) as (file, raw_format):
            report = encode(
                file,
                path,
                model=self._network(quality),
                quality=quality,
                gop_size=self._gop_size,
                frames=source.frames_at_most,
                device=self.device,
                **raw_format,
            )
        return [frame.bytes for frame in report.per_frame]

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        network = self._network(quality)
        for index, frame in enumerate(decode(path, model=network, device=self.device, strict=True)):
            yield Frame(frame.planes, index, source.format)

    def complexity(self, source: Source) -> dict[str, float]:
        """Measured on the source's first two frames: an I-frame and a P-frame, encoded and decoded."""
        quality, name = self.models[len(self.models) // 2]
        network = _load(name)
        encoder = Encoder(network, source.format, quality, self._gop_size, device=self.device)
        decoder = Decoder(network, source.format, device=self.device)
        pixels = source.format.width * source.format.height
        counts: dict[str, float] = {"parameters": parameters(network)}
        for frame in islice(source, 2):
            encoding, packet = kmac_per_pixel(partial(encoder.encode, frame), pixels)
            decoding, _ = kmac_per_pixel(partial(decoder.decode, packet), pixels)
            kind = "iframe" if packet.frame_type == "I" else "pframe"
            counts[f"kmac_per_pixel_encode_{kind}"] = encoding
            counts[f"kmac_per_pixel_decode_{kind}"] = decoding
        return counts

    @property
    def _gop_size(self) -> int:
        gop_size = -1 if self.preset.gop_size is None else self.preset.gop_size
        return check_gop_size(_load(self.models[0][1]), gop_size)

    def _name(self, quality: int) -> str:
        return dict(self.models)[quality]

    def _network(self, quality: int) -> ImageModel:
        return _load(self._name(quality))


@contextmanager
def _readable_file(source: Source, meter: Meter) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The source as a file that `encode` reads, with what it has to be told about raw video."""
    if not source.is_converted:
        yield source.sequence.path, source.sequence.raw_format
        return
    with tempfile.TemporaryDirectory(prefix="vcodec-source-") as scratch:
        converted = Path(scratch) / "source.y4m"
        with meter.paused():
            source.write(converted)
        yield converted, {}


@lru_cache(maxsize=2)
def _load(name: str) -> ImageModel:
    network = find_model(name)
    if not network.has_tables:
        raise VcodecError(
            f"The model {name} has no trained weights, so there is nothing to compare: train it with "
            f"train_video.py and name its {MODEL_SUFFIX} file."
        )
    return network


@lru_cache(maxsize=16)
def _hash(name: str) -> str:
    return weights_hash(_load(name)).hex()


def _fixed_quality(name: str) -> int:
    network = _load(name)
    if network.variable_rate:
        raise VcodecError(f"{name}: this model is one of variable rate; name its file rather than its folder.")
    return int(network.config.fixed_quality)
