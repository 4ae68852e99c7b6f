"""Open any video for reading: one function, one iterable, frames one at a time."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vcodec.errors import VcodecError
from vcodec.video.format import Frame, VideoFormat, check_frame_rate


class Source(Protocol):
    """What a file format supplies: its parameters and its frames from the given one on."""

    format: VideoFormat
    frame_rate: Fraction | None
    time_base: Fraction
    frame_count: int | None

    def frames(self, skip: int) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class VideoReader:
    """Iterates over the frames of a video, once, in the order they are shown.

    Attributes:
        name: of the file, for messages.
        format: of every frame.
        frame_rate: frames per second, the average where they vary; None if unknown (a single image).
        time_base: seconds per unit of `Frame.pts`.
        frame_count: how many frames will come, None if the file doesn't say; a container may be wrong.
    """

    def __init__(self, source: Source, name: str, frame_rate: Fraction | None, seek: int, frames: int | None) -> None:
        self.name = name
        self.format = source.format
        self.frame_rate = frame_rate or source.frame_rate
        self.time_base = 1 / frame_rate if frame_rate else source.time_base
        self.frame_count = source.frame_count
        if self.frame_count is not None:
            self.frame_count = max(0, self.frame_count - seek)
            self.frame_count = self.frame_count if frames is None else min(self.frame_count, frames)
        self._source = source
        self._frames = self._read(seek, frames, retimed=frame_rate is not None)

    def _read(self, seek: int, frames: int | None, retimed: bool) -> Iterator[Frame]:
        found = False
        for index, frame in enumerate(islice(self._source.frames(seek), frames)):
            found = True
            yield Frame(frame.planes, seek + index, frame.format) if retimed else frame
        if not found and frames != 0:
            where = f"at frame {seek} or after it" if seek else "in it"
            raise VcodecError(f"{self.name}: there is no frame {where}")

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    frame_rate: Fraction | int | None = None,
    pixel_format: str | None = None,
    seek: int = 0,
    frames: int | None = None,
) -> VideoReader:
    """Open a video file, a raw .yuv or .y4m file, an image, or a folder of images.

    Args:
        path: `-` reads YUV4MPEG2 from standard input (raw samples if `size` is given).
        size: (width, height) of raw video, which otherwise comes from the file's name.
        frame_rate: of raw video and folders (25 if nothing says); elsewhere it replaces the time stamps.
        pixel_format: of raw video, in FFmpeg's names (yuv420p, yuv420p10le, gray, ...).
        seek: how many frames to pass over.
        frames: how many frames to read at most.

    Raises:
        VcodecError: the file is missing, empty, damaged, or of no supported format; also while iterating.
    """
    from vcodec.video import container, images, raw  # PyAV takes its time to import

    name = "standard input" if str(path) == "-" else str(path)
    if seek < 0 or (frames is not None and frames < 0):
        raise VcodecError(f"{name}: frame numbers and counts can't be negative")
    rate = check_frame_rate(frame_rate)
    source: Source
    if str(path) == "-":
        stdin = sys.stdin.buffer
        source = raw.YuvSource(stdin, name, size, rate, pixel_format) if size else raw.Y4mSource(stdin, name)
        return VideoReader(source, name, rate, seek, frames)

    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise VcodecError(f"{name}: {reason_of(error)}") from error
    if not stat.S_ISDIR(status.st_mode) and stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise VcodecError(f"{name}: the file is empty")
    suffix = path.suffix.lower()
    if suffix == ".yuv":
        source = raw.YuvSource.open(path, size, rate, pixel_format)
    elif size or pixel_format:
        raise VcodecError(f"{name}: a size or pixel format can be given for raw video (.yuv) only")
    elif stat.S_ISDIR(status.st_mode):
        source = images.FolderSource(path, rate)
    elif suffix == ".y4m":
        source = raw.Y4mSource.open(path)
    elif suffix in images.SUFFIXES:
        source = images.FolderSource(path, rate)
    else:
        source = container.ContainerSource(path)
    return VideoReader(source, name, rate, seek, frames)


def reason_of(error: OSError) -> str:
    """The system's words for what went wrong, without number and path."""
    return (error.strerror or str(error)).lower()
