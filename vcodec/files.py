"""Whole files: `encode` a video or picture to a .vcb file, `decode` one to frames."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tqdm import tqdm

from .bitstream import Damage, Packet, StreamHeader, StreamReader, StreamWriter
from .bitstream_syntax import write_header
from .bitstream_types import Arithmetic
from .codec import (
    Decoder,
    Encoder,
    bridge,
    cascades,
    check_gop_size,
    check_quality,
    decode_packets,
    encode_frames,
)
from .errors import VcodecError
from .layers.rate import frame_quality
from .memory import memory_of_machine
from .models import ImageModel, create_model, load_model
from .models.weights import shipped_weights, weights_hash
from .parallel import decode_gops, encode_gops, fits, workers
from .video import Frame, VideoFormat, open_video
from .video.output import PartialFile

MEMORY_LIMIT = 32 << 30
DECODING_BYTES_PER_PIXEL = 256
"""Of the default model, measured by benchmarks/endurance.py; larger models take more."""


@dataclass(frozen=True)
class FrameReport:
    """One coded frame: type I or P, quality, bytes with framing, RGB PSNR in dB if it was measured."""

    frame_type: str
    quality: int
    bytes: int
    psnr_rgb: float | None = None


@dataclass(frozen=True)
class EncodeReport:
    """What `encode` wrote: bytes of the whole file, bits per pixel, seconds, mean RGB PSNR if it was measured."""

    model: str
    width: int
    height: int
    frames: int
    bytes: int
    bpp: float
    seconds: float
    psnr_rgb: float | None
    per_frame: list[FrameReport] = field(default_factory=list)


def encode(source: str | Path, path: str | os.PathLike[str], *, model: str | ImageModel = "default",
           quality: int = 32, gop_size: int = 12, frames: int | None = None, seek: int = 0,
           size: tuple[int, int] | None = None, frame_rate: Fraction | None = None, pixel_format: str | None = None,
           device: str = "auto", threads: int | None = None, arithmetic: Arithmetic = "fp32", cascade: bool = True,
           resume: bool = False,
           jobs: int = 1, ray_address: str | None = None, measure_psnr: bool = False,
           progress: bool = False) -> EncodeReport:  # fmt: skip
    """Encodes a video or picture file (or "-", YUV4MPEG2 from standard input) to `path` ("-": standard output).

    model: a registered name, a model file, or a model. frames, seek: how many, from which. size, frame_rate,
    pixel_format: of raw video. cascade: frames at qualities around the one asked for (see `Encoder`). resume: go on
    with what an interrupted run left, and leave it when interrupted again. jobs: GOPs coded at a time, by as many
    processes of `threads` threads each (default: the cores shared out), or over a Ray cluster. progress: a bar on
    standard error. Raises VcodecError; nothing half-written is left.
    """
    device = choose_device(device)
    jobs, threads = check_jobs(jobs), set_threads(threads)
    network = find_model(model)
    check_quality(network, quality)
    gop_size = check_gop_size(network, gop_size)
    if resume and measure_psnr:
        raise VcodecError("the PSNR of frames that an earlier run has coded isn't known: resume without measuring it")
    start = time.perf_counter()
    with open_video(
        source, size=size, frame_rate=frame_rate, pixel_format=pixel_format, seek=seek, frames=frames
    ) as video:
        header = StreamHeader(
            model=network.name, weights_hash=weights_hash(network), format=video.format, frame_rate=video.frame_rate,
            time_base=video.time_base, frame_count=video.frame_count, gop_size=gop_size, arithmetic=arithmetic,
        )  # fmt: skip
        cascade = cascade and cascades(network, gop_size) and video.frame_count != 1  # nothing follows a picture
        make = partial(
            Encoder, network, video.format, quality, gop_size, device=device, arithmetic=arithmetic, cascade=cascade
        )
        with _output_file(path, resume) as file, contextlib.ExitStack() as stack:
            writer, reports = begin_stream(file, header, source)
            _check_resumed(path, reports, quality, cascade)
            to_come = islice(video, len(reports), None)
            if (jobs > 1 or ray_address) and fits(video.format, gop_size):
                submit = stack.enter_context(workers(make, jobs, threads or share_of_cores(jobs), ray_address))
                coded = encode_gops(submit, jobs, to_come, gop_size, measure_psnr)
            else:
                coded = encode_frames(make(), to_come, measure_psnr)
            bar = stack.enter_context(_EncodeProgress(video.frame_count, video.format, progress))
            for report in reports:
                bar.step(report)
            for packet, psnr in coded:
                reports.append(FrameReport(packet.frame_type, packet.quality, writer.write(packet), psnr))
                file.flush()  # what is coded stays, whatever happens
                bar.step(reports[-1])
            if not reports:
                raise VcodecError(f"{source}: there is no frame to encode")
            writer.close()
    pixels = video.format.width * video.format.height * len(reports)
    measured = [r.psnr_rgb for r in reports if r.psnr_rgb is not None]
    return EncodeReport(
        model=network.name, width=video.format.width, height=video.format.height, frames=len(reports),
        bytes=writer.bytes_written, bpp=8 * writer.bytes_written / pixels, seconds=time.perf_counter() - start,
        psnr_rgb=float(np.mean(measured)) if measured else None, per_frame=reports,
    )  # fmt: skip


def decode(path: str | os.PathLike[str] | BinaryIO, *, model: str | ImageModel | None = None, device: str = "auto",
           threads: int | None = None, seek: int = 0, frames: int | None = None, strict: bool = False, jobs: int = 1,
           ray_address: str | None = None, memory_limit: int | None = None,
           damage: list[Damage] | None = None) -> Iterator[Frame]:  # fmt: skip
    """The frames of a .vcb file (or "-", standard input), one after another.

    model: needed where the stream's model is not one that ships. seek, frames: where to start, how many.
    Frames that are lost repeat the last good picture and are appended to `damage`; with strict=True they raise.
    jobs, ray_address: as in `encode`. memory_limit: see `check_memory`. Raises VcodecError for a file that is none of
    ours, of another version or another model, or whose pictures are too large.
    """
    device = choose_device(device)
    jobs, threads = check_jobs(jobs), set_threads(threads)
    damage = [] if damage is None else damage
    with _input_file(path) as file, contextlib.ExitStack() as stack:
        reader = StreamReader(file, strict=strict)
        header = reader.header
        check_memory(header.format, jobs, memory_limit)
        network = find_stream_model(header, model)
        make = partial(Decoder, network, header.format, device=device, arithmetic=header.arithmetic)
        first = reader.seek(seek) if seek else 0
        if (jobs > 1 or ray_address) and fits(header.format, header.gop_size):
            submit = stack.enter_context(workers(make, jobs, threads or share_of_cores(jobs), ray_address))
            decoded = decode_gops(submit, jobs, reader, first, reader.pts_step, strict, damage, header.gop_size)
        else:
            decoded = decode_packets(make(), reader, first, reader.pts_step, strict, damage)
        end = None if frames is None else seek - first + frames
        yield from islice(bridge(decoded, header.format), seek - first, end)


def begin_stream(file: BinaryIO, header: StreamHeader,
                 source: str | Path) -> tuple[StreamWriter, list[FrameReport]]:  # fmt: skip
    """A writer, and reports of the frames that are in the file already.

    Where the file can be read, it is an earlier run's, and the writer goes on after its last whole GOP. Raises
    VcodecError when it holds something else.
    """
    if not file.readable():
        return StreamWriter(file, header), []
    start = write_header(header)
    found = file.read(len(start))
    file.seek(0)
    if start.startswith(found) and found != start:
        file.truncate()
        return StreamWriter(file, header), []
    changed = Path(source).is_file() and Path(source).stat().st_mtime > os.fstat(file.fileno()).st_mtime
    writer = StreamWriter.resume(file, header)
    file.seek(0)
    reader = StreamReader(file, strict=True)
    reports = [
        FrameReport(packet.frame_type, packet.quality, reader.packet_bytes)
        for packet in islice(reader, writer.frame_count)
        if isinstance(packet, Packet)
    ]
    file.seek(0, os.SEEK_END)
    if changed:
        raise VcodecError(f"{file.name}: unfinished, but of an older video; delete it")
    return writer, reports


def _check_resumed(path: str | os.PathLike[str], reports: list[FrameReport], quality: int, cascade: bool) -> None:
    """Raises VcodecError when the frames that an earlier run has coded are of another quality than is asked for."""
    position = 0
    for report in reports:
        position = 0 if report.frame_type == "I" else position + 1
        if report.quality != (frame_quality(quality, position) if cascade else quality):
            raise VcodecError(f"{path}.part: unfinished, but of another quality (or --flat); delete it")


def find_model(model: str | ImageModel) -> ImageModel:
    """A model by registered name, by the path of a model file, or as it is."""
    if isinstance(model, ImageModel):
        return model
    if model.endswith(".safetensors") or os.sep in model:
        return load_model(model)
    return create_model(model)


def find_stream_model(header: StreamHeader, model: str | ImageModel | None = None) -> ImageModel:
    """The model that a stream was made with. Raises VcodecError when it is not at hand or another one."""
    if model is None:
        if shipped_weights(header.model) is None:
            raise VcodecError(
                f"the stream was made with model '{header.model}', which does not ship with this version: "
                "give its file with -m"
            )
        model = header.model
    network = find_model(model)
    if weights_hash(network) != header.weights_hash:
        raise VcodecError(
            f"the stream was made with model '{header.model}' (weights {header.weights_hash.hex()}), but "
            f"'{network.name}' has weights {weights_hash(network).hex()}: give the very model it was made with"
        )
    return network


def choose_device(device: str) -> str:
    """cpu or cuda for "auto". Raises VcodecError when CUDA is asked for and not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise VcodecError("no CUDA device is available here: use --device cpu")
    return device


