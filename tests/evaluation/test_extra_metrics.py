"""VMAF and scikit-video's measures: right where they run, refused with the reason where they do not."""

import numpy as np
import pytest
from synthetic import moving_frames

from vcodec.errors import VcodecError
from vcodec.evaluation.extra_metrics import SkvideoMetric, create_extra_metric
from vcodec.evaluation.ffmpeg import find_ffmpeg
from vcodec.video import Frame, VideoFormat

FORMAT = VideoFormat(192, 192)


@pytest.fixture(scope="module")
def pairs():
    frames = moving_frames(FORMAT, 4)
    noise = np.random.default_rng(0).integers(-9, 10, (192, 192))
    luma = [np.clip(frame.planes[0] + noise, 0, 255).astype(np.uint8) for frame in frames]
    return [(f, Frame((y, *f.planes[1:]), f.pts, FORMAT)) for f, y in zip(frames, luma, strict=True)]


def test_mean_absolute_error_of_luma(pairs):
    expected = np.mean([np.abs(a.planes[0].astype(int) - b.planes[0]) for a, b in pairs])
    assert create_extra_metric("mae_y").measure(pairs) == pytest.approx(expected, rel=1e-6)


def test_vmaf_of_identical_and_of_noisy_frames(pairs):
    if find_ffmpeg("libvmaf", "filter") is None:
        pytest.skip("no ffmpeg with libvmaf (pip install imageio-ffmpeg has one)")
    vmaf = create_extra_metric("vmaf")
    identical = vmaf.measure([(source, source) for source, _ in pairs])
    assert 0 <= vmaf.measure(pairs) < identical <= 100


def test_an_ffmpeg_without_vmaf_is_refused(tmp_path):
    with pytest.raises(VcodecError, match="VMAF needs an ffmpeg with libvmaf"):
        create_extra_metric("vmaf", str(tmp_path / "ffmpeg"))


def test_a_measure_that_does_not_run_here_is_refused_with_the_reason():
    if hasattr(np, "int"):
        pytest.skip("this numpy is old enough for scikit-video")
    with pytest.raises(VcodecError, match=r"strred does not run with numpy .*numpy.* has no attribute"):
        create_extra_metric("st_rred")


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_st_rred_rises_with_the_error_where_it_runs(pairs, monkeypatch):
    for name, kind in (("int", int), ("float", float)):  # what numpy had when scikit-video was written
        monkeypatch.setattr(np, name, kind, raising=False)
    strred = SkvideoMetric("st_rred", "strred")
    assert strred.measure([(source, source) for source, _ in pairs]) == pytest.approx(0, abs=1e-6)
    assert strred.measure(pairs) > 0.1


def test_an_unknown_measure_is_refused():
    with pytest.raises(VcodecError, match="no measure 'beauty'; choose from vmaf, st_rred"):
        create_extra_metric("beauty")
