"""Uncompressed video: YUV4MPEG2 (.y4m, also through pipes) and bare samples (.yuv)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from vcodec.errors import VcodecError
from vcodec.video.container import PIXEL_FORMATS
from vcodec.video.container_writer import full_range_yuv, stored_frame
from vcodec.video.format import Chroma, Frame, Matrix, VideoFormat, guess_matrix

DEFAULT_FRAME_RATE = Fraction(25)
MAX_HEADER_LINE = 4096
MAGIC = b"YUV4MPEG2"

# The C tag of a YUV4MPEG2 header; the siting of 4:2:0 chroma makes no difference here.
COLOR_SPACES: dict[str, tuple[Chroma, int]] = {
    **dict.fromkeys(["420jpeg", "420mpeg2", "420paldv", "420"], ("420", 8)),
    "422": ("422", 8),
    "444": ("444", 8),
    "mono": ("gray", 8),
    "420p10": ("420", 10),
    "422p10": ("422", 10),
    "444p10": ("444", 10),
    "mono10": ("gray", 10),
}


class Y4mSource:
    """A YUV4MPEG2 stream; a file or a pipe."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        line = file.readline(MAX_HEADER_LINE)
        if not line:
            raise VcodecError(f"{name}: the file is empty")
        if not line.startswith(MAGIC + b" ") or not line.endswith(b"\n"):
            raise VcodecError(f"{name}: not a YUV4MPEG2 (.y4m) stream")
        try:
            self.format, self.frame_rate = parse_y4m_header(line.decode("ascii"))
        except (ValueError, ZeroDivisionError) as error:
            raise VcodecError(f"{name}: its YUV4MPEG2 header is damaged: {line[:80]!r}") from error
        except VcodecError as error:
            raise VcodecError(f"{name}: {error}") from error
        self.time_base = 1 / (self.frame_rate or DEFAULT_FRAME_RATE)
        self.frame_count: int | None = None

    @classmethod
    def open(cls, path: Path) -> Y4mSource:
        file = path.open("rb")
        try:
            source = cls(file, str(path))
        except BaseException:
            file.close()
            raise
        if path.is_file():  # frame headers are six bytes, save for those with parameters, which are rare
            source.frame_count = (path.stat().st_size - file.tell()) // (source.format.frame_bytes + 6)
        return source

    def frames(self, skip: int) -> Iterator[Frame]:
        index = 0
        while line := self._file.readline(MAX_HEADER_LINE):
            if line.split()[:1] != [b"FRAME"] or not line.endswith(b"\n"):
                raise VcodecError(f"{self.name}: damaged or cut off at frame {index}: no FRAME header there")
            frame = read_raw_frame(self._file, self.format, index, self.name)
            if frame is None:
                raise VcodecError(f"{self.name}: cut off in the middle of frame {index}")
            if index >= skip:
                yield frame
            index += 1

    def close(self) -> None:
        self._file.close()


def parse_y4m_header(line: str) -> tuple[VideoFormat, Fraction | None]:
    """Format and frame rate from the first line of a YUV4MPEG2 stream."""
    tags: dict[str, str] = {}
    extensions: dict[str, str] = {}
    for word in line.split()[1:]:
        if word[0] == "X":
            key, _, value = word[1:].partition("=")
            extensions[key] = value
        else:
            tags[word[0]] = word[1:]
    if "W" not in tags or "H" not in tags:
        raise ValueError("no size")
    width, height = int(tags["W"]), int(tags["H"])
    color_space = tags.get("C", "420jpeg")
    if color_space not in COLOR_SPACES:
        raise VcodecError(f"the YUV4MPEG2 colour space {color_space!r} is not supported; use 420jpeg")
    chroma, bit_depth = COLOR_SPACES[color_space]
    matrix = cast(Matrix, extensions.get("COLORMATRIX", "").lower())
    if matrix not in ("bt601", "bt709", "bt2020"):
        matrix = guess_matrix(width, height)
    full_range = extensions.get("COLORRANGE", "").upper() == "FULL"
    aspect = _ratio(tags.get("A", "")) or Fraction(1)
    video = VideoFormat(width, height, chroma, bit_depth, matrix, full_range, sample_aspect_ratio=aspect)
    return video, _ratio(tags.get("F", ""))


