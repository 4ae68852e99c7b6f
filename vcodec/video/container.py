"""Containers and codecs through PyAV (FFmpeg's libraries): mp4, mkv, webm, mov, avi, raw H.264, ..."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from vcodec.errors import VcodecError
from vcodec.video.format import UNSPECIFIED, Chroma, Frame, Matrix, VideoFormat, guess_matrix

# H.273 matrix coefficients that players treat as one of ours.
MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020"}
RGB_MATRIX = 0
FULL_RANGE = 2

# FFmpeg's pixel formats that are ours as they stand: chroma and bit depth.
PIXEL_FORMATS: dict[str, tuple[Chroma, int]] = {
    "gray": ("gray", 8),
    "gray10le": ("gray", 10),
    "gbrp": ("rgb", 8),
    "gbrp10le": ("rgb", 10),
}
for _chroma in ("420", "422", "444"):
    PIXEL_FORMATS[f"yuv{_chroma}p"] = PIXEL_FORMATS[f"yuvj{_chroma}p"] = (_chroma, 8)  # type: ignore[assignment]
    PIXEL_FORMATS[f"yuv{_chroma}p10le"] = (_chroma, 10)  # type: ignore[assignment]

# Formats with the same samples in another arrangement (alpha is dropped).
REARRANGED = {
    **dict.fromkeys(["nv12", "nv21", "yuva420p"], "yuv420p"),
    **dict.fromkeys(["yuyv422", "uyvy422", "yvyu422", "nv16", "yuva422p"], "yuv422p"),
    **dict.fromkeys(["nv24", "nv42", "yuva444p"], "yuv444p"),
    **dict.fromkeys(["p010le", "yuv420p10be", "yuva420p10le"], "yuv420p10le"),
    **dict.fromkeys(["p210le", "nv20le", "yuv422p10be", "yuva422p10le"], "yuv422p10le"),
    **dict.fromkeys(["p410le", "yuv444p10be", "yuva444p10le"], "yuv444p10le"),
    **dict.fromkeys(["rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr"], "gbrp"),
    **dict.fromkeys(["pal8", "gbrap", "rgb8", "bgr8", "rgb565le", "rgb555le"], "gbrp"),
    **dict.fromkeys(["gbrp10be", "gbrap10le", "x2rgb10le"], "gbrp10le"),
    **dict.fromkeys(["ya8", "monob", "monow"], "gray"),
    "gray10be": "gray10le",
}
# Sixteen-bit pictures (of PNG and TIFF) come down to ten.
SIXTEEN_BIT = {
    **dict.fromkeys(["rgb48be", "rgb48le", "rgba64be", "rgba64le"], "gbrp16le"),
    **dict.fromkeys(["gray16be", "gray16le", "ya16be", "ya16le"], "gray16le"),
}


class ContainerSource:
    """The first video stream of a file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            # Only files: a playlist must not open addresses.
            self._container = av.open(f"file:{path}", options={"protocol_whitelist": "file,crypto,data"})
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
        try:
            first = next(self._decoded)
        except StopIteration:
            raise VcodecError(f"{self.name}: there is no frame in it") from None
        self._first: av.VideoFrame | None = first
        self.format = format_of(first, stream.sample_aspect_ratio, self.name)
        self.frame_rate = stream.average_rate or stream.guessed_rate or None
        self.time_base = first.time_base or stream.time_base or Fraction(1, 25)
        self.frame_count = stream.frames or None

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._container.decode(self._stream)
        except FFmpegError as error:
            raise VcodecError(f"{self.name}: the video is damaged or cut off: {error.strerror.lower()}") from error

    def frames(self, skip: int) -> Iterator[Frame]:
        duration = 1 / (self.frame_rate or Fraction(25)) / self.time_base
        pts = -1
        index = 0
        while (decoded := self._first or next(self._decoded, None)) is not None:
            self._first = None
            pts = decoded.pts if decoded.pts is not None else max(pts + 1, round(index * duration))
            if index >= skip:
                yield frame_of(decoded, pts, self.format, self.name)
            index += 1

    def close(self) -> None:
        self._container.close()


def format_of(picture: av.VideoFrame, sample_aspect_ratio: Fraction | None, name: str) -> VideoFormat:
    """The format that `frame_of` gives this picture."""
    found = picture.format.name
    target = REARRANGED.get(found) or SIXTEEN_BIT.get(found, "").replace("16le", "10le") or found
    target = {"gbrp10le": "gbrp10le", "gray10le": "gray10le"}.get(target, target)
    if target not in PIXEL_FORMATS:
        raise VcodecError(
            f"{name}: the pixel format {found} is not supported; convert it first, e.g. ffmpeg -i IN -pix_fmt yuv420p OUT"
        )
    chroma, bit_depth = PIXEL_FORMATS[target]
    full_range = chroma == "rgb" or found.startswith("yuvj") or int(picture.color_range) == FULL_RANGE
    if found in SIXTEEN_BIT or found in ("ya8", "monob", "monow"):
        full_range = True
    matrix_code = int(picture.colorspace)
    matrix: Matrix = "bt601"
    if chroma in ("420", "422", "444"):
        if matrix_code == UNSPECIFIED or matrix_code == RGB_MATRIX:
            matrix = "bt601" if found.startswith("yuvj") else guess_matrix(picture.width, picture.height)
        elif matrix_code in MATRICES:
            matrix = MATRICES[matrix_code]
        else:
            raise VcodecError(f"{name}: its colour matrix (H.273 code {matrix_code}) is not supported")
    return VideoFormat(
        picture.width,
        picture.height,
        chroma,
        bit_depth,
        matrix,
        full_range,
        int(picture.color_primaries or UNSPECIFIED),
        int(picture.color_trc or UNSPECIFIED),
        sample_aspect_ratio or Fraction(1),
    )


def frame_of(picture: av.VideoFrame, pts: int, format: VideoFormat, name: str) -> Frame:
    """Copy a decoded picture out of FFmpeg's memory."""
    if (picture.width, picture.height) != (format.width, format.height):
        raise VcodecError(
            f"{name}: the picture size changes from {format.width}x{format.height} to {picture.width}x{picture.height}"
        )
    found = picture.format.name
    target = REARRANGED.get(found) or SIXTEEN_BIT.get(found)
    if target:
        picture = picture.reformat(format=target)
    sixteen_bit = found in SIXTEEN_BIT
    if not sixteen_bit and PIXEL_FORMATS.get(picture.format.name) != (format.chroma, format.bit_depth):
        raise VcodecError(f"{name}: the pixel format changes from {format.pixel_format} to {found}")
    planes = [_copy_plane(plane, format.dtype) for plane in picture.planes]
    if sixteen_bit:
        planes = [((plane.astype(np.uint32) * 1023 + 32767) // 65535).astype(np.uint16) for plane in planes]
    if format.chroma == "rgb":
        green, blue, red = planes
        planes = [red, green, blue]
    return Frame(tuple(planes), pts, format)


def _copy_plane(plane: av.video.plane.VideoPlane, dtype: np.dtype) -> np.ndarray:
    samples = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    return samples[:, : plane.width].copy()
