"""The command as a user runs it, and its report in a browser."""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vcodec.evaluation.main import main
from vcodec.evaluation.metrics import psnr

ROOT = Path(__file__).parent.parent.parent
TINY = ROOT / "tests" / "data" / "tiny.safetensors"
QUALITIES = "0,20,40,63"


@pytest.fixture(scope="module")
def output(dataset_directory, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    command = [sys.executable, ROOT / "eval_video.py", "--data", dataset_directory, "--preset", "paper"]
    options = ["--codecs", f"x264,x265,{TINY}", "--qualities", QUALITIES, "--output", output, "--frames", "13"]
    done = subprocess.run([*command, *options, "--device", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "x265" in done.stdout
    assert "BD-rate" in done.stdout
    assert "100%" in done.stderr  # the progress bar
    return output


def test_all_files_are_there(output):
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert {"results.json", "results.csv", "bd_rate.json", "rd.png", "rd.svg", "report.md", "report.html"} <= names
    assert {f"plots/{s}.{kind}" for s in ("large", "small") for kind in ("png", "svg")} <= names
    assert "points/tiny/small/20.json" in names
    assert "streams/x265/large/27.hevc" in names


def test_the_records(output):
    records = json.loads((output / "results.json").read_text())
    assert len(records) == 2 * (5 + 5 + 4)
    for record in records:
        stream = next((output / "streams" / record["codec"] / record["sequence"]).glob(f"{record['quality']}.*"))
        assert record["bytes"] == stream.stat().st_size
        assert record["frames"] == 13
        assert (record["ms_ssim"] is None) == (record["sequence"] == "small")


def test_bd_rates_of_every_codec_against_both_anchors(output):
    rows = json.loads((output / "bd_rate.json").read_text())
    assert {row["anchor"] for row in rows} == {"x264", "x265"}
    assert {row["codec"] for row in rows} == {"x264", "x265", "tiny"}
    assert {row["metric"] for row in rows} == {"psnr_rgb", "psnr_yuv", "ms_ssim"}
    assert {row["sequence"] for row in rows} == {"large", "small", "mean", "mean_common"}
    assert all(0 <= row["overlap"] <= 1 for row in rows)
    both = [r for r in rows if (r["anchor"], r["codec"], r["metric"]) == ("x264", "x265", "psnr_rgb")]
    assert all(row["bd_rate"] is not None for row in both)


def test_the_markdown_report_says_how_and_what(output):
    text = (output / "report.md").read_text()
    assert "GOP 12" in text
    assert "mean over frames" in text
    assert "Against x264" in text
    assert "| tiny |" in text
    assert "parameters (M)" in text
    for target in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (output / target).is_file()


def test_a_second_run_computes_nothing_and_prints_json_on_demand(output, dataset_directory, capsys):
    before = {path: path.stat().st_mtime_ns for path in (output / "points").rglob("*.json")}
    arguments = ["--data", str(dataset_directory), "--codecs", f"x264,x265,{TINY}", "--qualities", QUALITIES]
    assert main([*arguments, "--output", str(output), "--frames", "13", "--device", "cpu", "--quiet", "--json"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (output / "points").rglob("*.json")} == before
    assert json.loads(capsys.readouterr().out) == json.loads((output / "bd_rate.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "gone", "--codecs", "x264"], "neither a folder"),
        (["--data", "{data}", "--codecs", "x266"], "no model named 'x266'"),
        (["--data", "{data}", "--codecs", "x264,x264"], "same label"),
        (["--data", "{data}", "--codecs", "hm"], "HM needs --hm-encoder"),
        (["--data", "uvg", "--codecs", "x264"], "ultravideo.fi"),
        (["--data", "{data}", "--codecs", "x264", "--intra-period", "0"], "a number of frames, or -1"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(arguments, reason, dataset_directory, tmp_path, capsys):
    arguments = [word.format(data=dataset_directory) for word in arguments]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(dataset_directory, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    arguments = ["--data", str(dataset_directory), "--codecs", "x264", "--output", str(tmp_path / "file")]
    assert main(arguments) == 1
    assert "is no folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "option", [["--frames", "0"], ["--jobs", "-1"], ["--qualities", "64"], ["--preset", "x"], ["--device", "tpu"]]
)
def test_wrong_usage_exits_with_2(option, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["--data", ".", "--codecs", "x264", "--output", str(tmp_path), *option])
    assert caught.value.code == 2


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_needs_nothing_from_elsewhere(output):
    page = (output / "report.html").read_text()
    without_data = page.replace(json.dumps(data_of(page)), "")
    addresses = set(re.findall(r"https?://[^\s\"']+", without_data))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=", without_data)
    assert all(
        picture["data"].startswith("data:image/") for s in data_of(page)["pictures"] for picture in s["pictures"]
    )


# Appended to the page: moves the pointer over a point and the slider to the right, and writes down what then shows.
VISIT = """<pre id="seen"></pre><script>
const wait = setInterval(() => {
  if (document.body.dataset.ready !== "pictures") return;
  clearInterval(wait);
  const seen = {points: document.querySelectorAll("#plot circle").length,
                bd: [...document.querySelectorAll("#bd tr")].map(r => [...r.cells].map(c => c.textContent)),
                sequences: [...find("sequence").options].map(o => o.value),
                speed: document.querySelectorAll("#speed tr").length, caption: find("caption").textContent};
  const hoverOver = (id, index) => {
    const svg = find(id), box = svg.getBoundingClientRect(), target = svg.drawn[index];
    const scale = box.width / svg.viewBox.baseVal.width;
    svg.dispatchEvent(new PointerEvent("pointermove", {
      clientX: box.left + target.x * scale, clientY: box.top + target.y * scale}));
    return svg.nextElementSibling;
  };
  seen.tip = hoverOver("plot", 0).textContent;
  seen.tipVisible = getComputedStyle(hoverOver("plot", 0)).visibility;
  seen.frames = ["frame-bits", "frame-psnr"].map(id => find(id).drawn.length);
  seen.frameTips = ["frame-bits", "frame-psnr"].map(id => hoverOver(id, 0).textContent);
  find("bd-metric").value = "ms_ssim";
  find("bd-metric").dispatchEvent(new Event("change"));
  seen.bdOfAnother = [...find("bd").rows].map(r => [...r.cells].map(c => c.textContent));
  const middle = () => {
    const canvas = find("canvas");
    return [...canvas.getContext("2d").getImageData(canvas.width / 2 - 8, canvas.height / 2, 1, 1).data];
  };
  find("split").value = 1000;
  find("split").dispatchEvent(new Event("input"));
  seen.left = middle();
  find("split").value = 0;
  find("split").dispatchEvent(new Event("input"));
  seen.right = middle();
  find("errors").checked = true;
  find("errors").dispatchEvent(new Event("input"));
  seen.error = middle();
  seen.width = find("canvas").width;
  find("view").value = "rows";
  find("view").dispatchEvent(new Event("input"));
  seen.widthOfThree = find("canvas").width;
  find("seen").textContent = JSON.stringify(seen);
}, 50);
</script>"""


@pytest.fixture(scope="module")
def visit(output, tmp_path_factory):
    """What a headless Chromium shows of the page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "page.html"
    page.write_text((output / "report.html").read_text().replace("</body>", VISIT + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,2000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    command = [browser, *options, page.as_uri()]
    seen = ""
    for _ in range(4):  # on a busy machine the page is sometimes dumped before its pictures are there
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        seen = html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)[1])
        if seen:
            break
    return json.loads(seen)


def test_the_page_draws_every_point_and_table(visit):
    assert visit["points"] == 5 + 5 + 4
    assert visit["sequences"] == ["mean of the 2 common sequences", "large", "small"]
    assert [row[0] for row in visit["bd"]] == ["", "large", "small", "mean", "mean of the 2 common"]
    assert visit["speed"] == 4


def test_the_page_shows_the_bd_rates_of_one_measure_at_a_time(visit):
    assert visit["bd"][0] == visit["bdOfAnother"][0] == ["", "x265", "tiny"]
    small = [row for row in (*visit["bd"], *visit["bdOfAnother"]) if row[0] == "small"]
    assert small[0][1] != "-"
    assert small[1][1:] == ["-", "-"]  # too small for MS-SSIM


def test_the_page_draws_bits_and_psnr_of_each_frame(visit, output):
    assert visit["frames"] == [3 * 13, 3 * 13]
    frames = data_of((output / "report.html").read_text())["frames"]["large"]["x264"]
    assert f"{frames['label']}\nframe 0\n{frames['bits'][0]} bits" == visit["frameTips"][0]
    assert f"{frames['label']}\nframe 0\n{frames['psnr'][0]:.2f} dB" == visit["frameTips"][1]


def test_the_page_shows_values_on_hover(visit, output):
    data = data_of((output / "report.html").read_text())
    point = next(iter(data["curves"]["mean of the 2 common sequences"].values()))[0]
    assert visit["tipVisible"] == "visible"
    assert f"x264, quality {point['quality']}" in visit["tip"]
    assert f"{point['bpp']:.4f} bits per pixel" in visit["tip"]
    assert f"{point['psnr_rgb']:.3f}" in visit["tip"]


def test_the_viewer_shows_left_right_and_errors(visit, output):
    scene = data_of((output / "report.html").read_text())["pictures"][0]
    pictures = [picture_of(entry["data"]) for entry in scene["pictures"]]
    assert len(pictures) == 4
    height, width = pictures[0].shape[:2]
    assert (visit["width"], visit["widthOfThree"]) == (width, 3 * width)
    place = (height // 2, width // 2 - 8)
    assert visit["left"][:3] == pictures[2][place].tolist()  # x265, the last anchor
    assert visit["right"][:3] == pictures[-1][place].tolist()
    difference = np.abs(pictures[-1][place].astype(int) - pictures[0][place])
    assert visit["error"][:3] == np.minimum(5 * difference, 255).tolist()
    for picture in pictures[-2:]:
        assert f"{psnr(pictures[0], picture, 255):.2f} dB here" in visit["caption"]


def picture_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
