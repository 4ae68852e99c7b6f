"""What the subcommands of `vcodec` do, on top of `vcodec.encode`, `vcodec.decode` and the reader of streams.

Everything that brings torch or PyAV with it is imported where it is used: `vcodec info` starts at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any, BinaryIO, TextIO, cast

from .bitstream import Damage, StreamHeader, StreamReader
from .bitstream_syntax import VERSION
from .errors import VcodecError
from .video.output import standard_output
from .video.reader import reason_of

SUFFIX = ".vcb"


def encode(options: argparse.Namespace) -> int:
    """Compress; prints one line, or JSON with every frame."""
    check_encode_output(options.input, options.output)
    from .files import encode as encode_file

    report = encode_file(
        options.input,
        options.output,
        model=options.model,
        quality=options.quality,
        gop_size=options.gop,
        frames=options.frames,
        seek=options.seek,
        size=options.size,
        frame_rate=options.fps,
        pixel_format=options.pix_fmt,
        device=options.device,
        threads=options.threads,
        arithmetic=options.arithmetic,
        cascade=not options.flat,
        resume=options.resume,
        jobs=options.jobs,
        ray_address=options.ray_address,
        measure_psnr=options.psnr,
        progress=not options.quiet,
    )
    out = results_to(options.output)
    if options.json:
        print_json({"input": options.input, "output": options.output, **asdict(report)}, out)
        return 0
    psnr = "" if report.psnr_rgb is None else f", RGB PSNR {report.psnr_rgb:.2f} dB"
    print(
        f"{options.output}: {counted_frames(report.frames)} of {report.width}x{report.height}, {report.bytes} bytes, "
        f"{report.bpp:.4f} bpp{psnr}, {report.seconds:.1f} s ({report.frames / report.seconds:.1f} frames/s)",
        file=out,
    )
    return 0


def check_encode_output(source: str, output: str) -> None:
    """Raises VcodecError for a name that is not meant for a stream, before anything is read."""
    if output == "-":
        standard_output()
    elif not output.endswith(SUFFIX):
        raise VcodecError(f"{output}: name the coded file with the ending {SUFFIX}")
    elif os.path.isdir(output):
        raise VcodecError(f"{output}: is a folder")
    elif same_file(source, output):
        raise VcodecError(f"{output}: input and output are the same file")


def decode(options: argparse.Namespace) -> int:
    """Decompress; lost frames repeat the last good one, are reported, and make the exit code 1."""
    if same_file(options.input, options.output):
        raise VcodecError(f"{options.output}: input and output are the same file")
    started = time.perf_counter()
    damage: list[Damage] = []
    with open_stream(options.input) as (stream, header, frame_count):
        written = write_frames(options, stream, header, frame_count, damage)
    for lost in damage:
        print(f"vcodec: {describe_damage(options.input, header, lost)}", file=sys.stderr)
    seconds = time.perf_counter() - started
    video = header.format
    report = {
        "input": options.input,
        "output": options.output,
        "model": header.model,
        "width": video.width,
        "height": video.height,
        "frames": written,
        "seconds": seconds,
        "damage": [asdict(lost) for lost in damage],
    }
    if options.json:
        print_json(report, results_to(options.output))
    elif options.output != "-":
        speed = f"{seconds:.1f} s ({written / seconds:.1f} frames/s)"
        print(f"{options.output}: {counted_frames(written)} of {video.width}x{video.height}, {speed}")
    return 1 if damage else 0


def write_frames(
    options: argparse.Namespace,
    stream: str | BinaryIO,
    header: StreamHeader,
    frame_count: int | None,
    damage: list[Damage],
) -> int:
    """Decode into the output; returns the number of frames. Without a single one, nothing is written."""
    from tqdm import tqdm

    from .files import decode as decode_file
    from .video import create_video

    frames = decode_file(
        stream,
        model=options.model,
        device=options.device,
        threads=options.threads,
        seek=options.seek,
        frames=options.frames,
        strict=options.strict,
        jobs=options.jobs,
        ray_address=options.ray_address,
        memory_limit=options.memory_limit and options.memory_limit << 30,
        damage=damage,
    )
    first = next(frames, None)
    if first is None:
        reason = damage[0].reason if damage else "there is none in it"
        raise VcodecError(f"{options.input}: no frame can be decoded: {reason}")
    expected = [count for count in (frame_count and frame_count - options.seek, options.frames) if count]
    total = min(expected, default=None)
    with (
        create_video(
            options.output, header.format, header.frame_rate, header.time_base, crf=options.crf
        ) as writer,
        tqdm(total=total, unit="frame", file=sys.stderr, disable=options.quiet) as bar,
    ):
        for frame in chain([first], frames):
            writer.write(frame)
            bar.update()
    return writer.frame_count


def info(options: argparse.Namespace) -> int:
    """Print the header, then every frame with its type, quality, time and bytes."""
    frames: list[dict[str, Any]] = []
    damage: list[Damage] = []
    with open_input(options.input) as file:
        length = file.seek(0, os.SEEK_END) if file.seekable() else 0
        if length:
            file.seek(0)
        reader = StreamReader(file)
        for item in reader:
            if isinstance(item, Damage):
                damage.append(item)
                continue
            frames.append(
                {
                    "frame": reader.frame,
                    "type": item.frame_type,
                    "quality": item.quality,
                    "pts": item.pts,
                    "bytes": reader.packet_bytes,
                    "payload_bytes": len(item.payload),
                    "skip": item.skip,
                }
            )
            length = max(length, reader.packet_offset + reader.packet_bytes)
    header = stream_info(reader.header, len(frames), length)
    if options.json:
        lost = [asdict(item) for item in damage]
        print_json({"file": options.input, **header, "frames": frames, "damage": lost}, sys.stdout)
    else:
        print_info(options.input, header, frames)
    for item in damage:
        print(f"vcodec: {describe_damage(options.input, reader.header, item)}", file=sys.stderr)
    return 1 if damage else 0


def stream_info(header: StreamHeader, frames: int, length: int) -> dict[str, Any]:
    """A header as JSON; rates as ratios in text, such as "30000/1001"."""
    video = header.format
    seconds = frames / float(header.frame_rate) if header.frame_rate else None
    return {
        "version": VERSION,
        "model": header.model,
        "weights_hash": header.weights_hash.hex(),
        "arithmetic": header.arithmetic,
        "width": video.width,
        "height": video.height,
        "chroma": video.chroma,
        "bit_depth": video.bit_depth,
        "matrix": video.matrix,
        "full_range": video.full_range,
        "primaries": video.primaries,
        "transfer": video.transfer,
        "sample_aspect_ratio": str(video.sample_aspect_ratio),
        "frame_rate": str(header.frame_rate) if header.frame_rate else None,
        "time_base": str(header.time_base),
        "gop_size": header.gop_size,
        "frame_count": frames,
        "announced_frame_count": header.frame_count,
        "bytes": length,
        "bpp": 8 * length / (frames * video.width * video.height) if frames else None,
        "kilobits_per_second": 8 * length / seconds / 1000 if seconds else None,
    }


def print_info(name: str, header: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    """For people."""
    colour = "" if header["chroma"] in ("gray", "rgb") else f" {header['matrix']}"
    span = "full" if header["full_range"] else "limited"
    rate = f"{header['frame_rate']} frames/s" if header["frame_rate"] else "frame rate unknown"
    print(f"{name}: version {header['version']}")
    print(f"model     {header['model']}, weights {header['weights_hash']}, {header['arithmetic']}")
    print(
        f"picture   {header['width']}x{header['height']} {header['chroma']} {header['bit_depth']} bit"
        f"{colour} {span} range, {rate}, time base {header['time_base']}"
    )
    gop = "a single I-frame" if header["gop_size"] == -1 else f"GOP {header['gop_size']}"
    bpp = f", {header['bpp']:.4f} bpp" if header["bpp"] is not None else ""
    kilobits = header["kilobits_per_second"]
    bit_rate = f", {kilobits:.1f} kbit/s" if kilobits is not None else ""
    print(f"frames    {header['frame_count']}, {gop}, {header['bytes']} bytes{bpp}{bit_rate}")
    print(f"{'frame':>7} type quality {'pts':>10} {'bytes':>8}  skipped")
    skipped = ("", "flow", "residual", "flow and residual")
    for frame in frames:
        print(
            f"{frame['frame']:>7} {frame['type']:>4} {frame['quality']:>7} {frame['pts']:>10} "
            f"{frame['bytes']:>8}  {skipped[frame['skip']]}".rstrip()
        )


def models(options: argparse.Namespace) -> int:
    """List the registered models, their sizes, and which of them come with weights."""
    from .models import describe_models

    entries = describe_models()
    if options.json:
        print_json([asdict(entry) for entry in entries], sys.stdout)
        return 0
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        weights = "weights" if entry.weights else "-"
        size = f"{entry.parameters / 1e6:.1f} M"
        print(f"{entry.name:{width}}  {entry.kind:5}  {size:>7}  {entry.transform:8}  {weights:7}  {entry.notes}")
    return 0


def demo(options: argparse.Namespace) -> int:
    """See `vcodec.demo`."""
    from .demo import run_demo

    return run_demo(options)


# --- What they share ---


@contextlib.contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """A file, or standard input for `-`."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(name, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise VcodecError(f"{name}: {reason_of(error)}") from error
    with file:
        yield file


