"""Schedules are data; the presets are the papers'."""

import json

import pytest

from vcodec.errors import VcodecError
from vcodec.training import PRESETS, Schedule, Stage, load_schedule


def test_the_video_preset_is_the_papers():
    first, second = PRESETS["paper-video"].stages
    assert (first.steps, first.learning_rate, first.batch_size, first.crop) == (1_000_000, 1e-4, 8, (256, 256))
    assert (second.steps, second.learning_rate, second.batch_size, second.crop) == (600_000, 1e-5, 8, (256, 384))
    assert (first.reverse, second.reverse) == (True, True)


def test_the_image_preset_is_the_papers():
    schedule = PRESETS["paper-image"]

    def at(step: int) -> tuple[tuple[int, int], int, float]:
        index, within = schedule.locate(step)
        stage = schedule.stages[index]
        return stage.crop, stage.batch_size, stage.learning_rate_at(within)

    assert schedule.steps == 2_000_000
    assert at(0) == ((256, 256), 8, 1e-4)
    assert at(1_199_999) == ((256, 256), 8, 1e-4)
    assert at(1_200_000) == ((512, 512), 2, 1e-4)
    assert at(1_800_000) == ((512, 512), 2, 1e-5)
    assert at(1_950_000) == ((512, 512), 2, 1e-6)
    with pytest.raises(IndexError):
        schedule.locate(2_000_000)


def test_the_default_trains_iframes_first_and_unrolls_longer_and_longer():
    stages = PRESETS["default"].stages
    assert [stage.train for stage in stages] == ["image", "video", "all", "all"]
    assert [stage.frames for stage in stages] == sorted(stage.frames for stage in stages)
    assert not any(stage.detach_reference for stage in stages)


@pytest.mark.parametrize("name", PRESETS)
def test_a_schedule_survives_json(name: str, tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps(PRESETS[name].to_json()))
    assert load_schedule(str(path)) == PRESETS[name]


def test_learning_rate_warms_up_and_decays():
    stage = Stage(
        "s", "image", 110, train="image", learning_rate=1.0, warmup_steps=10, decay="cosine", final_learning_rate=0.1
    )
    rates = [stage.learning_rate_at(step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.1 <= rates[-1] < 0.102


def test_changes_and_shortening_reach_every_stage():
    schedule = PRESETS["default"].replace(lmbda=0.01).shortened(0.001)
    assert {stage.lmbda for stage in schedule.stages} == {0.01}
    assert [stage.steps for stage in schedule.stages] == [200, 100, 50, 20]


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({"kind": "pictures"}, "kind is 'pictures'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"crop": [256]}, "crop is"),
        ({"kind": "image", "train": "all"}, "train='image'"),
        ({"frames": 1}, "frames of at least 2"),
        ({"kind": "image", "train": "image", "frames": 3}, "has one frame"),
        ({"frame_weights": [1.0]}, "1 frame_weights for 2 frames"),
        ({"quality": [10, 70]}, "quality is"),
        ({"lmbda": -1}, "lmbda is -1"),
        ({"distortion": "ms-ssim", "crop": [128, 128]}, "more than 160"),
        ({"learning_rate": "fast"}, "wrong type"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_a_wrong_stage_is_a_sentence(stage: dict, sentence: str):
    data = {"name": "x", "stages": [{"name": "s", "kind": "video", "steps": 5, "frames": 2, **stage}]}
    with pytest.raises(VcodecError, match=sentence):
        Schedule.from_json(data, "file.json")


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"stages": []}', '{"stages": [3]}', '{"stages": [{"name": "s"}]}'])
def test_a_wrong_file_is_a_sentence(text: str, tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(text)
    with pytest.raises(VcodecError):
        load_schedule(str(path))


def test_an_unknown_name_lists_the_presets():
    with pytest.raises(VcodecError, match="default, paper-video, paper-image"):
        load_schedule("nonesuch")
