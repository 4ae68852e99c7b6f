"""Training data is found in the layouts people have, and split without leaks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcodec.errors import VcodecError
from vcodec.training.sources import Clip, find_clips, find_images, source_of, split_by_source, vimeo_test_list


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_vimeo(root: Path, prefix: str, length: int, names: list[str], test: list[str]) -> None:
    for name in names + test:
        touch(*(root / "sequences" / name / f"im{i}.png" for i in range(1, length + 1)))
    (root / f"{prefix}_trainlist.txt").write_text("\n".join(names) + "\n\n")
    (root / f"{prefix}_testlist.txt").write_text("\n".join(test) + "\n")


@pytest.mark.parametrize(("prefix", "length"), [("sep", 7), ("tri", 3)])
def test_vimeo_is_taken_by_its_own_lists(tmp_path: Path, prefix: str, length: int):
    make_vimeo(tmp_path, prefix, length, ["00001/0001", "00001/0002", "00002/0009"], ["00003/0001"])
    clips = find_clips(tmp_path)
    assert [clip.name for clip in clips] == ["00001/0001", "00001/0002", "00002/0009"]
    assert [path.name for path in clips[0].files] == [f"im{i}.png" for i in range(1, length + 1)]
    assert clips[0].source == clips[1].source != clips[2].source
    assert [clip.name for clip in vimeo_test_list(tmp_path)] == ["00003/0001"]


def test_vimeo_sequences_that_are_not_unpacked_are_left_out(tmp_path: Path):
    make_vimeo(tmp_path, "sep", 7, ["00001/0001"], [])
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00096/0936\n")
    assert [clip.name for clip in find_clips(tmp_path)] == ["00001/0001"]
    (tmp_path / "sep_trainlist.txt").write_text("00096/0936\n")
    with pytest.raises(VcodecError, match="none of its 1 sequences"):
        find_clips(tmp_path)


def test_an_incomplete_vimeo_folder_says_what_is_missing(tmp_path: Path):
    (tmp_path / "sequences").mkdir()
    with pytest.raises(VcodecError, match=r"sep_trainlist\.txt"):
        find_clips(tmp_path)
    (tmp_path / "sequences").rmdir()
    (tmp_path / "sep_trainlist.txt").touch()
    with pytest.raises(VcodecError, match="no folder sequences"):
        find_clips(tmp_path)


def test_videos_and_image_sequences_are_found_below_a_folder(tmp_path: Path):
    touch(tmp_path / "a.mp4", tmp_path / "deep" / "b.MKV", tmp_path / "notes.txt")
    touch(*(tmp_path / "run" / f"{i}.png" for i in (1, 2, 10)), tmp_path / "single" / "1.png")
    clips = {clip.name: clip for clip in find_clips(tmp_path)}
    assert set(clips) == {"a", "deep/b", "run"}
    assert [path.name for path in clips["run"].files] == ["1.png", "2.png", "10.png"]


@pytest.mark.parametrize("find", [find_clips, find_images])
def test_a_wrong_folder_says_what_was_looked_for(tmp_path: Path, find):
    with pytest.raises(VcodecError, match="no such folder"):
        find(tmp_path / "missing")
    touch(tmp_path / "notes.txt")
    with pytest.raises(VcodecError, match="looked for"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("name", "source"),
    [("street_3", "street_"), ("cam2_007", "cam2_"), ("00001/0042", "00001/"), ("bear", "bear"), ("v2-take", "v-take")],
)
def test_the_source_is_the_name_without_its_last_number(name: str, source: str):
    assert source_of(name) == source


names = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=40, unique=True)


@given(names, st.floats(0, 0.9))
def test_no_source_stands_on_both_sides(numbers: list[tuple[int, int]], fraction: float):
    clips = [Clip(f"{chr(97 + a)}_{b}", f"{chr(97 + a)}_", ()) for a, b in numbers]
    train, held_out = split_by_source(clips, fraction)
    assert sorted(c.name for c in train + held_out) == sorted(c.name for c in clips)
    assert train
    if len({clip.source for clip in clips}) > 1:
        assert not {c.source for c in train} & {c.source for c in held_out}
        assert bool(held_out) == (fraction > 0)


def test_a_list_of_names_holds_out_clips_or_sources():
    clips = [Clip(name, source_of(name), ()) for name in ("a_1", "a_2", "b_1", "b_2")]
    train, held_out = split_by_source(clips, 0.5, ["a_1\n", "b_"])
    assert [clip.name for clip in train] == ["a_2"]
    assert [clip.name for clip in held_out] == ["a_1", "b_1", "b_2"]
    with pytest.raises(VcodecError, match="'c'"):
        split_by_source(clips, 0.5, ["c"])
