"""The settings of a run."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import VcodecError
from .schedule import Schedule


@dataclass(frozen=True)
class TrainingConfig:
    """What is trained, on what, how, and where the results go. `vcodec.training.train` takes one.

    model: a name of `vcodec.models.list_models()`; `model_options` override fields of its configuration.
    videos, images: folders (see `vcodec.training.sources`). init: a model's name or file to start from.
    cache: a folder, "ram", "device" or "none" (see `vcodec.training.cache`).
    *_every: in steps; the last step of every stage is validated and saved as well.
    """

    output: Path
    schedule: Schedule
    model: str = "default"
    model_options: dict[str, Any] = field(default_factory=dict)
    videos: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    init: str | None = None
    resume: bool = False
    seed: int = 0

    cache: str = ""  # default: the folder "cache" beside the run's
    workers: int = 2
    device: str = "auto"
    threads: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    micro_batch: int | None = None  # samples per forward and backward pass and process; None: all

    optimizer: Literal["adamw", "muon", "soap"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.9995
    max_skipped: int = 100  # so many non-finite batches in a row end the run

    validation_fraction: float = 0.05
    validation_list: Path | None = None
    validation_clips: int = 4
    validation_frames: int = 6
    validation_qualities: tuple[int, ...] = (8, 32, 56)
    validate_every: int = 5_000
    checkpoint_every: int = 1_000
    log_every: int = 50
    tensorboard: bool = True
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.videos and not self.images:
            raise VcodecError("no training data: name a folder with --videos or --images")
        for name in (
            "validate_every",
            "checkpoint_every",
            "log_every",
            "validation_clips",
            "validation_frames",
        ):
            if getattr(self, name) < 1:
                raise VcodecError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.validation_fraction < 1:
            raise VcodecError("--ema-decay and --validation-fraction lie in [0, 1)")
        if any(not 0 <= quality <= 63 for quality in self.validation_qualities):
            raise VcodecError("--validation-qualities lie in 0 to 63")
        if self.precision not in ("fp32", "bf16") or self.optimizer not in ("adamw", "muon", "soap"):
            raise VcodecError("the precision is fp32 or bf16, the optimizer adamw, muon or soap")

    @property
    def cache_folder(self) -> str:
        return self.cache or str(self.output.parent / "cache")

    def save(self, path: Path) -> None:
        """Write the settings as JSON, for people and for `--resume`."""
        values = dataclasses.asdict(self)
        path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
