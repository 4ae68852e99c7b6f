"""The report as one HTML file that opens offline, with data, script and pictures inside it; report.html is its form.

Pictures are lossless WebP cut, not scaled, to at most 640x360, so that what is seen are the codecs' own artefacts; when
they fill their share of the page, the remaining sequences go without.
"""

import base64
import json
from importlib import resources
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vcodec.evaluation.bd_rate import LOW_OVERLAP
from vcodec.evaluation.codecs import Codec
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.plots import COLORS
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.report import SPEED_NOTE, protocol_sentences, speed_cells
from vcodec.evaluation.results import (
    ANCHORS,
    MEAN,
    MEAN_COMMON,
    NAMES,
    Record,
    Results,
    bd_table,
    curve,
    leading_codec,
    nearest_points,
)
from vcodec.evaluation.runner import stream_path, write_whole
from vcodec.evaluation.sequences import Source
from vcodec.video import Frame, to_rgb

LARGEST_PICTURE = (640, 360)
PICTURE_BYTES = 12_000_000
"""Of all pictures together, before base64."""
PICTURED_FRAME = 11
"""The last frame of the first group of twelve: errors that pile up along a group are at their largest."""


def write_html(
    results: Results,
    preset: Preset,
    title: str,
    command: str,
    sources: list[Source],
    codecs: list[Codec],
    output: Path,
) -> None:
    """Write report.html."""
    pictures, omitted = _pictures(results, sources, {codec.label: codec for codec in codecs}, output)
    common = len(results.common_sequences())
    head, body = speed_cells(results)
    data = {
        "title": title,
        "command": command,
        "protocol": protocol_sentences(preset),
        "headline": results.headline,
        "metrics": {metric: NAMES[metric] for metric in results.metrics},
        "codecs": results.codecs,
        "colors": {codec: COLORS[i % len(COLORS)] for i, codec in enumerate(results.codecs)},
        "curves": _curves(results, f"mean of the {common} common sequences"),
        "frames": {sequence: _frames(results, sequence) for sequence in results.sequences},
        "bd": bd_table(results),
        "mean_names": {MEAN: "mean", MEAN_COMMON: f"mean of the {common} common"},
        "low_overlap": LOW_OVERLAP,
        "speed": {"note": SPEED_NOTE, "head": head, "body": body},
        "pictures": pictures,
        "omitted": omitted,
    }
    form = (resources.files("vcodec.evaluation") / "report.html").read_text()
    content = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    write_whole(output / "report.html", form.replace("REPORT_DATA", content).encode())


def _curves(results: Results, mean_name: str) -> dict[str, dict[str, list[Record]]]:
    curves = {s: {codec: _shown(results, codec, s) for codec in results.codecs} for s in results.sequences}
    means = {codec: _shown_means(results, codec) for codec in results.codecs}
    return {mean_name: means, **curves} if results.common_sequences() else curves


def _shown(results: Results, codec: str, sequence: str) -> list[Record]:
    """The points of a curve with all their metrics."""
    points = results.points(codec, sequence)
    shown: list[Record] = [{"quality": point["quality"], "bpp": point["bpp"]} for point in points]
    for metric in results.metrics:
        for target, point in zip(shown, curve(points, metric), strict=False):  # no points where it is not defined
            target[metric] = point.quality
    return shown


def _shown_means(results: Results, codec: str) -> list[Record]:
    """The mean curves, a point for each metric: means are over the sequences on which a metric is defined."""
    shown = []
    for metric in results.metrics:
        points, count = results.mean_points(codec, metric), len(results.common_sequences(metric))
        for point, drawn in zip(points, curve(points, metric), strict=True):
            target = {"quality": point["quality"], "bpp": point["bpp"], metric: drawn.quality}
            shown.append({**target, "sequences": count})
    return shown


def _frames(results: Results, sequence: str) -> dict[str, Record]:
    """Bits and PSNR of each frame, of every codec's point nearest to one rate."""
    points = nearest_points({codec: results.points(codec, sequence) for codec in results.codecs})
    return {
        codec: {
            "label": f"{codec} {point['quality']} ({point['bpp']:.3f} bpp)",
            "bits": point["per_frame"]["bits"],
            "psnr": point["per_frame"][results.headline],
        }
        for codec, point in points.items()
    }


def _pictures(
    results: Results, sources: list[Source], codecs: dict[str, Codec], output: Path
) -> tuple[list[dict[str, Any]], str]:
    """Scenes for the viewer, and a sentence about what is not among them."""
    scenes: list[dict[str, Any]] = []
    left_out = []
    used = 0
    for source in sources:
        points = nearest_points({c: results.points(c, source.name) for c in results.codecs})
        if not points or used >= PICTURE_BYTES:
            left_out.append(source.name)
            continue
        scene = _scene(source, points, codecs, output, results.headline)
        scenes.append(scene)
        used += sum(len(picture["data"]) * 3 // 4 for picture in scene["pictures"])
    omitted = f"Without pictures, to keep the page small: {', '.join(left_out)}." if left_out else ""
    return scenes, omitted


def _scene(
    source: Source, points: dict[str, Record], codecs: dict[str, Codec], output: Path, headline: str
) -> dict[str, Any]:
    """One frame of one sequence: the source, and each codec at its point nearest to one rate."""
    frame = min(PICTURED_FRAME, min(point["frames"] for point in points.values()) - 1)
    original = next(islice(source, frame, None))
    pictures = [{"codec": "source", "label": "source", "data": _data_uri(original)}]
    for label, point in points.items():
        path = stream_path(output, label, source.name, point["quality"])
        if path is not None:
            decoded = codecs[label].decode(source, point["quality"], path, Meter())
            figure = f", {point[headline]:.2f} dB over all frames" if point[headline] is not None else ""
            text = f"{label} {point['quality']}: {point['bpp']:.4f} bpp{figure}"
            pictures.append({"codec": label, "label": text, "data": _data_uri(next(islice(decoded, frame, None)))})
    width, height = source.format.width, source.format.height
    is_cut = width > LARGEST_PICTURE[0] or height > LARGEST_PICTURE[1]
    crop = f" (the middle of {width}x{height})" if is_cut else ""
    shown = [picture["codec"] for picture in pictures]
    right = shown.index(leading_codec(shown[1:])) if shown[1:] else 0
    left = next((shown.index(c) for c in reversed(ANCHORS) if c in shown and c != shown[right]), 0)
    return {"sequence": source.name, "frame": frame, "crop": crop, "pictures": pictures, "left": left, "right": right}


def _data_uri(frame: Frame) -> str:
    rgb = np.round(to_rgb(frame) * 255).astype(np.uint8)
    height, width = rgb.shape[:2]
    cut_width, cut_height = min(width, LARGEST_PICTURE[0]), min(height, LARGEST_PICTURE[1])
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = np.ascontiguousarray(rgb[top : top + cut_height, left : left + cut_width])
    file = BytesIO()
    Image.fromarray(cut).save(file, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
