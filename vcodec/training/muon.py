"""Muon: momentum orthogonalised by Newton-Schulz (Jordan et al. 2024)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .adam import adam_step


class Muon(Optimizer):
    """Orthogonalised momentum for `kernels`, taken as matrices (first axis, all others); Adam for `others`.

    An update is scaled to the size of an Adam step, 0.2 * sqrt(max(rows, columns)) (Liu et al. 2025, arXiv
    2502.16982), so that both kinds of parameters use the same learning rate. dtype: of the iteration, which bf16 is
    good enough for and much faster where the machine has it.
    """

    def __init__(
        self,
        kernels: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float = 1e-4,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [{"params": kernels, "kernels": True}, {"params": others, "kernels": False}]
        self.dtype = dtype
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["kernels"]:
                    muon_step(parameter, parameter.grad, self.state[parameter], group, self.dtype)
                else:
                    adam_step(parameter, parameter.grad, self.state[parameter], group)


def muon_step(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], dtype: torch.dtype
) -> None:
    """Update a kernel in place: Nesterov momentum, orthogonalised."""
    if not state:
        state["momentum"] = torch.zeros_like(parameter)
    momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
    matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
    step = orthogonalise(matrix.to(dtype)).to(matrix.dtype) * (0.2 * max(matrix.shape) ** 0.5)
    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.add_(step.view(parameter.shape), alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest semi-orthogonal matrix: the singular values end between 0.7 and 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
