"""Training samples: random crops of decoded clips, each a function of (seed, stage, sample index) alone.

Sample g is the same whichever worker or rank makes it and whenever: that is what makes a resumed run, and a
run on several machines, equal to a plain one.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import VcodecError
from .cache import StoredClip
from .objective import quality_of_lambda
from .schedule import Stage

#: A long clip is visited more often than a short one: once per so many frames in each pass over the data.
FRAMES_PER_VISIT = 8

#: Where a clip can't be read, the next one takes its place, so many times.
ATTEMPTS = 8


class Batch(NamedTuple):
    """frames: uint8 (B, T, H, W, 3); quality: float (B,); seeds: one int64 (B,) per sample for the noise."""

    frames: Tensor
    quality: Tensor
    seeds: Tensor


class StageSamples(Dataset[tuple[Tensor, float, int]]):
    """All samples of one stage: item g is the stage's g-th sample, counted over all ranks."""

    def __init__(
        self, stage: Stage, index: int, seed: int, clips: Sequence[StoredClip], stills: Sequence[StoredClip]
    ) -> None:
        self.stage = stage
        self.key = (seed, index)
        span = stage.frames
        self.clips = [clip for clip in clips if clip.shape[0] >= span and _fits(clip, stage)]
        self.stills = [still for still in stills if _fits(still, stage)]
        self.left_out = len(clips) + len(stills) - len(self.clips) - len(self.stills)
        self.visits = [i for i, clip in enumerate(self.clips) for _ in range(1 + clip.shape[0] // FRAMES_PER_VISIT)]
        self.still_share = stage.stills if self.clips else 1.0 if stage.stills else 0.0
        if not self.stills:
            self.still_share = 0.0
        if not self.clips and not self.still_share:
            size = f"{stage.crop[1]}x{stage.crop[0]} pixels and {span} frame{'s' if span > 1 else ''}"
            raise VcodecError(
                f"stage {stage.name!r}: none of the {len(clips)} clips and {len(stills)} pictures can be "
                f"used; it needs {size} (stills={stage.stills:g}); take a smaller crop, or other data"
            )

    def __getitem__(self, index: int) -> tuple[Tensor, float, int]:
        for attempt in range(ATTEMPTS):
            try:
                return self._sample(np.random.default_rng((*self.key, index, attempt)), index + attempt)
            except VcodecError as error:
                print(f"a sample was replaced by another: {error}", file=sys.stderr)
        raise VcodecError(f"{ATTEMPTS} clips in a row can't be read any more; is the data still there?")

    def _sample(self, random: np.random.Generator, index: int) -> tuple[Tensor, float, int]:
        if random.random() < self.still_share:
            still = self.stills[self._shuffled(index, len(self.stills), 1)]
            frames = still_motion(random, still, self.stage) if self.stage.kind == "video" else None
            frames = frames if frames is not None else random_crop(random, still, self.stage)
        else:
            frames = random_crop(
                random, self.clips[self.visits[self._shuffled(index, len(self.visits), 0)]], self.stage
            )
        if self.stage.horizontal_flip and random.random() < 0.5:
            frames = frames.flip(2)
        if self.stage.vertical_flip and random.random() < 0.5:
            frames = frames.flip(1)
        if self.stage.grain and random.random() < 1 / 3:
            frames = add_grain(random, frames, random.uniform(0, self.stage.grain))
        quality = random.uniform(*self.stage.quality)
        if self.stage.lmbda is not None:
            quality = quality_of_lambda(self.stage.lmbda)
        return frames.contiguous(), quality, int(random.integers(2**63))

    def _shuffled(self, index: int, count: int, salt: int) -> int:
        """Every entry once per pass, in an order of its own in each pass."""
        epoch, position = divmod(index, count)
        return int(_permutation(*self.key, salt, epoch, count)[position])


def random_crop(random: np.random.Generator, clip: StoredClip, stage: Stage) -> Tensor:
    """A window of random place, scale, start and temporal stride: uint8 (T, H, W, 3)."""
    length, *size = clip.shape
    longest = min(stage.temporal_stride, (length - 1) // (stage.frames - 1)) if stage.frames > 1 else 1
    stride = int(random.integers(1, longest + 1))
    start = int(random.integers(length - stride * (stage.frames - 1)))
    frames = range(start, start + stride * stage.frames, stride)
    scale = random.uniform(stage.smallest_scale, 1.0)
    fitting = [min(full, max(1, round(side / scale))) for full, side in zip(size, stage.crop, strict=True)]
    # too small a picture for this reduction keeps the window's proportions at the largest that fits
    if stage.smallest_scale < 1 or _needs_enlarging(clip, stage):
        ratio = min(full / side for full, side in zip(fitting, stage.crop, strict=True))
        fitting = [min(full, max(1, round(ratio * side))) for full, side in zip(fitting, stage.crop, strict=True)]
    top, left = (int(random.integers(full - part + 1)) for full, part in zip(size, fitting, strict=True))
    return resize(clip.read(frames, top, left, fitting[0], fitting[1]), stage.crop)


def still_motion(random: np.random.Generator, still: StoredClip, stage: Stage) -> Tensor:
    """A synthetic pan and zoom over a still, at most 12 pixels and 2 % per frame: uint8 (T, H, W, 3)."""
    _, height, width = still.shape
    picture = still.read([0], 0, 0, height, width).permute(0, 3, 1, 2).float()
    largest = min(height / stage.crop[0], width / stage.crop[1])
    zoom = random.uniform(-0.02, 0.02)
    scale = random.uniform(1.0, max(1.0, min(2.0, largest)))
    velocity = random.uniform(-12, 12, 2)
    time = np.arange(stage.frames)
    scales = np.clip(scale * (1 + zoom) ** time, 0.25, largest)
    frames = []
    start = random.random(2)
    for t, s in zip(time, scales, strict=True):
        window = s * np.array(stage.crop)
        free = np.array([height, width]) - window
        corner = _reflect(start * free + velocity * t, free)
        frames.append(_resample(picture, corner, window, stage.crop))
    return torch.cat(frames).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def add_grain(random: np.random.Generator, frames: Tensor, deviation: float) -> Tensor:
    """uint8 (T, H, W, 3) with noise of its own in every frame, as sensors and film have it, in grey."""
    noise = random.standard_normal((*frames.shape[:3], 1), dtype=np.float32) * np.float32(deviation)
    return (frames + torch.from_numpy(noise)).round().clamp(0, 255).to(torch.uint8)


def resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (T, H, W, 3) to `size`, antialiased."""
    if frames.shape[1:3] == size:
        return frames
    planes = frames.permute(0, 3, 1, 2).float()
    planes = F.interpolate(planes, size, mode="bicubic", antialias=True, align_corners=False)
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def stage_batches(
    samples: StageSamples, first_step: int, *, rank: int, world_size: int, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """This rank's batches of a stage, from `first_step` to its end, made ahead in `workers` processes."""
    stage = samples.stage
    share = stage.batch_size // world_size

    def plan() -> Iterator[list[int]]:
        for step in range(first_step, stage.steps):
            begin = step * stage.batch_size + rank * share
            yield list(range(begin, begin + share))

    loader = DataLoader(
        samples,
        batch_sampler=_Plan(plan, stage.steps - first_step),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
        prefetch_factor=4 if workers else None,
    )
    yield from loader


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach the whole group of processes, to the main process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Plan:
    """The batch sampler: lists of sample indices."""

    def __init__(self, plan: Callable[[], Iterator[list[int]]], length: int) -> None:
        self.plan = plan
        self.length = length

    def __iter__(self) -> Iterator[list[int]]:
        return self.plan()

    def __len__(self) -> int:
        return self.length


def _collate(items: list[tuple[Tensor, float, int]]) -> Batch:
    frames, quality, seeds = zip(*items, strict=True)
    return Batch(torch.stack(frames), torch.tensor(quality), torch.tensor(seeds))


def _fits(clip: StoredClip, stage: Stage) -> bool:
    return stage.enlarge or not _needs_enlarging(clip, stage)


def _needs_enlarging(clip: StoredClip, stage: Stage) -> bool:
    return clip.shape[1] < stage.crop[0] or clip.shape[2] < stage.crop[1]


@lru_cache(maxsize=8)
def _permutation(seed: int, stage: int, salt: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, stage, salt, epoch, count)).permutation(count)


def _reflect(corner: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Turn round at the borders of the picture."""
    free = np.maximum(free, 1e-6)
    folded = np.mod(corner, 2 * free)
    return np.where(folded > free, 2 * free - folded, folded)


def _resample(picture: Tensor, corner: np.ndarray, window: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The window of a picture (1, 3, H, W) at a fractional place, resampled to `size` (bicubic)."""
    grids = []
    for axis in (0, 1):
        full = picture.shape[2 + axis]
        centres = corner[axis] + (torch.arange(size[axis], device=picture.device) + 0.5) * window[axis] / size[axis]
        grids.append(centres * 2 / full - 1)
    y, x = torch.meshgrid(grids[0], grids[1], indexing="ij")
    grid = torch.stack((x, y), -1)[None].float()
    return F.grid_sample(picture, grid, mode="bicubic", padding_mode="border", align_corners=False)
