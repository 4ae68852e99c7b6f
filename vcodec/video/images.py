"""Single images and folders of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from vcodec.errors import VcodecError
from vcodec.video.color import to_rgb
from vcodec.video.container import OPEN_OPTIONS, format_of, frame_of
from vcodec.video.format import Frame, VideoFormat

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
DEFAULT_FRAME_RATE = Fraction(25)


class FolderSource:
    """An image, or the images of a folder in the order of their names (frame2 before frame10)."""

    def __init__(self, path: Path, frame_rate: Fraction | None) -> None:
        self.name = str(path)
        self.frame_rate = frame_rate
        if path.is_dir():
            found = (p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
            images = [p for p in found if p.is_file()]  # a named pipe would be waited for without end
            self._paths = sorted(images, key=_natural_order)
            if not self._paths:
                raise VcodecError(f"{self.name}: there is no image in this folder")
            self.frame_rate = frame_rate or DEFAULT_FRAME_RATE
        else:
            self._paths = [path]
        self.time_base = 1 / (self.frame_rate or DEFAULT_FRAME_RATE)
        self.frame_count: int | None = len(self._paths)
        self.format = read_image(self._paths[0]).format

    def frames(self, skip: int) -> Iterator[Frame]:
        for index, path in enumerate(self._paths[skip:], skip):
            yield read_image(path, index, self.format)

    def close(self) -> None:
        pass


class PngEncoder:
    """Frames to PNG files in memory: RGB (grey for "gray"), 8 bits a sample, 16 for 10-bit frames."""

    def __init__(self, format: VideoFormat) -> None:
        self._gray = format.chroma == "gray"
        self._deep = format.bit_depth > 8
        names = {(True, False): "gray", (True, True): "gray16be", (False, False): "rgb24", (False, True): "rgb48be"}
        self._pixel_format = names[self._gray, self._deep]
        self._context = av.CodecContext.create("png", "w")
        self._context.width, self._context.height = format.width, format.height
        self._context.pix_fmt = self._pixel_format
        self._context.time_base = Fraction(1, 25)
        self._context.thread_count = 1
        self._count = 0

    def encode(self, frame: Frame) -> bytes:
        samples = to_rgb(frame) * np.float32(65535 if self._deep else 255)
        samples = (samples + np.float32(0.5)).astype(np.uint16 if self._deep else np.uint8)
        if self._gray:
            samples = samples[..., 0]
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(samples), self._pixel_format)
        picture.pts = self._count
        self._count += 1
        return b"".join(bytes(packet) for packet in self._context.encode(picture))


class FolderSink:
    """000000.png, 000001.png, ..."""

    def __init__(self, folder: Path, format: VideoFormat) -> None:
        self._folder = folder
        self._encoder = PngEncoder(format)
        self._count = 0

    def write(self, frame: Frame) -> None:
        (self._folder / f"{self._count:06d}.png").write_bytes(self._encoder.encode(frame))
        self._count += 1

    def close(self) -> None:
        pass


class ImageSink:
    """A single PNG."""

    def __init__(self, file: BinaryIO, format: VideoFormat, name: str) -> None:
        self._file = file
        self._name = name
        self._encoder = PngEncoder(format)

    def write(self, frame: Frame) -> None:
        if self._file.tell():
            raise VcodecError(f"{self._name}: a .png holds one picture; name a folder (without ending) for more")
        self._file.write(self._encoder.encode(frame))

    def close(self) -> None:
        self._file.close()


def read_image(path: Path, pts: int = 0, format: VideoFormat | None = None) -> Frame:
    """One image as a frame: RGB images as "rgb", JPEG as the YUV planes it holds, grey ones as "gray".

    Alpha is dropped; 16-bit images become 10-bit frames.

    Raises:
        VcodecError: not an image, or not in the given `format`.
    """
    name = str(path)
    try:
        with path.open("rb") as file, av.open(file, "r", options=OPEN_OPTIONS) as container:
            if not container.streams.video:
                raise VcodecError(f"{name}: not an image")
            picture = next(container.decode(video=0), None)
    except (FFmpegError, ValueError) as error:
        raise VcodecError(f"{name}: not an image that can be read, or damaged") from error
    if picture is None:
        raise VcodecError(f"{name}: not an image that can be read, or damaged")
    found = format_of(picture, None, name)
    if format is not None and found != format:
        raise VcodecError(
            f"{name}: {found.width}x{found.height} {found.pixel_format} among pictures of {format.width}x"
            f"{format.height} {format.pixel_format}: all pictures of a folder must be alike"
        )
    return frame_of(picture, pts, found, name)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
