"""The encoder's choice of block motion: which blocks, which references, which vectors.

Squares of 16x16 pixels take turns as they are coded, so each choice knows the candidates that its vectors will be coded
by. A square stays whole or is cut into four; each block is predicted from the newest reference, the older one or the
mean of both. Into each reference are tried: the candidates; what the motion search found here and around; and steps of
two pixels down to a quarter from the best. The least sum of the bits that the residual will take (`bits_of_error` in
block_refinement.py, for each cell) and of the motion, by fixed prices, wins. It runs in the encoder alone, so it is no
part of the format.
"""

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..entropy.block_vectors import LONGEST, MODE, NEWEST, PLANES, SPLIT, X0, X1
from ..native import FLOAT, INT, INT64, POINTER, c_library
from .block_prediction import CELL, QUARTERS
from .block_refinement import SAMPLES, error_scale
from .motion_search import CELL as HINT_CELL
from .motion_search import luma, motion_search

MARGIN = 16  # pixels around the interpolated references
FIRST, LISTED, EACH, NEW, DIFFERENCE, DOUBLING, NO_DIFFERENCE = 0.5, 2.0, 0.8, 3.5, 2.5, 2.0, 0.7  # bits of a vector
WHOLE, CUT = 0.4, 2.0  # bits of a square


def field_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells of 8x8 pixels, in whole squares of 16x16."""
    return 2 * -(-height // 16), 2 * -(-width // 16)


@torch.no_grad()
def block_search(x: Tensor, newest: Tensor, older: Tensor | None, lmbda: Tensor, previous: Tensor | None) -> Tensor:
    """Fields of block motion int16 (batch, 6, rows, columns), laid out as in `vcodec.entropy.block_vectors`.

    x, newest, older: pictures (batch, 3, H, W) in [0, 1]; lmbda: (batch,); previous: the fields of the frame before.
    Without the C library the motion search's result is taken as it is, rounded: its blocks cost more bits.
    """
    height, width = x.shape[-2:]
    if not has_c_search():
        return _field_of(_hints(x, newest, lmbda)).to(x.device)
    hints = torch.stack([_hints(x, reference, lmbda) for reference in (newest, older) if reference is not None], dim=1)
    fields = torch.empty(len(x), PLANES, *field_size(height, width), dtype=torch.int16)
    current, references = _fine_luma(x), [_fine_luma(newest), None if older is None else _fine_luma(older)]
    before = None if previous is None else previous.cpu().contiguous()
    for i, scale in enumerate((error_scale(lmbda) / 255**2).tolist()):
        interpolated = [None if reference is None else _interpolated(reference[i]) for reference in references]
        failed = _library().block_search(
            current[i].data_ptr(), *map(_pointer, interpolated), height, width, hints[i].data_ptr(),
            _pointer(None if before is None else before[i]), SAMPLES, scale, _prices(), fields[i].data_ptr(),
        )  # fmt: skip
        if failed:
            raise MemoryError("no memory for the search of block motion")
    return fields.to(x.device)


def _hints(x: Tensor, reference: Tensor, lmbda: Tensor) -> Tensor:
    """What the motion search finds: int16 (batch, 2, rows, columns), in quarters of a pixel, for each cell."""
    found = motion_search(_whole_squares(x), _whole_squares(reference), lmbda)
    return (QUARTERS * F.avg_pool2d(found, CELL // HINT_CELL)).round().clamp(-LONGEST, LONGEST).short().cpu()


def has_c_search() -> bool:
    """False where the C library was not built: blocks are then chosen plainly."""
    return _library() is not None


def _interpolated(picture: Tensor) -> Tensor:
    height, width = picture.shape
    planes = picture.new_empty(16, height + 2 * MARGIN, width + 2 * MARGIN)
    if _library().block_search_interpolate(
        picture.data_ptr(), height, width, torch.get_num_threads(), planes.data_ptr()
    ):
        raise MemoryError("no memory for an interpolated reference")
    return planes


def _pointer(values: Tensor | None) -> int | None:
    return None if values is None else values.data_ptr()


@cache
def _prices() -> Any:
    return (ctypes.c_float * 9)(FIRST, LISTED, EACH, NEW, DIFFERENCE, DOUBLING, NO_DIFFERENCE, WHOLE, CUT)


@cache
def _library() -> Any:
    return c_library(
        "vcodec.flow._motion_search",
        block_search=(INT, [*[POINTER] * 3, INT64, INT64, POINTER, POINTER, FLOAT, FLOAT, POINTER, POINTER]),
        block_search_interpolate=(INT, [POINTER, INT64, INT64, INT, POINTER]),
    )


def _fine_luma(x: Tensor) -> Tensor:
    """int16 (batch, H, W): luma in 16ths of a step of 8 bits."""
    return (luma(x)[:, 0] * (255 * 16)).round().short().cpu().contiguous()


def _whole_squares(x: Tensor) -> Tensor:
    return F.pad(x, (0, -x.shape[-1] % 16, 0, -x.shape[-2] % 16), mode="replicate")


def _field_of(vectors: Tensor) -> Tensor:
    """The field of vectors (batch, 2, rows, columns): squares whose cells differ are split."""
    batch, _, rows, columns = vectors.shape
    fields = torch.empty(batch, PLANES, rows, columns, dtype=torch.int16)
    squares = vectors.reshape(batch, 2, rows // 2, 2, columns // 2, 2)
    split = (squares != squares[:, :, :, :1, :, :1]).any(dim=(1, 3, 5))
    fields[:, SPLIT] = split.repeat_interleave(2, -2).repeat_interleave(2, -1).short()
    fields[:, MODE] = NEWEST
    fields[:, X0 : X0 + 2] = vectors
    fields[:, X1 : X1 + 2] = (2 * vectors.int()).clamp(-LONGEST, LONGEST).short()
    return fields
