"""Memory over a long video: a clip is repeated, encoded and decoded through pipes by the command line, one after the
other, and the peak of each process is read when it has coded so many frames.

    python benchmarks/endurance.py [--clip CLIP] [--frames 100 1000 2000] [--model NAME] [--threads 1] [--json]

The clip is the bundled one, or e.g. DATA/eval/hevc_d_BasketballPass_416x240.mp4. Linux only (/proc).
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vcodec.video import Frame, open_video
from vcodec.video.raw import Y4mSink, Y4mSource

BUNDLED = Path(__file__).parent.parent / "vcodec" / "data" / "street.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clip", type=Path, default=BUNDLED)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000, 2000], help="when to look at the peak")
    parser.add_argument("--model", default="default")
    parser.add_argument("--quality", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    marks = sorted(arguments.frames)
    with open_video(arguments.clip) as video:
        format = video.format
    results: dict[str, Any] = {"clip": arguments.clip.name, "size": f"{format.width}x{format.height}"}
    with tempfile.TemporaryDirectory() as folder:
        stream, options = Path(folder) / "long.vcb", ["--threads", str(arguments.threads), "--quiet"]
        encode = ["encode", "-", stream, "-m", arguments.model, "-q", str(arguments.quality), *options]
        results["encode_mib"], results["encode_frames_per_second"] = _encode(encode, arguments.clip, marks)
        decode = ["decode", stream, "-", *options]
        if "." in arguments.model:
            decode += ["-m", arguments.model]
        results["decode_mib"], results["decode_frames_per_second"] = _decode(decode, marks)
        results["stream_bytes"] = stream.stat().st_size
    if arguments.json:
        print(json.dumps(results))
        return
    for key, value in results.items():
        print(f"{key:26s} {value}")


def _encode(command: list[object], clip: Path, marks: list[int]) -> tuple[dict[int, float], float]:
    """The peak in MiB when so many frames are encoded, and frames per second."""
    peaks, start = {}, time.perf_counter()
    with _started(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        frames = _repeated(clip)
        sink = Y4mSink(process.stdin, next(frames).format, Fraction(25))  # type: ignore[arg-type]
        for count, frame in enumerate(tqdm(islice(frames, marks[-1]), "encode", marks[-1]), 1):
            sink.write(frame)  # a pipe holds less than one frame: the one before has been taken out
            if count in marks:
                peaks[count] = _peak(process)
                tqdm.write(f"{count} frames encoded: {peaks[count]} MiB", file=sys.stderr)
        process.stdin.close()
    return peaks, round(marks[-1] / (time.perf_counter() - start), 2)


def _decode(command: list[object], marks: list[int]) -> tuple[dict[int, float], float]:
    peaks, start = {}, time.perf_counter()
    with _started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        frames = Y4mSource(process.stdout, "the decoder").frames(0)  # type: ignore[arg-type]
        for count, _ in enumerate(tqdm(frames, "decode", marks[-1]), 1):
            if count in marks:
                peaks[count] = _peak(process)
                tqdm.write(f"{count} frames decoded: {peaks[count]} MiB", file=sys.stderr)
    return peaks, round(marks[-1] / (time.perf_counter() - start), 2)


@contextlib.contextmanager
def _started(command: list[object], **options: Any) -> Iterator[subprocess.Popen]:
    """The command line at work; it must end well."""
    arguments = [sys.executable, "-m", "vcodec.cli", *map(str, command)]
    with subprocess.Popen(arguments, **options) as process:
        yield process
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed")


def _repeated(clip: Path) -> Iterator[Frame]:
    """The clip forwards, over and over."""
    while True:
        with open_video(clip) as video:
            yield from video


def _peak(process: subprocess.Popen) -> float:
    """The most memory that a process has held so far, in MiB (the high-water mark of its resident set)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


if __name__ == "__main__":
    main()
