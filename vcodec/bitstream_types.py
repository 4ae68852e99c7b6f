"""What a .vcb stream consists of: its header, its packets, and the damage that may befall them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from vcodec.errors import VcodecError
from vcodec.video.format import VideoFormat

MAX_QUALITY = 63
MAX_SKIP = 3
MAX_NAME = 64
MAX_FRAMES = 1 << 32
MAX_RATIO = (1 << 32) - 1
MAX_PTS = 1 << 60
MAX_PAYLOAD = 1 << 28

Arithmetic = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class StreamHeader:
    """What holds for a whole stream.

    Args:
        model: name of the model, 1 to 64 printable ASCII characters.
        weights_hash: eight bytes that tell its weights from all others.
        format: of the frames.
        frame_rate: frames per second, nominal where they vary; None if unknown.
        time_base: seconds per unit of `Packet.pts`.
        frame_count: as announced when writing began; None if unknown. The end record holds the true number.
        gop_size: frames from one I-frame to the next; -1 for a single I-frame.
        arithmetic: in which the pictures were made, "fp32" or "bf16".

    Raises:
        VcodecError: a value that a stream can't hold.
    """

    model: str
    weights_hash: bytes
    format: VideoFormat
    frame_rate: Fraction | None
    time_base: Fraction
    frame_count: int | None = None
    gop_size: int = 12
    arithmetic: Arithmetic = "fp32"

    def __post_init__(self) -> None:
        if not (1 <= len(self.model) <= MAX_NAME and self.model.isascii() and self.model.isprintable()):
            raise VcodecError(f"the model name {self.model!r} is not 1 to {MAX_NAME} printable characters")
        if len(self.weights_hash) != 8:
            raise VcodecError("a weights hash has 8 bytes")
        for ratio in (self.frame_rate, self.time_base, self.format.sample_aspect_ratio):
            if ratio is not None and not (ratio > 0 and max(ratio.as_integer_ratio()) <= MAX_RATIO):
                raise VcodecError(f"a rate, time base or aspect ratio of {ratio} doesn't fit into a stream")
        if self.frame_count is not None and not 0 <= self.frame_count <= MAX_FRAMES:
            raise VcodecError(f"a stream can't hold {self.frame_count} frames")
        if self.gop_size != -1 and not 1 <= self.gop_size <= MAX_FRAMES:
            raise VcodecError(f"a GOP of {self.gop_size} frames: give 1 or more, or -1 for a single I-frame")
        if self.arithmetic not in get_args(Arithmetic):
            raise VcodecError(f"the arithmetic {self.arithmetic!r} is neither fp32 nor bf16")

    @property
    def max_payload(self) -> int:
        """No frame of this size needs more bytes; longer ones are refused before they are read."""
        return min(65536 + 8 * self.format.width * self.format.height, MAX_PAYLOAD)

    @property
    def pts_step(self) -> int:
        """The usual distance of two frames in units of the time base, at least 1."""
        return max(1, self.frame_time(1))

    def frame_time(self, frame: int) -> int:
        """The pts of a frame if the first is at 0 and the rate is constant, rounded half up."""
        step = 1 / (self.frame_rate * self.time_base) if self.frame_rate else Fraction(1)
        return (2 * frame * step.numerator + step.denominator) // (2 * step.denominator)


@dataclass(frozen=True)
class Packet:
    """One coded frame.

    Args:
        frame_type: "I" or "P".
        quality: 0 to 63.
        pts: time stamp in units of the stream's time base.
        payload: the entropy-coded bytes.
        skip: of a P-frame; bit 0: the flow is not coded, bit 1: the residual is not coded.
    """

    frame_type: Literal["I", "P"]
    quality: int
    pts: int
    payload: bytes
    skip: int = 0

    def __post_init__(self) -> None:
        if self.frame_type not in ("I", "P") or (self.frame_type == "I" and self.skip):
            raise VcodecError(f"a frame of type {self.frame_type!r} with skip {self.skip} doesn't exist")
        if not 0 <= self.quality <= MAX_QUALITY:
            raise VcodecError(f"a quality of {self.quality} is outside 0 to {MAX_QUALITY}")
        if not (0 <= self.skip <= MAX_SKIP and abs(self.pts) <= MAX_PTS):
            raise VcodecError(f"a skip of {self.skip} or a pts of {self.pts} doesn't fit into a stream")


@dataclass(frozen=True)
class Damage:
    """Frames that can't be read.

    Args:
        frame: number of the first of them.
        count: how many are lost; 0 where the stream breaks off and nothing follows.
        reason: what is wrong, in words.
        pts: when the first of them should be shown, as far as that can be told.
    """

    frame: int
    count: int
    reason: str
    pts: int = 0
