"""Containers and codecs through PyAV (FFmpeg's libraries): mp4, mkv, webm, mov, avi, raw H.264, ..."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.plane import VideoPlane

from vcodec.errors import VcodecError
from vcodec.video.format import MAX_PIXELS, UNSPECIFIED, Chroma, Frame, Matrix, VideoFormat, check_size, guess_matrix
from vcodec.video.truncation import is_cut_off

DEFAULT_FRAME_RATE = Fraction(25)

# A playlist must not open addresses, and no picture over the limit is decoded, not even to look at it.
OPEN_OPTIONS = {"protocol_whitelist": "file,crypto,data", "max_pixels": str(MAX_PIXELS)}

# H.273 matrix coefficients that players treat as one of ours.
MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020"}
RGB_MATRIX = 0
FULL_RANGE = 2

# FFmpeg's pixel formats that are ours as they stand: chroma and bit depth.
PIXEL_FORMATS: dict[str, tuple[Chroma, int]] = {
    "yuv420p": ("420", 8),
    "yuv422p": ("422", 8),
    "yuv444p": ("444", 8),
    "yuvj420p": ("420", 8),
    "yuvj422p": ("422", 8),
    "yuvj444p": ("444", 8),
    "yuv420p10le": ("420", 10),
    "yuv422p10le": ("422", 10),
    "yuv444p10le": ("444", 10),
    "gray": ("gray", 8),
    "gray10le": ("gray", 10),
    "gbrp": ("rgb", 8),
    "gbrp10le": ("rgb", 10),
}

# Formats with the same samples in another arrangement (alpha is dropped), or in 16 bits (they become 10).
REARRANGED = {
    **dict.fromkeys(["nv12", "nv21", "yuva420p"], "yuv420p"),
    **dict.fromkeys(["yuyv422", "uyvy422", "yvyu422", "nv16", "yuva422p"], "yuv422p"),
    **dict.fromkeys(["nv24", "nv42", "yuva444p"], "yuv444p"),
    **dict.fromkeys(["p010le", "yuv420p10be", "yuva420p10le"], "yuv420p10le"),
    **dict.fromkeys(["p210le", "nv20le", "yuv422p10be", "yuva422p10le"], "yuv422p10le"),
    **dict.fromkeys(["p410le", "yuv444p10be", "yuva444p10le"], "yuv444p10le"),
    **dict.fromkeys(["rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb"], "gbrp"),
    **dict.fromkeys(["0bgr", "pal8", "gbrap", "rgb565le", "rgb555le"], "gbrp"),
    **dict.fromkeys(["gbrp10be", "gbrap10le"], "gbrp10le"),
    **dict.fromkeys(["ya8", "monob", "monow"], "gray"),
    "gray10be": "gray10le",
    **dict.fromkeys(["rgb48be", "rgb48le", "rgba64be", "rgba64le"], "gbrp16le"),
    **dict.fromkeys(["gray16be", "gray16le", "ya16be", "ya16le"], "gray16le"),
}
SIXTEEN_BIT: dict[str, tuple[Chroma, int]] = {"gbrp16le": ("rgb", 10), "gray16le": ("gray", 10)}
ALWAYS_FULL_RANGE = ("yuvj420p", "yuvj422p", "yuvj444p", "ya8", "monob", "monow")


class ContainerSource:
    """The first video stream of a file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if is_cut_off(path):
            raise VcodecError(f"{self.name}: the file is cut off: it ends before its own structure says")
        try:
            self._container = av.open(f"file:{path}", options=OPEN_OPTIONS)
        except (FFmpegError, ValueError) as error:
            raise VcodecError(f"{self.name}: not a video that FFmpeg's libraries can read") from error
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self) -> None:
        if not self._container.streams.video:
            raise VcodecError(f"{self.name}: there is no video stream in it")
        self._stream = stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise VcodecError(f"{self.name}: there is no frame in it")
        self.format = format_of(self._first, stream.sample_aspect_ratio, self.name)
        self._quarter_turns = round(self._first.rotation / 90) % 4
        if self._quarter_turns % 2:
            self.format = turned(self.format, self.name)
        self.frame_rate = stream.average_rate or stream.guessed_rate or None
        self.time_base = self._first.time_base or stream.time_base or 1 / DEFAULT_FRAME_RATE
        self.frame_count = stream.frames or None

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._container.decode(self._stream)
        except FFmpegError as error:
            raise VcodecError(f"{self.name}: the video is damaged or cut off ({error.strerror})") from error

    def frames(self, skip: int) -> Iterator[Frame]:
        duration = 1 / (self.frame_rate or DEFAULT_FRAME_RATE) / self.time_base
        pts = -1
        index = 0
        while (decoded := self._first or next(self._decoded, None)) is not None:
            self._first = None
            pts = decoded.pts if decoded.pts is not None else max(pts + 1, round(index * duration))
            if index >= skip:
                yield self._upright(decoded, pts)
            index += 1

    def _upright(self, decoded: av.VideoFrame, pts: int) -> Frame:
        """Phones turn the picture by a note in the file."""
        if self._quarter_turns == 0:
            return frame_of(decoded, pts, self.format, self.name)
        lying = self.format if self._quarter_turns == 2 else turned(self.format, self.name)
        planes = frame_of(decoded, pts, lying, self.name).planes
        return Frame(tuple(np.rot90(p, self._quarter_turns).copy() for p in planes), pts, self.format)

    def close(self) -> None:
        self._container.close()


