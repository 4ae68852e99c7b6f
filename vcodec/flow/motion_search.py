"""Block matching on a pyramid: a first guess of the motion for the encoder.

The flow path learns to code motion; finding it from nothing takes a network hundreds of thousands of steps. The
search gives the analysis transform a guess to start from. It runs in the encoder alone, so it is no part of the
format and may be improved at any time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .warp import sample, sampling_grid

STEP_PRICE, SHIFT_PRICE = 0.2, 0.02  # of moving by a pixel, and of the square of a small shift


@torch.no_grad()
def motion_search(x: Tensor, reference: Tensor, lmbda: Tensor, levels: int = 5, radius: int = 2) -> Tensor:
    """Displacements (batch, 2, H/4, W/4), in pixels of the full picture, that bring the reference onto x.

    x, reference: (batch, 3, H, W) in [0, 1], H and W multiples of 4. lmbda (batch,): the price of distortion; where it
    is low, motion is smooth and stays where it is in doubt. levels: of the pyramid, the full size
    included; each but that one refines the one above by up to `radius` pixels of its own.
    """
    price = 1 / (lmbda.to(x.dtype).view(-1, 1, 1, 1) * 255**2)
    current, past = _luma(x), _luma(reference)
    pyramid = [(current, past)]
    while len(pyramid) < levels and min(pyramid[-1][0].shape[-2:]) >= 8:
        halves = [F.avg_pool2d(p, 2, ceil_mode=True, count_include_pad=False) for p in pyramid[-1]]
        pyramid.append((halves[0], halves[1]))
    flow = torch.zeros(x.shape[0], 2, *pyramid[-1][0].shape[-2:], device=x.device)
    for smaller, smaller_past in reversed(pyramid[1:]):
        flow = _enlarge(flow, smaller.shape[-2:])
        flow = _smooth(flow + _best_shift(smaller, smaller_past, flow, radius, STEP_PRICE * price))
    flow = 2 * F.avg_pool2d(flow, 2) if len(pyramid) > 1 else F.avg_pool2d(_enlarge(flow, x.shape[-2:]), 4)
    flow = _best_neighbour(current, past, flow)
    for _ in range(3):
        flow = flow + _small_shift(current, past, flow, SHIFT_PRICE * price)
    return _smooth(flow)


def _best_shift(current: Tensor, past: Tensor, flow: Tensor, radius: int, price: Tensor) -> Tensor:
    """The whole-pixel offset within +-radius of each position whose neighbourhood of 5x5 matches best."""
    height, width = current.shape[-2:]
    padded = F.pad(sample(past, sampling_grid(flow)), (radius,) * 4, mode="replicate")[:, 0]
    side = 2 * radius + 1
    shifted = padded.unfold(1, height, 1).unfold(2, width, 1).flatten(1, 2)  # batch, side * side, H, W
    costs = _box(_box((shifted - current).square_(), (1, 5)), (5, 1))
    rows = torch.arange(side * side, device=costs.device) // side - radius
    columns = torch.arange(side * side, device=costs.device) % side - radius
    best = (costs + price * (rows.abs() + columns.abs()).view(1, -1, 1, 1)).argmin(dim=1, keepdim=True)
    return torch.cat([columns[best], rows[best]], dim=1).to(flow.dtype)


def _best_neighbour(current: Tensor, past: Tensor, flow: Tensor) -> Tensor:
    """For each cell of 4x4 pixels the best of its own motion, its four neighbours' and none."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[-2:]
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    choices = [padded[:, :, i : i + height, j : j + width] for i, j in places] + [torch.zeros_like(flow)]
    costs = []
    for choice in choices:
        warped = sample(past, sampling_grid(F.interpolate(choice, scale_factor=4.0, mode="nearest")))
        costs.append(_box(F.avg_pool2d((warped - current).square(), 4), (3, 3)))
    best = torch.cat(costs, dim=1).argmin(dim=1)[:, None, None].expand(-1, 1, 2, -1, -1)
    return torch.stack(choices, dim=1).gather(1, best)[:, 0]


def _small_shift(current: Tensor, past: Tensor, flow: Tensor, price: Tensor) -> Tensor:
    """A step of Lucas and Kanade over 3x3 cells of 4x4 pixels: at most a pixel, less where `price` outweighs it."""
    warped = sample(past, sampling_grid(F.interpolate(flow, scale_factor=4.0, mode="bilinear")))
    padded = F.pad(warped, (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    y = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    error = current - warped
    products = torch.cat([x * x, x * y, y * y, x * error, y * error], dim=1)
    xx, xy, yy, xe, ye = _box(F.avg_pool2d(products, 4), (3, 3)).unbind(1)
    xx, yy = xx + price[:, 0], yy + price[:, 0]
    shift = torch.stack([yy * xe - xy * ye, xx * ye - xy * xe], dim=1)
    return (shift / (xx * yy - xy * xy)[:, None]).clamp(-1, 1)


def _box(x: Tensor, window: tuple[int, int]) -> Tensor:
    """The mean over a window around each position, at the border over what is inside."""
    padding = (window[0] // 2, window[1] // 2)
    return F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)


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
