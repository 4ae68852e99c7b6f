"""Optimizers by name: AdamW from PyTorch, and two that know that a kernel is a matrix."""

import torch
from torch import nn
from torch.optim import Optimizer

from .muon import Muon
from .soap import SOAP

KERNEL_MODULES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def create_optimizer(
    name: str,
    model: nn.Module,
    *,
    betas: tuple[float, float],
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
) -> Optimizer:
    """An optimizer ("adamw", "muon" or "soap") over all parameters of `model`; dtype: of Muon's iteration.

    Weight decay is for kernels only. Parameters without a gradient, frozen in a stage, stay as they are. The
    learning rate is set by the loop before each step.
    """
    kernels = kernels_of(model)
    known = {id(kernel) for kernel in kernels}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    if name == "muon":
        return Muon(kernels, others, betas=betas, weight_decay=weight_decay, dtype=dtype)
    if name == "soap":
        return SOAP(kernels, others, betas=betas, weight_decay=weight_decay)
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=1e-4, betas=betas, fused=True)


def kernels_of(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers and dense convolutions with at least 16 channels on either side."""
    modules = (module for module in model.modules() if isinstance(module, KERNEL_MODULES))
    return [m.weight for m in modules if isinstance(m.weight, nn.Parameter) and min(m.weight.shape[:2]) >= 16]