@contextlib.contextmanager
def open_stream(name: str) -> Iterator[tuple[str | BinaryIO, StreamHeader, int | None]]:
    """What to decode, its header, and its number of frames if that is known."""
    if name == "-":
        pipe = cast(BinaryIO, Replay(sys.stdin.buffer))
        header = StreamReader(pipe).header
        pipe.seek(0)
        yield pipe, header, header.frame_count
        return
    with open_input(name) as file:
        reader = StreamReader(file)
        header, frame_count = reader.header, reader.frame_count
    yield name, header, frame_count


class Replay:
    """A pipe that can be rewound once: its header is read first, then everything."""

    name = "standard input"

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._seen: list[bytes] | None = []
        self._again: list[bytes] = []

    def seekable(self) -> bool:
        return False

    def read1(self, size: int) -> bytes:
        if self._again:
            return self._again.pop(0)
        data = cast(bytes, self._pipe.read1(size))  # type: ignore[attr-defined]
        if self._seen is not None:
            self._seen.append(data)
        return data

    read = read1

    def seek(self, offset: int) -> None:
        """Back to the beginning."""
        self._again, self._seen = self._seen or [], None


def counted_frames(count: int) -> str:
    """So many frames, in words."""
    return f"{count} frame{'' if count == 1 else 's'}"


def describe_damage(name: str, header: StreamHeader, lost: Damage) -> str:
    """One sentence: which frames are lost, and why."""
    if lost.count == 0:
        announced = f" of {header.frame_count}" if header.frame_count else ""
        where = f"after frame {lost.frame - 1}{announced}" if lost.frame else "at all"
        return f"{name}: nothing can be read {where}: {lost.reason}"
    last = lost.frame + lost.count - 1
    frames = f"frame {last} is" if lost.count == 1 else f"frames {lost.frame} to {last} are"
    return f"{name}: {frames} lost: {lost.reason}"


def same_file(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def results_to(output: str) -> TextIO:
    """Standard output, unless the data goes there."""
    return sys.stderr if output == "-" else sys.stdout


def print_json(value: object, file: TextIO) -> None:
    print(json.dumps(value, indent=1), file=file)
