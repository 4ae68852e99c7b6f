"""Training of image and video models: data, schedules, objective, the loop.

from vcodec.training import TrainingConfig, load_schedule, train
train(TrainingConfig(output=Path("runs/a"), schedule=load_schedule("default"), videos=(Path("clips"),)))
"""

from .config import TrainingConfig
from .loop import TrainingReport, train
from .schedule import PRESETS, Schedule, Stage, load_schedule

__all__ = ["PRESETS", "Schedule", "Stage", "TrainingConfig", "TrainingReport", "load_schedule", "train"]
