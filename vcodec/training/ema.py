"""An exponential moving average of a model's weights: what is validated and shipped."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class ExponentialMovingAverage:
    """fp32 averages of all parameters; buffers are taken as they are.

    The decay is min(decay, (1 + n) / (10 + n)) at update n, so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.averages = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        moving = [(self.averages[name], p.detach().float()) for name, p in model.named_parameters() if p.requires_grad]
        torch._foreach_lerp_([a for a, _ in moving], [p for _, p in moving], 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Write the averages into `model`'s parameters."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.averages[name])

    def state_dict(self) -> dict[str, Tensor | int]:
        return {
            "updates": self.updates,
            **{f"average.{name}": value for name, value in self.averages.items()},
        }

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        self.updates = int(state["updates"])
        for name, average in self.averages.items():
            average.copy_(state[f"average.{name}"])  # type: ignore[arg-type]

    @contextmanager
    def averaged(self, model: Model) -> Iterator[Model]:
        """A copy of `model` with the averaged weights, in evaluation mode."""
        averaged = copy.deepcopy(model)
        self.copy_to(averaged)
        yield averaged.eval()
