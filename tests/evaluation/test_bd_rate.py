"""BD-rates from published points, and refusals where no figure can be stated."""

import pytest

from vcodec.evaluation.bd_rate import RatePoint, bjontegaard_delta, ms_ssim_in_decibels

# The UVG points (bits per pixel, RGB PSNR in dB; GOP 12) published with the learned codecs of 2019 to 2022.
UVG = {
    "x264": [(0.0449, 33.82), (0.0760, 35.24), (0.1488, 36.64), (0.3604, 38.17)],
    "x265": [(0.0322, 33.96), (0.0581, 35.40), (0.1239, 36.78), (0.2898, 38.23)],
    "ssf": [(0.0476, 34.41), (0.0680, 35.86), (0.1144, 36.95), (0.2223, 38.39)],
    "hm": [(0.0186, 34.31), (0.0298, 35.39), (0.0488, 36.58), (0.0875, 37.70)],
}


def curve(points):
    return [RatePoint(bpp, quality) for bpp, quality in points]


@pytest.mark.parametrize(
    ("anchor", "test", "published"),
    [("x264", "x265", -26.1), ("x264", "ssf", -32.4), ("x265", "ssf", -9.6), ("x265", "hm", -52.9)],
)
def test_published_bd_rates_come_back_within_a_point(anchor, test, published):
    delta = bjontegaard_delta(curve(UVG[anchor]), curve(UVG[test]))
    assert delta.bd_rate == pytest.approx(published, abs=1.0)
    assert delta.bd_quality > 0
    assert 0.7 < delta.overlap < 1


def test_a_codec_that_halves_every_rate_has_a_bd_rate_of_minus_fifty_percent():
    halved = [(bpp / 2, quality) for bpp, quality in UVG["x264"]]
    delta = bjontegaard_delta(curve(UVG["x264"]), curve(halved))
    assert delta.bd_rate == pytest.approx(-50)
    assert delta.overlap == 1


def test_a_codec_that_gains_one_decibel_everywhere_has_a_bd_psnr_of_one():
    better = [(bpp, quality + 1) for bpp, quality in UVG["x264"]]
    assert bjontegaard_delta(curve(UVG["x264"]), curve(better)).bd_quality == pytest.approx(1)


def test_the_order_of_the_points_does_not_matter():
    shuffled = [UVG["x265"][i] for i in (2, 0, 3, 1)]
    assert bjontegaard_delta(curve(UVG["x264"]), curve(shuffled)) == bjontegaard_delta(
        curve(UVG["x264"]), curve(UVG["x265"])
    )


def test_curves_that_do_not_overlap_are_refused():
    far = [(bpp, quality + 20) for bpp, quality in UVG["x264"]]
    delta = bjontegaard_delta(curve(UVG["x264"]), curve(far))
    assert delta.bd_rate is None
    assert delta.bd_quality is None
    assert delta.overlap == 0
    assert "share no range" in delta.reason


def test_three_points_are_refused():
    delta = bjontegaard_delta(curve(UVG["x264"]), curve(UVG["x265"][:3]))
    assert delta.bd_rate is None
    assert "3 points" in delta.reason


def test_a_curve_that_falls_is_refused():
    falling = [*UVG["x265"][:3], (0.2898, 36.0)]
    delta = bjontegaard_delta(curve(UVG["x264"]), curve(falling))
    assert delta.bd_rate is None
    assert "test curve does not rise" in delta.reason


def test_two_points_of_one_rate_leave_the_bd_rate_alone():
    points = curve([(0.02, 35), (0.01, 30), (0.01, 31), (0.04, 37)])
    delta = bjontegaard_delta(points, [RatePoint(2 * p.bpp, p.quality) for p in points])
    assert delta.bd_rate == pytest.approx(100)
    assert delta.bd_quality is None


def test_ms_ssim_in_decibels():
    assert ms_ssim_in_decibels(0.99) == pytest.approx(20)
    assert ms_ssim_in_decibels(1.0) == pytest.approx(100)
