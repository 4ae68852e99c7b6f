"""What a run writes for people: CSV files always, TensorBoard with pictures where it is installed."""

import contextlib
import csv
import dataclasses
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import TrainingConfig
from .validation import ValidationReport

TRAIN_COLUMNS = (
    "step", "stage", "loss", "bpp", "psnr", "bpp_iframe", "bpp_pframe", "psnr_iframe", "psnr_pframe",
    "gradient_norm", "learning_rate", "skipped", "data_wait", "steps_per_second",
)  # fmt: skip
VALIDATION_COLUMNS = ("step", "stage", "quality", "bpp", "psnr", "cost")


class TrainingLog:
    """train.csv, validation.csv and TensorBoard of a run; only the main process writes.

    A disk that refuses is reported once on stderr and does not end the run.
    """

    def __init__(self, config: TrainingConfig, step: int, *, active: bool) -> None:
        self.active = active
        self.complained = False
        if active:
            config.save(config.output / "config.json")
            self.train = CsvLog(config.output / "train.csv", TRAIN_COLUMNS, step=step)
            self.validation = CsvLog(config.output / "validation.csv", VALIDATION_COLUMNS, step=step)
            self.pictures = Pictures(config.output / "tensorboard", wanted=config.tensorboard, step=step)

    def training(self, row: dict[str, Any]) -> None:
        """One row of train.csv."""
        if not self.active:
            return
        with self._tolerant():
            self.train.write(row)
            numbers = {key: value for key, value in row.items() if isinstance(value, float)}
            self.pictures.scalars("train", numbers, row["step"])

    def validated(self, report: ValidationReport, step: int, stage: str) -> None:
        """The rows of validation.csv, and the pictures."""
        with self._tolerant():
            for point in report.points:
                self.validation.write({"step": step, "stage": stage, **dataclasses.asdict(point)})
                numbers = {"bpp": point.bpp, "psnr": point.psnr, "cost": point.cost}
                self.pictures.scalars(f"validation/q{point.quality:g}", numbers, step)
            self.pictures.scalars("validation", {"cost": report.cost}, step)
            for name, pictures in report.pictures.items():
                self.pictures.frames(name, pictures, step)

    def close(self) -> None:
        if self.active:
            self.pictures.close()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.complained:
                print(f"the log can't be written ({error}); training goes on", file=sys.stderr)
            self.complained = True


class CsvLog:
    """Rows of numbers under a header; reopened at a step, what came after that step is dropped."""

    def __init__(self, path: Path, columns: Sequence[str], *, step: int = 0) -> None:
        self.path = path
        self.columns = list(columns)
        rows: list[dict[str, str]] = []
        if path.is_file() and step:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row.get("step") and int(row["step"]) <= step]
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)

    def write(self, row: Mapping[str, Any]) -> None:
        values = {key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(values)


class Pictures:
    """TensorBoard's scalars and pictures; does nothing where TensorBoard is missing or not wanted."""

    def __init__(self, folder: Path, *, wanted: bool = True, step: int = 0) -> None:
        self.writer: Any = None
        if wanted and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder), purge_step=step or None)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def frames(self, name: str, pictures: Tensor, step: int) -> None:
        """pictures: (T, 3, H, W) in [0, 1], shown side by side."""
        if self.writer is not None:
            row = torch.cat(list(pictures.clamp(0, 1).float().cpu()), dim=2)
            self.writer.add_image(name, row, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
