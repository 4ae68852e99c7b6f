"""What a picture is: its samples, their format, and when it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from vcodec.errors import VcodecError

Chroma = Literal["gray", "420", "422", "444", "rgb"]
Matrix = Literal["bt601", "bt709", "bt2020"]

MAX_SIDE = 16384
MAX_PIXELS = 1 << 28

UNSPECIFIED = 2
"""The H.273 code point for primaries and transfer characteristics that a file doesn't name."""


@dataclass(frozen=True)
class VideoFormat:
    """The format of every frame of a video.

    Args:
        width, height: in pixels, 1 to 16384.
        chroma: "420", "422", "444" (planes Y, Cb, Cr), "gray" (Y) or "rgb" (planes R, G, B, full range).
        bit_depth: 8 (uint8 samples) or 10 (uint16 samples, 0 to 1023).
        matrix: luma coefficients, "bt601", "bt709" or "bt2020" (non-constant luminance).
        full_range: samples use 0 to 255 (at 8 bit) rather than 16 to 235 and 16 to 240.
        primaries, transfer: H.273 code points, kept for the player and used by no computation here.
        sample_aspect_ratio: width of a pixel over its height.

    Raises:
        VcodecError: a size outside the limits, or a value that is not one of the above.
    """

    width: int
    height: int
    chroma: Chroma = "420"
    bit_depth: int = 8
    matrix: Matrix = "bt709"
    full_range: bool = False
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    sample_aspect_ratio: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        check_size(self.width, self.height)
        if self.chroma not in ("gray", "420", "422", "444", "rgb"):
            raise VcodecError(f"chroma format {self.chroma!r} is none of gray, 420, 422, 444, rgb")
        if self.bit_depth not in (8, 10):
            raise VcodecError(f"a bit depth of {self.bit_depth} is not supported: convert to 8 or 10 bits")
        if self.matrix not in ("bt601", "bt709", "bt2020"):
            raise VcodecError(f"matrix {self.matrix!r} is none of bt601, bt709, bt2020")
        if self.chroma == "rgb" and not self.full_range:
            raise VcodecError("RGB pictures have full range")

    @property
    def dtype(self) -> np.dtype:
        """Of the planes: uint8, or uint16 (little endian in files) for 10 bits."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def max_value(self) -> int:
        return (1 << self.bit_depth) - 1

    @property
    def chroma_shape(self) -> tuple[int, int]:
        """(height, width) of the second and third plane; odd sizes round up."""
        height = (self.height + 1) // 2 if self.chroma == "420" else self.height
        width = (self.width + 1) // 2 if self.chroma in ("420", "422") else self.width
        return height, width

    @property
    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane."""
        first = (self.height, self.width)
        return (first,) if self.chroma == "gray" else (first, self.chroma_shape, self.chroma_shape)

    @property
    def frame_bytes(self) -> int:
        """Of one raw frame."""
        return sum(h * w for h, w in self.plane_shapes) * self.dtype.itemsize

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name: yuv420p, yuv422p10le, gray, gbrp, ..."""
        depth = "" if self.bit_depth == 8 else "10le"
        if self.chroma == "gray":
            return f"gray{depth}"
        if self.chroma == "rgb":
            return f"gbrp{depth}"
        return f"yuv{self.chroma}p{depth}"


@dataclass
class Frame:
    """One picture: planes of samples in `format`, shown at `pts` in units of the video's time base."""

    planes: tuple[np.ndarray, ...]
    pts: int
    format: VideoFormat

    def __post_init__(self) -> None:
        shapes = tuple(plane.shape for plane in self.planes)
        if shapes != self.format.plane_shapes or any(p.dtype != self.format.dtype for p in self.planes):
            raise ValueError(f"planes {shapes} of {self.planes[0].dtype} don't fit {self.format}")


def check_size(width: int, height: int) -> None:
    """Refuse sizes that no picture of this codec has, before anything is allocated for them.

    Raises:
        VcodecError: a side outside 1 to 16384, or more than 2**28 pixels.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        limits = f"1x1 to {MAX_SIDE}x{MAX_SIDE}"
        raise VcodecError(f"a picture size of {width}x{height} is outside the limits ({limits})")


def guess_matrix(width: int, height: int) -> Matrix:
    """The matrix of a video that doesn't say: BT.709 from HD upwards, BT.601 below, as players do."""
    return "bt709" if width >= 1280 or height > 576 else "bt601"


def check_frame_rate(frame_rate: Fraction | int | None) -> Fraction | None:
    """Raises VcodecError for rates that no file could hold."""
    if frame_rate is None:
        return None
    rate = Fraction(frame_rate).limit_denominator(1 << 20)
    if not 0 < rate <= 1 << 20:
        raise VcodecError(f"a frame rate of {frame_rate} is not possible")
    return rate
