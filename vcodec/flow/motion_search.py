"""Block matching from coarse to fine: a first guess of the motion for the encoder.

The flow path learns to code motion; finding it from nothing takes a network hundreds of thousands of steps. The
search gives the analysis transform a guess to start from. It runs in the encoder alone, so it is no part of the
format and may be improved at any time.
"""

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import cpu  # noqa: F401 - it loads PyTorch's thread pool, which the C library then shares
from ..native import INT, POINTER, c_library
from .warp import sample, sampling_grid

BLOCK, CELL = 8, 4  # pixels: of the blocks that are matched, and of the cells of the result
CHANGE_PRICE, LONGEST_CHANGE = 15.0, 16.0  # of a pixel's difference from a neighbour's motion; it counts up to so many
COARSEST = 8  # at most so many halvings
FAR_PRICE = 0.3  # of a pixel's distance from no motion, relative to the price of change, where the choice starts
SHIFT_PRICE = 0.02  # of the square of a small shift's difference from its neighbours' mean
COARSE_BLOCK, COARSE_REACH = 2, 10  # pixels of the smallest pictures, where every shift is tried


def has_c_search() -> bool:
    """False where the C library was not built: the search then takes ten times as long."""
    return _library() is not None


@torch.no_grad()
def motion_search(x: Tensor, reference: Tensor, lmbda: Tensor) -> Tensor:
    """Displacements (batch, 2, H/4, W/4), in pixels of the full picture, that bring the reference onto x.

    x, reference: (batch, 3, H, W) in [0, 1], H and W multiples of 4. lmbda (batch,): the price of distortion; where it
    is low, motion is smooth.

    The pictures are halved until a search over +-10 pixels reaches about a tenth of their longer side; there every
    shift is tried. Then, from size to size, the best one's surroundings and its neighbours' motion, down to blocks of
    8x8 pixels and at last cells of 4x4. Each time a field is chosen whose squared error and differences between
    neighbours cost least together. Fractions of a pixel follow by the method of Lucas and Kanade, with a pull to the
    neighbours' motion as of Horn and Schunck where the picture is flat.
    """
    if x.device.type == "cpu" and x.dtype == reference.dtype == torch.float32 and has_c_search():
        return _search_in_c(x, reference, lmbda)
    return search_in_pytorch(x, reference, lmbda)


