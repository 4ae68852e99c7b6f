"""`vcodec analyze`: the analyses of the MambaVC paper, each as a picture and as numbers.

vcodec analyze correlation  kodak/ -m a.safetensors -m b.safetensors -o out    figures 5 and 14
vcodec analyze distribution kodak/ -m a.safetensors -o out                     figure 6
vcodec analyze receptive-field kodak/ -m a.safetensors -o out                  figures 7 and 15
vcodec analyze deviation    kodim03.png -m a.safetensors -o out                figure 8
vcodec analyze complexity   -m mambavc -m swinvc -o out                        tables 3 and 4
"""

import argparse
from pathlib import Path

ANALYSES = ("correlation", "distribution", "receptive-field", "deviation", "complexity")


def register_analyze(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Adds the command `analyze`. What it runs is imported when it runs: torch and matplotlib take seconds."""
    parser = subparsers.add_parser(
        "analyze",
        help="the analyses of the MambaVC paper: correlation, distribution, receptive field, deviation, complexity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("analysis", choices=ANALYSES)
    add("pictures", type=Path, nargs="*", help="pictures, or folders of them; complexity needs none")
    add("-m", "--model", action="append", default=[], help="a model's name or file; may be given again")
    add("-q", "--quality", type=int, default=32, help="0 to 63 (default %(default)s)")
    add("--size", action="append", default=[], metavar="WxH", help="for complexity (default 768x512); may be repeated")
    add("-o", "--output", type=Path, default=Path("."), metavar="DIR", help="folder of the results (default: here)")
    add("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace) -> int:
    from .analysis import run_analyze

    return run_analyze(options)
