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

    @property
    def gop_size(self) -> int | None:
        """Frames in a group of pictures; None where the sequence is one group."""
        return None if self.intra_period < 0 else self.intra_period

    @property
    def description(self) -> str:
        """The protocol in a sentence, with what was changed by options."""
        groups = "One I-frame, the first" if self.gop_size is None else f"GOP {self.gop_size}"
        depth = "the source's own bit depth" if self.bit_depth is None else f"{self.bit_depth} bit"
        frames = "all frames" if self.frames is None else f"at most {self.frames} frames"
        return (
            f"{groups}, low delay (tune zerolatency: no B-frames, no look-ahead), preset {self.speed}, no scene-cut "
            f"I-frames, {depth}, {frames}, {HEADLINES[self.headline]} averaged over frames."
        )

    def identity(self) -> dict[str, object]:
        """What of it determines results, as JSON."""
        return {"name": self.name, "intra_period": self.intra_period, "speed": self.speed}


HEADLINES = {"psnr_rgb": "PSNR in RGB", "psnr_yuv": "PSNR as (6 Y + U + V) / 8"}

PAPER = Preset(name="paper", intra_period=12, speed="medium", bit_depth=8, frames=96, headline="psnr_rgb")
"""The protocol of the papers on learned video codecs that compare with x264 and x265."""

MODERN = Preset(name="modern", intra_period=32, speed="veryslow", bit_depth=None, frames=96, headline="psnr_yuv")
"""The protocol of today's papers; with an intra period of -1 too."""

PRESETS = {preset.name: preset for preset in (PAPER, MODERN)}


def find_preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise VcodecError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
