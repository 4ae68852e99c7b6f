"""What `vcodec analyze` runs: the analyses of the MambaVC paper (section 4.6, tables 3, 4), as pictures and numbers."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from ..errors import VcodecError
from ..models import create_model, load_model
from ..models.model import ImageModel
from ..video import open_video, to_rgb
from . import analysis_plots as plots
from .analysis_complexity import PARTS, complexity
from .analysis_latents import LatentHistogram, SpatialCorrelation, deviation_map, record_latents, whiten_channels
from .analysis_receptive_field import (
    effective_receptive_field,
    hyper_latent_function,
    latent_function,
    radius_of_energy,
    reached_share,
)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
Numbers = dict[str, Any]
Models = dict[str, ImageModel]


def correlation(models: Models, pictures: list[Path], quality: float) -> tuple[Numbers, Figure]:
    """Correlation of normalised latents and hyper latents with their neighbours."""
    numbers: Numbers = {}
    for name, model in models.items():
        of_latents, of_hyper_latents = SpatialCorrelation(), SpatialCorrelation()
        hyper_latents = []
        for path in _progress(pictures, name):
            latents = record_latents(model.iframe, read_picture(path), quality)
            of_latents.add(latents.normalized)
            hyper_latents.append(latents.z)
        for z in whiten_channels(hyper_latents):
            of_hyper_latents.add(z)
        numbers[name] = {
            "latents": of_latents.matrix.tolist(),
            "latents_mean_off_centre": of_latents.mean_off_centre,
            "hyper_latents": of_hyper_latents.matrix.tolist(),
            "hyper_latents_mean_off_centre": of_hyper_latents.mean_off_centre,
        }
    return numbers, plots.correlation_figure(numbers)


def distribution(models: Models, pictures: list[Path], quality: float) -> tuple[Numbers, Figure]:
    """Distribution of the normalised latents and its divergence from the standard normal one."""
    numbers: Numbers = {}
    for name, model in models.items():
        histogram = LatentHistogram()
        for path in _progress(pictures, name):
            histogram.add(record_latents(model.iframe, read_picture(path), quality).normalized)
        numbers[name] = {
            "kl_divergence": histogram.kl_divergence,
            "outside": histogram.outside,
            "edges": histogram.edges.tolist(),
            "density": histogram.density.tolist(),
        }
    return numbers, plots.distribution_figure(numbers)


def receptive_field(models: Models, pictures: list[Path], quality: float, side: int = 256) -> tuple[Numbers, Figure]:
    """Effective receptive field of a latent and of a hyper latent, over the middle side x side pixels."""
    numbers: Numbers = {}
    for name, model in models.items():
        crops = [_middle(read_picture(path), side) for path in pictures]
        functions = {"latents": latent_function, "hyper_latents": hyper_latent_function}
        numbers[name] = {}
        for part, function in functions.items():
            field = effective_receptive_field(function(model.iframe, quality), _progress(crops, f"{name} {part}"))
            numbers[name][part] = {
                "reached_share": reached_share(field),
                "radius_95": radius_of_energy(field),
                "field": field.tolist(),
            }
    return numbers, plots.receptive_field_figure(numbers)


def deviation(models: Models, pictures: list[Path], quality: float) -> tuple[Numbers, Figure]:
    """Maps of the scaled deviation that quantisation leaves in the latents."""
    numbers: Numbers = {}
    for name, model in models.items():
        numbers[name] = {}
        for path in _progress(pictures, name):
            latents = record_latents(model.iframe, read_picture(path), quality)
            scaled = deviation_map(latents.y, latents.y_hat)
            numbers[name][path.stem] = {"mean": float(scaled.mean()), "map": scaled.tolist()}
        values = [entry["mean"] for entry in numbers[name].values()]
        numbers[name]["mean"] = sum(values) / len(values)
    return numbers, plots.deviation_figure(numbers)


def complexity_table(names: list[str], sizes: list[tuple[int, int]]) -> tuple[Numbers, Figure]:
    """Multiply-accumulates by part, parameters and memory, at every size."""
    numbers: Numbers = {}
    for name in names:
        numbers[name] = {}
        for width, height in _progress(sizes, name):
            counted = complexity(name, width, height)
            numbers[name][f"{width}x{height}"] = {
                "parameters": counted.parameters,
                "macs": {**counted.macs, "total": sum(counted.macs.values())},
                "all_macs": {**counted.all_macs, "total": sum(counted.all_macs.values())},
                "peak_bytes": counted.peak_bytes,
            }
    return numbers, plots.complexity_figure(numbers)


ANALYSES: dict[str, Callable[..., tuple[Numbers, Figure]]] = {
    "correlation": correlation,
    "distribution": distribution,
    "receptive-field": receptive_field,
    "deviation": deviation,
}


def run_analyze(options: argparse.Namespace) -> int:
    """Does what the options say: writes NAME.png and NAME.json, prints a table. Raises VcodecError for bad input."""
    names = options.model or ["default"]
    if options.analysis == "complexity":
        numbers, figure = complexity_table(names, [_size(text) for text in options.size or ["768x512"]])
    else:
        pictures = find_pictures(options.pictures)
        models = {name: _model(name, options.quality) for name in names}
        numbers, figure = ANALYSES[options.analysis](models, pictures, options.quality)
    stem = options.output / options.analysis
    _write(stem, numbers, figure)
    if options.json:
        print(json.dumps(numbers, indent=2))
    else:
        print(f"{summary(options.analysis, numbers)}\n{stem}.png, {stem}.json")
    return 0


def summary(analysis: str, numbers: Numbers) -> str:
    """The numbers that matter, one line a model."""
    lines = []
    for name, entry in numbers.items():
        if analysis == "correlation":
            text = (f"mean |correlation| off the centre: latents {entry['latents_mean_off_centre']:.4f}, "
                    f"hyper latents {entry['hyper_latents_mean_off_centre']:.4f}")  # fmt: skip
        elif analysis == "distribution":
            text = f"KL divergence from the standard normal distribution {entry['kl_divergence']:.4f}"
        elif analysis == "receptive-field":
            text = ", ".join(
                f"{part.replace('_', ' ')}: 95 % within {field['radius_95']:.0f} pixels, "
                f"{100 * field['reached_share']:.1f} % of the area reached"
                for part, field in entry.items()
            )
        elif analysis == "deviation":
            text = f"mean scaled deviation {entry['mean']:.4f}"
        else:
            text = "\n    ".join(["", *(_complexity_line(size, row) for size, row in entry.items())])
        lines.append(f"{name}: {text}")
    return "\n".join(lines)


def _complexity_line(size: str, row: Numbers) -> str:
    parts = ", ".join(f"{part} {row['macs'][part] / 1e9:.2f}" for part in PARTS)
    return (
        f"{size}: {row['parameters'] / 1e6:.1f} M parameters; {row['macs']['total'] / 1e9:.1f} GMAC ({parts}), "
        f"all counted {row['all_macs']['total'] / 1e9:.1f}; peak {row['peak_bytes'] / 1e6:.0f} MB"
    )


def find_pictures(paths: list[Path]) -> list[Path]:
    """The pictures named, folders opened. Raises VcodecError where there is none."""
    found = []
    for path in paths:
        if not path.exists():
            raise VcodecError(f"{path}: there is no such file or folder")
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
        found += inside
    if not found:
        raise VcodecError("there are no pictures to analyse: name picture files, or folders that hold some")
    return found


def read_picture(path: Path) -> Tensor:
    """A picture (1, 3, H, W) in [0, 1]; of a video, its first frame."""
    with open_video(path) as reader:
        frame = next(iter(reader), None)
    if frame is None:
        raise VcodecError(f"{path}: there is no picture in it")
    return torch.from_numpy(to_rgb(frame)).permute(2, 0, 1)[None]


def _model(name: str, quality: int) -> ImageModel:
    if not 0 <= quality <= 63:
        raise VcodecError(f"quality {quality} is out of range: it runs from 0 (smallest) to 63 (best)")
    model = load_model(name) if name.endswith(".safetensors") else create_model(name, pretrained=True)
    return model.eval().requires_grad_(False)


def _middle(x: Tensor, side: int) -> Tensor:
    height, width = x.shape[2:]
    if min(height, width) < side:
        raise VcodecError(f"a picture of {width}x{height} is too small: the receptive field needs {side}x{side} pixels")
    top, left = (height - side) // 2, (width - side) // 2
    return x[:, :, top : top + side, left : left + side]


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise VcodecError(f"'{text}' is no size: write width and height as in 768x512")
    return int(width), int(height)


def _progress(items: list[Any], name: str) -> "tqdm[Any]":
    return tqdm(items, desc=name, leave=False, disable=None)


def _write(stem: Path, numbers: Numbers, figure: Figure) -> None:
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        part = stem.with_suffix(".json.part")
        part.write_text(json.dumps(numbers) + "\n", encoding="utf-8")
        part.replace(stem.with_suffix(".json"))
        figure.savefig(stem.with_suffix(".png"), dpi=130)
    except OSError as error:
        raise VcodecError(f"{stem}.png: the results can't be written ({error.strerror or error})") from error