def _ratio(text: str) -> Fraction | None:
    """A ratio like 30000:1001; None if it is absent or 0:0, which means unknown."""
    if not text:
        return None
    numerator, denominator = (int(part) for part in text.split(":"))
    if numerator < 0 or denominator < 0:
        raise ValueError("negative ratio")
    return Fraction(numerator, denominator) if numerator and denominator else None


class YuvSource:
    """Bare samples, plane after plane, frame after frame; 10 bits as 16-bit little endian."""

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        size: tuple[int, int] | None,
        frame_rate: Fraction | None,
        pixel_format: str | None,
    ) -> None:
        self.name = name
        self._file = file
        try:
            self.format, rate = parse_yuv_name(Path(name).name, size, pixel_format)
        except VcodecError as error:
            raise VcodecError(f"{name}: {error}") from error
        self.frame_rate: Fraction | None = frame_rate or rate or DEFAULT_FRAME_RATE
        self.time_base = 1 / self.frame_rate
        self.frame_count: int | None = None

    @classmethod
    def open(
        cls, path: Path, size: tuple[int, int] | None, frame_rate: Fraction | None, pixel_format: str | None
    ) -> YuvSource:
        file = path.open("rb")
        try:
            source = cls(file, str(path), size, frame_rate, pixel_format)
            if path.is_file():
                source._count_frames(path.stat().st_size)
        except BaseException:
            file.close()
            raise
        return source

    def _count_frames(self, length: int) -> None:
        self.frame_count, rest = divmod(length, self.format.frame_bytes)
        if rest:
            video = self.format
            raise VcodecError(
                f"{self.name}: its {length} bytes are no whole number of {video.width}x{video.height} "
                f"{video.pixel_format} frames of {video.frame_bytes} bytes: give its size and pixel format"
            )

    def frames(self, skip: int) -> Iterator[Frame]:
        index = 0
        if skip and self._file.seekable():
            self._file.seek(skip * self.format.frame_bytes)
            index = skip
        while (frame := read_raw_frame(self._file, self.format, index, self.name)) is not None:
            if index >= skip:
                yield frame
            index += 1

    def close(self) -> None:
        self._file.close()


SIZE_NAMES = {"qcif": (176, 144), "cif": (352, 288), "4cif": (704, 576), "sif": (352, 240)}


def parse_yuv_name(
    name: str, size: tuple[int, int] | None, pixel_format: str | None
) -> tuple[VideoFormat, Fraction | None]:
    """Format and frame rate from a name: `Name_416x240_50.yuv`, `Name_1920x1080_120fps_420_8bit_YUV.yuv`.

    What is given wins over what the name says; 4:2:0 with 8 bits is what a name without a word on it means.
    """
    words = re.split(r"[_\-\s()]+", Path(name).stem.lower())
    rate: Fraction | None = None
    chroma, bit_depth = "420", 8
    named_size: tuple[int, int] | None = None
    for word in words:
        if match := re.fullmatch(r"(\d{1,5})x(\d{1,5})(?:p(\d{1,3}))?", word):
            named_size = (int(match[1]), int(match[2]))
            rate = Fraction(int(match[3])) if match[3] else rate
        elif word in SIZE_NAMES:
            named_size = named_size or SIZE_NAMES[word]
        elif match := re.fullmatch(r"(?:yuv|p)?(420|422|444|400)(?:p|p8)?(?:(10)(?:le)?)?", word):
            chroma = match[1].replace("400", "gray")
            bit_depth = int(match[2] or bit_depth)
        elif match := re.fullmatch(r"(\d{1,2})(?:b|bit|bits)", word):
            bit_depth = int(match[1])
        elif (match := re.fullmatch(r"(\d{1,3}(?:\.\d+)?)(fps|hz|p)?", word)) and (match[2] or named_size):
            rate = Fraction(match[1]) or None
    if pixel_format is not None:
        if pixel_format not in PIXEL_FORMATS:
            names = ", ".join(PIXEL_FORMATS)
            raise VcodecError(f"the pixel format {pixel_format!r} is not supported: give one of {names}")
        given, bit_depth = PIXEL_FORMATS[pixel_format]
        if given == "rgb":
            raise VcodecError("raw RGB video is not supported: give a yuv or gray pixel format")
        chroma = given
    size = size or named_size
    if size is None:
        raise VcodecError("raw video has no size of its own: give --size WxH or name it Name_416x240_50.yuv")
    full_range = bool(pixel_format and pixel_format.startswith("yuvj"))
    return VideoFormat(*size, cast(Chroma, chroma), bit_depth, guess_matrix(*size), full_range), rate