def _search_in_c(x: Tensor, reference: Tensor, lmbda: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    flow = x.new_empty(batch, 2, height // CELL, width // CELL)
    price = _price(lmbda).contiguous()
    prices = (ctypes.c_float * 4)(CHANGE_PRICE / BLOCK**2, FAR_PRICE, SHIFT_PRICE, LONGEST_CHANGE)
    shape, strides = (ctypes.c_int64 * 3)(batch, height, width), ctypes.c_int64 * 4
    failed = _library().motion_search(
        x.data_ptr(), reference.data_ptr(), shape, strides(*x.stride()), strides(*reference.stride()),
        prices, price.data_ptr(), _halvings(height, width), torch.get_num_threads(), flow.data_ptr(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the motion search")
    return flow


@cache
def _library() -> Any:
    arguments = [*[POINTER] * 7, INT, INT, POINTER]
    return c_library("vcodec.flow._motion_search", motion_search=(INT, arguments))


def _price(lmbda: Tensor) -> Tensor:
    """Of a bit (batch,), in squared differences of the luma."""
    return 1 / (lmbda.float() * 255**2)


def _halvings(height: int, width: int) -> int:
    """How often pictures are halved: with +-2 pixels at each size on the way back, n halvings reach 12 * 2^n - 2."""
    return next(n for n in range(2, COARSEST + 1) if 120 * 2**n >= max(height, width) or n == COARSEST)


@torch.no_grad()
def search_in_pytorch(x: Tensor, reference: Tensor, lmbda: Tensor) -> Tensor:
    """The same on any device: the definition that the C library is held to. The two may differ where costs tie."""
    price = _price(lmbda).to(x.dtype).view(-1, 1, 1, 1)
    rows, columns = x.shape[-2] // CELL, x.shape[-1] // CELL
    halvings = _halvings(*x.shape[-2:])
    current, past = (_padded(luma(picture), COARSE_BLOCK << halvings) for picture in (x, reference))
    pyramid = [(current, past)]
    for _ in range(halvings):
        pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
    change = CHANGE_PRICE / BLOCK**2 * price

    flow = _try_all(*pyramid[-1], 2**halvings * change, LONGEST_CHANGE / 2**halvings)
    for level in reversed(range(halvings)):
        side = max(BLOCK, COARSE_BLOCK << level)  # of blocks, in pixels of the full picture
        flow = 2 * _spread(flow, current.shape[-1] // side // flow.shape[-1])
        window, longest = 12 if level else 2 * BLOCK, LONGEST_CHANGE / 2**level
        for radius in (2, 1) if level else (1, 1):
            flow = _refine(*pyramid[level], flow, side >> level, window, radius, 2**level * change, longest)
    flow = _refine(current, past, _spread(flow, BLOCK // CELL), CELL, 3 * CELL, 0, change, LONGEST_CHANGE)
    for _ in range(3):
        flow = flow + _small_shift(current, past, flow, SHIFT_PRICE * price)
    return _smooth(flow)[:, :, :rows, :columns]


def _spread(flow: Tensor, factor: int) -> Tensor:
    return F.interpolate(flow, scale_factor=float(factor), mode="nearest")


def _try_all(current: Tensor, past: Tensor, price: Tensor, longest: float) -> Tensor:
    """The whole shifts (batch, 2, H / 2, W / 2) within COARSE_REACH of none that suit blocks of 2x2 pixels best."""
    (height, width), block = current.shape[-2:], COARSE_BLOCK
    shifts = _square(COARSE_REACH, current)
    side = 2 * COARSE_REACH + 1
    margin = block // 2
    wanted = F.pad(current, (margin,) * 4, mode="replicate")
    past = F.pad(past, (COARSE_REACH + margin,) * 4, mode="replicate")
    shifted = past[:, 0].unfold(1, height + block, 1).unfold(2, width + block, 1)
    errors = (shifted.flatten(1, 2) - wanted).square_()  # batch, side * side, H, W with margins
    costs = F.avg_pool2d(errors, 2 * block, stride=block)
    choices = shifts.expand(len(current), side * side, 2, *costs.shape[-2:])
    start = (costs + FAR_PRICE * price * shifts.abs().sum(2)).argmin(dim=1, keepdim=True)
    return _smoothest(choices, costs, start, price, longest)


def _refine(current: Tensor, past: Tensor, flow: Tensor, block: int, window: int, radius: int, price: Tensor,
            longest: float) -> Tensor:  # fmt: skip
    """For each block the best whole shift of: its own within +-radius, its neighbours' and none.

    window: side of the square around a block over which it is matched.
    """
    wanted = _patches(current, torch.zeros_like(flow), block, window)
    offsets = _square(radius, flow)
    choices = [flow[:, None] + offsets]
    around = _patches(past, flow, block, window + 2 * radius).unfold(3, window, 1).unfold(4, window, 1)
    costs = [(around - wanted[:, :, :, None, None]).square_().mean((-1, -2)).flatten(3).permute(0, 3, 1, 2)]
    for choice in (*neighbours(flow), torch.zeros_like(flow)):
        choices.append(choice[:, None])
        costs.append((_patches(past, choice, block, window) - wanted).square_().mean((-1, -2))[:, None])
    start = torch.full_like(costs[1], offsets.shape[1] // 2, dtype=torch.long)
    return _smoothest(torch.cat(choices, dim=1), torch.cat(costs, dim=1), start, price, longest)


def _smoothest(choices: Tensor, costs: Tensor, chosen: Tensor, price: Tensor, longest: float) -> Tensor:
    """The field (batch, 2, h, w) of one choice a position with about the least cost and difference from neighbours.

    choices: (batch, n, 2, h, w); costs: (batch, n, h, w); chosen: (batch, 1, h, w), the indices to start from. The
    fields of a checkerboard take turns (iterated conditional modes, Besag 1986).
    """
    height, width = costs.shape[-2:]
    black = (torch.arange(height, device=costs.device)[:, None] + torch.arange(width, device=costs.device)) % 2 == 0
    for turn in range(4):
        total = costs.clone()
        for neighbour in neighbours(_pick(choices, chosen)):
            total += price * (choices - neighbour[:, None]).abs().sum(2).clamp_max(longest)
        chosen = torch.where(black if turn % 2 else ~black, total.argmin(dim=1, keepdim=True), chosen)
    return _pick(choices, chosen)


def _pick(choices: Tensor, chosen: Tensor) -> Tensor:
    return choices.gather(1, chosen[:, :, None].expand(-1, 1, 2, -1, -1))[:, 0]


def neighbours(flow: Tensor) -> list[Tensor]:
    """The motion above, below, to the left and to the right of each position."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[-2:]
    return [padded[:, :, i : i + height, j : j + width] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2))]


def _patches(picture: Tensor, flow: Tensor, block: int, side: int) -> Tensor:
    """Squares (batch, h, w, side, side) of a picture (batch, 1, H, W) around each block, moved by whole `flow`."""
    height, width = picture.shape[-2:]
    reach = torch.arange(side, device=flow.device) - (side - block) // 2
    columns, rows = flow.round().long().unbind(1)
    rows = rows + block * torch.arange(flow.shape[-2], device=flow.device)[:, None]
    columns = columns + block * torch.arange(flow.shape[-1], device=flow.device)
    rows = (rows[..., None] + reach).clamp(0, height - 1)
    columns = (columns[..., None] + reach).clamp(0, width - 1)
    places = rows[..., :, None] * width + columns[..., None, :]
    return picture.flatten(1).gather(1, places.flatten(1)).view(places.shape)


def _square(radius: int, like: Tensor) -> Tensor:
    """The offsets (1, (2 radius + 1)^2, 2, 1, 1) of x and y within +-radius."""
    reach = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    rows, columns = torch.meshgrid(reach, reach, indexing="ij")
    return torch.stack([columns, rows], dim=-1).view(1, -1, 2, 1, 1)


def _small_shift(current: Tensor, past: Tensor, flow: Tensor, price: Tensor) -> Tensor:
    """A step of Lucas and Kanade over 3x3 cells of 4x4 pixels: at most a pixel; `price` pulls it to the neighbours."""
    warped = sample(past, sampling_grid(F.interpolate(flow, scale_factor=float(CELL), mode="bilinear")))
    padded = F.pad(warped, (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    y = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    error = current - warped
    products = torch.cat([x * x, x * y, y * y, x * error, y * error], dim=1)
    means = F.avg_pool2d(F.avg_pool2d(products, CELL), 3, stride=1, padding=1, count_include_pad=False)
    xx, xy, yy, xe, ye = means.unbind(1)
    pull = torch.stack([(neighbour - flow).clamp(-1, 1) for neighbour in neighbours(flow)]).mean(0)
    xx, yy = xx + price[:, 0], yy + price[:, 0]
    xe, ye = xe + price[:, 0] * pull[:, 0], ye + price[:, 0] * pull[:, 1]
    shift = torch.stack([yy * xe - xy * ye, xx * ye - xy * xe], dim=1)
    return (shift / (xx * yy - xy * xy)[:, None]).clamp(-1, 1)


def _smooth(flow: Tensor) -> Tensor:
    """The median of the neighbourhood of 3x3, against single outliers."""
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    height, width = flow.shape[-2:]
    neighbours = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.stack(neighbours).median(dim=0).values


def _padded(luma: Tensor, multiple: int) -> Tensor:
    """To a multiple of a size, the border repeated."""
    height, width = luma.shape[-2:]
    return F.pad(luma, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def luma(x: Tensor) -> Tensor:
    """(batch, 1, H, W) of RGB (batch, 3, H, W)."""
    return 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]
