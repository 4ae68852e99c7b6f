"""Writers leave a whole file under its name, or nothing."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vcodec.errors import VcodecError
from vcodec.video import Frame, VideoFormat, create_video, open_video

FORMAT = VideoFormat(16, 16)
OUTPUTS = ["clip.y4m", "clip.yuv", "clip.mp4", "clip.mkv", "clip.webm", "folder"]


def grey(pts: int = 0, format: VideoFormat = FORMAT) -> Frame:
    return Frame(tuple(np.full(shape, 90 + pts, format.dtype) for shape in format.plane_shapes), pts, format)


def write_all(path: Path, format: VideoFormat, frames: Iterable[Frame]) -> None:
    with create_video(path, format, 25) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize("name", [*OUTPUTS, "picture.png"])
def test_an_error_leaves_nothing(tmp_path, name):
    def frames():
        yield grey()
        assert not (tmp_path / name).exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / name, FORMAT, frames())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTPUTS[:-1])
def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    with create_video(path, FORMAT, 25) as writer:
        writer.write(grey())
        assert path.read_text() == "old"
    assert path.stat().st_size > 10
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_folders_must_be_empty_and_may_exist(tmp_path):
    (tmp_path / "frames").mkdir()
    with create_video(tmp_path / "frames", FORMAT) as writer:
        writer.write(grey())
    assert [p.name for p in (tmp_path / "frames").iterdir()] == ["000000.png"]
    with pytest.raises(VcodecError, match="no empty folder"):
        create_video(tmp_path / "frames", FORMAT)
    assert [p.name for p in tmp_path.iterdir()] == ["frames"]


def test_the_rest_of_a_killed_run_is_replaced(tmp_path):
    (tmp_path / "frames.part").mkdir()
    (tmp_path / "frames.part" / "000009.png").touch()
    (tmp_path / "clip.mp4.part").touch()
    for name in ("frames", "clip.mp4"):
        with create_video(tmp_path / name, FORMAT) as writer:
            writer.write(grey())
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["000000.png", "clip.mp4", "frames"]


def test_a_folder_of_someone_else_is_never_removed(tmp_path):
    (tmp_path / "frames.part").mkdir()
    (tmp_path / "frames.part" / "thesis.tex").touch()
    with pytest.raises(VcodecError, match="can't be made"):
        create_video(tmp_path / "frames", FORMAT)
    assert (tmp_path / "frames.part" / "thesis.tex").exists()


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(VcodecError, match="missing does not exist"):
        create_video(tmp_path / "missing" / name, FORMAT)


@pytest.mark.parametrize("name", OUTPUTS[:-1])
def test_a_full_disk_is_a_sentence(tmp_path, name):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    format = VideoFormat(64, 64, "444")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(VcodecError, match=f"{name}: can't be written"):
            write_all(tmp_path / name, format, [Frame((noise, noise, noise), pts, format) for pts in range(30)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_devices_are_written_directly():
    with create_video(os.devnull, FORMAT, 25) as writer:
        writer.write(grey())
    assert not os.path.isfile(os.devnull)


def test_frames_of_another_format_are_refused(tmp_path):
    with (
        pytest.raises(VcodecError, match="another format"),
        create_video(tmp_path / "a.y4m", FORMAT, 25) as writer,
    ):
        writer.write(grey(format=VideoFormat(16, 18)))
    assert list(tmp_path.iterdir()) == []


def test_time_stamps_that_do_not_rise_are_mended(tmp_path):
    path = tmp_path / "clip.mp4"
    with create_video(path, FORMAT, Fraction(25), Fraction(1, 1000)) as writer:
        for pts in (0, 40, 40, 30, 120):
            writer.write(Frame(grey().planes, pts, FORMAT))
    with open_video(path) as reader:
        assert [frame.pts * reader.time_base * 1000 for frame in reader] == [0, 40, 41, 42, 120]
