"""Finding training data on disk: Vimeo-90k, folders of videos or of image sequences, folders of images."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import VcodecError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts", ".mpg", ".mpeg", ".y4m", ".264", ".265", ".npy")
)
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"))


@dataclass(frozen=True)
class Clip:
    """One sequence on disk.

    `files` is one video, one .npy array of uint8 (T, H, W, 3), or the pictures of a sequence in order; a
    still picture is a clip of one file. `source` is the name without its last number: clips of one source
    come from the same video and stay on the same side of the validation split.
    """

    name: str
    source: str
    files: tuple[Path, ...]


def find_clips(folder: str | Path) -> list[Clip]:
    """The clips under `folder`: a Vimeo-90k set, videos, or folders of numbered pictures (all below it).

    A Vimeo-90k set is taken by its training list; see `vimeo_test_list` for the other one.
    """
    folder = _existing(folder)
    vimeo = _vimeo_layout(folder)
    if vimeo is not None:
        root, list_file, length = vimeo
        return _vimeo_clips(root, list_file, length)
    videos = _files(folder, VIDEO_SUFFIXES)
    clips = [_clip(folder, path.with_suffix(""), (path,)) for path in videos]
    sequences: dict[Path, list[Path]] = {}
    for path in _files(folder, IMAGE_SUFFIXES):
        sequences.setdefault(path.parent, []).append(path)
    clips += [
        _clip(folder, parent, tuple(sorted(files, key=_natural_order)))
        for parent, files in sequences.items()
        if len(files) > 1
    ]
    if not clips:
        raise VcodecError(
            f"{folder}: no training video found; looked for a Vimeo-90k set (sequences/ beside "
            f"sep_trainlist.txt or tri_trainlist.txt), for video files ({' '.join(sorted(VIDEO_SUFFIXES))}), "
            "and for folders of pictures"
        )
    return sorted(clips, key=lambda clip: _natural_order(Path(clip.name)))


def find_images(folder: str | Path) -> list[Clip]:
    """Every picture under `folder`, each a clip of one frame and a source of its own."""
    folder = _existing(folder)
    images = _files(folder, IMAGE_SUFFIXES)
    if not images:
        raise VcodecError(f"{folder}: no pictures found; looked for {' '.join(sorted(IMAGE_SUFFIXES))}")
    names = [str(path.relative_to(folder)) for path in images]
    return [Clip(name, name, (path,)) for name, path in zip(names, images, strict=True)]


def vimeo_test_list(folder: str | Path) -> list[Clip]:
    """The clips of a Vimeo-90k set's test list, empty for any other folder."""
    vimeo = _vimeo_layout(_existing(folder))
    if vimeo is None:
        return []
    root, list_file, length = vimeo
    test_list = list_file.with_name(list_file.name.replace("train", "test"))
    return _vimeo_clips(root, test_list, length) if test_list.is_file() else []


def split_by_source(
    clips: Sequence[Clip], fraction: float, names: Iterable[str] | None = None
) -> tuple[list[Clip], list[Clip]]:
    """(training, held out): `names` lists clips or sources to hold out; without it, `fraction` of the
    sources.

    The choice depends on the sources' names alone, so that it is the same in every run. With a single source
    the clips themselves are divided, as there is no better way.
    """
    if names is not None:
        wanted = {name.strip() for name in names if name.strip()}
        held = [clip for clip in clips if clip.name in wanted or clip.source in wanted]
        if missing := sorted(wanted - {c.name for c in held} - {c.source for c in held}):
            raise VcodecError(f"the validation list names {missing[0]!r}, which is no clip of the training data")
        held_names = {clip.name for clip in held}
        return [clip for clip in clips if clip.name not in held_names], held
    sources = {clip.source for clip in clips}
    key = (lambda clip: clip.source) if len(sources) > 1 else (lambda clip: clip.name)
    groups = sorted({key(clip) for clip in clips}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if fraction <= 0 or len(groups) < 2:
        return list(clips), []
    chosen = set(groups[: min(len(groups) - 1, max(1, math.ceil(fraction * len(groups))))])
    return [c for c in clips if key(c) not in chosen], [c for c in clips if key(c) in chosen]


def _existing(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise VcodecError(f"{folder}: no such folder")
    return folder


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(found, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sorts im2 before im10."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _clip(folder: Path, stem: Path, files: tuple[Path, ...]) -> Clip:
    name = stem.relative_to(folder).as_posix() if stem != folder else folder.name
    return Clip(name, source_of(name), files)


def source_of(name: str) -> str:
    """A clip's name without its last number: 'street_12_3' and 'street_12_4' are one video."""
    return re.sub(r"\d+(?=\D*$)", "", name)


def _vimeo_layout(folder: Path) -> tuple[Path, Path, int] | None:
    """(folder of sequences, training list, frames per sequence) of a Vimeo-90k set."""
    for list_name, length in (("sep_trainlist.txt", 7), ("tri_trainlist.txt", 3)):
        if (folder / list_name).is_file():
            for sequences in (folder / "sequences", folder / "sequence"):
                if sequences.is_dir():
                    return sequences, folder / list_name, length
            raise VcodecError(f"{folder}: {list_name} is there, but no folder sequences/ beside it")
    if (folder / "sequences").is_dir():
        raise VcodecError(
            f"{folder}: sequences/ is there, but neither sep_trainlist.txt (septuplets) nor "
            "tri_trainlist.txt (triplets) beside it; both come with Vimeo-90k"
        )
    return None


def _vimeo_clips(sequences: Path, list_file: Path, length: int) -> list[Clip]:
    names = [line.strip() for line in list_file.read_text(encoding="utf-8").splitlines() if line.strip()]
    clips = [
        Clip(name, source_of(name), tuple(sequences / name / f"im{i}.png" for i in range(1, length + 1)))
        for name in names
    ]
    present = [clip for clip in clips if clip.files[0].is_file()]
    if not present:
        raise VcodecError(f"{list_file}: none of its {len(names)} sequences is under {sequences}")
    return present
