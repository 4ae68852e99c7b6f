"""x264, x265 and SVT-AV1 through PyAV, written to real elementary streams and decoded again from them.

The settings are those of the low-delay comparisons in the literature on learned video codecs: constant rate
factor, `tune zerolatency`, a fixed distance between I-frames. Three things are made explicit that change results:

- scene-cut I-frames are off, so that every stream has I-frames exactly where the protocol puts them;
- x264 runs on one thread: with `zerolatency` more threads mean more slices, hence other (and more) bytes;
- the file is a bare elementary stream with its headers once and without the encoder's text message, the
  smallest file that decodes; no container is counted.

SVT-AV1 started by root takes real-time priority; here it is taken from it again.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source
from vcodec.video import Frame, VideoFormat, open_video

H264_SEI = 6


@dataclass(frozen=True)
class StandardCodec(Codec):
    """x264, x265 or svtav1 as one of the codecs that are compared."""

    label: str
    extension: str
    preset: Preset
    threads: int = 1

    def qualities(self, source: Source) -> tuple[int, ...]:
        return CRF[self.label]

    def command(self, crf: int) -> "EncoderCommand":
        return COMMANDS[self.label](crf, self.preset, self.threads)

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        return asdict(self.command(quality))

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        frames = meter.excluded(source)
        return encode_elementary_stream(frames, path, self.command(quality), source.format, source.frame_rate)

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        return decode_elementary_stream(path, source.format)


@dataclass(frozen=True)
class EncoderCommand:
    """What a PyAV encoder is asked to do: its name and its options, as FFmpeg names them."""

    encoder: str
    options: dict[str, str]


def x264_command(crf: int, preset: Preset, threads: int = 1) -> EncoderCommand:
    """x264 at a constant rate factor; one thread whatever is asked, see above."""
    keyint = "infinite" if preset.gop_size is None else str(preset.gop_size)
    parameters = f"keyint={keyint}:min-keyint={preset.gop_size or 1}:scenecut=0:threads=1"
    options = {"preset": preset.speed, "tune": "zerolatency", "crf": str(crf), "x264-params": parameters}
    return EncoderCommand("libx264", options)


def x265_command(crf: int, preset: Preset, threads: int = 1) -> EncoderCommand:
    """x265 at a constant rate factor; the number of threads does not change its bytes."""
    keyint = -1 if preset.gop_size is None else preset.gop_size
    parameters = f"keyint={keyint}:min-keyint={preset.gop_size or 1}:scenecut=0:pools={threads}:info=0:log-level=error"
    options = {"preset": preset.speed, "tune": "zerolatency", "crf": str(crf), "x265-params": parameters}
    return EncoderCommand("libx265", options)


def svtav1_command(crf: int, preset: Preset, threads: int = 1) -> EncoderCommand:
    """SVT-AV1 in its low-delay prediction structure; presets `medium` and `veryslow` are its 6 and 2."""
    keyint = -1 if preset.gop_size is None else preset.gop_size
    speed = {"medium": "6", "veryslow": "2"}[preset.speed]
    parameters = f"pred-struct=1:keyint={keyint}:scd=0:lp={threads}"
    return EncoderCommand("libsvtav1", {"preset": speed, "crf": str(crf), "svtav1-params": parameters})


COMMANDS = {"x264": x264_command, "x265": x265_command, "svtav1": svtav1_command}
EXTENSIONS = {"x264": ".264", "x265": ".hevc", "svtav1": ".obu"}
CRF = {"x264": (19, 23, 27, 31, 35), "x265": (19, 23, 27, 31, 35), "svtav1": (27, 35, 43, 51, 59)}


def encode_elementary_stream(
    frames: Iterable[Frame], path: Path, command: EncoderCommand, format: VideoFormat, frame_rate: Fraction
) -> list[int]:
    """Encode frames of one format into a bare elementary stream at `path`; returns the bytes of each frame."""
    encoder = _open_encoder(command, format, frame_rate)
    packets = _packets(encoder, frames)
    with open(path, "wb") as file:
        first = next(packets, None)
        if first is None:
            raise VcodecError(f"{path}: there are no frames to encode.")
        if command.encoder == "libx264":
            first = _without_leading_sei(first)
        sizes = [file.write((encoder.extradata or b"") + first)]
        sizes += [file.write(packet) for packet in packets]
    return sizes


def decode_elementary_stream(path: Path, format: VideoFormat) -> Iterator[Frame]:
    """Decode a file to frames of `format`, in the order of showing.

    The format says what the planes mean: elementary streams often leave out matrix and range.

    Raises:
        VcodecError: not a video, or its size, chroma format or bit depth is another.
    """
    with open_video(path) as reader:
        for index, frame in enumerate(reader):
            try:
                yield Frame(frame.planes, index, format)
            except ValueError as error:
                found = f"{frame.format.width}x{frame.format.height} {frame.format.pixel_format}"
                expected = f"{format.width}x{format.height} {format.pixel_format}"
                raise VcodecError(f"{path}: holds {found}, but its source is {expected}.") from error


def packet_sizes(path: Path) -> list[int]:
    """Bytes of each coded picture of a file, in the file's order."""
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(video=0) if packet.size]


def _open_encoder(command: EncoderCommand, format: VideoFormat, frame_rate: Fraction) -> av.VideoCodecContext:
    if command.encoder not in av.codecs_available:
        raise VcodecError(f"This build of PyAV has no encoder {command.encoder}; install another or drop the codec.")
    os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 has no other switch for its messages
    encoder = av.CodecContext.create(command.encoder, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = format.width, format.height, format.pixel_format
    encoder.time_base, encoder.framerate = 1 / frame_rate, frame_rate
    encoder.options = dict(command.options)
    if command.encoder != "libsvtav1":  # an AV1 stream carries its sequence header in the first temporal unit
        encoder.flags |= Flags.global_header
    try:
        with _kept_scheduling():
            encoder.open()
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise VcodecError(
            f"{command.encoder} can't encode {format.width}x{format.height} {format.pixel_format}: {error}."
        ) from error
    return encoder


@contextmanager
def _kept_scheduling() -> Iterator[None]:
    """Afterwards all threads of this process have the scheduling policy that the calling thread had before.

    SVT-AV1 gives its threads and its caller the highest real-time priority where it may, as root (in a container, say):
    they would take the processor from everything else on the machine, whatever the process's own priority.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(OSError):  # a thread that has ended meanwhile
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, parameters)


def _packets(encoder: av.VideoCodecContext, frames: Iterable[Frame]) -> Iterator[bytes]:
    for index, frame in enumerate(frames):
        yield from map(bytes, encoder.encode(_picture_of(frame, index)))
    yield from map(bytes, encoder.encode(None))


def _without_leading_sei(packet: bytes) -> bytes:
    """An Annex B packet without the message (version and settings as text) that x264 puts first."""
    start = packet.index(b"\x00\x00\x01") + 3
    if packet[start] & 31 != H264_SEI:
        return packet
    rest = packet.index(b"\x00\x00\x01", start)
    return b"\x00" + packet[rest:]


def _picture_of(frame: Frame, pts: int) -> av.VideoFrame:
    picture = av.VideoFrame(frame.format.width, frame.format.height, frame.format.pixel_format)
    for plane, samples in zip(picture.planes, frame.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), frame.format.dtype).reshape(plane.height, -1)
        rows[:, : samples.shape[1]] = samples
    picture.pts = pts
    return picture
