"""The protocols under which codecs are compared: the distance of I-frames, the encoders' speed, the bit depth."""

from dataclasses import dataclass

from vcodec.errors import VcodecError


@dataclass(frozen=True)
class Preset:
    """One protocol. All codecs of a run follow the same one; results of different presets are never mixed."""

    name: str
    intra_period: int
    """Frames from one I-frame to the next; -1: only the first frame is an I-frame."""
    speed: str
    """The `preset` of x264 and x265."""
    bit_depth: int | None
    """8: deeper sources are rounded to 8 bits first; None: each source's own depth."""
    frames: int | None
    """At most so many frames of each sequence; None: all."""
    headline: str
    """The metric that tables and plots lead with."""
    description: str

    @property
    def gop_size(self) -> int | None:
        """Frames in a group of pictures; None where the sequence is one group."""
        return None if self.intra_period < 0 else self.intra_period

    def identity(self) -> dict[str, object]:
        """What of it determines results, as JSON."""
        return {"name": self.name, "intra_period": self.intra_period, "speed": self.speed}


PAPER = Preset(
    name="paper",
    intra_period=12,
    speed="medium",
    bit_depth=8,
    frames=96,
    headline="psnr_rgb",
    description=(
        "GOP 12, low delay (tune zerolatency: no B-frames, no look-ahead), preset medium, no scene-cut I-frames, "
        "8 bit, at most 96 frames, PSNR in RGB averaged over frames."
    ),
)

MODERN = Preset(
    name="modern",
    intra_period=32,
    speed="veryslow",
    bit_depth=None,
    frames=96,
    headline="psnr_yuv",
    description=(
        "Intra period 32 (or -1: one I-frame), low delay (tune zerolatency), preset veryslow, no scene-cut I-frames, "
        "the source's own bit depth, at most 96 frames, PSNR as (6 Y + U + V) / 8 averaged over frames."
    ),
)

PRESETS = {preset.name: preset for preset in (PAPER, MODERN)}


def find_preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise VcodecError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