def set_threads(threads: int | None) -> int | None:
    """Sets the number of threads of torch; None leaves it. Raises VcodecError under 1."""
    if threads is not None:
        if threads < 1:
            raise VcodecError(f"{threads} threads make no sense: give 1 or more")
        torch.set_num_threads(threads)
    return threads


def check_jobs(jobs: int) -> int:
    """Raises VcodecError under 1."""
    if jobs < 1:
        raise VcodecError(f"{jobs} jobs make no sense: give 1 or more")
    return jobs


def check_memory(format: VideoFormat, jobs: int = 1, limit: int | None = None) -> None:
    """Raises VcodecError for pictures that take more memory to decode than `limit` bytes.

    A stream of sixty bytes may declare pictures that take a hundred gigabytes. The default limit is what the machine
    has, and 32 GiB at most.
    """
    if limit is None:
        limit = min(memory_of_machine() or MEMORY_LIMIT, MEMORY_LIMIT)
    needed = DECODING_BYTES_PER_PIXEL * format.width * format.height * jobs
    if needed > limit:
        raise VcodecError(
            f"pictures of {format.width}x{format.height} take about {needed / 2**30:.1f} GiB of memory to decode, and "
            f"the limit is {limit / 2**30:.1f} GiB: raise it (--memory-limit) if you trust the stream"
        )


