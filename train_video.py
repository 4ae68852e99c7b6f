#!/usr/bin/env python3
"""Train a video or image model; see docs/training.md.

python train_video.py --videos vimeo_septuplet --images pictures --output runs/default
torchrun --nproc-per-node 8 train_video.py --videos vimeo_septuplet --schedule paper-video \\
    --lambda 0.01 --output runs/paper
"""

import argparse
import json
import sys
from pathlib import Path

from vcodec.errors import VcodecError
from vcodec.training import PRESETS, TrainingConfig, load_schedule, train


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        report = train(configure(options))
    except VcodecError as error:
        print(f"train_video.py: {error}", file=sys.stderr)
        return 1
    ending = (
        "finished" if report.step == report.steps else f"stopped at step {report.step}; go on with --resume"
    )
    print(f"{options.output}: {ending}; {report.skipped} non-finite batches left out")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--videos",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="Vimeo-90k, videos, or folders of numbered pictures",
    )
    data.add_argument("--images", type=Path, nargs="+", default=[], metavar="DIR", help="still pictures")
    data.add_argument(
        "--cache",
        default="",
        metavar="WHERE",
        help='decoded frames: a folder, "ram", "device" or "none" (default: the folder cache beside the run)',
    )
    data.add_argument(
        "--workers", type=int, default=2, help="processes that make crops (default %(default)s)"
    )
    data.add_argument(
        "--validation-fraction",
        type=float,
        default=0.05,
        help="share of sources held out (default %(default)s)",
    )
    data.add_argument(
        "--validation-list", type=Path, metavar="FILE", help="names of clips or sources to hold out"
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for checkpoints and logs"
    )
    run.add_argument(
        "--resume", action="store_true", help="go on from last.pt in the output folder, with its settings"
    )
    run.add_argument("--model", default="default", help="a name of `vcodec models` (default %(default)s)")
    run.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one field of the model's configuration",
    )
    run.add_argument(
        "--init", metavar="MODEL_OR_FILE", help="start from the matching weights of another model"
    )
    run.add_argument(
        "--schedule", default="default", help=f"{', '.join(PRESETS)}, or a JSON file (default %(default)s)"
    )
    run.add_argument("--steps-factor", type=float, default=1.0, help="multiply the steps of every stage")
    run.add_argument("--batch-size", type=int, help="in every stage, over all processes")
    run.add_argument("--lambda", dest="lmbda", type=float, help="train for this one lambda in every stage")
    run.add_argument("--distortion", choices=("mse", "ms-ssim"), help="in every stage")
    run.add_argument("--seed", type=int, default=0)
    speed = parser.add_argument_group("optimisation and speed")
    speed.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    speed.add_argument("--weight-decay", type=float, default=0.0)
    speed.add_argument(
        "--clip-norm", type=float, default=1.0, help="largest norm of the gradient (default %(default)s)"
    )
    speed.add_argument(
        "--ema-decay", type=float, default=0.9995, help="of the averaged weights (default %(default)s)"
    )
    speed.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: autocast, the scan in fp32"
    )
    speed.add_argument("--micro-batch", type=int, help="samples per pass, to save memory")
    speed.add_argument("--compile", action="store_true", help="torch.compile the model")
    speed.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    speed.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    log = parser.add_argument_group("validation and logs")
    log.add_argument("--validate-every", type=int, default=5000, metavar="STEPS")
    log.add_argument("--validation-clips", type=int, default=4)
    log.add_argument("--validation-frames", type=int, default=6)
    log.add_argument("--validation-qualities", type=int, nargs="+", default=[8, 32, 56])
    log.add_argument("--checkpoint-every", type=int, default=1000, metavar="STEPS")
    log.add_argument("--log-every", type=int, default=50, metavar="STEPS")
    log.add_argument("--no-tensorboard", dest="tensorboard", action="store_false")
    log.add_argument("--no-progress", dest="progress", action="store_false")
    return parser.parse_args(arguments)


def configure(options: argparse.Namespace) -> TrainingConfig:
    schedule = load_schedule(options.schedule)
    changes = {
        name: getattr(options, name)
        for name in ("batch_size", "lmbda", "distortion")
        if getattr(options, name) is not None
    }
    schedule = schedule.replace(**changes).shortened(options.steps_factor)
    values = dict(vars(options))
    for name in (*("batch_size", "lmbda", "distortion", "steps_factor"), "model_option"):
        del values[name]
    values["schedule"] = schedule
    values["model_options"] = model_options(options.model_option)
    for name in ("videos", "images", "validation_qualities"):
        values[name] = tuple(values[name])
    return TrainingConfig(**values)


def model_options(items: list[str]) -> dict[str, object]:
    """NAME=VALUE pairs; a value is JSON, or else a word."""
    result: dict[str, object] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise VcodecError(f"--model-option {item!r} is not of the form NAME=VALUE")
        try:
            result[name] = json.loads(value)
        except ValueError:
            result[name] = value
    return result


if __name__ == "__main__":
    sys.exit(main())
