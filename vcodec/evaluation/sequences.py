"""What is compressed: data sets of video sequences, by manifest, by folder, or by the name of a standard set.

A manifest is a JSON file beside the videos, either a list of sequences or an object with `name` and `sequences`:

    {"name": "mine", "sequences": [{"file": "a.yuv", "width": 416, "height": 240, "frame_rate": "50", "frames": 96,
                                    "format": "yuv420p"}]}

Only `file` is required for containers; raw .yuv files need size and format. `name` defaults to the file's stem.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from fractions import Fraction
from functools import cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vcodec.errors import VcodecError
from vcodec.video import Frame, VideoFormat, VideoReader, create_video, open_video

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".y4m", ".yuv")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class VideoSequence:
    """One video of a data set; None where the file itself says."""

    name: str
    path: Path
    size: tuple[int, int] | None = None
    """(width, height) of raw video."""
    pixel_format: str | None = None
    """Of raw video, in FFmpeg's names."""
    frame_rate: Fraction | None = None
    frames: int | None = None

    @property
    def raw_format(self) -> dict[str, Any]:
        """What has to be told of raw video to whoever opens it; nothing of other files."""
        if self.path.suffix.lower() != ".yuv":
            return {}
        return {"size": self.size, "pixel_format": self.pixel_format, "frame_rate": self.frame_rate}

    def open(self) -> VideoReader:
        return open_video(self.path, frames=self.frames, **self.raw_format)


@dataclass(frozen=True)
class Dataset:
    name: str
    directory: Path
    sequences: tuple[VideoSequence, ...]

    def select(self, patterns: list[str]) -> "Dataset":
        """The sequences whose name matches one of the shell patterns; a pattern with ! in front leaves out."""
        wanted = [p for p in patterns if not p.startswith("!")] or ["*"]
        unwanted = [p[1:] for p in patterns if p.startswith("!")]
        chosen = tuple(
            sequence
            for sequence in self.sequences
            if any(fnmatch(sequence.name, p) for p in wanted) and not any(fnmatch(sequence.name, p) for p in unwanted)
        )
        if not chosen:
            names = ", ".join(sequence.name for sequence in self.sequences)
            raise VcodecError(f"No sequence of {self.name} matches {', '.join(patterns)}; there are {names}.")
        return Dataset(self.name, self.directory, chosen)


@dataclass(frozen=True)
class Source:
    """What every codec of a run is given: the first frames of a sequence, at the protocol's bit depth.

    Args:
        sequence: where the frames come from.
        frames: how many at most; None: all.
        bit_depth: 8 rounds deeper video to 8 bits; None keeps the video's own depth.
    """

    sequence: VideoSequence
    frames: int | None = None
    bit_depth: int | None = None

    @property
    def name(self) -> str:
        return self.sequence.name

    @cached_property
    def format(self) -> VideoFormat:
        return next(iter(islice(self, 1))).format

    @cached_property
    def frame_rate(self) -> Fraction:
        with self.sequence.open() as reader:
            return self.sequence.frame_rate or reader.frame_rate or Fraction(25)

    @property
    def is_converted(self) -> bool:
        """Whether the frames differ from those in the sequence's own file."""
        with self.sequence.open() as reader:
            return self.bit_depth == 8 and reader.format.bit_depth > 8

    def __iter__(self) -> Iterator[Frame]:
        with self.sequence.open() as reader:
            for frame in islice(reader, self.frames):
                yield to_8_bits(frame) if self.bit_depth == 8 else frame

    @property
    def frames_at_most(self) -> int | None:
        """The smaller of what the sequence has and what is asked for; None if neither says."""
        limits = [limit for limit in (self.frames, self.sequence.frames) if limit is not None]
        return min(limits, default=None)

    def count(self) -> int:
        """The number of frames, counted."""
        return sum(1 for _ in self)

    def write(self, path: Path) -> int:
        """Write the frames to a file that other programs read, .yuv or .y4m; returns how many."""
        frames = 0
        with create_video(path, self.format, self.frame_rate) as writer:
            for frame in self:
                writer.write(frame)
                frames += 1
        return frames

    def identity(self) -> dict[str, Any]:
        """What tells this source from another one of the same name, for resuming."""
        return {
            "file": self.sequence.path.name,
            "file_bytes": self.sequence.path.stat().st_size,
            "frames_at_most": self.frames,
            "bit_depth": self.bit_depth,
        }


