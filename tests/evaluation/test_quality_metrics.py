"""PSNR, MS-SSIM and their means; colour as FFmpeg's swscale has it."""

import dataclasses
import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim
from synthetic import moving_frames

from vcodec.errors import VcodecError
from vcodec.evaluation.metrics import FrameQuality, mean_quality, measure_frame, psnr
from vcodec.video import Frame, VideoFormat, to_rgb

FORMAT = VideoFormat(176, 168, matrix="bt601")


def noisy(frame: Frame, deviation: float = 3.0, seed: int = 0) -> Frame:
    generator = np.random.default_rng(seed)
    noise = [generator.normal(0, deviation, plane.shape) for plane in frame.planes]
    top = frame.format.max_value
    planes = [np.clip(np.round(p + n), 0, top).astype(p.dtype) for p, n in zip(frame.planes, noise, strict=True)]
    return Frame(tuple(planes), frame.pts, frame.format)


def test_psnr_of_a_known_error():
    source = np.zeros((4, 4), np.uint8)
    assert psnr(source, source + 5, peak=255) == pytest.approx(10 * math.log10(255**2 / 25))


def test_psnr_does_not_wrap_around_in_8_bits():
    assert psnr(np.array([[0]], np.uint8), np.array([[255]], np.uint8), peak=255) == 0


def test_identical_frames_have_100_decibels_and_an_ms_ssim_of_one():
    frame = moving_frames(FORMAT, 1)[0]
    quality = measure_frame(frame, frame)
    assert (quality.psnr_rgb, quality.psnr_y, quality.psnr_yuv) == (100, 100, 100)
    assert quality.ms_ssim == pytest.approx(1)


def test_yuv_psnr_weighs_luma_six_times():
    frame = moving_frames(FORMAT, 1)[0]
    quality = measure_frame(frame, noisy(frame))
    assert quality.psnr_yuv == pytest.approx((6 * quality.psnr_y + quality.psnr_u + quality.psnr_v) / 8)


def test_rgb_psnr_is_taken_over_all_three_channels():
    frame = moving_frames(FORMAT, 1)[0]
    decoded = noisy(frame)
    mse = np.mean((to_rgb(frame).astype(np.float64) - to_rgb(decoded)) ** 2)
    assert measure_frame(frame, decoded).psnr_rgb == pytest.approx(-10 * math.log10(mse))


def test_ms_ssim_is_that_of_pytorch_msssim():
    frame = moving_frames(FORMAT, 1)[0]
    decoded = noisy(frame, 20)
    a, b = (torch.from_numpy(to_rgb(f)).permute(2, 0, 1)[None].contiguous() for f in (frame, decoded))
    assert measure_frame(frame, decoded).ms_ssim == pytest.approx(float(ms_ssim(a, b, data_range=1.0)), abs=1e-6)


def test_a_frame_too_small_for_five_scales_has_no_ms_ssim():
    frame = moving_frames(VideoFormat(176, 144), 1)[0]
    assert measure_frame(frame, frame).ms_ssim is None


def test_ten_bits_are_measured_against_their_own_peak():
    frame = moving_frames(dataclasses.replace(FORMAT, bit_depth=10), 1)[0]
    planes = tuple(plane + np.uint16(4) for plane in frame.planes)
    quality = measure_frame(frame, Frame(planes, 0, frame.format))
    assert quality.psnr_y == pytest.approx(10 * math.log10(1023**2 / 16))


def test_grey_frames_have_luma_figures_only():
    frame = moving_frames(dataclasses.replace(FORMAT, chroma="gray"), 1)[0]
    quality = measure_frame(frame, noisy(frame))
    assert quality.psnr_y is not None
    assert quality.psnr_u is None
    assert quality.psnr_yuv is None


@pytest.mark.parametrize("change", [{"bit_depth": 10}, {"width": 178}, {"chroma": "444"}])
def test_frames_of_different_formats_are_not_compared(change):
    frame = moving_frames(FORMAT, 1)[0]
    other = moving_frames(dataclasses.replace(FORMAT, **change), 1)[0]
    with pytest.raises(VcodecError, match="own format"):
        measure_frame(frame, other)


def test_the_mean_over_frames_and_the_psnr_of_the_mean_error_are_told_apart():
    frames = [FrameQuality(psnr, *[None] * 6) for psnr in (30.0, 40.0)]
    means = mean_quality(frames)
    assert means["psnr_rgb"] == 35
    assert means["psnr_rgb_sequence_mse"] == pytest.approx(-10 * math.log10((1e-3 + 1e-4) / 2))
    assert means["ms_ssim"] is None


def swscale_rgb(frame: Frame) -> np.ndarray:
    """FFmpeg's conversion to 8-bit RGB with its exact arithmetic and replicated chroma."""
    format = frame.format
    picture = av.VideoFrame(format.width, format.height, format.pixel_format)
    for target, plane in zip(picture.planes, frame.planes, strict=True):
        np.frombuffer(target, np.uint8).reshape(target.height, -1)[:, : plane.shape[1]] = plane
    picture.pts = 0
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=format.width, height=format.height, format=picture.format.name, time_base=Fraction(1, 25)
    )
    flags = "accurate_rnd+full_chroma_int+neighbor"
    scale = graph.add("scale", f"in_color_matrix={format.matrix}:in_range=tv:out_range=pc:flags={flags}")
    rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    for link in ((source, scale), (scale, rgb), (rgb, sink)):
        link[0].link_to(link[1])
    graph.configure()
    graph.push(picture)
    return graph.pull().to_ndarray()


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_rgb_is_that_of_swscale_within_rounding(matrix, chroma):
    frame = noisy(moving_frames(VideoFormat(176, 144, chroma, matrix=matrix), 1)[0], 10)
    assert np.abs(to_rgb(frame) * 255 - swscale_rgb(frame)).max() < 0.52
