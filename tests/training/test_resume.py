"""A run that was killed goes on as if nothing had happened."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vcodec.errors import VcodecError
from vcodec.models import load_model
from vcodec.training import TrainingConfig, train
from vcodec.training.loop import Trainer

CHECKOUT = Path(__file__).resolve().parents[2]


def column(path: Path, name: str = "loss") -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch):
    """Makes the run die in the middle of a step, without a word."""

    def arrange(step: int) -> None:
        optimise = Trainer._optimise

        def dying(self, *arguments, **named):
            if self.step == step:
                raise KeyboardInterrupt
            optimise(self, *arguments, **named)

        monkeypatch.setattr(Trainer, "_optimise", dying)

    return arrange


def test_a_resumed_run_has_the_losses_and_weights_of_an_uninterrupted_one(
    short_run: TrainingConfig, tmp_path: Path, killed_after, monkeypatch
):
    config = dataclasses.replace(short_run, checkpoint_every=1)
    whole = dataclasses.replace(config, output=tmp_path / "whole")
    train(whole)
    with monkeypatch.context():
        killed_after(4)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    monkeypatch.undo()
    report = train(dataclasses.replace(config, resume=True))

    assert report.step == report.steps == 6
    assert column(config.output / "train.csv") == column(whole.output / "train.csv")
    ours, theirs = (load_model(c.output / "stage-2.safetensors").state_dict() for c in (config, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_rows_after_the_checkpoint_are_replaced(short_run: TrainingConfig, killed_after, monkeypatch):
    config = dataclasses.replace(short_run, checkpoint_every=2)
    killed_after(3)  # the log has step 3, the checkpoint step 2
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    assert column(config.output / "train.csv", "step") == ["1", "2", "3"]
    train(dataclasses.replace(config, resume=True))
    assert column(config.output / "train.csv", "step") == ["1", "2", "3", "4", "5", "6"]


def test_resume_refuses_another_model(short_run: TrainingConfig):
    train(dataclasses.replace(short_run, schedule=short_run.schedule.shortened(0.1)))
    with pytest.raises(VcodecError, match=r"last\.pt: made with 'mambavc-ssf-small'"):
        train(dataclasses.replace(short_run, resume=True, model="convvc-ssf-small"))


def test_a_folder_with_a_run_is_not_overwritten(short_run: TrainingConfig):
    short_run.output.mkdir()
    (short_run.output / "last.pt").write_bytes(b"")
    with pytest.raises(VcodecError, match="--resume"):
        train(short_run)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(short_run: TrainingConfig, content: bytes | None):
    short_run.output.mkdir()
    path = short_run.output / "last.pt"
    if content is None:
        torch.save({"something": "else"}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(VcodecError, match=r"last\.pt: not a"):
        train(dataclasses.replace(short_run, resume=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(short_run: TrainingConfig, number: signal.Signals):
    """The command as people run it: stopped by a signal, it exits with 0 and goes on by --resume alone."""
    schedule = short_run.output.parent / "schedule.json"
    schedule.write_text(json.dumps(short_run.schedule.shortened(50).to_json()))
    command = [sys.executable, str(CHECKOUT / "train_video.py"), "--output", str(short_run.output)]
    options = [
        *("--videos", str(short_run.videos[0]), "--images", str(short_run.images[0])),
        *("--schedule", str(schedule), "--model", "convvc-ssf-small", "--device", "cpu", "--threads", "1"),
        *("--workers", "1", "--log-every", "1", "--validation-frames", "2", "--validation-clips", "1"),
        *("--no-tensorboard", "--no-progress"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    log = short_run.output / "train.csv"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and len(column(log)) >= 3:
            break
        time.sleep(0.1)
    os.killpg(process.pid, number)  # the workers get it, too, as they do from a terminal
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "go on with --resume" in output
    assert "Traceback" not in errors
    step = torch.load(short_run.output / "last.pt", weights_only=True)["step"]
    assert 3 <= step < 300
    assert not list(short_run.output.glob("*.part"))
