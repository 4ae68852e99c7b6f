"""The prediction of a picture from blocks of one or two references, their edges overlapping.

Each cell of 8x8 pixels is fetched as its own motion says and, weighted, as that of its neighbours says in the half
beside them (overlapped block motion compensation, Orchard and Sullivan 1994). Quarters of a pixel are interpolated with
the eight taps that HEVC has for luma.
"""

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..entropy.block_vectors import BOTH, MODE, NEWEST, X0, X1
from ..kernels import cpu  # noqa: F401 - it loads PyTorch's thread pool, which the C library then shares
from ..native import INT, INT64, POINTER, c_library

CELL, QUARTERS, MARGIN = 8, 4, 8
FILTERS = (
    (0.0, 0.0, 0.0, 64.0, 0.0, 0.0, 0.0, 0.0),
    (-1.0, 4.0, -10.0, 58.0, 17.0, -5.0, 1.0, 0.0),
    (-1.0, 4.0, -11.0, 40.0, 40.0, -11.0, 4.0, -1.0),
    (0.0, 1.0, -5.0, 17.0, 58.0, -10.0, 4.0, -1.0),
)  # in 64ths, the fourth tap at the pixel itself
OVERLAP = (7.0, 5.0, 3.0, 1.0, 1.0, 3.0, 5.0, 7.0)  # in 32nds: how much the neighbour counts, from edge to edge


def block_prediction(newest: Tensor, older: Tensor | None, fields: Tensor) -> Tensor:
    """The prediction (batch, 3, H, W); differentiable in the references.

    newest, older: pictures (batch, 3, H, W), the second None where no block refers to it; fields: int16 (batch, 6,
    rows, columns) on the same device, with a column for each cell, laid out as in `vcodec.entropy.block_vectors`.
    Beyond the border the last pixel is repeated. The result may leave the range of the references a little.
    """
    assert fields.dtype == torch.int16, "a field of block motion is int16"
    assert fields.shape[2] * CELL >= newest.shape[2], "a field covers the picture"
    assert fields.shape[3] * CELL >= newest.shape[3], "a field covers the picture"
    assert older is None or (older.shape, older.dtype, older.device) == (newest.shape, newest.dtype, newest.device)
    if newest.device.type == "cpu" and newest.dtype == torch.float32 and has_c_prediction():
        if torch.is_grad_enabled() and (newest.requires_grad or (older is not None and older.requires_grad)):
            return _BlockPrediction.apply(newest, older, fields)
        return _predict_in_c(newest, older, fields)
    return predict_in_pytorch(newest, older, fields)


def has_c_prediction() -> bool:
    """False where the C library was not built: PyTorch then does the same, more slowly."""
    return _library() is not None


