"""A hyperprior with two passes over the latents, the second reading the first: spatial and channel context."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.transform import Synthesis
from .coders import EntropyCoder
from .config import EntropyConfig
from .hyperprior import EntropyModel, run


class CheckerboardHyperprior(EntropyModel):
    """Half of the latents first, the rest given these (He et al. 2021; dual arrangement of Li et al. 2022).

    The first pass codes the first half of the channels on the black fields and the second half on the white ones,
    so every later latent has coded neighbours in space and at its own place in the other channels.

        z_hat -> mean features  (+ condition) -> means 1,  with y_hat of pass 1   -> means 2   (float32)
        z_hat -> scale features               -> scales 1, with symbols of pass 1 -> scales 2  (float64 when coding)
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        self.mean_synthesis = Synthesis(config.width, config.hyper)
        self.scale_synthesis = Synthesis(config.width, config.hyper)
        self.mean_head = _PassHeads(latents, config, condition_channels)
        self.scale_head = _PassHeads(latents, config, 0)

    def exact_modules(self) -> list[nn.Module]:
        return [self.scale_synthesis, self.scale_head]

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None) -> Tensor:  # fmt: skip
        first = first_pass_mask(shape, z_hat.device)
        mean_features = run(self.mean_synthesis, z_hat, shape)
        scale_features = run(self.scale_synthesis, z_hat, shape)

        means, hidden = self.mean_head.first(mean_features, condition)
        log_scales, _ = self.scale_head.first(scale_features, None)
        log_scales = self._base_log_scales(quality) + log_scales
        y_hat_first, symbols = coder.code_gaussian(y, means, log_scales, first)

        means = means + self.mean_head.second(hidden, y_hat_first)
        context = torch.log1p(symbols.abs()).to(log_scales.dtype)
        log_scales = log_scales + self.scale_head.second(scale_features, context)
        y_hat_second, _ = coder.code_gaussian(y, means, log_scales, ~first)
        return y_hat_first + y_hat_second


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

    def first(self, features: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        if condition is not None:
            features = torch.cat([features, condition.to(features.dtype)], dim=1)
        hidden = F.leaky_relu(self.join(features), 0.1)
        return self.first_out(hidden), hidden

    def second(self, hidden: Tensor, context: Tensor) -> Tensor:
        joined = torch.cat([hidden, self.context(context)], dim=1)
        return self.second_out(F.leaky_relu(self.second_hidden(F.leaky_relu(joined, 0.1)), 0.1))


def first_pass_mask(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Boolean (1, channels, H, W): black fields of the first half of the channels, white ones of the second."""
    _, channels, height, width = shape
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    black = (rows[:, None] + columns[None, :]) % 2 == 0
    second_half = torch.arange(channels, device=device) >= channels // 2
    return (black[None] ^ second_half[:, None, None])[None]
