"""A small data set that every test of the comparison can afford."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from synthetic import moving_frames

from vcodec.evaluation.sequences import Source, VideoSequence
from vcodec.video import VideoFormat, create_video

FRAMES = 14


def write_clip(path: Path, format: VideoFormat, frames: int = FRAMES, speed: tuple[float, float] = (1.0, 0.5)) -> Path:
    with create_video(path, format, Fraction(25)) as writer:
        for frame in moving_frames(format, frames, speed):
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def dataset_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of fourteen frames with their manifest: one with room for MS-SSIM, one too small for it."""
    directory = tmp_path_factory.mktemp("clips")
    write_clip(directory / "large.mp4", VideoFormat(192, 176, matrix="bt601"))
    write_clip(directory / "small.mp4", VideoFormat(64, 48, matrix="bt601"), speed=(2.0, -1.0))
    entries = [{"file": f"{name}.mp4", "frames": FRAMES, "nominal_fps": 25} for name in ("large", "small")]
    (directory / "manifest.json").write_text(json.dumps(entries))
    return directory


@pytest.fixture(scope="session")
def small_source(dataset_directory: Path) -> Source:
    return Source(VideoSequence("small", dataset_directory / "small.mp4"), bit_depth=8)


@pytest.fixture(scope="session")
def deep_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Raw video of ten bits."""
    format = VideoFormat(64, 48, bit_depth=10, matrix="bt601")
    path = write_clip(tmp_path_factory.mktemp("deep") / "deep.yuv", format)
    return Source(VideoSequence("deep", path, (64, 48), "yuv420p10le", Fraction(25)))
