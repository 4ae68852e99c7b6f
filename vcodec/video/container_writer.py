"""H.264 and VP9 files through PyAV, lossless unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from vcodec.errors import VcodecError
from vcodec.video.color import from_rgb, to_rgb
from vcodec.video.format import Frame, VideoFormat, guess_matrix

H273_MATRICES = {"bt601": 6, "bt709": 1, "bt2020": 9}
H273_RGB = 0
LIMITED_RANGE, FULL_RANGE = 1, 2


class ContainerSink:
    """One video stream: H.264 (VP9 in webm), lossless or at a constant rate factor."""

    def __init__(
        self,
        path: Path,
        container: str,
        format: VideoFormat,
        frame_rate: Fraction,
        time_base: Fraction,
        crf: float | None,
        name: str,
    ) -> None:
        self.name = name
        self.format = stored_format(format, container)
        self._time_base = time_base
        self._last_pts: int | None = None
        if container == "webm":
            encoder, options = "libvpx-vp9", {"lossless": "1", "row-mt": "1", "cpu-used": "4"}
            if crf is not None:
                options = {"crf": f"{crf:g}", "b": "0", "row-mt": "1", "cpu-used": "2"}
        else:
            encoder = "libx264rgb" if self.format.chroma == "rgb" else "libx264"
            options = {"qp": "0", "preset": "veryfast", "bf": "0"}
            if crf is not None:
                options = {"crf": f"{crf:g}", "preset": "medium"}
        self._pixel_format = "rgb24" if encoder == "libx264rgb" else self.format.pixel_format
        try:
            self._container = av.open(f"file:{path}", "w", format=container)
        except FFmpegError as error:
            raise VcodecError(f"{name}: can't be written: {error.strerror}") from error
        try:
            self._open_stream(encoder, frame_rate, options)
        except (FFmpegError, ValueError) as error:
            self._container.close()
            path.unlink(missing_ok=True)
            picture = f"{format.width}x{format.height} {self._pixel_format}"
            raise VcodecError(f"{name}: {encoder} can't hold {picture} pictures; choose another ending") from error

    def _open_stream(self, encoder: str, frame_rate: Fraction, options: dict[str, str]) -> None:
        stream = self._container.add_stream(encoder, rate=frame_rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = self.format.width, self.format.height
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = stream.time_base = self._time_base
        context.sample_aspect_ratio = self.format.sample_aspect_ratio
        context.color_range = FULL_RANGE if self.format.full_range else LIMITED_RANGE
        context.colorspace = H273_RGB if self.format.chroma == "rgb" else H273_MATRICES[self.format.matrix]
        context.color_primaries = self.format.primaries
        context.color_trc = self.format.transfer
        context.open()
        self._stream = stream

    def write(self, frame: Frame) -> None:
        picture = av.VideoFrame(self.format.width, self.format.height, self._pixel_format)
        planes = stored_frame(frame, self.format).planes
        if self._pixel_format == "rgb24":
            planes = (np.stack(planes, axis=-1).reshape(self.format.height, -1),)
        elif self.format.chroma == "rgb":
            planes = (planes[1], planes[2], planes[0])
        for target, plane in zip(picture.planes, planes, strict=True):
            rows = np.frombuffer(target, plane.dtype).reshape(target.height, -1)  # type: ignore[call-overload]
            rows[:, : plane.shape[1]] = plane
        # Time stamps must rise; those of pictures that stand in for lost ones may not.
        pts = frame.pts if self._last_pts is None else max(frame.pts, self._last_pts + 1)
        self._last_pts = picture.pts = pts
        picture.time_base = self._time_base
        self._mux(picture)

    def close(self) -> None:
        try:
            self._mux(None)
        finally:
            self._container.close()

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except OSError:
            raise
        except FFmpegError as error:
            raise VcodecError(f"{self.name}: can't be encoded: {error.strerror}") from error


def stored_format(format: VideoFormat, container: str) -> VideoFormat:
    """The format in which a container holds pictures of `format`: the same, or one that loses nothing."""
    odd = (format.width % 2 and format.chroma in ("420", "422")) or (format.height % 2 and format.chroma == "420")
    if container == "webm":
        return replace(format, chroma="420") if format.chroma == "gray" else format
    if odd:
        return replace(format, chroma="444")
    if format.chroma == "rgb" and format.bit_depth == 10:
        return full_range_yuv(format)
    return format


def full_range_yuv(format: VideoFormat) -> VideoFormat:
    """4:4:4 for RGB pictures."""
    return replace(format, chroma="444", matrix=guess_matrix(format.width, format.height))


def stored_frame(frame: Frame, target: VideoFormat) -> Frame:
    """A frame in the format that `stored_format` or `full_range_yuv` chose for it."""
    source = frame.format
    if source == target:
        return frame
    if source.chroma == "rgb":
        return from_rgb(to_rgb(frame), target, frame.pts)
    first, rest = frame.planes[0], list(frame.planes[1:])
    if source.chroma == "gray":
        neutral = np.full(target.chroma_shape, 1 << (target.bit_depth - 1), target.dtype)
        rest = [neutral, neutral]
    if target.chroma == "444":
        if source.chroma == "420":
            rest = [np.repeat(plane, 2, axis=0)[: target.height] for plane in rest]
        rest = [np.repeat(plane, 2, axis=1)[:, : target.width] for plane in rest]
    return Frame((first, *rest), frame.pts, target)
