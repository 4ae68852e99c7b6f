"""Analysis and synthesis transforms: what every coded path is built from.

One class each; `vss`, `swin`, `conv` and `semantic` are a choice of the configuration:

    analysis:   x -> [down -> blocks] -> [down -> blocks] -> ... -> down -> latents
    synthesis:  latents -> up -> [blocks -> up] -> ... -> x

Blocks stand after every sampling step except the one that makes the latents or the picture (MambaVC, 3.2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dct import dct_analysis_weight
from .gains import Modulation
from .gdn import GDN
from .low_rank import LowRankReduction
from .semantic import SemanticBlock
from .swin import SwinBlock
from .vss import VSSBlock

KINDS = ("vss", "swin", "conv")
ROUTED_KINDS = ("semantic",)  # a synthesis of such blocks is told where each position belongs: image codecs alone


@dataclass(frozen=True)
class TransformConfig:
    """Sizes of a transform, in the order of the analysis; the synthesis mirrors them.

    kind: vss | swin | conv | semantic. widths, strides, kernels: one a stage, the last stage making the latents (its
    width is the latents'). depths: blocks after each stage but the last. sampling: "deconv" (strided convolutions,
    transposed in the synthesis) or "shuffle" (pixel unshuffle before, pixel shuffle after a convolution). activation:
    what `conv` has for a block, "gdn" or "relu". shortcut: a linear transform beside the network, starting as a DCT;
    fixed_shortcut: and staying one; linear_analysis: and alone in the analysis, which then has no network.
    clusters: of the semantic blocks.
    """

    kind: str = "vss"
    widths: tuple[int, ...] = (128, 128, 128, 192)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    kernels: tuple[int, ...] = (5, 5, 5, 5)
    depths: tuple[int, ...] = (1, 2, 3)
    sampling: str = "deconv"
    activation: str = "gdn"
    shortcut: bool = False
    fixed_shortcut: bool = False
    linear_analysis: bool = False
    d_state: int = 16
    expand: float = 2.0
    window: int = 8
    head_width: int = 32
    mlp_ratio: float = 4.0
    swin_norm: bool = True
    clusters: int = 16

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, *ROUTED_KINDS):
            known = ", ".join((*KINDS, *ROUTED_KINDS))
            raise ValueError(f"unknown kind of transform '{self.kind}': choose from {known}")
        if not len(self.widths) == len(self.strides) == len(self.kernels) == len(self.depths) + 1:
            raise ValueError("widths, strides and kernels need one entry a stage, depths one less")
        if self.linear_analysis and not (self.shortcut and self.fixed_shortcut):
            raise ValueError("a linear analysis is a fixed shortcut")

    @property
    def stride(self) -> int:
        total = 1
        for stride in self.strides:
            total *= stride
        return total

    @property
    def latents(self) -> int:
        return self.widths[-1]


class Analysis(nn.Module):
    """(batch, in_channels, H, W) to latents (batch, widths[-1], H / stride, W / stride), rounded up.

    Args: levels: quality levels for the modulation of features, 0 for none; shortcut_channels: how many of the first
    input channels the linear shortcut reads. In training a linear analysis passes no gradient on.
    """

    def __init__(self, in_channels: int, config: TransformConfig, levels: int = 0, shortcut_channels: int = 3):
        super().__init__()
        self.stages = nn.ModuleList()
        self.modulations = nn.ModuleList()
        width = in_channels
        stages = zip(config.widths, config.strides, config.kernels, strict=True)
        for i, (out, stride, kernel) in enumerate([] if config.linear_analysis else stages):
            last = i == len(config.depths)
            layers = [downsample(width, out, kernel, stride, config.sampling)]
            if not last:
                layers += make_blocks(config, out, config.depths[i])
                if levels:
                    self.modulations.append(Modulation(out, levels))
            self.stages.append(nn.Sequential(*layers))
            width = out
        self.shortcut_channels = shortcut_channels
        self.shortcut = None
        if config.shortcut:
            weight = dct_analysis_weight(config.latents, shortcut_channels, config.stride).flatten(1)
            self.shortcut = nn.Sequential(nn.PixelUnshuffle(config.stride), _linear(weight, config.fixed_shortcut))
            if self.stages:
                _start_at_zero(self.stages[-1])

    @property
    def linear(self) -> bool:
        """Whether the analysis is a fixed linear map."""
        return not self.stages

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        linear = None
        if self.shortcut is not None:
            with full_precision(x):
                linear = self.shortcut(x[:, : self.shortcut_channels].float())
            if self.linear:
                return linear.detach() if self.training else linear  # of given symbols, see RateEstimator
        hidden = x
        for i, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if i < len(self.modulations) and quality is not None:
                hidden = self.modulations[i](hidden, quality)
        return hidden if linear is None else hidden + linear


class Synthesis(nn.Module):
    """Latents (batch, latent_channels, H, W) to (batch, out_channels, H * stride, W * stride).

    Args: conditions: for each inner stage, coarsest first, the channels of a map that is joined to the features
    there (0 for none); levels as in Analysis; shortcut_channels: how many of the first output channels the linear
    shortcut starts with (default: all), so that it inverts that of the analysis; routed: the caller hands forward() the
    assignment of positions to clusters, which semantic blocks need.
    """

    def __init__(self, out_channels: int, config: TransformConfig, levels: int = 0, *,
                 latent_channels: int | None = None, conditions: Sequence[int] | None = None,
                 shortcut_channels: int | None = None, routed: bool = False):  # fmt: skip
        super().__init__()
        if config.kind in ROUTED_KINDS and not routed:
            raise ValueError("a semantic synthesis is for image codecs, where exact latents decide its routing")
        widths = (out_channels, *config.widths[:-1])
        conditions = tuple(conditions or [0] * len(config.depths))
        self.stages = nn.ModuleList()
        self.joins = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.modulations = nn.ModuleList()
        width = latent_channels or config.latents
        for i in reversed(range(len(config.widths))):
            out, stride, kernel = widths[i], config.strides[i], config.kernels[i]
            self.stages.append(upsample(width, out, kernel, stride, config.sampling))
            if i > 0:
                extra = conditions[len(self.blocks)]
                self.joins.append(nn.Conv2d(out + extra, out, 1) if extra else nn.Identity())
                self.blocks.append(nn.Sequential(*make_blocks(config, out, config.depths[i - 1], inverse=True)))
                if levels:
                    self.modulations.append(Modulation(out, levels))
            width = out
        self.shortcut = None
        if config.shortcut:
            inverse = dct_analysis_weight(config.latents, shortcut_channels or out_channels, config.stride).flatten(1).T
            weight = inverse.new_zeros(out_channels * config.stride**2, config.latents)
            weight[: len(inverse)] = inverse
            self.shortcut = nn.Sequential(_linear(weight, config.fixed_shortcut), nn.PixelShuffle(config.stride))
            _start_at_zero(self.stages[-1])

    def forward(
        self,
        latents: Tensor,
        quality: Tensor | None = None,
        conditions: Sequence[Tensor | None] = (),
        assignment: Tensor | None = None,
    ) -> Tensor:
        hidden = latents
        for i, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if i < len(self.blocks):
                if i < len(conditions) and (condition := conditions[i]) is not None:
                    hidden = torch.cat([hidden, condition], dim=1)
                hidden = self.joins[i](hidden)
                if self.modulations and quality is not None:
                    hidden = self.modulations[i](hidden, quality)
                if assignment is None:
                    hidden = self.blocks[i](hidden)
                else:
                    for block in self.blocks[i].children():
                        hidden = block(hidden, assignment)
        if self.shortcut is not None:
            with full_precision(latents):
                hidden = hidden + self.shortcut(latents.float())
        return hidden


def make_blocks(config: TransformConfig, channels: int, depth: int, inverse: bool = False) -> list[nn.Module]:
    """`depth` blocks of the configured kind; for `conv` one activation stands for them all."""
    if config.kind == "conv":
        if config.activation == "gdn":
            return [GDN(channels, inverse)]
        return [nn.ReLU()]
    if config.kind == "swin":
        heads = max(1, channels // config.head_width)
        return [
            SwinBlock(channels, heads, config.window, shift=(i % 2) * config.window // 2,
                      mlp_ratio=config.mlp_ratio, norm=config.swin_norm)
            for i in range(depth)
        ]  # fmt: skip
    if config.kind == "semantic":
        blocks: list[nn.Module] = [
            SemanticBlock(channels, config.d_state, config.expand, config.clusters, routed=inverse)
            for _ in range(depth)
        ]
        return blocks if inverse or not depth else [*blocks, LowRankReduction(channels)]
    return [VSSBlock(channels, config.d_state, config.expand) for _ in range(depth)]


def downsample(in_channels: int, out_channels: int, kernel: int, stride: int, sampling: str) -> nn.Module:
    """A strided convolution; with "shuffle" and a kernel below the stride, pixels go into channels first."""
    if sampling == "shuffle" and kernel < stride:
        inner = nn.Conv2d(in_channels * stride**2, out_channels, kernel, padding=kernel // 2)
        return nn.Sequential(PaddedUnshuffle(stride), inner)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)


def upsample(in_channels: int, out_channels: int, kernel: int, stride: int, sampling: str) -> nn.Module:
    """A transposed convolution, or with "shuffle" a convolution whose channels go into pixels."""
    if sampling == "shuffle":
        inner = nn.Conv2d(in_channels, out_channels * stride**2, kernel, padding=kernel // 2)
        return nn.Sequential(inner, nn.PixelShuffle(stride)) if stride > 1 else nn.Sequential(inner)
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, output_padding=stride - 1)


class PaddedUnshuffle(nn.PixelUnshuffle):
    """Pixels into channels, the last row and column repeated where the size is no multiple."""

    def forward(self, x: Tensor) -> Tensor:
        right, below = -x.shape[-1] % self.downscale_factor, -x.shape[-2] % self.downscale_factor
        return super().forward(F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x)


class FixedLinear(nn.Module):
    """A 1x1 convolution that is never trained; its weight follows from the configuration and is not saved."""

    weight: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("weight", weight[..., None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


def _linear(weight: Tensor, fixed: bool) -> nn.Module:
    """A 1x1 convolution that has, or starts with, this weight (out_channels, in_channels)."""
    if fixed:
        return FixedLinear(weight)
    linear = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight[..., None, None])
    return linear


def full_precision(like: Tensor) -> torch.autocast:
    """Switches autocast off: linear shortcuts carry most of the signal, which bf16 would round visibly."""
    return torch.autocast(like.device.type, enabled=False)


def _start_at_zero(stage: nn.Module) -> None:
    """The network beside a linear shortcut begins by adding nothing."""
    convolution = [m for m in stage.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)][-1]
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
