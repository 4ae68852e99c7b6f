"""Rate-distortion plots: the mean over the common sequences, and for each sequence its curves and its frames."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vcodec.errors import VcodecError
from vcodec.evaluation.results import NAMES, Record, Results, curve, nearest_points

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#000000")
"""Told apart also by readers who do not see all colours (Okabe and Ito)."""
MARKERS = "osD^vPX*"


def write_plots(results: Results, output: Path) -> None:
    """Write rd.png and rd.svg, and plots/SEQUENCE.png and .svg."""
    _save(mean_figure(results), output / "rd")
    for sequence in results.sequences:
        _save(sequence_figure(results, sequence), output / "plots" / sequence)


def mean_figure(results: Results) -> Figure:
    """The mean curves, the headline PSNR and MS-SSIM over rate: each over the sequences on which it is defined."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), (results.headline, "ms_ssim"), strict=True):
        _plot_curves(axes, {codec: results.mean_points(codec, metric) for codec in results.codecs}, metric)
        count = len(results.common_sequences(metric))
        axes.set_title(f"Mean over {count} sequence{'' if count == 1 else 's'}")
    return figure


def sequence_figure(results: Results, sequence: str) -> Figure:
    """One sequence: its curves, and bits and quality of each frame at the points nearest in rate."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (rate, similarity), (bits, quality) = figure.subplots(2, 2)
    points = {codec: results.points(codec, sequence) for codec in results.codecs}
    _plot_curves(rate, points, results.headline)
    _plot_curves(similarity, points, "ms_ssim")
    for codec, point in nearest_points(points).items():
        style = _style(results.codecs, codec)
        label = f"{codec} {point['quality']} ({point['bpp']:.3f} bpp)"
        bits.plot(point["per_frame"]["bits"], label=label, drawstyle="steps-mid", color=style["color"])
        quality.plot(point["per_frame"][results.headline], label=label, color=style["color"])
    bits.set(xlabel="frame", ylabel="bits", yscale="log")
    quality.set(xlabel="frame", ylabel=NAMES[results.headline])
    for axes in (bits, quality):
        axes.grid(alpha=0.3)
    if bits.lines:
        bits.legend(fontsize=8)
    figure.suptitle(sequence)
    return figure


def _plot_curves(axes: Axes, points: dict[str, list[Record]], metric: str) -> None:
    codecs = list(points)
    for codec in codecs:
        drawn = curve(points[codec], metric)
        if drawn:
            axes.plot([p.bpp for p in drawn], [p.quality for p in drawn], label=codec, **_style(codecs, codec))
    axes.set(xlabel="bits per pixel", ylabel=NAMES[metric])
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=9)
    else:
        axes.text(0.5, 0.5, "not defined for these sequences", ha="center", transform=axes.transAxes)


def _style(codecs: list[str], codec: str) -> dict[str, Any]:
    index = codecs.index(codec)
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def _save(figure: Figure, stem: Path) -> None:
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".svg"):
            figure.savefig(f"{stem}{suffix}", dpi=130)
    except OSError as error:
        raise VcodecError(f"{stem}.png: can't be written ({error.strerror}).") from error
