"""Block matching on a pyramid: a first guess of the motion for the encoder.

The flow path learns to code motion; finding it from nothing takes a network hundreds of thousands of steps. The
search gives the analysis transform a guess to start from. It runs in the encoder alone, so it is no part of the
format and may be improved at any time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .warp import sample, sampling_grid


@torch.no_grad()
def motion_search(x: Tensor, reference: Tensor, levels: int = 5, radius: int = 2) -> Tensor:
    """Displacements (batch, 2, H/4, W/4), in pixels of the full picture, that bring the reference onto x.

    x, reference: (batch, 3, H, W) in [0, 1], H and W multiples of 4. levels: pyramid levels, each refining the one
    above by up to `radius` pixels of its own (the finest by one) and to a fraction of a pixel.
    """
    current, past = _luma(x), _luma(reference)
    pyramid = [(current, past)]
    while len(pyramid) < levels and min(current.shape[-2:]) >= 8:
        current, past = (F.avg_pool2d(p, 2, ceil_mode=True, count_include_pad=False) for p in (current, past))
        pyramid.append((current, past))
    flow = torch.zeros(x.shape[0], 2, *current.shape[-2:], device=x.device)
    for current, past in reversed(pyramid[1:]):
        flow = _enlarge(flow, current.shape[-2:])
        flow = _smooth(flow + _refine(current, past, flow, radius))
    current, past = pyramid[0]
    flow = _enlarge(flow, current.shape[-2:])
    return F.avg_pool2d(flow + _refine(current, past, flow, 1), 4)


def _refine(current: Tensor, past: Tensor, flow: Tensor, radius: int) -> Tensor:
    """The offset within +-radius of each position whose neighbourhood matches best, to a fraction of a pixel."""
    warped = sample(past, sampling_grid(flow))
    height, width = current.shape[-2:]
    padded = F.pad(warped, (radius,) * 4, mode="replicate")[:, 0]
    side = 2 * radius + 1
    shifted = padded.unfold(1, height, 1).unfold(2, width, 1).flatten(1, 2)  # batch, side * side, H, W
    costs = (shifted - current).square_()
    for window, padding in (((1, 5), (0, 2)), ((5, 1), (2, 0))):
        costs = F.avg_pool2d(costs, window, stride=1, padding=padding, count_include_pad=False)
    rows = torch.arange(side * side, device=costs.device) // side - radius
    columns = torch.arange(side * side, device=costs.device) % side - radius
    # staying is a little cheaper than moving: flat regions keep what the level above found
    costs += 1e-4 * (rows.abs() + columns.abs()).view(1, -1, 1, 1)
    best = costs.argmin(dim=1, keepdim=True)
    x = columns[best] + _parabola(costs, best, columns[best], 1, radius)
    y = rows[best] + _parabola(costs, best, rows[best], side, radius)
    return torch.cat([x, y], dim=1)


def _parabola(costs: Tensor, best: Tensor, offset: Tensor, step: int, radius: int) -> Tensor:
    """Where a parabola through the best cost and its two neighbours is least, within half a step."""
    inside = offset.abs() < radius
    lower = costs.gather(1, (best - step * inside).clamp_min(0))
    upper = costs.gather(1, (best + step * inside).clamp_max(costs.shape[1] - 1))
    middle = costs.gather(1, best)
    curvature = (lower - 2 * middle + upper).clamp_min(1e-6)
    return torch.where(inside, 0.5 * (lower - upper) / curvature, 0.0).clamp(-0.5, 0.5)


def _smooth(flow: Tensor) -> Tensor:
    """The median of the neighbourhood of 3x3, against single outliers."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[-2:]
    neighbours = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(neighbours).median(dim=0).values


def _enlarge(flow: Tensor, size: torch.Size) -> Tensor:
    if flow.shape[-2:] == size:
        return flow
    doubled = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=False)
    return doubled[:, :, : size[0], : size[1]]


def _luma(x: Tensor) -> Tensor:
    return 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]
