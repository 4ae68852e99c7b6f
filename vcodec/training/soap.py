"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv 2409.11321)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .adam import adam_step


class SOAP(Optimizer):
    """SOAP for `kernels`, taken as matrices (first axis, all others); Adam for `others`.

    A side longer than `largest` keeps the identity for a basis. The bases follow by one step of orthogonal
    iteration every `frequency` steps.
    """

    def __init__(
        self,
        kernels: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        shampoo_beta: float = 0.95,
        frequency: int = 10,
        largest: int = 1024,
        weight_decay: float = 0.0,
    ) -> None:
        groups = [{"params": kernels, "kernels": True}, {"params": others, "kernels": False}]
        defaults = {
            "lr": lr,
            "betas": betas,
            "shampoo_beta": shampoo_beta,
            "frequency": frequency,
            "largest": largest,
            "weight_decay": weight_decay,
        }
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = soap_step if group["kernels"] else adam_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, self.state[parameter], group)


def soap_step(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Update a kernel in place. The first call only starts the preconditioner."""
    matrix = gradient.flatten(1)
    if not state:
        state["step"] = torch.zeros(())
        state["mean"] = torch.zeros_like(matrix)
        state["square"] = torch.zeros_like(matrix)
        for side, size in zip(("rows", "columns"), matrix.shape, strict=True):
            if size <= group["largest"]:
                state[side] = _gram(matrix, side)
                state[f"{side}_basis"] = _eigenbasis(state[side])
        return
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    state["mean"].lerp_(matrix, 1 - beta1)
    state["square"].lerp_(_rotate(matrix, state).square(), 1 - beta2)
    scale = (state["square"] / (1 - beta2**step)).sqrt_().add_(1e-8)
    update = _rotate(_rotate(state["mean"], state) / scale, state, back=True) / (1 - beta1**step)
    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
    _follow(matrix, state, group, renew=int(step) % group["frequency"] == 0)


def _follow(matrix: Tensor, state: dict[str, Any], group: dict[str, Any], renew: bool) -> None:
    """Update the preconditioner's two sides and, if `renew`, their bases."""
    for side in ("rows", "columns"):
        if side in state:
            state[side].lerp_(_gram(matrix, side), 1 - group["shampoo_beta"])
            if renew:
                state[f"{side}_basis"] = torch.linalg.qr(state[side] @ state[f"{side}_basis"])[0]


def _eigenbasis(gram: Tensor) -> Tensor:
    # the first gradient has low rank: float64, a unit trace and a ridge keep the solver from failing
    scaled = gram.double() / gram.trace().double().clamp(min=1e-300)
    scaled.diagonal().add_(1e-9)
    return torch.linalg.eigh(scaled)[1].to(gram.dtype)


def _gram(matrix: Tensor, side: str) -> Tensor:
    return matrix @ matrix.T if side == "rows" else matrix.T @ matrix


def _rotate(matrix: Tensor, state: dict[str, Any], back: bool = False) -> Tensor:
    """Into the eigenbasis, or back."""
    if "rows_basis" in state:
        matrix = (state["rows_basis"] if back else state["rows_basis"].T) @ matrix
    if "columns_basis" in state:
        matrix = matrix @ (state["columns_basis"].T if back else state["columns_basis"])
    return matrix
