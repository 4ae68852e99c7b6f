"""Data sets: manifests, folders, the standard sets, and sources at a protocol's bit depth."""

import json
from fractions import Fraction

import numpy as np
import pytest
from synthetic import moving_frames

from vcodec.errors import VcodecError
from vcodec.evaluation.sequences import Source, load_dataset, standard_datasets, to_8_bits
from vcodec.video import Frame, VideoFormat, open_video


def test_a_folder_with_a_manifest(dataset_directory):
    dataset = load_dataset(str(dataset_directory))
    assert [s.name for s in dataset.sequences] == ["large", "small"]
    assert dataset.sequences[0].frame_rate == 25
    assert dataset == load_dataset(str(dataset_directory / "manifest.json"))


def test_a_folder_without_a_manifest(dataset_directory, tmp_path):
    for name in ("b.mp4", "a.mp4", "readme.txt"):
        (tmp_path / name).write_bytes((dataset_directory / "small.mp4").read_bytes())
    assert [s.name for s in load_dataset(str(tmp_path)).sequences] == ["a", "b"]


def test_raw_video_by_manifest(deep_source, tmp_path):
    (tmp_path / "raw.yuv").write_bytes(deep_source.sequence.path.read_bytes())
    entry = {"name": "ten", "file": "raw.yuv", "width": 64, "height": 48, "frame_rate": "30000/1001", "frames": 3}
    manifest = {"name": "mine", "sequences": [{**entry, "format": "yuv420p10le"}]}
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    dataset = load_dataset(str(tmp_path / "m.json"))
    source = Source(dataset.sequences[0])
    assert (dataset.name, source.name, source.count(), source.frames_at_most) == ("mine", "ten", 3, 3)
    assert (source.format.width, source.format.bit_depth, source.frame_rate) == (64, 10, Fraction(30000, 1001))


def test_patterns_choose_sequences(dataset_directory):
    dataset = load_dataset(str(dataset_directory))
    assert [s.name for s in dataset.select(["!sm*"]).sequences] == ["large"]
    assert [s.name for s in dataset.select(["s*"]).sequences] == ["small"]
    with pytest.raises(VcodecError, match=r"No sequence of .* matches x; there are large, small"):
        dataset.select(["x"])


@pytest.mark.parametrize("name", ["uvg", "mcl-jcv", "hevc-b", "hevc-c", "hevc-d", "hevc-e"])
def test_a_standard_set_that_is_not_here_says_where_its_files_come_from(name, tmp_path):
    first = standard_datasets()[name]["sequences"][0]["file"]
    with pytest.raises(VcodecError) as caught:
        load_dataset(name, tmp_path)
    message = str(caught.value)
    assert first in message
    assert str(tmp_path) in message
    assert "--data-root" in message


def test_the_standard_sets_have_their_sequences():
    counts = {name: len(manifest["sequences"]) for name, manifest in standard_datasets().items()}
    assert counts == {"uvg": 7, "mcl-jcv": 30, "hevc-b": 5, "hevc-c": 4, "hevc-d": 4, "hevc-e": 3}


def test_a_standard_set_whose_files_are_there(tmp_path):
    format = VideoFormat(416, 240)
    raw = b"".join(plane.tobytes() for frame in moving_frames(format, 2) for plane in frame.planes)
    for entry in standard_datasets()["hevc-d"]["sequences"]:
        (tmp_path / entry["file"]).write_bytes(raw)
    source = Source(load_dataset("hevc-d", tmp_path).sequences[0])
    assert (source.name, source.format.width, source.frame_rate, source.count()) == ("BasketballPass", 416, 50, 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no json", "not a manifest"),
        ("{}", "a manifest is a list"),
        ('[{"width": 3}]', "is not understood"),
        ('[{"file": "small.mp4", "name": "../up"}]', "is not understood"),
        ('[{"file": "small.mp4", "frame_rate": 0}]', "is not understood"),
        ('[{"file": "gone.mp4"}]', "not beside it"),
        ('[{"file": "small.mp4"}, {"file": "small.mp4"}]', "Two sequences are called small"),
    ],
)
def test_bad_manifests_are_refused_in_a_sentence(content, reason, dataset_directory, tmp_path):
    (tmp_path / "small.mp4").write_bytes((dataset_directory / "small.mp4").read_bytes())
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(VcodecError, match=reason):
        load_dataset(str(tmp_path))


def test_an_unknown_name_is_refused():
    with pytest.raises(VcodecError, match="nor the name of a standard data set"):
        load_dataset("no such set")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(VcodecError, match="no manifest and no video"):
        load_dataset(str(tmp_path))


def test_ten_bits_are_rounded_to_eight():
    format = VideoFormat(2, 2, "gray", bit_depth=10)
    frame = to_8_bits(Frame((np.array([[0, 1], [2, 1023]], np.uint16),), 0, format))
    np.testing.assert_array_equal(frame.planes[0], [[0, 0], [1, 255]])
    assert frame.format.bit_depth == 8


def test_a_source_is_cut_and_converted_as_the_protocol_says(deep_source, tmp_path):
    source = Source(deep_source.sequence, frames=5, bit_depth=8)
    assert source.is_converted
    assert not deep_source.is_converted
    assert source.write(tmp_path / "out.y4m") == 5
    with open_video(tmp_path / "out.y4m") as reader:
        for written, frame in zip(reader, source, strict=True):
            for a, b in zip(written.planes, frame.planes, strict=True):
                np.testing.assert_array_equal(a, b)
