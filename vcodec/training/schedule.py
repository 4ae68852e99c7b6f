"""Training schedules are data: a schedule is a list of stages, written in Python here or in a JSON file."""

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import VcodecError

#: The lambdas of the MambaVC paper (section 4.1.1), in the convention L = lambda * 255^2 * MSE + bpp.
PAPER_VIDEO_LAMBDAS = (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
PAPER_IMAGE_LAMBDAS = (0.0035, 0.0067, 0.013, 0.025, 0.05)


@dataclass(frozen=True)
class Stage:
    """One part of a schedule: what is trained, on what, with which loss, at which learning rate.

    `kind` "image" trains on single pictures, `kind` "video" on sequences of `frames` frames, the first of
    which is an I-frame. `train` names the parameters that move: those of the I-frame codec ("image"), of
    motion and residual ("video"), of motion alone ("motion"), of the residual alone ("residual"), of the synthesis
    alone that the stage's kind of frames has, I-frames or residuals ("synthesis"), or "all". With "motion" the loss is
    about what the residual of the prediction will cost (see `vcodec.training.objective`).

    The rate: with `lmbda` None, a quality is drawn uniformly in `quality` (low, high) for each sample, and
    its lambda follows from it; with a number, every sample has this lambda and the quality that belongs to
    it.

    `balance` weights each sample by (lambda / 0.03) ** -balance: at 0.5 all qualities count about alike, since the
    cost of a good model grows with the root of lambda; at 0 the highest count most.

    `perceptual` adds that many times the normalised Laplacian pyramid distance to the distortion, at 1 about as
    much as the mean squared error weighs (see `vcodec.training.perceptual`).

    `cascade` codes the frames of a sample at the offsets from its quality that the encoder uses, each frame with the
    lambda of its own quality.

    `frame_weights` multiply the distortion of each frame of the unroll (empty: all ones). `reverse` shows
    every sequence in its original and in reversed order within each optimisation step. `detach_reference`
    cuts the gradient between frames; otherwise it flows through the whole unroll.

    `stills` is the share of samples that come from still pictures: as they are in an image stage, as
    synthetic pans and zooms in a video stage. `temporal_stride` is the largest step between the frames of a
    sample, `smallest_scale` the strongest random reduction of the picture before the crop, and `enlarge`
    enlarges pictures that are smaller than the crop instead of leaving them out. `grain` adds noise to a third of
    the samples, of a standard deviation of up to so many steps of 8 bits: data that was compressed before has none.
    `chroma` "420" trains on pictures as 4:2:0 video has them, what is coded being measured and referred to as such.
    """

    name: str
    kind: Literal["image", "video"]
    steps: int
    batch_size: int = 8
    crop: tuple[int, int] = (256, 256)  # height, width
    frames: int = 1
    train: Literal["image", "video", "motion", "residual", "synthesis", "all"] = "all"
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    final_learning_rate: float = 0.0  # where the cosine ends
    quality: tuple[float, float] = (0.0, 63.0)
    lmbda: float | None = None
    distortion: Literal["mse", "ms-ssim"] = "mse"
    balance: float = 0.0
    perceptual: float = 0.0
    cascade: bool = False
    frame_weights: tuple[float, ...] = ()
    reverse: bool = False
    detach_reference: bool = False
    temporal_stride: int = 1
    horizontal_flip: bool = True
    vertical_flip: bool = False
    smallest_scale: float = 1.0
    stills: float = 0.0
    grain: float = 0.0
    chroma: Literal["444", "420"] = "444"
    enlarge: bool = False

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise VcodecError(f"stage {self.name!r} of the schedule: {problem}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate at `step` (0 is the stage's first): linear warm-up, then constant or a cosine."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        fraction = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fraction


def _problems(stage: Stage) -> Iterator[str]:
    choices = {
        "kind": ("image", "video"),
        "train": ("image", "video", "motion", "residual", "synthesis", "all"),
        "decay": ("constant", "cosine"),
        "distortion": ("mse", "ms-ssim"),
        "chroma": ("444", "420"),
    }
    for name, allowed in choices.items():
        if getattr(stage, name) not in allowed:
            yield f"{name} is {getattr(stage, name)!r}, not one of {', '.join(allowed)}"
    for name in ("steps", "batch_size", "frames", "temporal_stride"):
        if not (isinstance(getattr(stage, name), int) and getattr(stage, name) >= 1):
            yield f"{name} is {getattr(stage, name)!r}, not a whole number from 1"
    if len(stage.crop) != 2 or not all(isinstance(side, int) and side >= 16 for side in stage.crop):
        yield f"crop is {stage.crop!r}, not a height and a width of at least 16"
    if stage.kind == "image" and stage.train not in ("image", "synthesis"):
        yield f"an image stage has no use for train={stage.train!r}; say train='image' or 'synthesis'"
    if stage.cascade and (stage.kind == "image" or stage.lmbda is not None):
        yield "a cascade needs a video stage, and no lmbda of its own"
    if stage.kind == "image" and (stage.frames != 1 or stage.reverse or stage.detach_reference):
        yield "an image stage has one frame, no reversed order and no reference"
    if stage.train == "motion" and (stage.distortion != "mse" or stage.perceptual or stage.detach_reference):
        yield "a stage that trains motion has a loss of its own: no other distortion, no detached reference"
    if stage.kind == "video" and stage.frames < 2:
        yield "a video stage needs frames of at least 2"
    if stage.frame_weights and len(stage.frame_weights) != stage.frames:
        yield f"{len(stage.frame_weights)} frame_weights for {stage.frames} frames"
    if len(stage.quality) != 2 or not 0 <= stage.quality[0] <= stage.quality[1] <= 63:
        yield f"quality is {stage.quality!r}, not a range within 0 to 63"
    if stage.lmbda is not None and not stage.lmbda > 0:
        yield f"lmbda is {stage.lmbda!r}, not a positive number"
    if not stage.learning_rate > 0 or stage.warmup_steps < 0 or stage.final_learning_rate < 0:
        yield "learning_rate must be positive, warmup_steps and final_learning_rate not negative"
    if stage.perceptual < 0:
        yield f"perceptual is {stage.perceptual!r}, a negative weight"
    if not 0 <= stage.balance <= 1:
        yield f"balance is {stage.balance!r}, not within 0 to 1"
    if not 0 < stage.smallest_scale <= 1 or not 0 <= stage.stills <= 1:
        yield "smallest_scale lies in (0, 1], stills in [0, 1]"
    if not 0 <= stage.grain <= 64:
        yield f"grain is {stage.grain!r}, not a deviation of 0 to 64 steps"
    if stage.distortion == "ms-ssim" and min(stage.crop) <= 160:
        yield "MS-SSIM has five scales with windows of 11: it needs a crop of more than 160 pixels"


@dataclass(frozen=True)
class Schedule:
    """Stages in the order in which they are trained; `step` counts over all of them."""

    name: str
    stages: tuple[Stage, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.stages:
            raise VcodecError(f"the schedule {self.name!r} has no stages")

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def locate(self, step: int) -> tuple[int, int]:
        """The index of the stage that `step` falls into, and the step within it."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        raise IndexError("a step beyond the end of the schedule")

    def replace(self, **changes: Any) -> "Schedule":
        """The same schedule with these fields changed in every stage, for example `lmbda=0.01`."""
        return Schedule(self.name, tuple(dataclasses.replace(stage, **changes) for stage in self.stages))

    def of_kind(self, kind: str) -> "Schedule":
        """The same schedule with its stages of this kind ("image" or "video") alone."""
        stages = tuple(stage for stage in self.stages if stage.kind == kind)
        if not stages:
            raise VcodecError(f"the schedule {self.name!r} has no stages of the kind {kind!r}")
        return Schedule(self.name, stages)

    def shortened(self, factor: float) -> "Schedule":
        """The same schedule with the steps and the warm-up of every stage multiplied by `factor`."""
        stages = (
            dataclasses.replace(
                stage,
                steps=max(1, round(stage.steps * factor)),
                warmup_steps=round(stage.warmup_steps * factor),
            )
            for stage in self.stages
        )
        return Schedule(self.name, tuple(stages))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Any, origin: str) -> "Schedule":
        """The schedule in parsed JSON; VcodecError names `origin` and what is wrong."""
        known = {f.name for f in dataclasses.fields(Stage)}
        if not isinstance(data, dict) or not isinstance(data.get("stages"), list):
            raise VcodecError(f"{origin}: a schedule is an object with a 'name' and a list of 'stages'")
        stages = []
        for number, entry in enumerate(data["stages"]):
            if not isinstance(entry, dict):
                raise VcodecError(f"{origin}: stage {number} is not an object")
            if unknown := sorted(set(entry) - known):
                raise VcodecError(f"{origin}: stage {number} has the unknown field {unknown[0]!r}")
            if missing := sorted({"name", "kind", "steps"} - set(entry)):
                raise VcodecError(f"{origin}: stage {number} lacks the field {missing[0]!r}")
            values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
            try:
                stages.append(Stage(**values))  # type: ignore[arg-type]
            except TypeError as error:
                raise VcodecError(f"{origin}: stage {number} has a value of the wrong type ({error})") from error
        return Schedule(str(data.get("name", origin)), tuple(stages))


def load_schedule(name_or_path: str) -> Schedule:
    """A preset by name, or a schedule from a JSON file."""
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise VcodecError(f"no schedule {name_or_path!r}: neither a preset ({', '.join(PRESETS)}) nor a JSON file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VcodecError(f"{path}: not a readable JSON file ({error})") from error
    return Schedule.from_json(data, str(path))


# MambaVC, section 4.1.1. The paper gives no unroll; three frames is what its base, scale-space flow, trains
# with.
_PAPER_VIDEO = Schedule(
    "paper-video",
    (
        Stage("256x256", "video", 1_000_000, crop=(256, 256), frames=3, reverse=True, learning_rate=1e-4),
        Stage("384x256", "video", 600_000, crop=(256, 384), frames=3, reverse=True, learning_rate=1e-5),
    ),
)

_PAPER_IMAGE = Schedule(
    "paper-image",
    tuple(
        Stage(
            name,
            "image",
            steps,
            batch,
            (side, side),
            train="image",
            learning_rate=rate,
            stills=1.0,
            enlarge=True,
        )
        for name, steps, batch, side, rate in (
            ("256", 1_200_000, 8, 256, 1e-4),
            ("512", 600_000, 2, 512, 1e-4),
            ("512, first drop", 150_000, 2, 512, 1e-5),
            ("512, second drop", 50_000, 2, 512, 1e-6),
        )
    ),
)

_DEFAULT = Schedule(
    "default",
    (
        Stage(
            "I-frame", "image", 200_000, 8, (256, 256), train="image", learning_rate=3e-4, warmup_steps=1_000,
            decay="cosine", final_learning_rate=3e-5, stills=0.5, smallest_scale=0.6, grain=4, chroma="420",
        ),
        Stage(
            "motion and residual", "video", 100_000, 4, (256, 256), frames=3, train="video",
            learning_rate=3e-4, warmup_steps=1_000, decay="cosine", final_learning_rate=1e-4,
            temporal_stride=2, stills=0.1, smallest_scale=0.6, grain=4, chroma="420",
        ),
        Stage(
            "unroll 4", "video", 50_000, 4, (256, 256), frames=4, learning_rate=1e-4, warmup_steps=500,
            temporal_stride=2, smallest_scale=0.6, grain=4, chroma="420",
        ),
        Stage(
            "unroll 7", "video", 20_000, 4, (256, 256), frames=7, learning_rate=1e-4, decay="cosine",
            final_learning_rate=1e-6, grain=4, chroma="420",
        ),
    ),
)  # fmt: skip

# What the small image codecs that ship were trained with, in half an hour of a core, by Muon with weight decay 0.1
_SMALL_IMAGE = Schedule(
    "small-image",
    (
        Stage(
            "pictures", "image", 1_800, 8, (128, 128), train="image", learning_rate=1.5e-3, warmup_steps=50,
            decay="cosine", final_learning_rate=1e-4, balance=0.5, stills=1.0, smallest_scale=0.5,
        ),
    ),
)  # fmt: skip

PRESETS = {schedule.name: schedule for schedule in (_DEFAULT, _PAPER_VIDEO, _PAPER_IMAGE, _SMALL_IMAGE)}
