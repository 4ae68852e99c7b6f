"""Clips are decoded once, correctly, and a bad one costs only itself."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.conftest import moving_texture
from vcodec.errors import VcodecError
from vcodec.training import cache
from vcodec.training.cache import open_clips
from vcodec.training.sources import find_clips, find_images


def write_sequence(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(frames):
        Image.fromarray(picture).save(folder / f"{number}.png")


@pytest.mark.parametrize("where", ["folder", "ram", "device", "none"])
def test_every_kind_of_cache_gives_the_same_pixels(tmp_path: Path, where: str):
    frames = moving_texture(0, 5)
    write_sequence(tmp_path / "data" / "clip", frames)
    where = str(tmp_path / "cache") if where == "folder" else where
    (clip,) = open_clips(find_clips(tmp_path / "data"), where, device=torch.device("cpu"))
    assert clip.shape == (5, 80, 96)
    window = clip.read([4, 2, 0], 10, 20, 30, 40)
    assert window.dtype == torch.uint8
    assert np.array_equal(window, frames[[4, 2, 0], 10:40, 20:60])


def test_a_clip_is_decoded_once(tmp_path: Path, monkeypatch):
    write_sequence(tmp_path / "data" / "clip", moving_texture(0, 3))
    clips = find_clips(tmp_path / "data")
    open_clips(clips, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "decode", None)
    (clip,) = open_clips(clips, str(tmp_path / "cache"))
    assert clip.shape[0] == 3


def test_a_changed_file_is_decoded_again(tmp_path: Path):
    path = tmp_path / "data" / "picture.png"
    path.parent.mkdir()
    for value in (10, 200):
        Image.fromarray(np.full((32 + value, 40, 3), value, np.uint8)).save(path)
        (clip,) = open_clips(find_images(path.parent), str(tmp_path / "cache"))
        assert int(clip.read([0], 0, 0, 1, 1).max()) == value


def test_videos_are_read_through_the_package(data_directory: Path, tmp_path: Path):
    name = "BasketballPass_416x240_50.mp4"
    path = next((data_directory / "eval").glob("*asketball*"), None)
    if path is None:
        pytest.skip(f"no {name}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / path.name).symlink_to(path)
    clips = find_clips(tmp_path / "data")
    (mapped,) = open_clips(clips, str(tmp_path / "cache"))
    (direct,) = open_clips(clips, "none")
    assert mapped.shape == direct.shape
    assert torch.equal(mapped.read([5, 3], 8, 16, 64, 96), direct.read([5, 3], 8, 16, 64, 96))


@pytest.mark.parametrize("where", ["folder", "ram", "none"])
def test_a_corrupt_clip_is_left_out_and_named(tmp_path: Path, where: str, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "good.npy", moving_texture(0))
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:1000])
    where = str(tmp_path / "cache") if where == "folder" else where
    clips = open_clips(find_clips(folder), where)
    assert [clip.clip.name for clip in clips] == ["good"]
    assert "2 of 3 clips left out" in capsys.readouterr().err
    (folder / "good.npy").unlink()
    with pytest.raises(VcodecError, match="none of the 2 clips can be used"):
        open_clips(find_clips(folder), where)
    assert not list(tmp_path.rglob("*.part"))


def test_pictures_of_two_sizes_are_no_sequence(tmp_path: Path):
    write_sequence(tmp_path / "clip", moving_texture(0, 2))
    Image.fromarray(moving_texture(0, 1, height=64)[0]).save(tmp_path / "clip" / "9.png")
    for where in (str(tmp_path / "cache"), "ram"):
        with pytest.raises(VcodecError, match="its size differs"):
            open_clips(find_clips(tmp_path), where)


def test_arrays_that_are_no_frames_are_refused(tmp_path: Path):
    np.save(tmp_path / "floats.npy", np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(VcodecError, match="not uint8 frames"):
        open_clips(find_clips(tmp_path), str(tmp_path / "cache"))


def test_a_full_disk_ends_decoding_with_a_sentence(tmp_path: Path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_sequence(tmp_path / "data" / "clip", moving_texture(0, 3))
    monkeypatch.setattr(cache, "_write_frames", full)
    with pytest.raises(VcodecError, match="No space left on device"):
        open_clips(find_clips(tmp_path / "data"), str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").iterdir())
