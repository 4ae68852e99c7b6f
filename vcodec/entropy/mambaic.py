"""MambaIC's entropy model: state space blocks read the channel and the checkerboard context of every slice."""

import torch
from torch import Tensor, nn

from ..layers.attention import ResidualUnit
from ..layers.transform import TransformConfig, make_blocks
from .channelwise import ChannelSlice, ChannelwiseHyperprior, attention_gate, convolutions
from .coders import EntropyCoder
from .config import ContextConfig, EntropyConfig


class ContextHyperprior(ChannelwiseHyperprior):
    """The channel-wise model with a checkerboard in every slice and VSS blocks over all that is known.

        for each slice:  means, scales as in the channel-wise model   (channel context)
                         anchors:      context(nothing,         means, scales, features) -> window attention
                         non-anchors:  context(coded anchors,   means, scales, features) -> window attention

    Zeng et al. 2025 (MambaIC). `ContextConfig` holds the paper's ablations: channel=False, spatial=False (one pass),
    attention=0 (no window attention), kind="conv" | "swin" | "vss" for the blocks.
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        self.first_pass = "checkerboard" if config.context.spatial else "raster"

    def _make_slice(self, latents: int, index: int, config: EntropyConfig) -> ChannelSlice:
        return ContextSlice(latents, index, config)


class ContextSlice(ChannelSlice):
    """A channel slice whose parameters are refined by blocks, for anchors first and then for their neighbours."""

    def __init__(self, latents: int, index: int, config: EntropyConfig):
        super().__init__(latents, index, config)
        context = config.context
        width = latents // context.slices
        reach = context.spatial_kernel // 2
        self.neighbours = (
            nn.Conv2d(width, 2 * width, context.spatial_kernel, padding=reach) if context.spatial else None
        )
        joined = 2 * latents + 2 * width + (2 * width if context.spatial else 0)
        inner = context.block_width or joined
        self.narrow = nn.Conv2d(joined, inner, 1) if context.block_width else nn.Identity()
        self.blocks = nn.Sequential(*context_blocks(inner, context))
        self.refine = convolutions(inner, (), 2 * width, context.kernel)
        self.refined_mean_attention = attention_gate(width, context)
        self.refined_scale_attention = attention_gate(width, context)

    def _code_symbols(self, coder: EntropyCoder, y: Tensor | None, means: Tensor, log_scales: Tensor,
                      features: tuple[Tensor, Tensor], base_log_scales: Tensor) -> Tensor:  # fmt: skip
        known = torch.cat([means, log_scales, *features], dim=1)
        start = torch.cat([means, log_scales], dim=1)
        if self.neighbours is None:
            means, log_scales = self._refined(start, known, base_log_scales)
            return self._code(coder, y, means, log_scales)
        anchors = anchor_mask(means.shape, means.device)
        nothing = torch.zeros_like(start)
        refined = self._refined(start, torch.cat([nothing, known], dim=1), base_log_scales)
        y_hat = self._code(coder, y, *refined, anchors)
        context = self.neighbours(self.seen(y_hat).to(means.dtype))
        refined = self._refined(start, torch.cat([context, known], dim=1), base_log_scales)
        return y_hat + self._code(coder, y, *refined, ~anchors)

    def _refined(self, start: Tensor, joined: Tensor, base_log_scales: Tensor) -> tuple[Tensor, Tensor]:
        means, log_scales = (start + self.refine(self.blocks(self.narrow(joined)))).chunk(2, dim=1)
        return self.refined_mean_attention(means), base_log_scales + self.refined_scale_attention(log_scales)


def context_blocks(channels: int, context: ContextConfig) -> list[nn.Module]:
    """The blocks that read the context: visual state space, Swin, or residual bottlenecks of convolutions."""
    if context.kind == "conv":
        return [ResidualUnit(channels) for _ in range(context.depth)]
    config = TransformConfig(
        kind=context.kind, d_state=context.d_state, expand=context.expand, window=context.window,
        head_width=context.head_width, mlp_ratio=context.mlp_ratio,
    )  # fmt: skip
    return make_blocks(config, channels, context.depth)


def anchor_mask(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Boolean (1, 1, H, W): the black fields of a checkerboard, which are coded first (He et al. 2021)."""
    rows, columns = torch.arange(shape[-2], device=device), torch.arange(shape[-1], device=device)
    return ((rows[:, None] + columns[None, :]) % 2 == 0)[None, None]
