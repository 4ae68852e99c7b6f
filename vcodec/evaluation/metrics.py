"""How far a decoded frame is from its source: PSNR in RGB and YUV, MS-SSIM in RGB and luma.

Every codec is measured by these functions, on frames decoded from a file and rounded to the source's bit depth.

One averaging serves all: a sequence's figure is the arithmetic mean of its frames' figures. The PSNR of the mean
squared error over the whole sequence (which weighs bad frames more) is given beside it under its own name.
Which of the two is used moves results by tenths of a decibel, so curves made with different ones must not be compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from pytorch_msssim import ms_ssim

from vcodec.errors import VcodecError
from vcodec.video import Frame, to_rgb

PSNR_OF_IDENTICAL_FRAMES = 100.0
"""Decibels written for a frame without error, whose PSNR is infinite (JSON and a mean need a number)."""

MS_SSIM_SMALLEST_SIDE = 161
"""Five scales with a window of 11 need both sides over 160 pixels; smaller frames have no MS-SSIM."""


@dataclass(frozen=True)
class FrameQuality:
    """The figures of one decoded frame; None where a figure is not defined (grey frames, frames too small)."""

    psnr_rgb: float
    psnr_y: float | None
    psnr_u: float | None
    psnr_v: float | None
    psnr_yuv: float | None
    ms_ssim: float | None
    ms_ssim_y: float | None


METRICS = tuple(field.name for field in fields(FrameQuality))


def measure_frame(source: Frame, decoded: Frame) -> FrameQuality:
    """Compare one decoded frame with its source; both must have the same size, chroma format and bit depth."""
    _require_same_format(source, decoded)
    source_rgb, decoded_rgb = to_rgb(source), to_rgb(decoded)
    psnr_y = psnr_u = psnr_v = psnr_yuv = ms_ssim_y = None
    if source.format.chroma != "rgb":
        peak = (1 << source.format.bit_depth) - 1
        plane_psnr = [psnr(a, b, peak) for a, b in zip(source.planes, decoded.planes, strict=True)]
        psnr_y = plane_psnr[0]
        if len(plane_psnr) == 3:
            psnr_u, psnr_v = plane_psnr[1:]
            psnr_yuv = (6 * psnr_y + psnr_u + psnr_v) / 8
        ms_ssim_y = ms_ssim_of(_unit_range(source.planes[0], peak), _unit_range(decoded.planes[0], peak))
    return FrameQuality(
        psnr_rgb=psnr(source_rgb, decoded_rgb, peak=1.0),
        psnr_y=psnr_y,
        psnr_u=psnr_u,
        psnr_v=psnr_v,
        psnr_yuv=psnr_yuv,
        ms_ssim=ms_ssim_of(source_rgb, decoded_rgb),
        ms_ssim_y=ms_ssim_y,
    )


def psnr(source: np.ndarray, decoded: np.ndarray, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of any shape; 100 dB where they are identical."""
    difference = np.subtract(source, decoded, dtype=np.float32)
    return psnr_of_mse(float(np.mean(np.square(difference, out=difference), dtype=np.float64)), peak)


def psnr_of_mse(mse: float, peak: float = 1.0) -> float:
    """PSNR in dB of a mean squared error; never above 100 dB."""
    return min(10 * math.log10(peak * peak / mse), PSNR_OF_IDENTICAL_FRAMES) if mse > 0 else PSNR_OF_IDENTICAL_FRAMES


def ms_ssim_of(source: np.ndarray, decoded: np.ndarray) -> float | None:
    """MS-SSIM (Wang, Simoncelli and Bovik, 2003) of (H, W) or (H, W, 3) arrays in [0, 1]; None below 161 pixels."""
    if min(source.shape[:2]) < MS_SSIM_SMALLEST_SIDE:
        return None
    with torch.inference_mode():
        return float(ms_ssim(_as_batch(source), _as_batch(decoded), data_range=1.0))


def mean_quality(frames: Sequence[FrameQuality]) -> dict[str, float | None]:
    """A sequence's figures: the mean over its frames of each metric, and `psnr_rgb_sequence_mse`.

    A metric that some frame lacks is None for the sequence.
    """
    if not frames:
        raise VcodecError("There are no decoded frames to average.")
    means: dict[str, float | None] = {}
    for metric in METRICS:
        values = [getattr(frame, metric) for frame in frames]
        means[metric] = None if any(value is None for value in values) else float(np.mean(values))
    mse = np.mean([0.0 if f.psnr_rgb >= PSNR_OF_IDENTICAL_FRAMES else 10 ** (-f.psnr_rgb / 10) for f in frames])
    means["psnr_rgb_sequence_mse"] = psnr_of_mse(float(mse))
    return means


def _require_same_format(source: Frame, decoded: Frame) -> None:
    for attribute in ("width", "height", "chroma", "bit_depth"):
        expected, found = getattr(source.format, attribute), getattr(decoded.format, attribute)
        if expected != found:
            raise VcodecError(
                f"The decoded frame has {attribute} {found} but its source has {expected}; "
                "figures are only taken at the source's own format."
            )


def _unit_range(plane: np.ndarray, peak: int) -> np.ndarray:
    return plane.astype(np.float32) / peak


def _as_batch(picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) or (H, W) as (1, 3 or 1, H, W), three channels last in memory: torch filters them fastest so."""
    return torch.from_numpy(np.atleast_3d(picture).astype(np.float32, copy=False))[None].permute(0, 3, 1, 2)
