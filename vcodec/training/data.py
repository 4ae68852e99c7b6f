"""The data of a run: found, split by source, decoded once."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import VcodecError
from .cache import StoredClip, open_clips
from .config import TrainingConfig
from .distributed import Group
from .sources import Clip, find_clips, find_images, split_by_source, vimeo_test_list


@dataclass(frozen=True)
class TrainingData:
    """Decoded clips and still pictures to train on, and those that are held out."""

    clips: Sequence[StoredClip]
    stills: Sequence[StoredClip]
    held_out_clips: Sequence[StoredClip]
    held_out_stills: Sequence[StoredClip]


def load_data(config: TrainingConfig, group: Group) -> TrainingData:
    """Find and decode what `config` names; in a group, the main process fills the cache first."""
    clips, held_out_clips = _split_videos(config)
    stills, held_out_stills = split_by_source(_images(config), config.validation_fraction)
    # a few are enough to validate with; the hash order of the split has no bias
    held_out_clips = held_out_clips[: config.validation_clips]
    held_out_stills = held_out_stills[: config.validation_clips]

    def opened(part: Sequence[Clip]) -> list[StoredClip]:
        return open_clips(part, config.cache_folder, threads=max(2, config.workers), device=group.device)

    if not group.is_main:
        group.barrier()
    data = TrainingData(opened(clips), opened(stills), opened(held_out_clips), opened(held_out_stills))
    if group.is_main:
        group.barrier()
    return data


def _split_videos(config: TrainingConfig) -> tuple[list[Clip], list[Clip]]:
    clips = [clip for folder in config.videos for clip in find_clips(folder)]
    if config.validation_list is not None:
        try:
            names = config.validation_list.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise VcodecError(f"{config.validation_list}: can't be read ({error.strerror})") from error
        return split_by_source(clips, 0, names)
    if test_clips := [clip for folder in config.videos for clip in vimeo_test_list(folder)]:
        return clips, test_clips
    return split_by_source(clips, config.validation_fraction)


def _images(config: TrainingConfig) -> list[Clip]:
    return [image for folder in config.images for image in find_images(folder)]
