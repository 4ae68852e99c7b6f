"""Block refinement: a displacement for each block on top of the coded flow, where it pays.

The coded field is smooth, and most of its error is at the edges of what moves. A vector of quarters of a pixel for each
8x8 block, nearly always zero, mends the worst of it, as the motion vectors of standard codecs do. The encoder searches;
the vectors are symbols of a stream of their own, under one scale for each component and quality, coded adaptively.
"""

import ctypes
import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder
from ..entropy.distributions import LAPLACE
from ..layers.gains import interpolate_levels
from ..layers.rate import lambda_of_quality
from ..native import FLOAT, INT, INT64, POINTER, c_library
from .motion_search import luma, neighbours
from .warp import sample, sampling_grid

QUARTERS = 4  # of a pixel: the unit of the vectors
MOST = 127  # quarters: the longest displacement along one axis
NO_VECTOR, VECTOR, AXIS, DOUBLING = 0.4, 3.0, 5.0, 3.0  # bits: more with each axis other than 0 and with its size
SAMPLES, GAIN = 128.0, 11.0  # of `bits_of_error`
STEPS = (8, 4, 4, 2, 1)  # quarters, of the search around the best


class BlockRefinement(nn.Module):
    """(x, reference, flow) -> search -> vectors -> symbols -> displacement to be added to the flow.

    Args: block, the side of a block in pixels; levels, quality levels, 0 for a model of one rate.
    """

    def __init__(self, block: int, levels: int = 0):
        super().__init__()
        self.block = block
        self.log_scale_table = nn.Parameter(torch.full((max(levels, 1), 2), math.log(0.5)))

    def code(self, coder: EntropyCoder, x: Tensor | None, reference: Tensor, flow: Tensor, quality: Tensor) -> Tensor:
        """Displacements (batch, 2, H, W) in pixels; x (batch, 3, H, W) is None when decoding.

        reference: (batch, 3, H, W); flow: (batch, 2 or more, H, W), in pixels.
        """
        batch, _, height, width = reference.shape
        shape = (batch, 2, -(-height // self.block), -(-width // self.block))
        vectors = None
        if x is not None:
            vectors = refinement_search(x, reference, flow[:, :2], lambda_of_quality(quality), self.block)
        log_scales = interpolate_levels(self.log_scale_table, quality).expand(shape)
        means = torch.zeros(shape, device=reference.device)
        coder.begin("refinement")
        vectors, _ = coder.code_latents(vectors, means, log_scales, distribution=LAPLACE)
        return _over_blocks(vectors, self.block, height, width)

    def make_exact(self) -> None:
        """Turns the scales to float64, for coding."""
        self.log_scale_table.data = self.log_scale_table.data.double()


@torch.no_grad()
def refinement_search(x: Tensor, reference: Tensor, flow: Tensor, lmbda: Tensor, block: int) -> Tensor:
    """Vectors (batch, 2, rows, columns), whole numbers of quarters of a pixel, one for each block.

    x, reference: (batch, 3, H, W) in [0, 1]; flow: (batch, 2, H, W) in pixels; lmbda: (batch,).
    Tries none; the motion around in place of the own; steps of two pixels down to a quarter from the best; and what the
    blocks beside chose. The least sum of the bits that the residual will take (`bits_of_error`) and the vector's wins.
    """
    if x.device.type == "cpu" and has_c_search():
        return _search_in_c(x, reference, flow, lmbda, block)
    return search_in_pytorch(x, reference, flow, lmbda, block)


def bits_of_error(error: Tensor, lmbda: Tensor) -> Tensor:
    """About what a block costs whose prediction has this squared error of luma: bits and the price of what is left.

    At small errors the price of distortion, at large ones half a bit for each doubling in each of SAMPLES coefficients.
    """
    return 0.5 * SAMPLES * torch.log2(1 + error_scale(lmbda) * error)


def has_c_search() -> bool:
    """False where the C library was not built: the search then takes many times as long."""
    return _library() is not None


def search_in_pytorch(x: Tensor, reference: Tensor, flow: Tensor, lmbda: Tensor, block: int) -> Tensor:
    """The same on any device: the definition that the C library is held to. The two may differ where costs tie."""
    current, past = luma(x), luma(reference)
    height, width = x.shape[-2:]
    rows, columns = -(-height // block), -(-width // block)
    lmbda = lmbda.view(-1, 1, 1, 1)

    def cost(vectors: Tensor) -> Tensor:
        moved = flow + _over_blocks(vectors, block, height, width)
        error = (sample(past, sampling_grid(moved)) - current).square()
        error = F.pad(error, (0, columns * block - width, 0, rows * block - height))
        sizes = vectors.abs()
        bits = torch.where(sizes > 0, AXIS + DOUBLING * torch.log2(1 + sizes), 0.0).sum(1, keepdim=True)
        bits = torch.where(bits > 0, VECTOR + bits, NO_VECTOR)
        total = bits_of_error(F.avg_pool2d(error, block) * block**2, lmbda) + bits
        return torch.where(sizes.amax(1, keepdim=True) <= MOST, total, math.inf)

    best = flow.new_zeros(len(x), 2, rows, columns)
    least = cost(best)

    def attempt(vectors: Tensor) -> None:
        nonlocal best, least
        found = cost(vectors)
        best, least = torch.where(found < least, vectors, best), torch.minimum(found, least)

    for vectors in _around(flow, block, rows, columns):
        attempt(vectors)
    for step in STEPS:
        centre = best
        for offset in _square(step, flow):
            attempt(centre + offset)
    for beside in neighbours(best):
        attempt(beside)
    return best


def _search_in_c(x: Tensor, reference: Tensor, flow: Tensor, lmbda: Tensor, block: int) -> Tensor:
    height, width = x.shape[-2:]
    vectors = x.new_empty(len(x), 2, -(-height // block), -(-width // block))
    current, past = luma(x).contiguous(), luma(reference).contiguous()
    flow = flow.float().contiguous()
    prices = (ctypes.c_float * 4)(NO_VECTOR, VECTOR, AXIS, DOUBLING)
    for i, scale in enumerate(error_scale(lmbda).tolist()):
        failed = _library().block_refinement(
            current[i].data_ptr(), past[i].data_ptr(), flow[i].data_ptr(), height, width, block, MOST, prices,
            SAMPLES, scale, torch.get_num_threads(), vectors[i].data_ptr(),
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for the search of block vectors")
    return vectors


@cache
def _library() -> Any:
    arguments = [POINTER] * 3 + [INT64] * 3 + [INT, POINTER, FLOAT, FLOAT, INT, POINTER]
    return c_library("vcodec.flow._motion_search", block_refinement=(INT, arguments))


def error_scale(lmbda: Tensor) -> Tensor:
    """What `bits_of_error` multiplies an error of luma with: the squared step of quantisation is 24 / (255^2 lambda),
    and luma stands for three colours. lmbda, result: (batch,)."""
    return GAIN * 3 / SAMPLES * lmbda.float() * 255**2 / 24


def _over_blocks(vectors: Tensor, block: int, height: int, width: int) -> Tensor:
    """Each block's vector at each of its pixels, in pixels."""
    full = F.interpolate(vectors.float(), scale_factor=float(block), mode="nearest")
    return full[:, :, :height, :width] / QUARTERS


def _around(flow: Tensor, block: int, rows: int, columns: int) -> list[Tensor]:
    """The vectors that bring each block the motion of the eight at one and at two blocks' distance."""
    height, width = flow.shape[-2:]
    down = (torch.arange(rows, device=flow.device) * block + block // 2).clamp_max(height - 1)
    right = (torch.arange(columns, device=flow.device) * block + block // 2).clamp_max(width - 1)
    centres = flow[:, :, down[:, None], right]
    padded = F.pad(centres, (2, 2, 2, 2), mode="replicate")
    offsets = [(k * i, k * j) for k in (1, 2) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    others = [padded[:, :, 2 + i : 2 + i + rows, 2 + j : 2 + j + columns] for i, j in offsets]
    return [torch.floor(QUARTERS * (other - centres) + 0.5) for other in others]


def _square(step: int, like: Tensor) -> list[Tensor]:
    """The nine offsets (1, 2, 1, 1) of x and y of -step, 0 and step."""
    offsets = [(x, y) for y in (-step, 0, step) for x in (-step, 0, step)]
    return [like.new_tensor(offset).view(1, 2, 1, 1) for offset in offsets]
