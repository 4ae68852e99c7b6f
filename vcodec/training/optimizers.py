"""Optimizers: AdamW from PyTorch; Muon for weight matrices with Adam for the rest."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def create_optimizer(
    name: str, model: nn.Module, *, betas: tuple[float, float], weight_decay: float
) -> Optimizer:
    """An optimizer over all parameters; those whose gradient is None (frozen in a stage) stay as they are.

    Weight decay is for matrices and kernels only. The learning rate is set by the loop before each step.
    """
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    if name == "adamw":
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-4, betas=betas, fused=True)
    if name == "muon":
        hidden = [p for p in matrices if is_matrix(p)]
        others = [p for p in parameters if not is_matrix(p)]
        return Muon(hidden, others, betas=betas, weight_decay=weight_decay)
    raise ValueError(f"no optimizer {name!r}")


def is_matrix(parameter: Tensor) -> bool:
    """A matrix, or a convolution's kernel, between at least 16 channels on either side."""
    return parameter.ndim in (2, 4) and parameter.shape[0] >= 16 and parameter.shape[1] >= 16


class Muon(Optimizer):
    """Momentum orthogonalised by Newton-Schulz for `matrices` (Jordan et al. 2024), Adam for `others`.

    An update is scaled to the size of an Adam step, 0.2 * sqrt(max(rows, columns)) (Liu et al. 2025,
    arXiv 2502.16982), so that both kinds of parameters use the same learning rate.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        lr: float = 1e-4,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        groups = [{"params": matrices, "matrix": True}, {"params": others, "matrix": False}]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__([g for g in groups if g["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = self._orthogonal if group["matrix"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, group)

    def _orthogonal(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"]
        momentum.lerp_(parameter.grad, 1 - group["momentum"])
        nesterov = parameter.grad.lerp(momentum, group["momentum"])
        matrix = nesterov.reshape(nesterov.shape[0], -1)
        step = orthogonalise(matrix) * (0.2 * max(matrix.shape) ** 0.5)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(step.view_as(parameter), alpha=-group["lr"])

    def _adam(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        state["mean"].lerp_(parameter.grad, 1 - beta1)
        state["square"].lerp_(parameter.grad.square(), 1 - beta2)
        scale = (state["square"] / (1 - beta2**step)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**step))


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: singular values between about 0.7 and 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
