"""Two processes that train together do what one does with the same global batch."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vcodec.models import load_model
from vcodec.training import TrainingConfig

CHECKOUT = Path(__file__).resolve().parents[2]


def run(config: TrainingConfig, output: Path, processes: int) -> subprocess.CompletedProcess[str]:
    schedule = output.parent / "schedule.json"
    schedule.write_text(json.dumps(config.schedule.to_json()))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        *(sys.executable, *(launcher if processes > 1 else [])),
        *(str(CHECKOUT / "train_video.py"), "--output", str(output), "--model", config.model),
        *("--videos", str(config.videos[0]), "--images", str(config.images[0]), "--schedule", str(schedule)),
        *("--device", "cpu", "--threads", "1", "--workers", "0", "--log-every", "1"),
        *("--validation-frames", "2", "--validation-clips", "1", "--no-tensorboard", "--no-progress"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def curve(folder: Path) -> list[float]:
    with (folder / "train.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_have_the_loss_curve_of_one(short_run: TrainingConfig, tmp_path: Path):
    for processes in (1, 2):
        result = run(short_run, tmp_path / f"of{processes}", processes)
        assert result.returncode == 0, result.stderr
    one, two = curve(tmp_path / "of1"), curve(tmp_path / "of2")
    assert len(one) == len(two) == short_run.schedule.steps
    assert two == pytest.approx(one, rel=1e-4)
    models = [load_model(tmp_path / name / "stage-2.safetensors").state_dict() for name in ("of1", "of2")]
    assert models[0].keys() == models[1].keys()


def test_a_batch_that_does_not_divide_is_a_sentence(short_run: TrainingConfig, tmp_path: Path):
    result = run(short_run, tmp_path / "of3", 3)
    assert result.returncode != 0
    assert "2 samples don't divide by 3 processes" in result.stderr
