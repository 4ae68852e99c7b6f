"""The analyses as pictures."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from .analysis_latents import normal_density
from .plots import COLORS, MARKERS

Numbers = dict[str, Any]


def correlation_figure(numbers: Numbers) -> Figure:
    """One column a model: the latents' correlation above, the hyper latents' below."""
    figure, axes = _grid(2, len(numbers))
    for column, (name, entry) in enumerate(numbers.items()):
        for row, part in enumerate(("latents", "hyper_latents")):
            matrix = torch.tensor(entry[part])
            centre = len(matrix) // 2
            shown = matrix.abs().clone()
            shown[centre, centre] = 0  # always 1: it would hide the rest
            reach = (-centre - 0.5, centre + 0.5)
            image = axes[row][column].imshow(shown, vmin=0, extent=(*reach, *reach[::-1]), cmap="magma")
            axes[row][column].set_title(
                f"{short_name(name)}\n{part.replace('_', ' ')} {entry[f'{part}_mean_off_centre']:.4f}"
            )
            figure.colorbar(image, ax=axes[row][column], shrink=0.8)
    return figure


def distribution_figure(numbers: Numbers) -> Figure:
    """The densities over the standard normal one."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    edges = torch.zeros(2)
    for index, (name, entry) in enumerate(numbers.items()):
        edges = torch.tensor(entry["edges"])
        middle = (edges[1:] + edges[:-1]) / 2
        label = f"{short_name(name)} (KL {entry['kl_divergence']:.4f})"
        axes.plot(middle, entry["density"], label=label, color=COLORS[index % len(COLORS)])
    axes.plot((edges[1:] + edges[:-1]) / 2, normal_density(edges), "k--", label="standard normal")
    axes.set(xlabel="(y - mean) / scale", ylabel="density", xlim=(-5, 5))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def receptive_field_figure(numbers: Numbers) -> Figure:
    """One column a model: log of the influence of every pixel, latents above, hyper latents below."""
    figure, axes = _grid(2, len(numbers))
    for column, (name, entry) in enumerate(numbers.items()):
        for row, (part, field) in enumerate(entry.items()):
            shown = torch.tensor(field["field"]).clamp_min(1e-6).log10()
            image = axes[row][column].imshow(shown, vmin=-6, vmax=0, cmap="viridis")
            axes[row][column].set_title(
                f"{short_name(name)}\n{part.replace('_', ' ')}: 95 % within {field['radius_95']:.0f} px"
            )
            figure.colorbar(image, ax=axes[row][column], shrink=0.8, label="log10")
    return figure


def deviation_figure(numbers: Numbers) -> Figure:
    """One row a picture, one column a model, the same colours for the same deviation in a row."""
    pictures = [key for key in next(iter(numbers.values())) if key != "mean"]
    figure, axes = _grid(len(pictures), len(numbers))
    for row, picture in enumerate(pictures):
        largest = max(float(torch.tensor(entry[picture]["map"]).max()) for entry in numbers.values())
        for column, (name, entry) in enumerate(numbers.items()):
            image = axes[row][column].imshow(torch.tensor(entry[picture]["map"]), vmin=0, vmax=largest, cmap="coolwarm")
            axes[row][column].set_title(f"{short_name(name)}\n{picture}: {entry[picture]['mean']:.4f}")
            figure.colorbar(image, ax=axes[row][column], shrink=0.8)
    return figure


def complexity_figure(numbers: Numbers) -> Figure:
    """Multiply-accumulates and memory over the picture's size."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    macs, memory = figure.subplots(1, 2)
    for index, (name, entry) in enumerate(numbers.items()):
        pixels = [int(size.split("x")[0]) * int(size.split("x")[1]) / 1e6 for size in entry]
        style = {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[index % len(MARKERS)],
            "label": short_name(name),
        }
        macs.plot(pixels, [row["macs"]["total"] / 1e12 for row in entry.values()], **style)
        memory.plot(pixels, [row["peak_bytes"] / 1e9 for row in entry.values()], **style)
    for axes, label in ((macs, "TMAC"), (memory, "peak memory (GB)")):
        axes.set(xlabel="megapixels", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def short_name(model: str) -> str:
    """A model's name; of a weight file, the name of its folder, or its own where that says nothing."""
    path = Path(model)
    if path.suffix != ".safetensors":
        return model
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem


def _grid(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(3.6 * columns, 3.4 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)
