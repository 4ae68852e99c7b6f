"""VVenC (H.266) through an ffmpeg that has it; decoded by FFmpeg's libraries in PyAV."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec, CodecOptions
from vcodec.evaluation.ffmpeg import find_ffmpeg
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source, to_8_bits
from vcodec.evaluation.standard_codecs import packet_sizes
from vcodec.video import Frame, open_video

QP = (17, 22, 27, 32, 37)
SPEEDS = {"medium": "medium", "veryslow": "slower"}


@dataclass(frozen=True)
class VvencCodec(Codec):
    """VVenC in low delay (no reordering, groups of eight) at a fixed QP, without perceptual adaptation.

    It codes 10 bits inside whatever the source has; the decoded frames are rounded to the source's depth.
    """

    preset: Preset
    ffmpeg: str
    threads: int = 1
    label: str = "vvenc"
    extension: str = ".266"

    @classmethod
    def find(cls, preset: Preset, options: CodecOptions) -> "VvencCodec":
        ffmpeg = find_ffmpeg("libvvenc", "encoder", options.ffmpeg)
        if ffmpeg is None:
            raise VcodecError(
                "VVenC needs an ffmpeg that was built with libvvenc, as most are not: give one by --ffmpeg."
            )
        return cls(preset, ffmpeg, options.threads)

    def qualities(self, source: Source) -> tuple[int, ...]:
        return QP

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        return {"arguments": self.arguments(quality)}

    def arguments(self, quality: int) -> list[str]:
        """What ffmpeg is told about the encoder."""
        period = -1 if self.preset.gop_size is None else self.preset.gop_size
        parameters = f"poc0idr=1:picreordering=0:gopsize=8:decodingrefreshtype=none:intraperiod={period}"
        speed = SPEEDS[self.preset.speed]
        return [
            *("-c:v", "libvvenc", "-preset", speed, "-qp", str(quality), "-qpa", "0"),
            *("-threads", str(self.threads), "-vvenc-params", parameters),
        ]

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        format = source.format
        with tempfile.TemporaryDirectory(prefix="vcodec-vvenc-") as scratch:
            raw = Path(scratch) / "source.yuv"
            with meter.paused():
                source.write(raw)
            size = f"{format.width}x{format.height}"
            reading = ["-f", "rawvideo", "-pix_fmt", format.pixel_format, "-s", size, "-r", str(source.frame_rate)]
            writing = [*self.arguments(quality), "-f", "vvc", str(path)]
            meter.run([self.ffmpeg, "-v", "error", "-y", *reading, "-i", str(raw), *writing])
        return packet_sizes(path)

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        with open_video(path) as reader:
            for index, frame in enumerate(reader):
                decoded = to_8_bits(frame) if source.format.bit_depth == 8 else frame
                yield Frame(decoded.planes, index, source.format)
