"""Optimizers by name: AdamW from PyTorch, and two that know that a kernel is a matrix."""

import torch
from torch import nn
from torch.optim import Optimizer

from ..entropy.checkerboard import CheckerboardHyperprior
from ..layers.transform import Analysis, Synthesis
from .muon import Muon
from .soap import SOAP

KERNEL_MODULES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
SHORTCUT_RATE = 0.05  # of the learning rate: linear shortcuts start as a good transform, which should bend slowly


def create_optimizer(
    name: str,
    model: nn.Module,
    *,
    betas: tuple[float, float],
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
) -> Optimizer:
    """An optimizer ("adamw", "muon" or "soap") over all parameters of `model`; dtype: of Muon's iteration.

    Weight decay is for kernels only. Linear shortcuts move by Adam's rule at SHORTCUT_RATE of the learning rate.
    Parameters without a gradient, frozen in a stage, stay as they are. The loop sets the learning rate before each
    step.
    """
    kernels, shortcuts = kernels_of(model), shortcuts_of(model)
    known = {id(parameter) for parameter in (*kernels, *shortcuts)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    if name == "muon":
        optimizer: Optimizer = Muon(kernels, others, betas=betas, weight_decay=weight_decay, dtype=dtype)
    elif name == "soap":
        optimizer = SOAP(kernels, others, betas=betas, weight_decay=weight_decay)
    else:
        groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=betas, fused=True)
    if shortcuts:
        optimizer.add_param_group({"params": shortcuts, "weight_decay": 0.0, "kernels": False})
    for group in optimizer.param_groups:
        group["rate"] = SHORTCUT_RATE if shortcuts and group is optimizer.param_groups[-1] else 1.0
    return optimizer


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """The learning rate of the next step, in each group times that group's own share."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate", 1.0)


def kernels_of(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers and dense convolutions with at least 16 channels on either side.

    Shortcuts are left out, and linear maps of the latents before: these stay near the diagonal, where orthogonal
    updates of all entries are noise.
    """
    apart = {id(parameter) for parameter in shortcuts_of(model)}
    for module in model.modules():
        if isinstance(module, CheckerboardHyperprior) and module.linear_past is not None:
            apart.add(id(module.linear_past.weight))
    weights = (module.weight for module in model.modules() if isinstance(module, KERNEL_MODULES))
    return [w for w in weights if isinstance(w, nn.Parameter) and min(w.shape[:2]) >= 16 and id(w) not in apart]


def shortcuts_of(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the linear shortcuts beside analyses and syntheses."""
    shortcuts = [m.shortcut for m in model.modules() if isinstance(m, Analysis | Synthesis)]
    return [parameter for shortcut in shortcuts if shortcut is not None for parameter in shortcut.parameters()]
