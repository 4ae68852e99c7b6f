"""The mean and scale hyperprior, and what every entropy model of the latents shares."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers.asinh import asinh
from ..layers.gains import interpolate_levels, level_weights
from ..layers.transform import Analysis, Synthesis, full_precision
from .coders import EntropyCoder
from .config import EntropyConfig
from .context_mixing import DCPrediction
from .distributions import DISTRIBUTIONS
from .factorized import FactorizedPrior
from .gaussian import lower_bound


class CodedLatents(NamedTuple):
    """y_hat (batch, latents, H, W), and the integer symbols it was coded with where the model keeps them."""

    y_hat: Tensor
    symbols: Tensor | None = None


class EntropyModel(nn.Module):
    """The base: y -> hyper analysis -> z, coded under a factorised prior; subclasses code y given z_hat.

    Args: latents, channels of y; config; levels, quality levels (0: one rate); condition_channels, of a map at the
    latents' resolution that may inform the means, never the scales; log_scale_start, (levels or 1, latents).
    exact_latents: whether y_hat itself is exact, its means being computed in float64 too. first_pass: what
    of the first channel it codes, for its DC prediction: a checkerboard, or every place ("raster").
    """

    exact_latents = False
    first_pass: DCPrediction = "checkerboard"
    stream: str | None = None  # what coders call these latents where they are coded adaptively

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__()
        self.latents, self.config, self.levels = latents, config, levels
        self.condition_channels = condition_channels
        if config.distribution not in DISTRIBUTIONS:
            raise ValueError(f"unknown distribution '{config.distribution}': choose from {', '.join(DISTRIBUTIONS)}")
        self.distribution = DISTRIBUTIONS[config.distribution]
        self.hyper_analysis = Analysis(latents, config.hyper)
        self.prior = FactorizedPrior(config.hyper.latents, max(levels, 1))
        if log_scale_start is None:
            log_scale_start = torch.zeros(max(levels, 1), latents)
        self.log_scale_table = nn.Parameter(log_scale_start.clone())

    def code(self, coder: EntropyCoder, y: Tensor | None, shape: tuple[int, ...], quality: Tensor,
             condition: Tensor | None = None, previous: CodedLatents | None = None,
             side: Tensor | None = None) -> CodedLatents:  # fmt: skip
        """y_hat of the given shape (batch, latents, H, W); y is None when decoding.

        previous: the latents of the frame before, for a temporal model; side: (batch, side, H, W), for a model with
        side information; None where there are none.
        """
        coder.begin(self.stream, self.first_pass if self.config.dc_prediction else None)
        with full_precision(quality):
            z_hat = self._code_hyper_latents(coder, y, shape, quality)
            return self._code_latents(coder, y, z_hat, shape, quality, condition, previous, side)

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None,
                      previous: CodedLatents | None, side: Tensor | None) -> CodedLatents:  # fmt: skip
        raise NotImplementedError

    def exact_modules(self) -> list[nn.Module]:
        """The modules on the way to the scales: they run in float64 when coding."""
        raise NotImplementedError

    def make_exact(self) -> None:
        """Turns the way to the scales to float64, for coding."""
        for module in self.exact_modules():
            module.double()
        self.log_scale_table.data = self.log_scale_table.data.double()

    def _bounded(self, log_scales: Tensor) -> Tensor:
        return bounded(log_scales, self.config.least_scale)

    def _code_hyper_latents(
        self, coder: EntropyCoder, y: Tensor | None, shape: tuple[int, ...], quality: Tensor
    ) -> Tensor:
        z = self.hyper_analysis(asinh(y.float())) if y is not None else None
        batch, _, height, width = shape
        for stride in self.config.hyper.strides:
            height, width = -(-height // stride), -(-width // stride)
        lower, _, weight = level_weights(quality, max(self.levels, 1))
        bank = lower + (weight >= 0.5).long()
        return coder.code_factorized(self.prior, z, (batch, self.config.hyper.latents, height, width), bank)

    def _base_log_scales(self, quality: Tensor) -> Tensor:
        return interpolate_levels(self.log_scale_table, quality)


class MeanScaleHyperprior(EntropyModel):
    """Means and scales from z_hat alone, by two separate networks (Minnen et al. 2018; the one of SSF).

    y -> h_a -> z -> round -> h_s_mean -> means  (float32)
                           -> h_s_scale -> scales (float64 when coding)
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        self.mean_synthesis = Synthesis(latents, config.hyper)
        self.scale_synthesis = Synthesis(latents, config.hyper)
        self.condition_means = nn.Conv2d(condition_channels, latents, 1) if condition_channels else None

    def exact_modules(self) -> list[nn.Module]:
        return [self.scale_synthesis]

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None,
                      previous: CodedLatents | None, side: Tensor | None) -> CodedLatents:  # fmt: skip
        means = run(self.mean_synthesis, z_hat, shape)
        if self.condition_means is not None and condition is not None:
            means = means + self.condition_means(condition.float())
        log_scales = self._base_log_scales(quality) + run(self.scale_synthesis, z_hat, shape)
        log_scales = self._bounded(log_scales)
        return CodedLatents(*coder.code_latents(y, means, log_scales, distribution=self.distribution))


def bounded(log_scales: Tensor, least_scale: float) -> Tensor:
    """Log-scales of at least that of least_scale; 0: as they are."""
    return lower_bound(log_scales, math.log(least_scale)) if least_scale else log_scales


def run(module: nn.Module, x: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """The module on x in the module's own precision, cropped to the height and width of shape."""
    out = module(x.to(next(module.parameters()).dtype))
    return out if shape is None else out[:, :, : shape[2], : shape[3]]
