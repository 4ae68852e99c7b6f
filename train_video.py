#!/usr/bin/env python3
"""Train a video or image model; docs/training.md tells how.

  python train_video.py --videos vimeo_septuplet --images pictures --output runs/first
  python train_video.py --output runs/first --resume
  python train_video.py --stage image --model mambavc-small --schedule small-image --images pictures \\
      --output runs/pictures
  torchrun --nproc-per-node 8 train_video.py --videos vimeo_septuplet --model mambavc-ssf \\
      --schedule paper-video --lambda 0.01 --output runs/paper-0.01
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vcodec.errors import VcodecError
from vcodec.memory import keep_freed_memory
from vcodec.training import PRESETS, TrainingConfig, load_schedule, train

SCHEDULE_CHANGES = ("batch_size", "lmbda", "distortion")


def main(arguments: list[str] | None = None) -> int:
    keep_freed_memory()
    try:
        arguments = with_earlier(sys.argv[1:] if arguments is None else arguments)
        options = create_parser().parse_args(arguments)
        config = configure(options)
        remember(arguments, options.output)
        report = train(config)
    except VcodecError as error:
        print(f"train_video.py: {error}", file=sys.stderr)
        return 1
    ending = "finished" if report.step == report.steps else f"stopped at step {report.step}; go on with --resume"
    print(f"{options.output}: {ending}; non-finite batches left out: {report.skipped}")
    return 0


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser.add_argument_group("data"))
    add_run_options(parser.add_argument_group("run"))
    add_optimisation_options(parser.add_argument_group("optimisation and speed"))
    add_log_options(parser.add_argument_group("validation and logs"))
    return parser


def add_data_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--videos",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="a Vimeo-90k set, videos, or folders of numbered pictures",
    )
    add("--images", type=Path, nargs="+", default=[], metavar="DIR", help="still pictures")
    add(
        "--cache",
        default="",
        metavar="WHERE",
        help='decoded frames: a folder, "ram", "device" or "none" (default: the folder cache beside the run)',
    )
    add("--workers", type=int, default=2, help="processes that make crops (default %(default)s)")
    add(
        "--validation-fraction",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the sources, held out (default %(default)s; a Vimeo-90k set has its own test list)",
    )
    add(
        "--validation-list",
        type=Path,
        metavar="FILE",
        help="names of clips or sources to hold out, one a line",
    )


def add_run_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder for checkpoints and logs")
    add("--resume", action="store_true", help="go on from last.pt in the output folder, with its options")
    add("--model", default="default", help="a name of `vcodec models` (default %(default)s)")
    add(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a field of the model's configuration, one inside by its path (entropy.context.slices=4)",
    )
    add("--init", metavar="MODEL_OR_FILE", help="start from what fits of another model's weights")
    add("--schedule", default="default", help=f"{', '.join(PRESETS)}, or a JSON file (default %(default)s)")
    add("--stage", choices=("image", "video"), help="only the schedule's stages on pictures, or those on video")
    add("--steps-factor", type=float, default=1.0, help="multiply the steps of every stage")
    add("--batch-size", type=int, help="in every stage, over all processes")
    add("--lambda", dest="lmbda", type=float, help="train for this one lambda in every stage")
    add("--distortion", choices=("mse", "ms-ssim"), help="in every stage")
    add("--seed", type=int, default=0)


def add_optimisation_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--optimizer", choices=("adamw", "muon", "soap"), default="adamw")
    add("--betas", type=float, nargs=2, default=[0.9, 0.999], help="of Adam (default %(default)s)")
    add("--weight-decay", type=float, default=0.0)
    add("--clip-norm", type=float, default=1.0, help="largest norm of the gradient (default %(default)s)")
    add("--ema-decay", type=float, default=0.9995, help="of the averaged weights (default %(default)s)")
    add(
        "--max-skipped",
        type=int,
        default=100,
        help="end after so many non-finite batches in a row (default %(default)s)",
    )
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: autocast, the scan in fp32")
    add("--micro-batch", type=int, help="samples in one pass, to save memory")
    add("--compile", action="store_true", help="torch.compile the transforms: for GPUs; takes minutes")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=int, help="of PyTorch on the CPU")


def add_log_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--validate-every", type=int, default=5_000, metavar="STEPS", help="default %(default)s")
    add("--validation-clips", type=int, default=4, help="how many (default %(default)s)")
    add("--validation-frames", type=int, default=6, help="of each clip (default %(default)s)")
    add("--validation-qualities", type=int, nargs="+", default=[8, 32, 56], metavar="Q")
    add("--checkpoint-every", type=int, default=1_000, metavar="STEPS", help="default %(default)s")
    add("--log-every", type=int, default=50, metavar="STEPS", help="default %(default)s")
    add("--no-tensorboard", dest="tensorboard", action="store_false")
    add("--no-progress", dest="progress", action="store_false")


def configure(options: argparse.Namespace) -> TrainingConfig:
    """The settings that the options stand for."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in vars(options).items()}
    changes = {name: values.pop(name) for name in SCHEDULE_CHANGES}
    schedule = load_schedule(values.pop("schedule"))
    if kind := values.pop("stage"):
        schedule = schedule.of_kind(kind)
    schedule = schedule.replace(**{name: value for name, value in changes.items() if value is not None})
    values["schedule"] = schedule.shortened(values.pop("steps_factor"))
    values["model_options"] = dict(map(model_option, values.pop("model_option")))
    return TrainingConfig(**values)


def model_option(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value being JSON, or else a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise VcodecError(f"--model-option {text!r} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def with_earlier(arguments: list[str]) -> list[str]:
    """On --resume, the options the run was started with, then these."""
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--output", type=Path)
    early.add_argument("--resume", action="store_true")
    known, _ = early.parse_known_args(arguments)
    path = known.output / "arguments.json" if known.output else None
    if not known.resume or path is None or not path.is_file():
        return arguments
    try:
        return [*json.loads(path.read_text(encoding="utf-8")), *arguments]
    except (OSError, ValueError) as error:
        raise VcodecError(f"{path}: can't be read ({error}); give all options again") from error


def remember(arguments: list[str], output: Path) -> None:
    """Keep the options of a new run for --resume."""
    if (output / "last.pt").exists():
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "arguments.json").write_text(json.dumps(arguments) + "\n", encoding="utf-8")
    except OSError as error:
        raise VcodecError(f"{output}: can't be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
