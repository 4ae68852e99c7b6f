"""`vcodec demo`: compress a short real clip, decode it, and compare with x264 and x265 under the same protocol."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import VcodecError

CLIP = "street.mp4"
SHOWN_QUALITY = 32


def run_demo(options: argparse.Namespace) -> int:
    """Write NAME.vcb, its decoded pictures, table.md, results.json and rd.png to the output folder."""
    output = Path(options.output)
    if output.exists() and not output.is_dir():
        raise VcodecError(f"{output}: is no folder; name another with --output")
    output.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("vcodec.data") / CLIP) as bundled:
        clip = Path(options.input) if options.input else bundled
        show_one_file(clip, output, options)
        compare(clip, output, options)
    return 0


def show_one_file(clip: Path, output: Path, options: argparse.Namespace) -> None:
    """From file to file, as `vcodec encode` and `vcodec decode` do."""
    from .files import decode, encode
    from .video import create_video, open_video

    stream, decoded = output / f"{clip.stem}.vcb", output / f"{clip.stem}_decoded.mp4"
    print(f"{clip} -> {stream}", flush=True)
    report = encode(
        clip,
        stream,
        model=options.model,
        quality=SHOWN_QUALITY,
        frames=options.frames,
        device=options.device,
        progress=True,
    )
    print(f"{stream} -> {decoded}", flush=True)
    with (
        open_video(clip) as video,
        create_video(decoded, video.format, video.frame_rate, video.time_base) as writer,
    ):
        for frame in decode(stream, model=options.model, device=options.device):
            writer.write(frame)
    raw = report.frames * video.format.frame_bytes
    print(
        f"{report.frames} frames of {report.width}x{report.height}: {raw} bytes of samples became {report.bytes} "
        f"({report.bpp:.4f} bits per pixel)\n",
        flush=True,
    )


def compare(clip: Path, output: Path, options: argparse.Namespace) -> None:
    """All codecs at all their qualities; every point is a real file that was decoded again."""
    from .evaluation.codecs import CodecOptions, create_codecs
    from .evaluation.jobs import Job
    from .evaluation.plots import write_plots
    from .evaluation.presets import PAPER
    from .evaluation.report import markdown_table
    from .evaluation.results import Results
    from .evaluation.runner import run_jobs, write_whole
    from .evaluation.sequences import Source, VideoSequence
    from .models import DEFAULT_MODEL

    model = DEFAULT_MODEL if options.model == "default" else options.model
    codecs = create_codecs(["x264", "x265", model], PAPER, CodecOptions(device=options.device))
    source = Source(VideoSequence(clip.stem, clip), options.frames, PAPER.bit_depth)
    jobs = [Job(codec, source, quality, PAPER) for codec in codecs for quality in codec.qualities(source)]
    print(f"Comparing {len(jobs)} files: {PAPER.description}", flush=True)
    with tempfile.TemporaryDirectory(prefix="vcodec-demo-") as scratch:
        outcome = run_jobs(jobs, Path(scratch))
    for failure in outcome.failures:
        print(f"vcodec: {failure}", file=sys.stderr)
    if outcome.failures:
        raise VcodecError(f"{len(outcome.failures)} of {len(jobs)} points of the comparison failed")

    labels = [codec.label for codec in codecs]
    results = Results(outcome.records, labels, [source.name], PAPER.headline)
    head = ["codec", "quality", "bytes", "bpp", "RGB PSNR", "YUV PSNR", "encode s", "decode s"]
    rows = [row_of(point) for label in labels for point in results.points(label, source.name)]
    table = markdown_table(*aligned(head, rows))
    print(f"\n{table}\n")
    write_whole(output / "table.md", (table + "\n").encode())
    write_whole(output / "results.json", (json.dumps(outcome.records, indent=1) + "\n").encode())
    write_plots(results, output)
    print(f"The curves: {output / 'rd.png'}")


def row_of(point: dict[str, Any]) -> list[str]:
    """One line of the table; the quality is x264's and x265's CRF, and our own from 0 to 63."""
    return [
        point["codec"],
        str(point["quality"]),
        str(point["bytes"]),
        f"{point['bpp']:.4f}",
        f"{point['psnr_rgb']:.2f}",
        "-" if point["psnr_yuv"] is None else f"{point['psnr_yuv']:.2f}",
        f"{point['encode_seconds']:.2f}",
        f"{point['decode_seconds']:.2f}",
    ]


def aligned(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Cells of one width in a column, numbers to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(row: list[str]) -> list[str]:
        first = row[0].ljust(widths[0])
        return [first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]

    return line(head), [line(row) for row in rows]
