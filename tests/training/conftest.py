"""Small training data made on the spot: moving smooth noise, and a run short enough for a test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vcodec.training import Schedule, Stage, TrainingConfig

MODEL = "mambavc-ssf-small"


def moving_texture(seed: int, frames: int = 8, height: int = 80, width: int = 96) -> np.ndarray:
    """Smooth noise that moves by a few pixels a frame: uint8 (T, H, W, 3)."""
    random = np.random.default_rng(seed)
    dy, dx = (int(step) for step in random.integers(1, 4, 2))
    coarse = random.integers(0, 256, (height // 16 + 4, width // 16 + 4, 3), dtype=np.uint8)
    size = (width + dx * frames, height + dy * frames)
    fine = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return np.stack([fine[dy * t :, dx * t :][:height, :width] for t in range(frames)])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(("park_0", "park_1", "road_0", "snow_0")):
        np.save(folder / f"{name}.npy", moving_texture(number))
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(moving_texture(10 + number, 1)[0]).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def short_schedule() -> Schedule:
    """Two steps of the I-frame codec, then four of everything."""
    return Schedule(
        "short",
        (
            Stage("pictures", "image", 2, 2, (64, 64), train="image", learning_rate=3e-5, stills=0.5),
            Stage(
                "clips", "video", 4, 2, (64, 64), frames=2, learning_rate=3e-5, warmup_steps=2, decay="cosine",
                reverse=True, stills=0.3,
            ),
        ),
    )  # fmt: skip


@pytest.fixture
def short_run(tmp_path: Path, clip_folder: Path, image_folder: Path, short_schedule: Schedule) -> TrainingConfig:
    return TrainingConfig(
        output=tmp_path / "run",
        schedule=short_schedule,
        model=MODEL,
        videos=(clip_folder,),
        images=(image_folder,),
        workers=0,
        device="cpu",
        validation_clips=1,
        validation_frames=2,
        validation_qualities=(32,),
        validate_every=1000,
        checkpoint_every=1000,
        log_every=1,
        tensorboard=False,
        progress=False,
    )
