"""Teaching a trained model's adaptive coder: python -m vcodec.training.teach MODEL --videos FOLDER --output FILE

For an image codec --images FOLDER.

Adaptive coding begins each group of pictures with nothing learnt, unless the weights hold statistics to start with.
They are taught by coding: clips or pictures in turn, at qualities all over the scale, each going on with what those
before taught.
"""

import argparse
import dataclasses
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..codec import Encoder
from ..entropy.context_mixing import Statistics
from ..errors import VcodecError
from ..files import find_model
from ..layers.rate import QUALITY_MAX
from ..models import ImageModel, VideoModel, save_model
from ..models.registry import build_model
from ..video import Frame, open_video
from .sources import find_clips, find_images, split_by_source

GOLDEN = 0.618034  # steps of this share of the scale visit all qualities evenly


def teach(model: ImageModel, clips: Sequence[Path], *, frames: int = 12, size: tuple[int, int] = (416, 240),
          progress: bool = False) -> None:  # fmt: skip
    """Fills the model's experience by coding the first frames of clips, cut to a size (width, height) at most.

    Pictures are clips of one frame, and all that an image codec is shown of a clip.

    Raises VcodecError for a model that was built without experience or is not trained.
    """
    if model.experience is None:
        raise VcodecError(f"model '{model.name}' has no room for experience: its configuration says so")
    frames = frames if isinstance(model, VideoModel) else 1
    statistics = Statistics()
    for number, path in enumerate(tqdm(clips, unit="file", file=sys.stderr, disable=not progress)):
        quality = round(number * GOLDEN % 1 * QUALITY_MAX) if model.variable_rate else model.config.fixed_quality
        encoder = None
        for frame in islice(_windows(path, size), frames):
            encoder = encoder or Encoder(model, frame.format, quality, frames, statistics=statistics)
            encoder.encode(frame)
        if encoder is not None:
            statistics = encoder.statistics.without_pictures()
    if not statistics.mixers():
        raise VcodecError(f"there is nothing to teach: no clip was read, or '{model.name}' codes nothing adaptively")
    model.experience.learn(statistics)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 1 for bad input."""
    parser = argparse.ArgumentParser(description="Teach a trained model's adaptive coder by coding clips.")
    parser.add_argument("model", help="name or file of a trained model")
    parser.add_argument("--videos", type=Path, help="folder of clips, as for training")
    parser.add_argument("--images", type=Path, help="folder of pictures, as for training")
    parser.add_argument("--output", type=Path, required=True, help="model file to write")
    parser.add_argument("--validation-fraction", type=float, default=0.1, help="of sources left out (default 0.1)")
    parser.add_argument("--clips", type=int, default=120, help="how many clips or pictures at most (default 120)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: as many as PyTorch takes)")
    parser.add_argument("--half", action="store_true", help="write float16, as weights ship")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        paths = training_files(options.videos, options.images, options.validation_fraction)
        model = with_experience(find_model(options.model))
        teach(model, paths[: options.clips], progress=True)
        save_model(model, options.output, half=options.half)
    except VcodecError as error:
        print(f"teach: {error}", file=sys.stderr)
        return 1
    return 0


def training_files(videos: Path | None, images: Path | None, validation_fraction: float) -> list[Path]:
    """The clips and pictures in these folders that training is shown, in a random order that is always the same."""
    if videos is None and images is None:
        raise VcodecError("there is nothing to teach with: name a folder by --videos or --images")
    paths = []
    for find, folder in ((find_clips, videos), (find_images, images)):
        if folder is not None:
            shown, _ = split_by_source(find(folder), validation_fraction)
            paths += [clip.files[0] if len(clip.files) == 1 else clip.files[0].parent for clip in shown]
    random.Random(0).shuffle(paths)
    return paths


def with_experience(model: ImageModel) -> ImageModel:
    """The model itself if it has room for experience, else one like it that has."""
    if model.experience is not None:
        return model
    other = build_model(dataclasses.replace(model.config, experience=True))
    other.load_state_dict({**other.state_dict(), **model.state_dict()})
    other.name = model.name
    return other.eval()


def _windows(path: Path, size: tuple[int, int]) -> Iterator[Frame]:
    """The frames of a video, cut to the size at most, from the middle."""
    with open_video(path) as video:
        for frame in video:
            yield _cut(frame, size)


def _cut(frame: Frame, size: tuple[int, int]) -> Frame:
    format = frame.format
    width, height = min(size[0], format.width), min(size[1], format.height)
    left, top = (format.width - width) // 4 * 2, (format.height - height) // 4 * 2
    planes = []
    for plane in frame.planes:
        across, down = -(-format.width // plane.shape[1]), -(-format.height // plane.shape[0])
        rows = slice(top // down, -(-(top + height) // down))
        planes.append(np.ascontiguousarray(plane[rows, left // across : -(-(left + width) // across)]))
    return Frame(tuple(planes), frame.pts, dataclasses.replace(format, width=width, height=height))


if __name__ == "__main__":
    sys.exit(main())
