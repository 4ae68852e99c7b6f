"""How much a neural codec computes: multiply-accumulates per pixel and parameters.

Counted are convolutions and matrix products, as in the tables of published codecs; element-wise work, warping,
entropy coding and the selective scan's recurrence are not in such counts.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Result = TypeVar("Result")


def kmac_per_pixel(run: Callable[[], Result], pixels: int) -> tuple[float, Result]:
    """Thousands of multiply-accumulates per pixel of what `run` computes in torch, and what it returns."""
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / 2 / 1000 / pixels, result


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
