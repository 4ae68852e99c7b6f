"""Latents to y_hat through a coder: the gain of the quality level around an entropy model."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers.gains import QuantizationGain
from ..layers.transform import Analysis
from .channelwise import ChannelwiseHyperprior
from .checkerboard import CheckerboardHyperprior
from .coders import EntropyCoder, RateEstimator
from .config import EntropyConfig
from .hyperprior import CodedLatents, EntropyModel, MeanScaleHyperprior
from .mambaic import ContextHyperprior

ENTROPY_MODELS: dict[str, type[EntropyModel]] = {
    "hyperprior": MeanScaleHyperprior,
    "checkerboard": CheckerboardHyperprior,
    "channelwise": ChannelwiseHyperprior,
    "context": ContextHyperprior,
}
CLOSED_LOOP_SHARE = 0.7  # of what the synthesis adds, since it adds something else once this is taken off


class LatentCodec(nn.Module):
    """y -> * gain(q) -> entropy model (hyper latents, symbols) -> / gain(q) -> y_hat.

    Args: latents; config; levels, quality levels, 0 for a model of one rate; deviations (latents,), the expected
    standard deviations where they are known; condition_channels, see EntropyModel; stream, what coders call these
    latents.
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, deviations: Tensor | None = None,
                 condition_channels: int = 0, stream: str = "latents"):  # fmt: skip
        super().__init__()
        self.gain = QuantizationGain(latents, levels, config.step, config.span, config.fixed_steps) if levels else None
        start = None
        if deviations is not None:
            steps = torch.logspace(0, -1, max(levels, 1), base=config.span)[:, None] * config.step
            start = torch.log(deviations / (steps if levels else 1.0)).reshape(max(levels, 1), latents)
        if config.model not in ENTROPY_MODELS:
            raise ValueError(f"unknown entropy model '{config.model}': choose from {', '.join(ENTROPY_MODELS)}")
        if config.temporal and config.model != "checkerboard":
            raise ValueError(f"the entropy model '{config.model}' can't be temporal: only 'checkerboard' can")
        if config.side and config.model != "checkerboard":
            raise ValueError(f"the entropy model '{config.model}' can't have side information: only 'checkerboard' can")
        self.model = ENTROPY_MODELS[config.model](latents, config, levels, condition_channels, start)
        self.model.stream = stream if config.adaptive else None

    def code(self, coder: EntropyCoder, y: Tensor | None, shape: tuple[int, ...], quality: Tensor,
             condition: Tensor | None = None, previous: "Latents | None" = None,
             side: Tensor | None = None) -> "Latents":  # fmt: skip
        """The latents of the given shape (batch, latents, H, W) from y, or from the coder's symbols when y is None.

        condition, previous, side: see EntropyModel.code; previous may have been coded at another quality.
        """
        gain, inverse = self.gain(quality) if self.gain is not None else (1.0, 1.0)
        scaled = y.float() * gain if y is not None else None
        before = CodedLatents(previous.y_hat * gain, previous.symbols) if previous is not None else None
        coded = self.model.code(coder, scaled, shape, quality, condition, before, side)
        return Latents(coded.y_hat.float() * inverse, coded.y_hat, coded.symbols)


class Latents(NamedTuple):
    """What a latent codec gives: y_hat (batch, latents, H, W); the same as the entropy model made it, before the gain
    is taken back and exact where its means are; and its integer symbols, where the entropy model keeps them."""

    y_hat: Tensor
    exact: Tensor
    symbols: Tensor | None = None

    def detached(self) -> "Latents":
        """The same values without gradient."""
        symbols = None if self.symbols is None else self.symbols.detach()
        return Latents(self.y_hat.detach(), self.exact.detach(), symbols)


def closed_loop(
    y: Tensor, code: Callable[[EntropyCoder, Tensor], tuple[Latents, Tensor]], analysis: Analysis
) -> Tensor:
    """What is better coded than y by a codec of linear analysis: y less what its synthesis adds by itself.

    A linear analysis does not know the network in the synthesis. So the encoder tries: code(coder, y) gives the latents
    and what they decode to, and most of what this differs from them by, analysed, is taken off. Other codecs' y is left
    as it is; so is all in training, which would take half as long again.
    """
    if not analysis.linear or analysis.training:
        return y
    latents, decoded = code(RateEstimator(len(y), training=False, device=y.device), y)
    return y + CLOSED_LOOP_SHARE * (latents.y_hat - analysis(decoded))
