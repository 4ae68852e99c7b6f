"""The command: its errors are sentences, its options reach the run."""

import json
from pathlib import Path

import pytest

import train_video
from vcodec.training import load_schedule


def test_a_wrong_folder_is_one_line_and_exit_code_1(tmp_path: Path, capsys):
    code = train_video.main(["--videos", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")])
    assert code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nowhere: no such folder" in error


def test_no_data_at_all_is_a_sentence(tmp_path: Path, capsys):
    assert train_video.main(["--output", str(tmp_path / "run")]) == 1
    assert "--videos or --images" in capsys.readouterr().err


def test_an_unknown_option_is_a_usage_error(tmp_path: Path):
    with pytest.raises(SystemExit) as error:
        train_video.main(["--output", str(tmp_path), "--nonesuch"])
    assert error.value.code == 2


def test_options_reach_every_stage_and_the_model(tmp_path: Path):
    options = train_video.create_parser().parse_args(
        [
            *("--output", str(tmp_path), "--videos", "a", "b", "--schedule", "paper-video", "--lambda", "0.02"),
            *("--steps-factor", "0.001", "--batch-size", "4", "--model-option", "levels=0"),
            *("--model-option", "iframe=ssf", "--validation-qualities", "1", "2"),
        ]
    )
    config = train_video.configure(options)
    assert [stage.steps for stage in config.schedule.stages] == [1000, 600]
    assert {(stage.lmbda, stage.batch_size) for stage in config.schedule.stages} == {(0.02, 4)}
    assert config.model_options == {"levels": 0, "iframe": "ssf"}
    assert config.videos == (Path("a"), Path("b"))
    assert config.validation_qualities == (1, 2)


def test_resume_takes_the_options_of_the_start_and_new_ones_over_them(tmp_path: Path):
    earlier = ["--output", str(tmp_path), "--videos", "a", "--seed", "3", "--threads", "1"]
    train_video.remember(earlier, tmp_path)
    arguments = train_video.with_earlier(["--output", str(tmp_path), "--resume", "--threads", "2"])
    config = train_video.configure(train_video.create_parser().parse_args(arguments))
    assert (config.resume, config.seed, config.threads, config.videos) == (True, 3, 2, (Path("a"),))
    assert config.schedule == load_schedule("default")


def test_a_run_that_exists_keeps_its_options(tmp_path: Path):
    (tmp_path / "last.pt").touch()
    (tmp_path / "arguments.json").write_text(json.dumps(["--seed", "7"]))
    train_video.remember(["--seed", "8"], tmp_path)
    assert json.loads((tmp_path / "arguments.json").read_text()) == ["--seed", "7"]


@pytest.mark.parametrize(("kind", "stages"), [("image", 1), ("video", 3)])
def test_a_kind_of_stage_can_be_trained_alone(tmp_path: Path, kind, stages):
    options = ["--output", str(tmp_path), "--images", "a", "--stage", kind]
    config = train_video.configure(train_video.create_parser().parse_args(options))
    assert [stage.kind for stage in config.schedule.stages] == stages * [kind]


def test_a_schedule_without_that_kind_of_stage_is_a_sentence(tmp_path: Path, capsys):
    options = ["--output", str(tmp_path), "--images", "a", "--stage", "video", "--schedule", "paper-image"]
    assert train_video.main(options) == 1
    assert "no stages of the kind 'video'" in capsys.readouterr().err
