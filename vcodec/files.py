"""Whole files: `encode` a video or picture to a .vcb file, `decode` one to frames."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tqdm import tqdm

from .bitstream import Damage, StreamHeader, StreamReader, StreamWriter
from .bitstream_types import Arithmetic
from .codec import Decoder, Encoder, bridge, check_gop_size, check_quality, decode_packets, encode_frames
from .errors import VcodecError
from .models import ImageModel, create_model, load_model
from .models.weights import shipped_weights, weights_hash
from .video import Frame, VideoFormat, open_video
from .video.output import PartialFile


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
           device: str = "auto", threads: int | None = None, arithmetic: Arithmetic = "fp32",
           measure_psnr: bool = False, progress: bool = False) -> EncodeReport:  # fmt: skip
    """Encodes a video or picture file (or "-", YUV4MPEG2 from standard input) to `path` ("-": standard output).

    model: a registered name, a model file, or a model. frames, seek: how many, from which. size, frame_rate,
    pixel_format: of raw video. progress: a bar on standard error. Raises VcodecError; nothing half-written is left.
    """
    device = choose_device(device)
    set_threads(threads)
    network = find_model(model)
    check_quality(network, quality)
    gop_size = check_gop_size(network, gop_size)
    start = time.perf_counter()
    with open_video(
        source, size=size, frame_rate=frame_rate, pixel_format=pixel_format, seek=seek, frames=frames
    ) as video:
        encoder = Encoder(network, video.format, quality, gop_size, device=device, arithmetic=arithmetic)
        header = StreamHeader(
            model=network.name, weights_hash=weights_hash(network), format=video.format, frame_rate=video.frame_rate,
            time_base=video.time_base, frame_count=video.frame_count, gop_size=gop_size, arithmetic=arithmetic,
        )  # fmt: skip
        with _output_file(path) as file:
            writer = StreamWriter(file, header)
            reports = []
            bar = _EncodeProgress(video.frame_count, video.format, progress)
            for packet, psnr in encode_frames(encoder, video, measure_psnr):
                report = FrameReport(packet.frame_type, packet.quality, writer.write(packet), psnr)
                reports.append(report)
                bar.step(report)
            bar.close()
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
           threads: int | None = None, seek: int = 0, frames: int | None = None, strict: bool = False,
           damage: list[Damage] | None = None) -> Iterator[Frame]:  # fmt: skip
    """The frames of a .vcb file (or "-", standard input), one after another.

    model: needed where the stream's model is not one that ships. seek, frames: where to start, how many.
    Frames that are lost repeat the last good picture and are appended to `damage`; with strict=True they raise.
    Raises VcodecError for a file that is none of ours, of another version or another model.
    """
    device = choose_device(device)
    set_threads(threads)
    with _input_file(path) as file:
        reader = StreamReader(file, strict=strict)
        header = reader.header
        network = find_stream_model(header, model)
        decoder = Decoder(network, header.format, device=device, arithmetic=header.arithmetic)
        first = reader.seek(seek) if seek else 0
        packets = decode_packets(decoder, reader, first, reader.pts_step, strict, [] if damage is None else damage)
        end = None if frames is None else seek - first + frames
        yield from islice(bridge(packets, header.format), seek - first, end)


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


def set_threads(threads: int | None) -> None:
    """Sets the number of threads of torch; None leaves it."""
    if threads is not None:
        if threads < 1:
            raise VcodecError(f"{threads} threads make no sense: give 1 or more")
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _output_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all went well."""
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = PartialFile(Path(path))
    try:
        with target.open() as file:
            yield file
        target.finish()
    except OSError as error:
        raise VcodecError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
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

    def close(self) -> None:
        self._bar.close()
