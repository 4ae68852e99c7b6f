"""Write frames to any kind of video: one function, one writer, nothing half-written left behind."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vcodec.errors import VcodecError
from vcodec.video.format import Frame, VideoFormat, check_frame_rate
from vcodec.video.output import PartialFile, PartialFolder, standard_output

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
DEFAULT_FRAME_RATE = Fraction(25)


class Sink(Protocol):
    """What a file format supplies."""

    def write(self, frame: Frame) -> None: ...

    def close(self) -> None: ...


class VideoWriter:
    """Writes frames of one format. As a context manager it finishes the file, or removes it after an error."""

    def __init__(self, sink: Sink, name: str, format: VideoFormat, output: PartialFile | PartialFolder | None) -> None:
        self.name = name
        self.format = format
        self.frame_count = 0
        self._sink = sink
        self._output = output

    def write(self, frame: Frame) -> None:
        """Append a frame.

        Raises:
            VcodecError: it is of another format, or can't be written.
            BrokenPipeError: the reader of standard output has gone.
        """
        if frame.format != self.format:
            raise VcodecError(f"{self.name}: a frame of another format than the first")
        try:
            self._sink.write(frame)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise VcodecError(f"{self.name}: can't be written: {error.strerror or error}") from error
        self.frame_count += 1

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            VcodecError: it can't be written.
        """
        try:
            self._sink.close()
            if self._output:
                self._output.finish()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._remove()
            raise VcodecError(f"{self.name}: can't be written: {error.strerror or error}") from error

    def abort(self) -> None:
        """Leave nothing behind."""
        try:
            self._sink.close()
        except (OSError, VcodecError):
            pass
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._output:
            self._output.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


def create_video(
    path: str | Path,
    format: VideoFormat,
    frame_rate: Fraction | int | None = None,
    time_base: Fraction | None = None,
    *,
    crf: float | None = None,
) -> VideoWriter:
    """Create a video file by its ending, a folder of PNG (no ending, or a folder's name), or a single .png.

    Args:
        path: .y4m, .yuv, .mp4, .mov, .mkv, .webm, .png, a folder; `-` writes YUV4MPEG2 to standard output.
        format: of all frames. Where the file can't hold it: RGB becomes 4:4:4 in .y4m, and 4:2:0 and 4:2:2 of an
            odd size become 4:4:4 in H.264, both with the same picture.
        frame_rate: frames per second; None if unknown.
        time_base: seconds per unit of `Frame.pts`; kept by mp4, mov, mkv and webm (the latter two in milliseconds).
        crf: quality of x264 (mp4, mov, mkv) or VP9 (webm); lossless if None.

    Raises:
        VcodecError: an unknown ending, a missing folder, or a file that can't be written.
    """
    from vcodec.video import container_writer, images, raw  # PyAV takes its time to import

    frame_rate = check_frame_rate(frame_rate)
    rate = frame_rate or DEFAULT_FRAME_RATE
    suffix = Path(path).suffix.lower()
    if crf is not None and suffix not in CONTAINERS:
        raise VcodecError(f"{path}: a CRF can be given for {', '.join(CONTAINERS)} only")
    if str(path) == "-":
        return VideoWriter(raw.Y4mSink(standard_output(), format, frame_rate), "standard output", format, None)
    folder = Path(path).is_dir() or str(path).endswith("/") or not suffix
    if folder and (not Path(path).exists() or Path(path).is_dir()):
        output_folder = PartialFolder(path)
        return VideoWriter(images.FolderSink(output_folder.part, format), str(path), format, output_folder)

    if suffix not in CONTAINERS and suffix not in (".y4m", ".yuv", ".png", ""):
        endings = ", ".join([".y4m", ".yuv", *CONTAINERS])
        raise VcodecError(f"{path}: videos end in {endings}, pictures in .png; a name without ending makes a folder")
    output = PartialFile(path)
    sink: Sink
    if suffix in CONTAINERS:
        sink = container_writer.ContainerSink(
            output.part, CONTAINERS[suffix], format, rate, time_base or 1 / rate, crf, name=str(path)
        )
    elif suffix == ".png":
        sink = images.ImageSink(output.open(), format, name=str(path))
    elif suffix == ".yuv":
        sink = raw.YuvSink(output.open(), format)
    else:
        sink = raw.Y4mSink(output.open(), format, frame_rate)
    return VideoWriter(sink, str(path), format, output)
