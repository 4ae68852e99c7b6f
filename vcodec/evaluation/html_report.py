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
from vcodec.evaluation.codecs import STANDARD_LABELS, Codec
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.plots import COLORS
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.report import protocol_sentences, speed_cells
from vcodec.evaluation.results import (
    BD_METRICS,
    MEAN,
    MEAN_COMMON,
    NAMES,
    Record,
    Results,
    bd_table,
    curve,
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
        "metrics": {**NAMES, "ms_ssim": "MS-SSIM (dB)"},
        "codecs": results.codecs,
        "colors": {codec: COLORS[i % len(COLORS)] for i, codec in enumerate(results.codecs)},
        "curves": _curves(results, f"mean of the {common} common sequences"),
        "bd": bd_table(results),
        "mean_names": {MEAN: "mean", MEAN_COMMON: f"mean of the {common} common"},
        "low_overlap": LOW_OVERLAP,
        "speed": {"head": head, "body": body},
        "pictures": pictures,
        "omitted": omitted,
    }
    form = (resources.files("vcodec.evaluation") / "report.html").read_text()
    content = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    write_whole(output / "report.html", form.replace("REPORT_DATA", content).encode())


def _curves(results: Results, mean_name: str) -> dict[str, dict[str, list[Record]]]:
    curves = {sequence: _of_all(results, sequence) for sequence in results.sequences}
    means = {codec: _shown(results.mean_points(codec)) for codec in results.codecs}
    return {mean_name: means, **curves} if results.common_sequences() else curves


def _of_all(results: Results, sequence: str) -> dict[str, list[Record]]:
    return {codec: _shown(results.points(codec, sequence)) for codec in results.codecs}


def _shown(points: list[Record]) -> list[Record]:
    shown = [{"quality": point["quality"], "bpp": point["bpp"]} for point in points]
    for metric in BD_METRICS:
        values = [point.quality for point in curve(points, metric)]
        for index, target in enumerate(shown):
            target[metric] = values[index] if values else None
    return shown


def _pictures(
    results: Results, sources: list[Source], codecs: dict[str, Codec], output: Path
) -> tuple[list[dict[str, Any]], str]:
    """Scenes for the viewer, and a sentence about what is not among them."""
    leader = next((label for label in reversed(results.codecs) if label not in STANDARD_LABELS), None)
    scenes: list[dict[str, Any]] = []
    left_out = []
    used = 0
    for source in sources:
        points = nearest_points({c: results.points(c, source.name) for c in results.codecs}, leader)
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
    pictures = [{"label": "source", "data": _data_uri(original)}]
    for label, point in points.items():
        path = stream_path(output, label, source.name, point["quality"])
        if path is not None:
            decoded = codecs[label].decode(source, point["quality"], path, Meter())
            figure = f"{point[headline]:.2f} dB" if point[headline] is not None else ""
            text = f"{label} {point['quality']}: {point['bpp']:.4f} bpp, {figure} over all frames"
            pictures.append({"label": text, "data": _data_uri(next(islice(decoded, frame, None)))})
    width, height = source.format.width, source.format.height
    is_cut = width > LARGEST_PICTURE[0] or height > LARGEST_PICTURE[1]
    crop = f" (the middle of {width}x{height})" if is_cut else ""
    return {"sequence": source.name, "frame": frame, "crop": crop, "pictures": pictures}


def _data_uri(frame: Frame) -> str:
    rgb = np.round(to_rgb(frame) * 255).astype(np.uint8)
    height, width = rgb.shape[:2]
    cut_width, cut_height = min(width, LARGEST_PICTURE[0]), min(height, LARGEST_PICTURE[1])
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = np.ascontiguousarray(rgb[top : top + cut_height, left : left + cut_width])
    file = BytesIO()
    Image.fromarray(cut).save(file, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
