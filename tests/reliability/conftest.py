"""A clip, its stream and its pictures, for everything that can happen to them."""

from pathlib import Path

import pytest
from synthetic import moving_frames

from vcodec import decode, encode
from vcodec.models import ImageModel
from vcodec.video import Frame, VideoFormat, create_video

FORMAT = VideoFormat(30, 22)
FRAMES, GOP_SIZE = 14, 4


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """14 frames of 30x22."""
    path = tmp_path_factory.mktemp("clip") / "clip.y4m"
    with create_video(path, FORMAT, 25) as writer:
        for frame in moving_frames(FORMAT, FRAMES, (3.0, 2.0)):
            writer.write(frame)
    return path


@pytest.fixture(scope="session")
def stream(clip: Path, tiny_model: ImageModel) -> Path:
    """The clip in GOPs of four frames."""
    path = clip.with_suffix(".vcb")
    encode(clip, path, model=tiny_model, gop_size=GOP_SIZE, threads=1)
    return path


@pytest.fixture(scope="session")
def decoded(stream: Path, tiny_model: ImageModel) -> list[Frame]:
    return list(decode(stream, model=tiny_model))
