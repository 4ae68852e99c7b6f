"""One parameter's Adam step, for the optimizers that treat only kernels in a way of their own."""

from typing import Any

import torch
from torch import Tensor


def adam_step(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Update `parameter` in place (Kingma and Ba 2015); `group` holds lr and betas, `state` the moments."""
    if not state:
        state["step"] = torch.zeros(())
        state["mean"] = torch.zeros_like(parameter)
        state["square"] = torch.zeros_like(parameter)
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    state["mean"].lerp_(gradient, 1 - beta1)
    state["square"].lerp_(gradient.square(), 1 - beta2)
    scale = (state["square"] / (1 - beta2**step)).sqrt_().add_(1e-8)
    parameter.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**step))
