"""The channel-wise autoregressive entropy model: slices of the latents one after another, each reading those before."""

import torch
from torch import Tensor, nn

from ..layers.asinh import asinh
from ..layers.attention import WindowAttentionGate, start_at_zero
from ..layers.transform import Synthesis
from .coders import EntropyCoder
from .config import ContextConfig, EntropyConfig
from .context_mixing import DCPrediction
from .distributions import DISTRIBUTIONS
from .hyperprior import CodedLatents, EntropyModel, bounded, run
from .latent_maps import ChannelRange


class ChannelwiseHyperprior(EntropyModel):
    """Channel slices in order, means and scales from z_hat and the slices before, latent residual prediction.

        z_hat -> h_s_mean -> mean features, h_s_scale -> scale features
        for each slice:  mean features,  earlier slices -> attention -> convolutions -> means
                         scale features, earlier slices -> attention -> convolutions -> scales
                         y_hat = means + symbols + 0.5 tanh(residual prediction)

    Minnen & Singh 2020 with the window attention of Liu et al. 2023: the model of MambaVC (equations 7 to 9).
    Means and scales both read y_hat, so all of this runs in float64 when coding; y_hat then differs by about 1e-12
    between machines, which the coders' guard band covers. A condition from a picture can't be taken: it would reach
    the scales through y_hat.
    """

    exact_latents = True
    first_pass: DCPrediction = "raster"

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        count = config.context.slices
        if latents % count:
            raise ValueError(f"{latents} latents can't be divided into {count} slices")
        if condition_channels:
            raise ValueError(f"the entropy model '{config.model}' takes no condition: its scales read its means")
        self.mean_synthesis = Synthesis(latents, config.hyper)
        self.scale_synthesis = Synthesis(latents, config.hyper)
        self.slices = nn.ModuleList(self._make_slice(latents, index, config) for index in range(count))

    def _make_slice(self, latents: int, index: int, config: EntropyConfig) -> "ChannelSlice":
        return ChannelSlice(latents, index, config)

    def exact_modules(self) -> list[nn.Module]:
        return [self.mean_synthesis, self.scale_synthesis, self.slices]

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None,
                      previous: CodedLatents | None, side: Tensor | None) -> CodedLatents:  # fmt: skip
        features = run(self.mean_synthesis, z_hat, shape), run(self.scale_synthesis, z_hat, shape)
        count = len(self.slices)
        base_log_scales = self._base_log_scales(quality).chunk(count, dim=1)
        slices = y.chunk(count, dim=1) if y is not None else [None] * count
        coded: list[Tensor] = []
        seen: list[Tensor] = []
        for channel_slice, y_slice, base in zip(self.slices, slices, base_log_scales, strict=True):
            assert isinstance(channel_slice, ChannelSlice)
            coded.append(channel_slice.code(coder, y_slice, *features, seen, base).to(features[0].dtype))
            seen.append(channel_slice.seen(coded[-1]))
        return CodedLatents(torch.cat(coded, dim=1))


class ChannelSlice(nn.Module):
    """The networks of slice `index`: means, log-scales and the residual prediction, from what is known before it."""

    def __init__(self, latents: int, index: int, config: EntropyConfig):
        super().__init__()
        self.context = context = config.context
        self.distribution = DISTRIBUTIONS[config.distribution]
        width = latents // context.slices
        self.channels = ChannelRange(index * width, latents)
        self.least_scale = config.least_scale
        support = latents + (width * index if context.channel else 0)
        self.mean_attention = attention_gate(support, context)
        self.scale_attention = attention_gate(support, context)
        self.mean = convolutions(support, context.widths, width, context.kernel)
        self.scale = convolutions(support, context.widths, width, context.kernel)
        self.residual_prediction = convolutions(support + width, context.widths, width, context.kernel)

    def code(self, coder: EntropyCoder, y: Tensor | None, mean_features: Tensor, scale_features: Tensor,
             seen: list[Tensor], base_log_scales: Tensor) -> Tensor:  # fmt: skip
        """y_hat of this slice; mean_features, scale_features (batch, latents, H, W); seen: the slices before
        it, as the networks read them."""
        before = seen if self.context.channel else []
        mean_support = self.mean_attention(torch.cat([mean_features, *before], dim=1))
        scale_support = self.scale_attention(torch.cat([scale_features, *before], dim=1))
        means, log_scales = self.mean(mean_support), self.scale(scale_support)
        y_hat = self._code_symbols(coder, y, means, log_scales, (mean_features, scale_features), base_log_scales)
        y_hat = y_hat.to(means.dtype)
        correction = self.residual_prediction(torch.cat([mean_support, self.seen(y_hat)], dim=1))
        return y_hat + 0.5 * torch.tanh(correction)

    def _code_symbols(self, coder: EntropyCoder, y: Tensor | None, means: Tensor, log_scales: Tensor,
                      features: tuple[Tensor, Tensor], base_log_scales: Tensor) -> Tensor:  # fmt: skip
        return self._code(coder, y, means, base_log_scales + log_scales)

    def seen(self, y_hat: Tensor) -> Tensor:
        """y_hat as the networks read it."""
        return asinh(y_hat) if self.context.compressed else y_hat

    def _code(self, coder: EntropyCoder, y: Tensor | None, means: Tensor, log_scales: Tensor,
              mask: Tensor | None = None) -> Tensor:  # fmt: skip
        """y_hat of this slice at the places of the mask (None: all), zero elsewhere."""
        log_scales = bounded(log_scales, self.least_scale)
        return coder.code_latents(y, means, log_scales, mask, self.distribution, channels=self.channels)[0]


def attention_gate(channels: int, context: ContextConfig) -> nn.Module:
    """Window attention on a map, or nothing where the configuration leaves it out."""
    if not context.attention:
        return nn.Identity()
    return WindowAttentionGate(channels, context.attention, context.window, context.head_width)


def convolutions(channels: int, widths: tuple[int, ...], out: int, first_kernel: int = 3) -> nn.Sequential:
    """3x3 convolutions, the first of another kernel if told, with GELU between; the last starts at zero."""
    layers: list[nn.Module] = []
    kernel = first_kernel
    for width in widths:
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.GELU()]
        channels, kernel = width, 3
    last = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
    start_at_zero(last)
    return nn.Sequential(*layers, last)
