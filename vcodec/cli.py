"""The command `vcodec`: encode, decode, info, models, analyze, demo.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done; 1 a file is missing,
damaged or can't be written (one sentence says what to do); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from fractions import Fraction
from types import FrameType
from typing import Any

from . import __version__, commands
from .errors import VcodecError
from .evaluation.analysis_options import register_analyze
from .memory import keep_freed_memory

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    # Idle threads that spin take the cores from other processes; torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    options = build_parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except VcodecError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        return _fail("out of memory: take smaller pictures or another device")
    finally:
        signal.signal(signal.SIGTERM, previous)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vcodec", description="A learned video codec.")
    parser.add_argument("--version", action="version", version=f"vcodec {__version__}")
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_encode(subcommands)
    _add_decode(subcommands)

    info = subcommands.add_parser("info", help="show a stream's header and frames")
    info.add_argument("input", metavar="INPUT.vcb", help="`-` for standard input")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=commands.info)

    models = subcommands.add_parser("models", help="list the models")
    models.add_argument("--json", action="store_true", help="print JSON")
    models.set_defaults(run=commands.models)

    register_analyze(subcommands)

    demo = subcommands.add_parser("demo", help="compress a short clip and compare with x264 and x265")
    demo.add_argument("--output", default="demo", metavar="FOLDER", help="for streams, table and rd.png (demo)")
    demo.add_argument("--input", metavar="CLIP", help="another clip than the bundled one")
    demo.add_argument("-m", "--model", default="default", metavar="MODEL_OR_PATH", help="name or .safetensors")
    demo.add_argument("--frames", type=positive, default=24, metavar="N", help="at most so many (24)")
    demo.add_argument("--device", type=device, default="auto", metavar="auto|cpu|cuda")
    demo.set_defaults(run=commands.demo)
    return parser


def _add_encode(subcommands: Any) -> None:
    encode = subcommands.add_parser("encode", help="compress a video or an image")
    encode.add_argument("input", metavar="INPUT", help="video, .yuv, image, folder of images, or `-` for y4m")
    encode.add_argument("output", metavar="OUTPUT.vcb", help="`-` for standard output")
    encode.add_argument("-m", "--model", default="default", metavar="MODEL_OR_PATH", help="name or .safetensors")
    encode.add_argument("-q", "--quality", type=quality, default=32, help="0 (small) to 63 (good); default 32")
    encode.add_argument("--gop", type=gop_size, default=12, metavar="N", help="I-frame distance (12); -1: only one")
    encode.add_argument("--frames", type=positive, metavar="N", help="compress at most N frames")
    encode.add_argument("--seek", type=not_negative, default=0, metavar="N", help="pass over the first N frames")
    encode.add_argument("--size", type=size, metavar="WxH", help="of raw video, unless its name says")
    encode.add_argument("--fps", type=frame_rate, metavar="R", help="frames per second, e.g. 25 or 30000/1001")
    encode.add_argument("--pix-fmt", metavar="F", help="of raw video: yuv420p, yuv420p10le, gray, ...")
    encode.add_argument("--arithmetic", choices=["fp32", "bf16"], default="fp32", help="of the pictures (fp32)")
    encode.add_argument("--flat", action="store_true", help="all frames at one quality, the I-frames no better")
    encode.add_argument("--resume", action="store_true", help="go on with what an interrupted run left")
    encode.add_argument("--psnr", action="store_true", help="measure the RGB PSNR while encoding")
    _add_common(encode)
    encode.set_defaults(run=commands.encode)


def _add_decode(subcommands: Any) -> None:
    decode = subcommands.add_parser("decode", help="turn a stream into a video")
    decode.add_argument("input", metavar="INPUT.vcb", help="`-` for standard input")
    decode.add_argument(
        "output", metavar="OUTPUT", help=".y4m, .yuv, .mp4, .mkv, .webm, .png, a folder for PNG, `-` for y4m"
    )
    decode.add_argument("-m", "--model", metavar="MODEL_OR_PATH", help="if the stream's own isn't bundled")
    decode.add_argument("--seek", type=not_negative, default=0, metavar="N", help="begin with frame N")
    decode.add_argument("--frames", type=positive, metavar="N", help="decode at most N frames")
    decode.add_argument("--crf", type=float, help="of x264 (mp4, mkv) or VP9 (webm); default: lossless")
    decode.add_argument("--strict", action="store_true", help="stop at damage rather than bridge it")
    decode.add_argument(
        "--memory-limit", type=positive, metavar="GIB", help="for pictures that need more (the machine's, at most 32)"
    )
    _add_common(decode)
    decode.set_defaults(run=commands.decode)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", type=device, default="auto", metavar="auto|cpu|cuda")
    command.add_argument("--threads", type=positive, metavar="N", help="of the CPU, for each job")
    command.add_argument("--jobs", type=positive, default=1, metavar="N", help="GOPs at a time, one process each (1)")
    command.add_argument("--ray-address", metavar="A", help="take the jobs to a Ray cluster: auto or HOST:PORT")
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.add_argument("--quiet", action="store_true", help="no progress on standard error")


# --- Values of options; argparse says which option is wrong ---


def _whole_number(text: str, lowest: int, highest: int | None = None) -> int:
    value = int(text)
    if value < lowest or (highest is not None and value > highest):
        allowed = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise argparse.ArgumentTypeError(f"{value} is not {allowed}")
    return value


def positive(text: str) -> int:
    return _whole_number(text, 1)


def not_negative(text: str) -> int:
    return _whole_number(text, 0)


def quality(text: str) -> int:
    return _whole_number(text, 0, 63)


def gop_size(text: str) -> int:
    if int(text) == -1:
        return -1
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is neither 1 or more nor -1 (a single I-frame)")
    return int(text)


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 416x240")
    return int(match[1]), int(match[2])


def frame_rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 25, 29.97 or 30000/1001")
    return rate


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda")
    return text


# --- Ends ---


def _fail(sentence: str, code: int = EXIT_FAILED) -> int:
    print(f"vcodec: {sentence}", file=sys.stderr)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C: whatever is being written is removed on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
