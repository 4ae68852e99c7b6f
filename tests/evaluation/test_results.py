"""Means over common sequences, the table of BD-rates, speed, and the files that hold them."""

import csv
import json

import pytest

from vcodec.evaluation.results import (
    Results,
    bd_table,
    leading_codec,
    nearest_points,
    speed_table,
    write_results,
)

RATES = (0.1, 0.2, 0.4, 0.8)


def record(codec, sequence, quality, bpp, psnr, **changes):
    return {
        "codec": codec,
        "sequence": sequence,
        "quality": quality,
        "width": 100,
        "height": 100,
        "frames": 10,
        "bytes": int(bpp * 10 * 10000 / 8),
        "bpp": bpp,
        "psnr_rgb": psnr,
        "psnr_yuv": psnr + 2,
        "ms_ssim": 1 - 10 ** (-psnr / 20),
        "encode_seconds": 2.0,
        "decode_seconds": 0.5,
        "encode_peak_mib": 10.0,
        "decode_peak_mib": None,
        "per_frame": {"bits": [1]},
        "settings": {},
        **changes,
    }


def curve_of(codec, sequence, factor=1.0, **changes):
    points = enumerate(zip(RATES, (30.0, 32.0, 34.0, 36.0), strict=True))
    return [record(codec, sequence, 40 - q, bpp * factor, psnr, **changes) for q, (bpp, psnr) in points]


@pytest.fixture
def results():
    """x265 needs half of x264's bits on `a` and the same on `b`; hm has only `a`."""
    records = [
        *curve_of("x264", "a"),
        *curve_of("x264", "b"),
        *curve_of("x265", "a", 0.5),
        *curve_of("x265", "b"),
        *curve_of("hm", "a", 0.25, encode_seconds=None),
    ]
    return Results(records, ["x264", "x265", "hm"], ["a", "b"], "psnr_rgb")


def row_of(rows, **wanted):
    (row,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return row


@pytest.mark.parametrize("metric", ["psnr_rgb", "psnr_yuv", "ms_ssim"])
def test_bd_rates_per_sequence_and_their_means(results, metric):
    rows = bd_table(results)
    pair = {"anchor": "x264", "codec": "x265", "metric": metric}
    assert row_of(rows, sequence="a", **pair)["bd_rate"] == pytest.approx(-50)
    assert row_of(rows, sequence="b", **pair)["bd_rate"] == pytest.approx(0, abs=1e-9)
    mean = row_of(rows, sequence="mean", **pair)
    assert (mean["bd_rate"], mean["sequences"]) == (pytest.approx(-25), 2)
    common = row_of(rows, sequence="mean_common", **pair)
    assert (common["bd_rate"], common["sequences"]) == (pytest.approx(-50), 1)


def test_every_codec_stands_against_every_anchor(results):
    pairs = {(row["anchor"], row["codec"]) for row in bd_table(results)}
    assert pairs == {("x264", "x265"), ("x264", "hm"), ("x265", "x264"), ("x265", "hm")}


def test_a_sequence_that_a_codec_lacks_has_a_reason_and_no_figure(results):
    row = row_of(bd_table(results), anchor="x264", codec="hm", metric="psnr_rgb", sequence="b")
    assert row["bd_rate"] is None
    assert "0 points" in row["reason"]
    assert row_of(bd_table(results), anchor="x264", codec="hm", metric="psnr_rgb", sequence="mean")["sequences"] == 1


def test_a_metric_that_is_not_defined_has_no_bd_rate():
    records = [*curve_of("x264", "a", ms_ssim=None), *curve_of("x265", "a", ms_ssim=None)]
    rows = bd_table(Results(records, ["x264", "x265"], ["a"], "psnr_rgb"))
    mean = row_of(rows, anchor="x264", metric="ms_ssim", sequence="mean")
    assert (mean["bd_rate"], mean["sequences"]) == (None, 0)


def test_the_mean_curve_is_over_the_sequences_that_all_codecs_have(results):
    assert results.common_sequences() == ["a"]
    assert [point["bpp"] for point in results.mean_points("x265", "psnr_rgb")] == [0.05, 0.1, 0.2, 0.4]


def test_a_mean_curve_leaves_out_sequences_on_which_its_metric_is_not_defined():
    records = [*curve_of("x264", "large"), *curve_of("x264", "small", 0.5, ms_ssim=None)]
    results = Results(records, ["x264"], ["large", "small"], "psnr_rgb")
    assert results.common_sequences("psnr_rgb") == ["large", "small"]
    assert results.common_sequences("ms_ssim") == ["large"]
    assert [point["bpp"] for point in results.mean_points("x264", "ms_ssim")] == list(RATES)
    assert results.mean_points("x264", "psnr_rgb")[0]["bpp"] == pytest.approx(0.75 * RATES[0])


def test_vmaf_is_compared_where_it_was_measured():
    records = [*curve_of("x264", "a", vmaf=50.0, mse_y=1.0), *curve_of("x265", "a", vmaf=60.0, mse_y=1.0)]
    results = Results(records, ["x264", "x265"], ["a"], "psnr_rgb")
    assert results.metrics == ["psnr_rgb", "psnr_yuv", "ms_ssim", "vmaf"]
    assert results.extra_metrics == ["vmaf", "mse_y"]
    assert "does not rise" in row_of(bd_table(results), anchor="x264", metric="vmaf", sequence="a")["reason"]


def test_the_points_shown_together_lie_where_all_curves_have_rates():
    points = {"x264": curve_of("x264", "a"), "x265": curve_of("x265", "a", 0.3)}  # shared rates: 0.1 to 0.24
    nearest = nearest_points(points)
    assert {codec: point["bpp"] for codec, point in nearest.items()} == {"x264": 0.1, "x265": pytest.approx(0.12)}
    assert nearest_points({"x264": []}) == {}


def test_a_model_leads_the_choice_of_points_wherever_it_stands():
    points = {"net": curve_of("net", "a", 3.0), "x264": curve_of("x264", "a"), "x265": curve_of("x265", "a")}
    nearest = nearest_points(points)  # shared rates: 0.3 to 0.8, middle 0.49
    assert {codec: point["bpp"] for codec, point in nearest.items()} == {
        "net": pytest.approx(0.6),
        "x264": 0.8,
        "x265": 0.8,
    }
    assert leading_codec(["net", "x264", "hm"]) == "net"
    assert leading_codec(["x264", "hm"]) == "hm"


def test_speed_is_frames_over_seconds_and_unknown_where_nothing_was_encoded(results):
    rows = {row["codec"]: row for row in speed_table(results)}
    assert rows["x264"]["encode_fps"] == 5
    assert rows["x264"]["decode_fps"] == 20
    assert rows["x264"]["encode_peak_mib"] == 10
    assert rows["x264"]["decode_peak_mib"] is None
    assert rows["hm"]["encode_fps"] is None
    assert rows["hm"]["decode_fps"] == 20


def test_the_files(results, tmp_path):
    write_results(results, tmp_path)
    records = json.loads((tmp_path / "results.json").read_text())
    assert len(records) == 20
    asked = {
        *("codec", "sequence", "quality", "bytes", "frames", "bpp", "psnr_rgb"),
        *("psnr_yuv", "ms_ssim", "encode_seconds", "decode_seconds"),
    }
    assert asked <= set(records[0])
    with open(tmp_path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bpp"]) for row in rows] == [r["bpp"] for r in records]
    assert json.loads((tmp_path / "bd_rate.json").read_text()) == bd_table(results)
