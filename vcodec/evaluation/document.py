"""Results within a document of one's own: the tables between two lines of it, plots and points in a folder beside it.

A document in Markdown that is to hold the results of preset `paper` has these two lines, each by itself:

    <!-- results: paper -->
    <!-- end of results: paper -->

What stands between them is replaced at every run; everything else stays as it is. DOCUMENT.md's plots and points are
DOCUMENT/PRESET_rd.png and DOCUMENT/PRESET.csv.
"""

from pathlib import Path

from vcodec.errors import VcodecError
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.report import summary
from vcodec.evaluation.results import Results
from vcodec.evaluation.runner import write_whole


def check_document(document: Path, preset: Preset) -> None:
    """Refuse a document without a place for the results.

    Raises:
        VcodecError: it can't be read, or lacks the two lines.
    """
    _split(document, preset)


def insert_results(document: Path, results: Results, preset: Preset, command: str, output: Path) -> None:
    """Put the results of a run, whose files lie in `output`, into a document."""
    before, after = _split(document, preset)
    folder = document.with_suffix("")
    picture, points = folder / f"{preset.name}_rd.png", folder / f"{preset.name}.csv"
    write_whole(picture, (output / "rd.png").read_bytes())
    write_whole(points, (output / "results.csv").read_bytes())
    parts = [
        *summary(results, preset, command, f"{folder.name}/{picture.name}"),
        f"All points: [{points.name}]({folder.name}/{points.name}).",
    ]
    write_whole(document, "\n\n".join([before, *parts, after]).encode())


def _split(document: Path, preset: Preset) -> tuple[str, str]:
    """What stands before the results, with their first line, and after them, with their last."""
    begin, end = f"<!-- results: {preset.name} -->", f"<!-- end of results: {preset.name} -->"
    try:
        text = document.read_text()
    except (OSError, ValueError) as error:
        raise VcodecError(f"{document}: can't be read ({error}).") from error
    lines = text.splitlines()
    if begin not in lines or end not in lines or lines.index(begin) > lines.index(end):
        raise VcodecError(f"{document}: has no place for the results; add the lines `{begin}` and `{end}`.")
    first, last = lines.index(begin), lines.index(end)
    return "\n".join(lines[: first + 1]), "\n".join(lines[last:]) + "\n"
