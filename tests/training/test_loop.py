"""What the loop does around an optimisation step."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from vcodec.errors import VcodecError
from vcodec.layers.chroma import subsampled
from vcodec.models import create_model, lambda_of_quality, load_model, save_model
from vcodec.training import Schedule, Stage, TrainingConfig, loop, train


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def pictures_in(folder: Path) -> set[str]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["images"])


def test_a_run_leaves_models_logs_and_settings(short_run: TrainingConfig):
    report = train(dataclasses.replace(short_run, tensorboard=True))
    assert (report.step, report.steps, report.skipped) == (6, 6, 0)
    names = {path.name for path in short_run.output.iterdir()}
    assert names >= {"last.pt", "best.safetensors", "stage-1.safetensors", "stage-2.safetensors", "config.json"}
    assert pictures_in(short_run.output / "tensorboard") == {"original", "reconstruction", "flow", "scale"}
    train_log, validation_log = (rows(short_run.output / f"{name}.csv") for name in ("train", "validation"))
    assert [row["stage"] for row in train_log] == ["pictures"] * 2 + ["clips"] * 4
    assert [row["step"] for row in validation_log] == ["2", "6"]
    assert float(validation_log[-1]["bpp"]) > 0
    model = load_model(short_run.output / "best.safetensors")
    assert model.has_tables


def test_a_stage_moves_only_its_own_parameters(short_run: TrainingConfig):
    stages = (
        Stage("pictures", "image", 1, 1, (64, 64), train="image"),
        Stage("clips", "video", 1, 1, (64, 64), frames=2, train="video", detach_reference=True),
        Stage("motion", "video", 1, 1, (64, 64), frames=2, train="motion"),
        Stage("residual", "video", 1, 1, (64, 64), frames=2, train="residual"),
        Stage("I synthesis", "image", 1, 1, (64, 64), train="synthesis"),
        Stage("P synthesis", "video", 1, 1, (64, 64), frames=2, train="synthesis"),
    )
    short_run = dataclasses.replace(short_run, model="mambavc-ssf-flow-small")
    train(dataclasses.replace(short_run, schedule=Schedule("six", stages), ema_decay=0.0))
    torch.manual_seed(short_run.seed)
    start = create_model(short_run.model, pretrained=False).state_dict()
    first, second, third, fourth, fifth, sixth = (
        load_model(short_run.output / f"stage-{n}.safetensors").state_dict() for n in range(1, 7)
    )

    def moved(a: dict, b: dict, depth: int = 1) -> set[str]:
        keys = [key for key in a if a[key].is_floating_point() and not torch.equal(a[key], b[key])]
        return {".".join(key.split(".")[:depth]) for key in keys}

    assert moved(start, first) == {"iframe"}
    assert moved(first, second) == {"flow", "residual"}
    assert moved(second, third) == {"flow"}
    assert moved(third, fourth) == {"residual"}
    assert moved(fourth, fifth, 2) == {"iframe.synthesis"}
    assert moved(fifth, sixth, 2) == {"residual.synthesis"}


def test_a_stage_of_420_trains_on_what_such_video_shows(short_run: TrainingConfig, monkeypatch):
    seen = []
    measure = loop.rate_distortion

    def watched(x_hat, bits, frames, lmbda, stage):
        seen.extend([x_hat.detach().flatten(0, 1), frames.flatten(0, 1)])
        return measure(x_hat, bits, frames, lmbda, stage)

    monkeypatch.setattr(loop, "rate_distortion", watched)
    stages = (
        Stage("pictures", "image", 1, 1, (64, 64), train="image", chroma="420"),
        Stage("clips", "video", 1, 1, (64, 64), frames=2, train="video", chroma="420", grain=4.0),
        Stage("motion", "video", 1, 1, (64, 64), frames=2, train="motion", chroma="420"),
    )
    model = "mambavc-ssf-flow-small"
    train(dataclasses.replace(short_run, model=model, schedule=Schedule("420", stages), precision="fp32"))
    assert len(seen) == 6
    assert all(torch.allclose(subsampled(x), x, atol=2e-2) for x in seen)  # but for what is clamped


def test_micro_batches_give_the_losses_of_the_whole_batch(short_run: TrainingConfig, tmp_path: Path):
    train(short_run)
    train(dataclasses.replace(short_run, output=tmp_path / "micro", micro_batch=1))
    whole, parts = ([float(r["loss"]) for r in rows(f / "train.csv")] for f in (short_run.output, tmp_path / "micro"))
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch):
    """Makes the loss of the given forward passes NaN."""

    def arrange(calls: set[int]) -> None:
        count = iter(range(10**6))
        original = loop.rate_distortion

        def rate_distortion(*arguments):
            result = original(*arguments)
            return result._replace(loss=result.loss * float("nan")) if next(count) in calls else result

        monkeypatch.setattr(loop, "rate_distortion", rate_distortion)

    return arrange


def test_a_non_finite_batch_is_left_out_and_counted(short_run: TrainingConfig, poisoned):
    poisoned({1})
    report = train(short_run)
    assert (report.step, report.skipped) == (6, 1)
    log = rows(short_run.output / "train.csv")
    assert [row["skipped"] for row in log] == ["0", "1", "1", "1", "1", "1"]
    weights = load_model(short_run.output / "stage-2.safetensors").state_dict()  # refuses NaN by itself
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_nothing_but_non_finite_batches_ends_the_run(short_run: TrainingConfig, poisoned):
    poisoned(set(range(1, 100)))
    with pytest.raises(VcodecError, match="3 batches in a row gave no finite gradient"):
        train(dataclasses.replace(short_run, max_skipped=3))


def test_a_full_disk_does_not_end_the_run(short_run: TrainingConfig, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "save_checkpoint", full)
    monkeypatch.setattr(loop, "save_model", full)
    monkeypatch.setattr("vcodec.training.log.CsvLog.write", full)
    assert train(short_run).step == 6
    complaints = capsys.readouterr().err
    assert "no checkpoint at step" in complaints
    assert "the log can't be written" in complaints


def test_a_model_of_one_rate_is_trained_and_coded_at_its_quality(short_run: TrainingConfig):
    schedule = short_run.schedule.replace(lmbda=lambda_of_quality(21.0), steps=1, batch_size=1, crop=(32, 32))
    options = {"levels": 0}
    train(dataclasses.replace(short_run, schedule=schedule, model_options=options))
    model = load_model(short_run.output / "best.safetensors")
    assert model.config.fixed_quality == 21
    assert [row["quality"] for row in rows(short_run.output / "validation.csv")] == ["21", "21"]


def test_video_stages_refuse_an_image_codec(short_run: TrainingConfig):
    with pytest.raises(VcodecError, match="'clips' of the schedule 'short' trains on video"):
        train(dataclasses.replace(short_run, model="ssf"))


def test_data_too_small_for_a_late_stage_is_refused_at_the_start(short_run: TrainingConfig):
    late = Stage("long", "video", 1, 2, (64, 64), frames=30)
    schedule = Schedule("late", (*short_run.schedule.stages, late))
    with pytest.raises(VcodecError, match="stage 'long': none of the 3 clips"):
        train(dataclasses.replace(short_run, schedule=schedule))
    assert not (short_run.output / "train.csv").exists()


@pytest.fixture
def image_codec(tmp_path: Path) -> Path:
    """The I-frame codec of the small model as a model of its own."""
    from vcodec.models.config import VideoConfig
    from vcodec.models.model import ImageModel

    config = create_model("mambavc-ssf-small", pretrained=False).config
    assert isinstance(config, VideoConfig)
    model = ImageModel(config.iframe)
    model.name = "image"
    path = tmp_path / "image.safetensors"
    save_model(model, path)
    return path


def test_a_warm_start_takes_an_image_codec_for_the_iframes(short_run: TrainingConfig, image_codec: Path, capsys):
    stages = (Stage("clips", "video", 1, 1, (64, 64), frames=2, train="video"),)
    train(dataclasses.replace(short_run, schedule=Schedule("one", stages), init=str(image_codec)))
    assert "not found there, and new" in capsys.readouterr().err
    start = load_model(image_codec).state_dict()
    end = load_model(short_run.output / "stage-1.safetensors").state_dict()
    assert all(torch.equal(start[key], end[key]) for key in start if start[key].is_floating_point())


def test_a_warm_start_from_nothing_that_fits_is_refused(short_run: TrainingConfig, tmp_path: Path):
    with pytest.raises(VcodecError, match="no such model"):
        train(dataclasses.replace(short_run, init=str(tmp_path / "missing.safetensors")))


@pytest.mark.slow
def test_compiled_transforms_give_the_losses_of_plain_ones(short_run: TrainingConfig, tmp_path: Path, monkeypatch):
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager"))
    config = dataclasses.replace(short_run, schedule=short_run.schedule.replace(steps=2))
    train(config)
    train(dataclasses.replace(config, output=tmp_path / "compiled", compile=True))
    plain, compiled = (
        [float(r["loss"]) for r in rows(f / "train.csv")] for f in (config.output, tmp_path / "compiled")
    )
    assert compiled == pytest.approx(plain, rel=1e-4)
