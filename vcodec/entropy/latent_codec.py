"""Latents to y_hat through a coder: the gain of the quality level around an entropy model."""

import torch
from torch import Tensor, nn

from ..layers.gains import QuantizationGain
from .channelwise import ChannelwiseHyperprior
from .checkerboard import CheckerboardHyperprior
from .coders import EntropyCoder
from .config import EntropyConfig
from .hyperprior import EntropyModel, MeanScaleHyperprior
from .mambaic import ContextHyperprior

ENTROPY_MODELS: dict[str, type[EntropyModel]] = {
    "hyperprior": MeanScaleHyperprior,
    "checkerboard": CheckerboardHyperprior,
    "channelwise": ChannelwiseHyperprior,
    "context": ContextHyperprior,
}


class LatentCodec(nn.Module):
    """y -> * gain(q) -> entropy model (hyper latents, symbols) -> / gain(q) -> y_hat.

    Args: latents; config; levels, quality levels, 0 for a model of one rate; deviations (latents,), the expected
    standard deviations where they are known; condition_channels, see EntropyModel.
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, deviations: Tensor | None = None,
                 condition_channels: int = 0):  # fmt: skip
        super().__init__()
        self.gain = QuantizationGain(latents, levels, config.step, config.span) if levels else None
        start = None
        if deviations is not None:
            steps = torch.logspace(0, -1, max(levels, 1), base=config.span)[:, None] * config.step
            start = torch.log(deviations / (steps if levels else 1.0)).reshape(max(levels, 1), latents)
        if config.model not in ENTROPY_MODELS:
            raise ValueError(f"unknown entropy model '{config.model}': choose from {', '.join(ENTROPY_MODELS)}")
        self.model = ENTROPY_MODELS[config.model](latents, config, levels, condition_channels, start)

    def code(self, coder: EntropyCoder, y: Tensor | None, shape: tuple[int, ...], quality: Tensor,
             condition: Tensor | None = None) -> Tensor:  # fmt: skip
        """y_hat of the given shape (batch, latents, H, W) from y, or from the coder's symbols when y is None."""
        return self.code_with_exact(coder, y, shape, quality, condition)[0]

    def code_with_exact(self, coder: EntropyCoder, y: Tensor | None, shape: tuple[int, ...], quality: Tensor,
                        condition: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """y_hat as `code` gives it, and as the entropy model does: exact when coding, where its means are."""
        if self.gain is None:
            exact = self.model.code(coder, y, shape, quality, condition)
            return exact.float(), exact
        gain, inverse = self.gain(quality)
        scaled = y.float() * gain if y is not None else None
        exact = self.model.code(coder, scaled, shape, quality, condition)
        return exact.float() * inverse, exact
