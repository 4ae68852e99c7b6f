"""HM, the HEVC test model: through its own programs, or as streams that were made with it before.

The encoder takes minutes per sequence, so streams made once can be kept in a folder as NAME_qpQP.hevc and are then
decoded and measured like any codec's. They are low delay, so the first frames of a longer stream are what the
encoder would have written for fewer frames; a stream is cut at a picture to match the number of frames asked for.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import av

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec, CodecOptions
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source
from vcodec.evaluation.standard_codecs import decode_elementary_stream, packet_sizes
from vcodec.video import Frame, open_video

QP = (22, 27, 32, 37)
CONFIGURATION = resources.files("vcodec.evaluation") / "hm_lowdelay_P_gop4.cfg"


def create_hm_codec(preset: Preset, options: CodecOptions) -> "HmCodec | HmStreams":
    """HM through its encoder where one is given (option or VCODEC_HM_ENCODER), else through precomputed streams."""
    encoder = options.hm_encoder or _from_environment("VCODEC_HM_ENCODER")
    decoder = options.hm_decoder or _from_environment("VCODEC_HM_DECODER")
    config = options.hm_config or _from_environment("VCODEC_HM_CONFIG")
    for program in (encoder, decoder, config):
        if program is not None and not program.is_file():
            raise VcodecError(f"{program}: there is no such file; build HM and give the paths of its programs.")
    if encoder is not None:  # absolute: a bare name would be looked for on the search path
        return HmCodec(preset, encoder.absolute(), decoder.absolute() if decoder else None, config)
    if options.hm_streams is not None and any(options.hm_streams.glob("*_qp*.hevc")):
        return HmStreams(preset, options.hm_streams)
    raise VcodecError(
        "HM needs --hm-encoder PATH (TAppEncoder, built from the HM sources), or streams named NAME_qpQP.hevc in the "
        "folder `hm` beside the manifest or in that of --hm-streams."
    )


@dataclass(frozen=True)
class HmCodec(Codec):
    """The reference encoder and, if given, its decoder (else the streams are decoded by FFmpeg's libraries)."""

    preset: Preset
    encoder: Path
    decoder: Path | None = None
    config: Path | None = None
    label: str = "hm"
    extension: str = ".hevc"

    def qualities(self, source: Source) -> tuple[int, ...]:
        return QP

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        arguments = self.encode_arguments(source, quality, frames=0)
        return {
            "encoder": self.encoder.name,
            "config": (self.config or Path(CONFIGURATION.name)).name,
            "arguments": arguments,
        }

    def encode_arguments(self, source: Source, quality: int, frames: int) -> list[str]:
        """The encoder's arguments apart from file names; 0 frames means all there are."""
        format, gop_size = source.format, self.preset.gop_size
        if format.chroma not in ("420", "422", "444", "gray"):
            raise VcodecError(f"{source.name}: HM is not set up for {format.pixel_format} here.")
        arguments = [
            f"--InputBitDepth={format.bit_depth}",
            f"--InternalBitDepth={format.bit_depth}",
            f"--InputChromaFormat={'400' if format.chroma == 'gray' else format.chroma}",
            f"--SourceWidth={format.width}",
            f"--SourceHeight={format.height}",
            f"--FrameRate={max(1, round(source.frame_rate))}",
            f"--FramesToBeEncoded={frames}",
            f"--IntraPeriod={-1 if gop_size is None else gop_size}",
            f"--DecodingRefreshType={0 if gop_size is None else 2}",
            f"--QP={quality}",
        ]
        if format.chroma != "420":
            arguments.append("--Profile=main-RExt")
        elif format.bit_depth > 8:
            arguments.append("--Profile=main10")
        return arguments

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        with tempfile.TemporaryDirectory(prefix="vcodec-hm-") as scratch, resources.as_file(CONFIGURATION) as default:
            raw = Path(scratch) / "source.yuv"
            with meter.paused():
                frames = source.write(raw)
            files: list[str | Path] = ["-c", self.config or default, "-i", raw, "-b", path, "-o", os.devnull]
            meter.run([self.encoder, *files, *self.encode_arguments(source, quality, frames)])
        return packet_sizes(path)

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        if self.decoder is None:
            yield from decode_elementary_stream(path, source.format)
            return
        format = source.format
        with tempfile.TemporaryDirectory(prefix="vcodec-hm-") as scratch:
            raw = Path(scratch) / "decoded.yuv"
            meter.run([self.decoder, "-b", path, "-o", raw, "-d", str(format.bit_depth)])
            with open_video(raw, size=(format.width, format.height), pixel_format=format.pixel_format) as reader:
                for index, frame in enumerate(reader):
                    yield Frame(frame.planes, index, format)


@dataclass(frozen=True)
class HmStreams(Codec):
    """Streams made before with HM, as NAME_qpQP.hevc in a folder."""

    is_precomputed: ClassVar[bool] = True

    preset: Preset
    directory: Path
    label: str = "hm"
    extension: str = ".hevc"

    def qualities(self, source: Source) -> tuple[int, ...]:
        pattern = re.compile(re.escape(source.name) + r"_qp(\d+)\.hevc")
        matches = [pattern.fullmatch(file.name) for file in self.directory.iterdir()]
        return tuple(sorted(int(match[1]) for match in matches if match))

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        stream = self._stream(source, quality)
        return {"stream": stream.name, "stream_bytes": stream.stat().st_size}

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        """Take the stream's first pictures, as many as the source has. Nothing is encoded here."""
        stream = self._stream(source, quality)
        frames = source.count()
        with av.open(str(stream)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        if sum(map(len, packets)) != stream.stat().st_size or len(packets) < frames:
            raise VcodecError(f"{stream}: holds {len(packets)} whole frames, but {frames} are compared.")
        keyframes = _keyframes(stream)[:frames]
        expected = [index % (self.preset.gop_size or frames) == 0 for index in range(frames)]
        if keyframes != expected:
            raise VcodecError(
                f"{stream}: its I-frames do not stand where the preset {self.preset.name} puts them "
                f"(every {self.preset.gop_size or frames} frames)."
            )
        path.write_bytes(b"".join(packets[:frames]))
        return [len(packet) for packet in packets[:frames]]

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        return decode_elementary_stream(path, source.format)

    def _stream(self, source: Source, quality: int) -> Path:
        return self.directory / f"{source.name}_qp{quality}.hevc"


def _keyframes(stream: Path) -> list[bool]:
    with av.open(str(stream)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]


def _from_environment(name: str) -> Path | None:
    return Path(os.environ[name]) if os.environ.get(name) else None