def turned(format: VideoFormat, name: str) -> VideoFormat:
    """Width and height exchanged."""
    if format.chroma == "422":
        raise VcodecError(f"{name}: 4:2:2 that is to be shown turned by 90 degrees is not supported; turn it first")
    return replace(
        format, width=format.height, height=format.width, sample_aspect_ratio=1 / format.sample_aspect_ratio
    )


def format_of(picture: av.VideoFrame, sample_aspect_ratio: Fraction | None, name: str) -> VideoFormat:
    """The format that `frame_of` gives this picture.

    Raises:
        VcodecError: the pixel format or the colour matrix is not supported.
    """
    found = picture.format.name
    target = REARRANGED.get(found, found)
    if target not in PIXEL_FORMATS and target not in SIXTEEN_BIT:
        raise VcodecError(
            f"{name}: the pixel format {found} is not supported; convert it first, "
            "e.g. with ffmpeg -i INPUT -pix_fmt yuv420p OUTPUT"
        )
    try:
        check_size(picture.width, picture.height)
    except VcodecError as error:
        raise VcodecError(f"{name}: {error}") from error
    chroma, bit_depth = PIXEL_FORMATS.get(target) or SIXTEEN_BIT[target]
    full_range = (
        chroma == "rgb" or target in SIXTEEN_BIT or found in ALWAYS_FULL_RANGE or int(picture.color_range) == FULL_RANGE
    )
    return VideoFormat(
        picture.width,
        picture.height,
        chroma,
        bit_depth,
        _matrix_of(picture, name) if chroma in ("420", "422", "444") else "bt601",
        full_range,
        int(picture.color_primaries or UNSPECIFIED),
        int(picture.color_trc or UNSPECIFIED),
        sample_aspect_ratio or Fraction(1),
    )


def _matrix_of(picture: av.VideoFrame, name: str) -> Matrix:
    code = int(picture.colorspace)
    if code in (UNSPECIFIED, RGB_MATRIX):
        jpeg = picture.format.name.startswith("yuvj")
        return "bt601" if jpeg else guess_matrix(picture.width, picture.height)
    if code not in MATRICES:
        raise VcodecError(f"{name}: its colour matrix (H.273 code {code}) is not supported")
    return MATRICES[code]


def frame_of(picture: av.VideoFrame, pts: int, format: VideoFormat, name: str) -> Frame:
    """Copy a decoded picture out of FFmpeg's memory.

    Raises:
        VcodecError: it is not in the given `format`.
    """
    found = picture.format.name
    target = REARRANGED.get(found, found)
    kind = PIXEL_FORMATS.get(target) or SIXTEEN_BIT.get(target)
    size = (picture.width, picture.height)
    if size != (format.width, format.height) or kind != (format.chroma, format.bit_depth):
        raise VcodecError(
            f"{name}: the pictures change from {format.width}x{format.height} {format.pixel_format} "
            f"to {picture.width}x{picture.height} {found}; split the video there"
        )
    if target != found:
        picture = picture.reformat(format=target)
    planes = [_copy_plane(plane, format.dtype) for plane in picture.planes]
    if target in SIXTEEN_BIT:
        planes = [((plane.astype(np.uint32) * 1023 + 32767) // 65535).astype(np.uint16) for plane in planes]
    if format.chroma == "rgb":
        green, blue, red = planes
        planes = [red, green, blue]
    return Frame(tuple(planes), pts, format)


def _copy_plane(plane: VideoPlane, dtype: np.dtype) -> np.ndarray:
    samples = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    return samples[:, : plane.width].copy()