def read_raw_frame(file: BinaryIO, format: VideoFormat, index: int, name: str) -> Frame | None:
    """The next frame of planes; None at the end of the file."""
    planes = []
    for position, shape in enumerate(format.plane_shapes):
        samples = np.empty(shape, format.dtype.newbyteorder("<"))
        got = _read_into(file, samples.data.cast("B"))
        if got == 0 and position == 0:
            return None
        if got < samples.nbytes:
            raise VcodecError(f"{name}: cut off in the middle of frame {index}")
        if format.bit_depth == 10 and samples.max() > format.max_value:
            raise VcodecError(f"{name}: frame {index} has samples over 1023: it is not 10-bit video")
        planes.append(samples.astype(format.dtype, copy=False))
    return Frame(tuple(planes), index, format)


def _read_into(file: BinaryIO, buffer: memoryview) -> int:
    """Fill the buffer as far as the file goes; a pipe may hand over less than was asked for."""
    got = 0
    while got < len(buffer) and (count := file.readinto(buffer[got:])):  # type: ignore[attr-defined]
        got += count
    return got


class YuvSink:
    """Bare samples, plane after plane, frame after frame; RGB as the planes R, G, B."""

    def __init__(self, file: BinaryIO, format: VideoFormat) -> None:
        self._file = file

    def write(self, frame: Frame) -> None:
        for plane in frame.planes:
            self._file.write(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).data)

    def close(self) -> None:
        self._file.close()


class Y4mSink(YuvSink):
    """YUV4MPEG2; RGB becomes 4:4:4. The matrix stands in an X tag, which other programs pass over."""

    def __init__(self, file: BinaryIO, format: VideoFormat, frame_rate: Fraction | None) -> None:
        super().__init__(file, format)
        self._format = full_range_yuv(format) if format.chroma == "rgb" else format
        file.write(y4m_header(self._format, frame_rate))

    def write(self, frame: Frame) -> None:
        self._file.write(b"FRAME\n")
        super().write(stored_frame(frame, self._format))

    def close(self) -> None:
        self._file.flush()
        if self._file is not sys.stdout.buffer:
            self._file.close()


def y4m_header(format: VideoFormat, frame_rate: Fraction | None) -> bytes:
    """The first line of a YUV4MPEG2 stream."""
    depth = "" if format.bit_depth == 8 else "p10"
    color_space = "mono" + depth[1:] if format.chroma == "gray" else format.chroma + depth
    if color_space == "420":
        color_space = "420jpeg"
    rate = f"{frame_rate.numerator}:{frame_rate.denominator}" if frame_rate else "0:0"
    aspect = f"{format.sample_aspect_ratio.numerator}:{format.sample_aspect_ratio.denominator}"
    subsampling = "" if format.chroma == "gray" else f" XYSCSS={color_space.upper()}"
    color_range = "FULL" if format.full_range else "LIMITED"
    return (
        f"YUV4MPEG2 W{format.width} H{format.height} F{rate} Ip A{aspect} C{color_space}{subsampling}"
        f" XCOLORRANGE={color_range} XCOLORMATRIX={format.matrix.upper()}\n"
    ).encode()
