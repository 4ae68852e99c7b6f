"""From the records of a run to curves, means over sequences, Bjontegaard deltas and the files that hold them."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from vcodec.evaluation.bd_rate import RatePoint, bjontegaard_delta, ms_ssim_in_decibels
from vcodec.evaluation.codecs import STANDARD_LABELS
from vcodec.evaluation.extra_metrics import EXTRA_METRICS
from vcodec.evaluation.jobs import COSTS
from vcodec.evaluation.runner import write_whole

Record = dict[str, Any]

ANCHORS = ("x264", "x265")
BD_METRICS = ("psnr_rgb", "psnr_yuv", "ms_ssim", "vmaf")
"""The metrics that curves are drawn of and compared by, where the records have them."""
NAMES = {
    "psnr_rgb": "PSNR RGB (dB)",
    "psnr_yuv": "PSNR YUV 6:1:1 (dB)",
    "ms_ssim": "MS-SSIM RGB (dB)",
    "vmaf": "VMAF",
}

MEAN = "mean"
"""Row of the mean over all sequences that two codecs share."""
MEAN_COMMON = "mean_common"
"""Row of the mean over the sequences that every codec of the run has: the only one to compare codecs by."""


@dataclass(frozen=True)
class Results:
    """The records of one run, all under one preset."""

    records: list[Record]
    codecs: list[str]
    sequences: list[str]
    headline: str
    complexity: dict[str, dict[str, float]] = field(default_factory=dict)
    """Parameters and kMAC per pixel of the neural codecs."""

    def points(self, codec: str, sequence: str) -> list[Record]:
        """The records of one curve, by rising rate."""
        chosen = [r for r in self.records if r["codec"] == codec and r["sequence"] == sequence]
        return sorted(chosen, key=lambda record: float(record["bpp"]))

    @property
    def metrics(self) -> list[str]:
        """The metrics that curves are drawn of and compared by."""
        return [metric for metric in BD_METRICS if any(metric in record for record in self.records)]

    @property
    def extra_metrics(self) -> list[str]:
        """The further measures that were asked for."""
        return [metric for metric in EXTRA_METRICS if any(metric in record for record in self.records)]

    def common_sequences(self, metric: str | None = None) -> list[str]:
        """The sequences on which every codec has points, and on which the metric, if one is given, is defined."""
        curves = {s: [self.points(codec, s) for codec in self.codecs] for s in self.sequences}
        common = [s for s, of_codecs in curves.items() if all(of_codecs)]
        if metric is None:
            return common
        return [s for s in common if all(point[metric] is not None for points in curves[s] for point in points)]

    def mean_points(self, codec: str, metric: str) -> list[Record]:
        """The mean curve over the common sequences: at each quality the mean rate and the mean of the metric."""
        curves = [self.points(codec, sequence) for sequence in self.common_sequences(metric)]
        means = []
        for quality in sorted({r["quality"] for curve in curves for r in curve}):
            chosen = [r for curve in curves for r in curve if r["quality"] == quality]
            if len(chosen) == len(curves):
                means.append({"quality": quality, **{key: _mean(r[key] for r in chosen) for key in ("bpp", metric)}})
        return sorted(means, key=lambda record: float(record["bpp"]))


def curve(points: Sequence[Record], metric: str) -> list[RatePoint]:
    """A curve for comparison, MS-SSIM in decibels; empty where the metric is not defined."""
    if any(point[metric] is None for point in points):
        return []
    scale = ms_ssim_in_decibels if metric.startswith("ms_ssim") else float
    return [RatePoint(point["bpp"], scale(point[metric])) for point in points]


def nearest_points(points: dict[str, list[Record]]) -> dict[str, Record]:
    """One point of each codec, all at about the same rate: the middle of the rates that all curves reach.

    The leader (the last that is no standard codec, or the last of all) takes its point nearest to that rate, the others
    theirs nearest to the leader's.
    """
    having = {codec: curve for codec, curve in points.items() if curve}
    if not having:
        return {}
    lowest = max(min(point["bpp"] for point in curve) for curve in having.values())
    highest = min(max(point["bpp"] for point in curve) for curve in having.values())
    leader = _nearest(having[leading_codec(list(having))], math.sqrt(lowest * highest))
    return {codec: _nearest(curve, leader["bpp"]) for codec, curve in having.items()}


def leading_codec(codecs: Sequence[str]) -> str:
    """The codec that a comparison is about: the last that is no standard codec, or the last of all."""
    return next((codec for codec in reversed(codecs) if codec not in STANDARD_LABELS), codecs[-1])


def _nearest(curve: list[Record], rate: float) -> Record:
    return min(curve, key=lambda point: abs(math.log(point["bpp"] / rate)))


def bd_table(results: Results) -> list[Record]:
    """Every codec against each anchor: a row per sequence, and rows for the means.

    A row has anchor, codec, metric, sequence, bd_rate (percent), bd_quality (dB), overlap (0 to 1), reason (why there
    is no figure, or None). Rows of means have `sequences`, the number in the mean, and the least overlap of those.
    """
    rows = []
    for anchor in [a for a in ANCHORS if a in results.codecs]:
        for codec in [c for c in results.codecs if c != anchor]:
            for metric in results.metrics:
                rows += _bd_rows(results, anchor, codec, metric)
    return rows


def _bd_rows(results: Results, anchor: str, codec: str, metric: str) -> list[Record]:
    head = {"anchor": anchor, "codec": codec, "metric": metric}
    rows = []
    for sequence in results.sequences:
        curves = [curve(results.points(label, sequence), metric) for label in (anchor, codec)]
        delta = bjontegaard_delta(*curves)
        rows.append({**head, "sequence": sequence, **delta.__dict__})
    common = results.common_sequences()
    means = [_mean_row(rows, MEAN), _mean_row([row for row in rows if row["sequence"] in common], MEAN_COMMON)]
    return rows + [{**head, **mean} for mean in means]


def _mean_row(rows: list[Record], name: str) -> Record:
    stated = [row for row in rows if row["bd_rate"] is not None]
    gains = [row["bd_quality"] for row in stated if row["bd_quality"] is not None]
    return {
        "sequence": name,
        "bd_rate": _mean(row["bd_rate"] for row in stated),
        "bd_quality": _mean(gains),
        "overlap": min((row["overlap"] for row in stated), default=0.0),
        "reason": None if stated else "no sequence has a figure",
        "sequences": len(stated),
    }


def speed_table(results: Results) -> list[Record]:
    """One row per codec: frames per second over all points, the highest peak memory, and what its network computes."""
    rows = []
    for codec in results.codecs:
        points = [r for r in results.records if r["codec"] == codec]
        row: Record = {"codec": codec, "points": len(points)}
        for direction in ("encode", "decode"):
            seconds = [p[f"{direction}_seconds"] for p in points]
            known = bool(seconds) and None not in seconds and sum(seconds) > 0
            pixels = sum(p["frames"] * p["width"] * p["height"] for p in points)
            row[f"{direction}_fps"] = sum(p["frames"] for p in points) / sum(seconds) if known else None
            row[f"{direction}_mpx_per_second"] = pixels / 1e6 / sum(seconds) if known else None
            row[f"{direction}_peak_mib"] = max(
                (p[f"{direction}_peak_mib"] for p in points if p[f"{direction}_peak_mib"] is not None), default=None
            )
        rows.append({**row, **results.complexity.get(codec, {})})
    return rows


def write_results(results: Results, output: Path) -> None:
    """Write results.json, results.csv, bd_rate.json and speed.json."""
    flat = [{k: v for k, v in r.items() if k not in ("per_frame", "settings")} for r in results.records]
    _write_json(output / "results.json", flat)
    _write_json(output / "bd_rate.json", bd_table(results))
    _write_json(output / "speed.json", speed_table(results))
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_whole(output / "results.csv", text.getvalue().encode())


def without_costs(record: Record) -> Record:
    """A record without what depends on the machine and its load."""
    return {key: value for key, value in record.items() if key not in COSTS}


def _write_json(path: Path, content: object) -> None:
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else float(np.mean(known))  # type: ignore[arg-type]