def to_8_bits(frame: Frame) -> Frame:
    """A frame with its samples divided by four and rounded if it has 10 bits."""
    if frame.format.bit_depth == 8:
        return frame
    shift = frame.format.bit_depth - 8
    format = VideoFormat(**{**frame.format.__dict__, "bit_depth": 8})
    planes = tuple(
        np.minimum((p.astype(np.uint32) + (1 << shift >> 1)) >> shift, 255).astype(np.uint8) for p in frame.planes
    )
    return Frame(planes, frame.pts, format)


def standard_datasets() -> dict[str, dict[str, Any]]:
    """The manifests that come with this package: UVG, MCL-JCV and the HEVC test classes, by name."""
    folder = resources.files("vcodec.evaluation") / "datasets"
    manifests = [json.loads(entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".json")]
    return {manifest["name"]: manifest for manifest in sorted(manifests, key=lambda m: str(m["name"]))}


def load_dataset(where: str, root: Path | None = None) -> Dataset:
    """A data set from a manifest, a folder, or the name of a standard set whose files lie under `root`.

    Raises:
        VcodecError: nothing there, or files of the set are missing; the message says what is expected.
    """
    path = Path(where)
    if path.is_file():
        return _from_manifest(path)
    if path.is_dir():
        return _from_manifest(path / MANIFEST) if (path / MANIFEST).is_file() else _from_folder(path)
    manifest = standard_datasets().get(where.lower())
    if manifest is None:
        raise VcodecError(
            f"{where}: neither a folder, nor a manifest, nor the name of a standard data set "
            f"({', '.join(standard_datasets())})."
        )
    return _standard(manifest, root or Path("data") / str(manifest["name"]))


def _standard(manifest: dict[str, Any], directory: Path) -> Dataset:
    missing = [entry["file"] for entry in manifest["sequences"] if not (directory / entry["file"]).is_file()]
    if missing:
        count = len(manifest["sequences"])
        raise VcodecError(
            f"{manifest['title']}: {len(missing)} of {count} files are not in {directory} "
            f"(the first is {missing[0]}). {manifest['source']} Name the folder with --data-root."
        )
    return Dataset(manifest["name"], directory, _sequences(manifest["sequences"], directory, str(manifest["name"])))


def _from_manifest(path: Path) -> Dataset:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise VcodecError(f"{path}: not a manifest in JSON ({error}).") from error
    entries = content.get("sequences") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise VcodecError(f"{path}: a manifest is a list of sequences, or an object with such a list as `sequences`.")
    name = content.get("name", path.parent.name) if isinstance(content, dict) else path.resolve().parent.name
    sequences = _sequences(entries, path.parent, str(path))
    missing = [sequence.path.name for sequence in sequences if not sequence.path.exists()]
    if missing:
        raise VcodecError(f"{path}: {len(missing)} of its files are not beside it (the first is {missing[0]}).")
    return Dataset(name, path.parent, sequences)


def _from_folder(directory: Path) -> Dataset:
    files = sorted(file for file in directory.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise VcodecError(f"{directory}: no manifest and no video in it ({', '.join(VIDEO_SUFFIXES)}).")
    sequences = tuple(VideoSequence(file.stem, file) for file in files)
    return Dataset(directory.resolve().name, directory, _with_distinct_names(sequences))


def _sequences(entries: list[dict[str, Any]], directory: Path, where: str) -> tuple[VideoSequence, ...]:
    return _with_distinct_names(tuple(_sequence(entry, directory, where) for entry in entries))


def _sequence(entry: dict[str, Any], directory: Path, where: str) -> VideoSequence:
    try:
        path = directory / entry["file"]
        name = entry.get("name", path.stem)
        if Path(name).name != name:
            raise ValueError("a name with a path in it")
        rate = entry.get("frame_rate", entry.get("nominal_fps"))
        if rate is not None and Fraction(str(rate)) <= 0:
            raise ValueError("a frame rate of nothing")
        return VideoSequence(
            name=name,
            path=path,
            size=(int(entry["width"]), int(entry["height"])) if "width" in entry else None,
            pixel_format=entry.get("format", entry.get("pix_fmt")),
            frame_rate=None if rate is None else Fraction(str(rate)),
            frames=entry.get("frames"),
        )
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise VcodecError(f"{where}: a sequence of this manifest is not understood: {entry!r}.") from error


def _with_distinct_names(sequences: tuple[VideoSequence, ...]) -> tuple[VideoSequence, ...]:
    names = [sequence.name for sequence in sequences]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise VcodecError(f"Two sequences are called {twice}; give each a `name` of its own in a manifest.")
    return sequences
