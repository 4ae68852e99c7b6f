"""A hyperprior with two passes over the latents, the second reading the first: spatial and channel context."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.asinh import asinh
from ..layers.transform import Synthesis
from .coders import EntropyCoder
from .config import EntropyConfig
from .hyperprior import CodedLatents, EntropyModel, run


class CheckerboardHyperprior(EntropyModel):
    """Half of the latents first, the rest given these (He et al. 2021; dual arrangement of Li et al. 2022).

    The first pass codes the first half of the channels on the black fields and the second half on the white ones,
    so every later latent has coded neighbours in space and at its own place in the other channels.

        z_hat -> mean features  (+ condition) -> means 1,  with y_hat of pass 1   -> means 2   (float32)
        z_hat -> scale features               -> scales 1, with symbols of pass 1 -> scales 2  (float64 when coding)

    Exact side information may inform the scales of the first pass, and by their features those of the second.
    A temporal model reads the frame before as well: its y_hat for the means, its symbols, being exact, for the scales.
    A linear one adds to the means 2 a filter of the neighbours' symbols, being their distance from means 1, and where
    temporal too to the means 1 a map of the y_hat before: networks alone don't hold a displacement of 100 steps to the
    nearest one.
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        self.mean_synthesis = Synthesis(config.width, config.hyper)
        self.scale_synthesis = Synthesis(config.width, config.hyper)
        history = latents if config.temporal else 0
        self.mean_head = _PassHeads(latents, config, condition_channels + history)
        self.scale_head = _PassHeads(latents, config, history + config.side)
        self.linear_neighbours = _neighbours(latents, 0.25 if config.temporal else 0.0) if config.linear else None
        self.linear_past = _proportion(latents) if config.linear and config.temporal else None

    def exact_modules(self) -> list[nn.Module]:
        return [self.scale_synthesis, self.scale_head]

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None, previous: CodedLatents | None,
                      side: Tensor | None) -> CodedLatents:  # fmt: skip
        first = first_pass_mask(shape, z_hat.device)
        mean_features = run(self.mean_synthesis, z_hat, shape)
        scale_features = run(self.scale_synthesis, z_hat, shape)

        past_means, past_scales = self._history(previous, mean_features, scale_features)
        means, hidden = self.mean_head.first(mean_features, [condition, past_means])
        if self.linear_past is not None:
            means = means + self.linear_past(torch.zeros_like(means) if previous is None else previous.y_hat.float())
        log_scales, _ = self.scale_head.first(scale_features, [past_scales, self._side(side, scale_features)])
        log_scales = self._base_log_scales(quality) + log_scales
        y_hat_first, symbols_first = coder.code_latents(y, means, self._bounded(log_scales), first, self.distribution)

        means = means + self.mean_head.second(hidden, y_hat_first)
        if self.linear_neighbours is not None:
            means = means + self.linear_neighbours(symbols_first.float())
        log_scales = log_scales + self.scale_head.second(scale_features, _magnitude(symbols_first, log_scales))
        log_scales = self._bounded(log_scales)
        y_hat_second, symbols_second = coder.code_latents(y, means, log_scales, ~first, self.distribution)
        return CodedLatents(y_hat_first + y_hat_second, symbols_first + symbols_second)

    def _side(self, side: Tensor | None, like: Tensor) -> Tensor | None:
        """The side information, zeros where there is none."""
        if not self.config.side:
            return None
        return like.new_zeros(len(like), self.config.side, *like.shape[2:]) if side is None else side.to(like.dtype)

    def _bounded(self, log_scales: Tensor) -> Tensor:
        least = self.config.least_scale
        return log_scales.clamp_min(math.log(least)) if least else log_scales

    def _history(self, previous: CodedLatents | None, mean_features: Tensor,
                 scale_features: Tensor) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
        """What the frame before tells the means and the scales: nothing at all, or nothing yet, being zeros."""
        if not self.config.temporal:
            return None, None
        if previous is None:
            batch, _, height, width = mean_features.shape
            nothing = mean_features.new_zeros(batch, self.latents, height, width)
            return nothing, nothing.to(scale_features.dtype)
        assert previous.symbols is not None
        return asinh(previous.y_hat).to(mean_features.dtype), _magnitude(previous.symbols, scale_features)


class _PassHeads(nn.Module):
    """The two passes' small networks of one parameter; their last layers start at zero."""

    def __init__(self, latents: int, config: EntropyConfig, condition_channels: int):
        super().__init__()
        width, inner = config.width, config.context_width or config.width
        self.join = nn.Conv2d(width + condition_channels, width, 1)
        self.first_out = nn.Conv2d(width, latents, 1)
        self.context = nn.Sequential(
            nn.Conv2d(latents, inner, 1), nn.LeakyReLU(0.1), nn.Conv2d(inner, inner, 3, padding=1)
        )
        self.second_hidden = nn.Conv2d(width + inner, width, 1)
        self.second_out = nn.Conv2d(width, latents, 1)
        for layer in (self.first_out, self.second_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def first(self, features: Tensor, conditions: list[Tensor | None]) -> tuple[Tensor, Tensor]:
        given = [condition.to(features.dtype) for condition in conditions if condition is not None]
        hidden = F.leaky_relu(self.join(torch.cat([features, *given], dim=1)), 0.1)
        return self.first_out(hidden), hidden

    def second(self, hidden: Tensor, context: Tensor) -> Tensor:
        joined = torch.cat([hidden, self.context(context)], dim=1)
        return self.second_out(F.leaky_relu(self.second_hidden(F.leaky_relu(joined, 0.1)), 0.1))


def _neighbours(channels: int, share: float) -> nn.Conv2d:
    """A filter of 3x3 for each channel by itself, at the start this share of each of the four neighbours."""
    filter = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        filter.weight.copy_(share * torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
    return filter


def _proportion(channels: int) -> nn.Conv2d:
    """A linear map of the channels, at the start half of each."""
    linear = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(0.5 * torch.eye(channels)[:, :, None, None])
    return linear


def _magnitude(symbols: Tensor, like: Tensor) -> Tensor:
    """log(1 + |symbols|) in the precision of `like`: exact symbols stay exact enough for scales in float64."""
    return torch.log1p(symbols.abs().to(like.dtype))


def first_pass_mask(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Boolean (1, channels, H, W): black fields of the first half of the channels, white ones of the second."""
    _, channels, height, width = shape
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    black = (rows[:, None] + columns[None, :]) % 2 == 0
    second_half = torch.arange(channels, device=device) >= channels // 2
    return (black[None] ^ second_half[:, None, None])[None]
