"""The report in Markdown: what was compared and how, the mean table, every sequence, speed."""

from collections.abc import Sequence
from pathlib import Path

from vcodec.evaluation.bd_rate import LOW_OVERLAP
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.results import (
    ANCHORS,
    MEAN,
    MEAN_COMMON,
    NAMES,
    Record,
    Results,
    bd_table,
    speed_table,
)
from vcodec.evaluation.runner import write_whole

SPEED_COLUMNS: dict[str, tuple[str, float]] = {
    "encode_fps": ("encode frames/s", 1),
    "decode_fps": ("decode frames/s", 1),
    "encode_mpx_per_second": ("encode Mpx/s", 1),
    "decode_mpx_per_second": ("decode Mpx/s", 1),
    "encode_peak_mib": ("encode peak MiB", 1),
    "decode_peak_mib": ("decode peak MiB", 1),
    "parameters": ("parameters (M)", 1e-6),
    "kmac_per_pixel_encode_iframe": ("kMAC/px encode I", 1),
    "kmac_per_pixel_encode_pframe": ("kMAC/px encode P", 1),
    "kmac_per_pixel_decode_iframe": ("kMAC/px decode I", 1),
    "kmac_per_pixel_decode_pframe": ("kMAC/px decode P", 1),
}
"""Key of a row of the speed table: its heading and the factor to its unit."""

SPEED_NOTE = (
    "Frames per second over all points, single figures of a shared machine: trust ratios, and only of codecs that ran "
    "under the same load. Peak memory is above what the process held before, which includes a model's weights."
)


def protocol_sentences(preset: Preset) -> list[str]:
    """What a reader has to know to trust or repeat the figures."""
    return [
        f"Preset {preset.name}: {preset.description}",
        "Rates are the bytes of real files: bare elementary streams of the standard codecs (headers once, no "
        "container, no text messages), whole files of the others. x264 runs on one thread (one slice a picture).",
        "Pictures are decoded from those files, at the source's bit depth. One averaging for all codecs: the mean over "
        "frames of each frame's figure, then the mean over sequences. RGB by the source's own matrix and range, chroma "
        "replicated, not rounded again.",
        "BD-rates by PCHIP over log rate, four points at least; none is stated where curves do not overlap. MS-SSIM is "
        "compared as -10 log10(1 - MS-SSIM); it is not defined for pictures with a side under 161 pixels.",
    ]


def write_markdown(results: Results, preset: Preset, title: str, command: str, output: Path) -> None:
    """Write report.md."""
    parts = [
        f"# {title}",
        *summary(results, preset, command, "rd.png"),
        "## Sequences",
        *(_sequence_section(results, sequence) for sequence in results.sequences),
    ]
    write_whole(output / "report.md", ("\n\n".join(parts) + "\n").encode())


def summary(results: Results, preset: Preset, command: str, picture: str) -> list[str]:
    """Paragraphs of Markdown: how it was measured, the mean curves, BD-rates, speed."""
    return [
        f"    {command}",
        "\n".join(f"- {sentence}" for sentence in protocol_sentences(preset)),
        f"![Rate-distortion curves, mean over the sequences that all codecs have]({picture})",
        "## BD-rate",
        *(_bd_section(results, anchor) for anchor in ANCHORS if anchor in results.codecs),
        "## Speed",
        SPEED_NOTE,
        speed_markdown(results),
    ]


def _bd_section(results: Results, anchor: str) -> str:
    rows = [row for row in bd_table(results) if row["anchor"] == anchor]
    common = len(results.common_sequences())
    tested = [codec for codec in results.codecs if codec != anchor]
    lines = [f"### Against {anchor}: percent of rate at equal quality (negative: fewer bits)"]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        body = []
        for sequence in [*results.sequences, MEAN, MEAN_COMMON]:
            cells = [_bd_cell(_find(rows, codec, metric, sequence)) for codec in tested]
            body.append([_row_name(sequence, common), *cells])
        lines.append(f"{NAMES[metric]}\n\n" + markdown_table([metric, *tested], body))
    lines.append(
        f"In brackets the overlap of the curves' ranges of quality; * marks an overlap under {LOW_OVERLAP:.0%}. "
        "Means over all sequences that both codecs have give the number of sequences instead."
    )
    return "\n\n".join(lines)


def _row_name(sequence: str, common: int) -> str:
    return {MEAN: "**mean**", MEAN_COMMON: f"**mean of the {common} common**"}.get(sequence, sequence)


def _bd_cell(row: Record) -> str:
    if row["bd_rate"] is None:
        return "-"
    if "sequences" in row:
        return f"**{row['bd_rate']:+.1f}** (n={row['sequences']})"
    return f"{row['bd_rate']:+.1f} ({row['overlap']:.0%}){'*' if row['overlap'] < LOW_OVERLAP else ''}"


def _find(rows: list[Record], codec: str, metric: str, sequence: str) -> Record:
    return next(r for r in rows if (r["codec"], r["metric"], r["sequence"]) == (codec, metric, sequence))


def speed_markdown(results: Results) -> str:
    """The speed table in Markdown."""
    return markdown_table(*speed_cells(results))


def speed_cells(results: Results) -> tuple[list[str], list[list[str]]]:
    """Head and body of the speed table; columns that no codec fills are left out."""
    rows = speed_table(results)
    used = {key: column for key, column in SPEED_COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    body = [[row["codec"], *(_number(row.get(key), scale) for key, (_, scale) in used.items())] for row in rows]
    return ["codec", *(name for name, _ in used.values())], body


def _sequence_section(results: Results, sequence: str) -> str:
    body = []
    for codec in results.codecs:
        for point in results.points(codec, sequence):
            figures = [f"{point['bpp']:.4f}", *(_number(point[metric]) for metric in ("psnr_rgb", "psnr_yuv"))]
            similarity = "-" if point["ms_ssim"] is None else f"{point['ms_ssim']:.5f}"
            extra = [_number(point[metric]) for metric in results.extra_metrics]
            body.append([codec, str(point["quality"]), *figures, similarity, *extra])
    head = ["codec", "quality", "bpp", "PSNR RGB", "PSNR YUV", "MS-SSIM", *results.extra_metrics]
    return f"### {sequence}\n\n![Curves and frames](plots/{sequence}.png)\n\n{markdown_table(head, body)}"


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)])


def _number(value: float | None, scale: float = 1.0) -> str:
    if value is None:
        return "-"
    value *= scale
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
