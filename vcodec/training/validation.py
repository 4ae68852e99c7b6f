"""Validation on held-out clips: rate-distortion at a few qualities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..models import lambda_of_quality
from .cache import StoredClip
from .schedule import Stage


@dataclass(frozen=True)
class ValidationPoint:
    """One quality, the mean over the clips: bits per pixel, PSNR in dB (mean over frames), and RD cost."""

    quality: float
    bpp: float
    psnr: float
    cost: float  # lambda * 255^2 * MSE + bpp


@dataclass(frozen=True)
class ValidationReport:
    """Points in the order of quality, and pictures (T, 3, H, W) by name."""

    points: list[ValidationPoint]
    pictures: dict[str, Tensor] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """The geometric mean of the points' costs: a change by one percent counts the same at each rate."""
        return math.exp(sum(math.log(point.cost) for point in self.points) / len(self.points))


@torch.no_grad()
def validate(
    model: nn.Module, clips: Sequence[StoredClip], stage: Stage, qualities: Sequence[float], frames: int
) -> ValidationReport:
    """RD points of `model` (in evaluation mode) on the first frames of `clips`, by estimated bits."""
    if stage.kind == "image":
        frames = 1
    if stage.lmbda is not None:
        qualities = [sum(stage.quality) / 2]
    device = next(model.parameters()).device
    points = []
    for quality in qualities:
        bpp, psnr, cost = [], [], []
        lmbda = stage.lmbda or float(lambda_of_quality(quality))
        for clip in clips:
            bits, mse, pixels = estimate(model, clip, frames, quality, device)
            bpp.append(float(bits.mean()) / pixels)
            psnr.append(float((-10 * mse.log10()).mean()))
            cost.append(lmbda * 255**2 * float(mse.mean()) + bpp[-1])
        points.append(ValidationPoint(quality, *(sum(v) / len(v) for v in (bpp, psnr, cost))))
    return ValidationReport(points)


def estimate(
    model: nn.Module, clip: StoredClip, frames: int, quality: float, device: torch.device
) -> tuple[Tensor, Tensor, int]:
    """(bits (T,), MSE (T,), pixels) of a clip's first frames in evaluation mode: rounded symbols, estimated
    bits."""
    count, height, width = clip.shape
    stride = model.stride
    height, width = height // stride * stride, width // stride * stride
    pixels = clip.read(range(min(frames, count)), 0, 0, height, width)
    x = pixels.to(device).permute(0, 3, 1, 2).float().div(255)[None]
    output = model(x, torch.tensor([quality], device=device))
    x_hat = (output.x_hat.float().clamp(0, 1) * 255).round() / 255
    return output.bits[0].float(), (x_hat - x).square().mean(dim=(2, 3, 4))[0], height * width
