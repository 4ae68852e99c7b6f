"""Results put into a document of one's own."""

import csv
from io import StringIO

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.document import check_document
from vcodec.evaluation.main import main
from vcodec.evaluation.presets import MODERN, PAPER

DOCUMENT = """# Mine

Before.

<!-- results: paper -->
<!-- end of results: paper -->

After.
"""


def test_a_document_gets_tables_plots_and_points_again_and_again(dataset_directory, tmp_path):
    document = tmp_path / "mine.md"
    document.write_text(DOCUMENT)
    run = ["--data", str(dataset_directory), "--sequences", "small", "--frames", "2", "--codecs", "x264,x265"]
    run += ["--output", str(tmp_path / "out"), "--insert-into", str(document), "--quiet"]
    assert main(run) == 0
    text = document.read_text()
    assert text.startswith("# Mine\n\nBefore.\n\n<!-- results: paper -->\n")
    assert text.endswith("<!-- end of results: paper -->\n\nAfter.\n")
    assert "at most 2 frames" in text
    assert "### Against x264" in text
    assert "(mine/paper_rd.png)" in text
    assert (tmp_path / "mine" / "paper_rd.png").read_bytes() == (tmp_path / "out" / "rd.png").read_bytes()
    points = list(csv.DictReader(StringIO((tmp_path / "mine" / "paper.csv").read_text())))
    assert [point["codec"] for point in points] == 5 * ["x264"] + 5 * ["x265"]
    assert main(run) == 0
    assert document.read_text() == text


@pytest.mark.parametrize("content", ["# Mine\n", DOCUMENT.replace("end of ", ""), None])
def test_a_document_without_a_place_is_refused_before_the_run(content, dataset_directory, tmp_path, capsys):
    document = tmp_path / "mine.md"
    if content is not None:
        document.write_text(content)
    run = ["--data", str(dataset_directory), "--codecs", "x264", "--output", str(tmp_path / "out")]
    assert main([*run, "--insert-into", str(document)]) == 1
    error = capsys.readouterr().err
    assert str(document) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_each_preset_has_its_own_place(tmp_path):
    document = tmp_path / "mine.md"
    document.write_text(DOCUMENT)
    check_document(document, PAPER)
    with pytest.raises(VcodecError, match="<!-- results: modern -->"):
        check_document(document, MODERN)