def share_of_cores(jobs: int) -> int:
    """Threads for each of so many processes."""
    return max(1, torch.get_num_threads() // jobs)


@contextlib.contextmanager
def _output_file(path: str | os.PathLike[str], resume: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all went well.

    resume: open what an earlier run left, to be read and written, and leave it if something goes wrong again.
    """
    if str(path) == "-":
        if resume:
            raise VcodecError("standard output can't be resumed: give the name of a file")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = PartialFile(Path(path))
    try:
        with target.part.open("r+b") if resume and target.part.is_file() else target.open() as file:
            yield file
            file.flush()
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fsync(file.fileno())  # before the name says that it is whole
        target.finish()
    except OSError as error:
        raise VcodecError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        if not resume:
            target.discard()


@contextlib.contextmanager
def _input_file(path: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(path, str | os.PathLike):
        yield path
    elif str(path) == "-":
        yield sys.stdin.buffer
    else:
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise VcodecError(f"{path}: can't be read: {error.strerror or error}") from error
        with file:
            yield file


class _EncodeProgress:
    """The bar of `encode`: frames per second, time left, bits per pixel so far."""

    def __init__(self, frames: int | None, format: VideoFormat, shown: bool):
        self._bar = tqdm(total=frames, unit="frame", disable=not shown, file=sys.stderr)
        self._pixels, self._bytes, self._frames = format.width * format.height, 0, 0

    def step(self, report: FrameReport) -> None:
        self._bytes, self._frames = self._bytes + report.bytes, self._frames + 1
        self._bar.set_postfix_str(f"{8 * self._bytes / self._pixels / self._frames:.4f} bpp", refresh=False)
        self._bar.update()

    def __enter__(self) -> _EncodeProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
