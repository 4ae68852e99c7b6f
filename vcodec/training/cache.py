"""Decoded training data: each clip is decoded once to uint8 RGB and then read at memory speed.

Three places to keep it: a folder of .npy files that are mapped into memory (workers and ranks share the
pages), the memory of this process, or the training device itself. "none" decodes again at every read.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..errors import VcodecError
from ..video import open_video, to_rgb
from .sources import IMAGE_SUFFIXES, Clip


class StoredClip(Protocol):
    """A clip whose size is known and whose pixels can be read at random."""

    clip: Clip
    shape: tuple[int, int, int]  # frames, height, width

    def read(self, frames: Sequence[int], top: int, left: int, height: int, width: int) -> Tensor:
        """The window at (top, left) of these frames: uint8 (T, height, width, 3), a copy."""


def open_clips(
    clips: Sequence[Clip], cache: str, *, threads: int = 2, device: torch.device | None = None
) -> list[StoredClip]:
    """The clips, decoded into `cache`: a folder, or "ram", "device" (needs `device`) or "none".

    A clip that can't be decoded is left out and reported on stderr; VcodecError if none can.
    """

    def store(clip: Clip) -> StoredClip | str:
        try:
            if clip.files[0].suffix == ".npy" and cache not in ("ram", "device"):
                return MappedClip(clip, clip.files[0])
            if cache == "none":
                return DirectClip(clip)
            if cache in ("ram", "device"):
                frames = decode_all(clip)
                return MemoryClip(clip, frames.to(device) if cache == "device" else frames)
            return MappedClip(clip, _decode_into(clip, Path(cache)))
        except VcodecError as error:
            return str(error)

    try:
        if cache not in ("ram", "device", "none"):
            Path(cache).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            results = pool.map(store, clips)
            stored = list(tqdm(results, "decoding", len(clips), unit="clip", delay=2, leave=False))
    except OSError as error:
        raise VcodecError(f"the cache {cache} can't be written ({error}); choose another with --cache") from error
    opened = [clip for clip in stored if not isinstance(clip, str)]
    problems = [problem for problem in stored if isinstance(problem, str)]
    if clips and not opened:
        raise VcodecError(f"none of the {len(clips)} clips can be used; the first: {problems[0]}")
    if problems:
        print(f"{len(problems)} of {len(clips)} clips left out; the first: {problems[0]}", file=sys.stderr)
    return opened


def decode(clip: Clip, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a clip, uint8 (H, W, 3), from `start` on. VcodecError if one can't be read."""
    if clip.files[0].suffix == ".npy":
        yield from _load_array(clip.files[0])[start : None if count is None else start + count]
    elif clip.files[0].suffix.lower() in IMAGE_SUFFIXES:
        size = None
        for path in clip.files[start : None if count is None else start + count]:
            picture = read_picture(path)
            if size not in (None, picture.shape):
                raise VcodecError(f"{path}: its size differs from that of the pictures before it")
            size = picture.shape
            yield picture
    else:
        with open_video(clip.files[0], seek=start, frames=count) as video:
            for frame in video:
                yield np.rint(to_rgb(frame) * 255).astype(np.uint8)


def decode_all(clip: Clip) -> Tensor:
    """All frames of a clip: uint8 (T, H, W, 3)."""
    frames = list(decode(clip))
    if not frames:
        raise VcodecError(f"{clip.files[0]}: no frames in it")
    return torch.from_numpy(np.stack(frames))


def read_picture(path: Path) -> np.ndarray:
    """One picture file as uint8 RGB (H, W, 3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise VcodecError(f"{path}: not a readable picture ({error})") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file, from its header."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise VcodecError(f"{path}: not a readable picture ({error})") from error


class MappedClip:
    """A clip in a .npy file of shape (T, H, W, 3); opened at the first read in each process."""

    def __init__(self, clip: Clip, path: Path) -> None:
        self.clip = clip
        self.path = path
        frames, height, width, _ = _load_array(path).shape
        self.shape = (frames, height, width)

    def read(self, frames: Sequence[int], top: int, left: int, height: int, width: int) -> Tensor:
        array = _load_array(self.path)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return torch.from_numpy(np.stack([array[t, rows, columns] for t in frames]))


class MemoryClip:
    """A clip held as a tensor, in RAM or on the training device."""

    def __init__(self, clip: Clip, pixels: Tensor) -> None:
        self.clip = clip
        self.pixels = pixels
        self.shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2])

    def read(self, frames: Sequence[int], top: int, left: int, height: int, width: int) -> Tensor:
        window = self.pixels[:, top : top + height, left : left + width]
        return torch.stack([window[t] for t in frames])


class DirectClip:
    """A clip that is decoded anew at every read: no memory, no disk, much time."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        if clip.files[0].suffix.lower() in IMAGE_SUFFIXES:
            self.shape = (len(clip.files), *picture_size(clip.files[0]))
        else:
            with open_video(clip.files[0]) as video:
                count = video.frame_count or sum(1 for _ in video)
                self.shape = (count, video.format.height, video.format.width)
        if not self.shape[0]:
            raise VcodecError(f"{clip.files[0]}: no frames in it")

    def read(self, frames: Sequence[int], top: int, left: int, height: int, width: int) -> Tensor:
        start = min(frames)
        pictures = list(decode(self.clip, start, max(frames) - start + 1))
        rows, columns = slice(top, top + height), slice(left, left + width)
        return torch.from_numpy(np.stack([pictures[t - start][rows, columns] for t in frames]))


@lru_cache(maxsize=512)
def _load_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise VcodecError(f"{path}: not a readable array file ({error})") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
        raise VcodecError(f"{path}: holds {array.dtype} {array.shape}, not uint8 frames (T, H, W, 3)")
    return array


def _decode_into(clip: Clip, folder: Path) -> Path:
    """Decode a clip to its .npy file in the cache folder, unless it is there; the file's path."""
    first = clip.files[0]
    try:
        status = first.stat()
    except OSError as error:
        raise VcodecError(f"{first}: can't be read ({error.strerror})") from error
    identity = f"{first.resolve()}|{status.st_size}|{status.st_mtime_ns}|{len(clip.files)}"
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npy"
    if path.is_file():
        return path
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _write_frames(file, clip)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _write_frames(file, clip: Clip) -> None:  # type: ignore[no-untyped-def]
    """Append frame after frame; the header is written again at the end, when their number is known."""
    shape: tuple[int, ...] | None = None
    count = 0
    for frame in decode(clip):
        if shape is None:
            shape = frame.shape
            _write_header(file, (0, *shape))
        file.write(np.ascontiguousarray(frame).data)
        count += 1
    if shape is None:
        raise VcodecError(f"{clip.files[0]}: no frames in it")
    file.seek(0)
    _write_header(file, (count, *shape))


def _write_header(file, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    # numpy leaves room in the header for the first axis to grow, so both headers have the same length
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