def predict_in_pytorch(newest: Tensor, older: Tensor | None, fields: Tensor) -> Tensor:
    """The same on any device: the definition that the C library is held to."""
    height, width = newest.shape[-2:]
    interpolated = [_interpolate(picture) for picture in (newest, older) if picture is not None]

    def moved(field: Tensor) -> Tensor:
        """As a field (batch, 6, H, W) of a motion for each pixel says."""
        alone = [_fetch(picture, field[:, at : at + 2]) for picture, at in zip(interpolated, (X0, X1), strict=False)]
        if len(alone) == 1:
            return alone[0]
        mode = field[:, MODE : MODE + 1]
        both = 0.5 * alone[0] + 0.5 * alone[1]
        return torch.where(mode == BOTH, both, torch.where(mode == NEWEST, alone[0], alone[1]))

    def over_pixels(field: Tensor) -> Tensor:
        return field.repeat_interleave(CELL, -2).repeat_interleave(CELL, -1)[..., :height, :width].int()

    padded = torch.cat([fields[:, :, :1], fields, fields[:, :, -1:]], dim=2)
    above, below = over_pixels(padded[:, :, :-2]), over_pixels(padded[:, :, 2:])
    padded = torch.cat([fields[..., :1], fields, fields[..., -1:]], dim=3)
    left, right = over_pixels(padded[..., :-2]), over_pixels(padded[..., 2:])
    rows, columns = torch.arange(height, device=newest.device), torch.arange(width, device=newest.device)
    overlap = newest.new_tensor(OVERLAP) / 32
    vertical, horizontal = overlap[rows % CELL][:, None], overlap[columns % CELL]
    own = moved(over_pixels(fields))
    beside = moved(torch.where(columns % CELL < CELL // 2, left, right))
    across = moved(torch.where(rows[:, None] % CELL < CELL // 2, above, below))
    return own + horizontal * (beside - own) + vertical * (across - own)


class _BlockPrediction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, newest: Tensor, older: Tensor | None, fields: Tensor) -> Tensor:
        ctx.save_for_backward(fields)
        return _predict_in_c(newest, older, fields)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (fields,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        found = [torch.zeros_like(gradient) if needed else None for needed in ctx.needs_input_grad[:2]]
        for i, field in enumerate(fields.contiguous()):
            newest, older = (None if into is None else into[i].data_ptr() for into in found)
            _library().block_prediction_backward(gradient[i].data_ptr(), *_geometry(gradient, field), newest, older)
        return found[0], found[1], None


def _predict_in_c(newest: Tensor, older: Tensor | None, fields: Tensor) -> Tensor:
    newest = newest.contiguous()
    older = None if older is None else older.contiguous()
    prediction = torch.empty_like(newest)
    for i, field in enumerate(fields.contiguous()):
        second = None if older is None else older[i].data_ptr()
        _library().block_prediction(newest[i].data_ptr(), second, *_geometry(newest, field), prediction[i].data_ptr())
    return prediction


def _geometry(pictures: Tensor, field: Tensor) -> tuple[Any, ...]:
    """Arguments of the C functions."""
    _, rows, columns = field.shape
    filters, overlap = _constants()
    return field.data_ptr(), *pictures.shape[1:], rows, columns, filters, overlap, torch.get_num_threads()


@cache
def _constants() -> tuple[Any, Any]:
    filters = [tap / 64 for filter in FILTERS for tap in filter]
    return (ctypes.c_float * len(filters))(*filters), (ctypes.c_float * CELL)(*[share / 32 for share in OVERLAP])


@cache
def _library() -> Any:
    shape = [POINTER, *[INT64] * 5, POINTER, POINTER, INT]  # as `_geometry` gives it
    return c_library(
        "vcodec.flow._motion_search",
        block_prediction=(None, [POINTER, POINTER, *shape, POINTER]),
        block_prediction_backward=(None, [POINTER, *shape, POINTER, POINTER]),
    )


def _interpolate(picture: Tensor) -> Tensor:
    """(batch, 3, 16, H + 2 MARGIN, W + 2 MARGIN): the picture moved by each quarter, 4 * y + x.

    Without convolutions, which autocast would bring to bfloat16.
    """
    before, after = MARGIN + 3, MARGIN + 4
    padded = F.pad(picture, (before, after, before, after), mode="replicate")

    def filtered(x: Tensor, dim: int, taps: tuple[float, ...]) -> Tensor:
        size = x.shape[dim] - len(taps) + 1
        parts = [tap / 64 * x.narrow(dim, k, size) for k, tap in enumerate(taps) if tap]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    across = [filtered(padded, 3, taps) for taps in FILTERS]
    return torch.stack([filtered(x, 2, taps) for taps in FILTERS for x in across], dim=2)


def _fetch(interpolated: Tensor, vectors: Tensor) -> Tensor:
    """(batch, 3, H, W) by vectors (batch, 2, H, W) in quarters of a pixel, from what `_interpolate` gives."""
    batch, channels, _, tall, wide = interpolated.shape
    x, y = vectors.long().unbind(1)
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device)[:, None] + (y >> 2) + MARGIN
    columns = torch.arange(width, device=x.device) + (x >> 2) + MARGIN
    phase = (y & 3) * QUARTERS + (x & 3)
    places = (phase * tall + rows.clamp(0, tall - 1)) * wide + columns.clamp(0, wide - 1)
    places = places.flatten(1)[:, None].expand(-1, channels, -1)
    return interpolated.flatten(2).gather(2, places).view(batch, channels, height, width)
