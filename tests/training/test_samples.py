"""A sample depends on its number alone; crops, motion and noise are what the stage asks for."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import moving_texture
from vcodec.errors import VcodecError
from vcodec.layers.rate import lambda_of_quality
from vcodec.training import Stage
from vcodec.training.cache import MemoryClip
from vcodec.training.samples import StageSamples, add_grain, random_crop, resize, stage_batches, still_motion
from vcodec.training.sources import Clip


def memory_clip(seed: int = 0, **size: int) -> MemoryClip:
    return MemoryClip(Clip(str(seed), "", ()), torch.from_numpy(moving_texture(seed, **size)))


def video_stage(**changes: object) -> Stage:
    values = {"name": "s", "kind": "video", "steps": 6, "batch_size": 4, "crop": (32, 48), "frames": 3, **changes}
    return Stage(**values)  # type: ignore[arg-type]


@pytest.fixture
def samples() -> StageSamples:
    clips, stills = [memory_clip(i) for i in range(3)], [memory_clip(9, frames=1)]
    return StageSamples(video_stage(stills=0.3, smallest_scale=0.7, temporal_stride=2), 1, 5, clips, stills)


def batches(samples: StageSamples, first: int = 0, rank: int = 0, world: int = 1, workers: int = 0) -> list:
    return list(stage_batches(samples, first, rank=rank, world_size=world, workers=workers, pin_memory=False))


def assert_equal(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_batches_do_not_depend_on_the_number_of_workers(samples: StageSamples):
    assert_equal(batches(samples), batches(samples, workers=2))


def test_batches_go_on_where_they_stopped(samples: StageSamples):
    assert_equal(batches(samples)[4:], batches(samples, first=4))


def test_ranks_share_a_batch(samples: StageSamples):
    whole, left, right = batches(samples), batches(samples, rank=0, world=2), batches(samples, rank=1, world=2)
    joined = [tuple(torch.cat(pair) for pair in zip(a, b, strict=True)) for a, b in zip(left, right, strict=True)]
    assert_equal(whole, joined)


def test_batches_hold_what_the_stage_says(samples: StageSamples):
    (first, *_) = batches(samples)
    assert first.frames.shape == (4, 3, 32, 48, 3)
    assert first.frames.dtype == torch.uint8
    assert ((first.quality >= 0) & (first.quality <= 63)).all()
    assert len(set(first.seeds.tolist())) == 4


def test_another_seed_or_stage_gives_other_samples(samples: StageSamples):
    for seed, index in ((6, 1), (5, 2)):
        other = StageSamples(samples.stage, index, seed, samples.clips, samples.stills)
        assert not torch.equal(samples[0][0], other[0][0])


def test_every_clip_is_seen_once_per_pass():
    clips = [memory_clip(i, frames=8 * (i + 1)) for i in range(3)]
    samples = StageSamples(video_stage(), 0, 0, clips, [])
    entries = len(samples.visits)
    assert entries == 2 + 3 + 4  # a clip once, and once more for each 8 frames
    for epoch in range(2):
        seen = [samples.visits[samples._shuffled(epoch * entries + i, entries, 0)] for i in range(entries)]
        assert Counter(seen) == {0: 2, 1: 3, 2: 4}


def test_one_lambda_means_one_quality():
    samples = StageSamples(video_stage(lmbda=lambda_of_quality(35.0)), 0, 0, [memory_clip()], [])
    assert {round(samples[i][1], 6) for i in range(4)} == {35.0}


def test_clips_that_are_too_small_or_too_short_are_counted():
    clips = [memory_clip(0), memory_clip(1, frames=2), memory_clip(2, height=24)]
    samples = StageSamples(video_stage(), 0, 0, clips, [])
    assert samples.left_out == 2
    with pytest.raises(VcodecError, match="needs 48x32 pixels and 3 frames"):
        StageSamples(video_stage(), 0, 0, clips[1:], [])


def test_a_clip_that_vanished_is_replaced_by_another(samples: StageSamples, monkeypatch, capsys):
    def vanished(*_: object) -> None:
        raise VcodecError("gone.npy: not a readable array file")

    expected = [samples[index][0] for index in range(12)]
    monkeypatch.setattr(samples.clips[0], "read", vanished)
    now = [samples[index][0] for index in range(12)]
    same = [torch.equal(a, b) for a, b in zip(expected, now, strict=True)]
    assert any(same)
    assert not all(same)
    assert capsys.readouterr().err.count("gone.npy") >= same.count(False)
    for clip in (*samples.clips, *samples.stills):
        monkeypatch.setattr(clip, "read", vanished)
    with pytest.raises(VcodecError, match="is the data still there"):
        samples[1]


def test_small_pictures_are_enlarged_on_request():
    stage = Stage("s", "image", 1, 1, (128, 128), train="image", stills=1.0, enlarge=True)
    frames, _, _ = StageSamples(stage, 0, 0, [], [memory_clip(0, frames=1)])[0]
    assert frames.shape == (1, 128, 128, 3)


crops = st.tuples(st.integers(16, 80), st.integers(16, 96))


@given(crops, st.integers(2, 8), st.integers(1, 4), st.floats(0.4, 1), st.integers(0, 2**32))
def test_any_crop_lies_within_the_clip(crop, frames: int, stride: int, scale: float, seed: int):
    stage = video_stage(crop=crop, frames=frames, temporal_stride=stride, smallest_scale=scale)
    result = random_crop(np.random.default_rng(seed), memory_clip(), stage)
    assert result.shape == (frames, *crop, 3)


@given(st.integers(0, 2**32))
def test_a_crop_without_scaling_is_a_part_of_the_clip(seed: int):
    """Frames are numbered by colour, pixels by place: a crop must be an even cut through both."""
    pixels = torch.zeros(8, 40, 60, 3, dtype=torch.uint8)
    pixels[..., 0] = torch.arange(8)[:, None, None]
    pixels[..., 1] = torch.arange(40)[:, None]
    pixels[..., 2] = torch.arange(60)
    stage = video_stage(crop=(16, 32), temporal_stride=3)
    crop = random_crop(np.random.default_rng(seed), MemoryClip(Clip("c", "", ()), pixels), stage).int()
    times, rows, columns = crop[:, 0, 0, 0], crop[0, :, 0, 1], crop[0, 0, :, 2]
    assert len(set(times.diff().tolist())) == 1
    assert 1 <= int(times[1] - times[0]) <= 3
    assert (rows.diff() == 1).all()
    assert (columns.diff() == 1).all()


@given(st.integers(0, 2**32))
def test_still_motion_moves_without_jumps(seed: int):
    still = memory_clip(3, frames=1, height=96, width=128)
    frames = still_motion(np.random.default_rng(seed), still, video_stage(frames=4))
    assert frames.shape == (4, 32, 48, 3)
    steps = frames.float().diff(dim=0).abs().mean(dim=(1, 2, 3))
    assert (steps > 0).all()


def test_still_motion_of_a_ramp_is_the_pan_itself():
    """On a picture whose value is the column, the difference between frames is the velocity."""
    ramp = torch.arange(0, 250, dtype=torch.uint8).expand(100, 250)[None, ..., None].expand(-1, -1, -1, 3)
    stage = video_stage(frames=2)
    for seed in range(8):
        frames = still_motion(np.random.default_rng(seed), MemoryClip(Clip("r", "", ()), ramp), stage).float()
        shift = (frames[1] - frames[0])[..., 0]
        assert shift.abs().max() <= 12 + 2 + 0.02 * 250
        assert shift.std() < 3  # the same everywhere, but for the zoom


def test_resize_keeps_flat_pictures_flat():
    flat = torch.full((2, 30, 40, 3), 77, dtype=torch.uint8)
    assert (resize(flat, (16, 24)) == 77).all()
    assert resize(flat, (30, 40)) is flat


def test_grain_is_new_in_every_frame_and_grey():
    flat = torch.full((3, 40, 40, 3), 100, dtype=torch.uint8)
    grainy = add_grain(np.random.default_rng(1), flat, 4.0).float()
    assert float(grainy.std()) == pytest.approx(4, rel=0.1)
    assert torch.equal(grainy[..., 0], grainy[..., 2])
    assert abs(float(torch.corrcoef(grainy[:2, ..., 0].flatten(1))[0, 1])) < 0.1


def test_a_third_of_the_samples_have_grain():
    flat = [MemoryClip(Clip("flat", "", ()), torch.full((4, 64, 64, 3), 100, dtype=torch.uint8))]
    samples = StageSamples(video_stage(grain=8.0), 0, 1, flat, [])
    assert 5 <= sum(bool((samples[i][0] != 100).any()) for i in range(40)) <= 22
