"""Learned gains per quality level: what makes one model serve every rate."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rate import QUALITY_MAX


def level_weights(quality: Tensor, levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two levels around each quality (0 .. 63) and the upper one's weight. quality is a float tensor (batch,)."""
    position = quality.clamp(0, QUALITY_MAX).double() * ((levels - 1) / QUALITY_MAX)
    lower = position.floor().clamp(0, max(levels - 2, 0)).long()
    return lower, (lower + 1).clamp_max(levels - 1), position - lower


def interpolate_levels(table: Tensor, quality: Tensor) -> Tensor:
    """Rows of table (levels, channels) at each quality, linear between levels, as (batch, channels, 1, 1)."""
    lower, upper, weight = level_weights(quality, len(table))
    weight = weight.to(table.dtype)[:, None]
    return ((1 - weight) * table[lower] + weight * table[upper])[:, :, None, None]


class QuantizationGain(nn.Module):
    """Scales latents before rounding and back after it: y * gain(q), y_hat * inverse(q) (Cui et al. 2021).

    Gains are interpolated exponentially between levels and rise with quality by construction, so a higher quality
    never quantises more coarsely. forward() gives (gain, inverse), each (batch, channels, 1, 1).

    Args: channels; levels; step, the quantisation step of the lowest quality; span, how many times finer the
    highest quality starts; fixed: whether the steps stay as they are, so that only the way back is learned.
    """

    def __init__(self, channels: int, levels: int, step: float, span: float, fixed: bool = False):
        super().__init__()
        rise = math.log(span) / max(levels - 1, 1)
        log_gain = torch.full((1, channels), -math.log(step))
        rises = torch.full((levels - 1, channels), math.log(math.expm1(rise)))
        for name, table in (("log_gain", log_gain), ("rise", rises)):
            if fixed:
                self.register_buffer(name, table)
            else:
                self.register_parameter(name, nn.Parameter(table))
        self.log_correction = nn.Parameter(torch.zeros(levels, channels))

    log_gain: Tensor
    rise: Tensor

    def forward(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        steps = torch.cat([self.log_gain, F.softplus(self.rise)]).cumsum(0)
        log_gain = interpolate_levels(steps, quality)
        correction = interpolate_levels(self.log_correction, quality)
        return torch.exp(log_gain), torch.exp(correction - log_gain)


class Modulation(nn.Module):
    """x * exp(table(q)): lets a transform's features follow the quality; the identity at the start."""

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(levels, channels))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        return x * torch.exp(interpolate_levels(self.log_scale, quality)).to(x.dtype)
