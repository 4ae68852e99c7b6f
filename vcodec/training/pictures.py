"""Pictures for people: motion as colour, the scale field as grey."""

import colorsys

import numpy as np
import torch
from torch import Tensor


def flow_picture(flow: Tensor, longest: float | None = None) -> Tensor:
    """Motion as colour, direction as hue and length as saturation: (T, 2, H, W) in pixels -> (T, 3, H, W)."""
    x, y = flow.float().cpu().unbind(1)
    length = torch.hypot(x, y)
    saturation = length / (longest or max(float(length.max()), 1e-6))
    hue = torch.atan2(y, x) / (2 * torch.pi) + 0.5
    wheel = torch.tensor([colorsys.hsv_to_rgb(h, 1, 1) for h in np.linspace(0, 1, 256)])
    colour = wheel[(hue * 255).round().long().clamp(0, 255)].permute(0, 3, 1, 2)
    return 1 - saturation.clamp(0, 1)[:, None] * (1 - colour.float())


def scale_picture(scale: Tensor) -> Tensor:
    """The scale field as grey, black being the sharp plane: (T, H, W) -> (T, 3, H, W)."""
    scale = scale.float().cpu()
    return (scale / max(float(scale.max()), 1e-6)).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)
