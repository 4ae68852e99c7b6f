"""The residual path: what the prediction lacks."""

import torch
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder
from ..entropy.latent_codec import LatentCodec, Latents
from ..flow.block_motion import SIDE_CHANNELS, block_features
from ..flow.motion import Motion
from ..iframe.image_codec import pad_to_multiple
from ..layers.dct import dct_deviations
from ..layers.transform import Analysis, Synthesis, downsample
from .config import ResidualConfig

NAMES = ("fine", "middle", "coarse", "coarsest")  # of the features of the prediction


class ResidualCodec(nn.Module):
    """x - prediction -> analysis -> latent codec -> synthesis -> residual, to be added to the prediction.

    The plain path gives the motion latents to the synthesis beside its own (Agustsson et al. 2020). The conditional
    one gives the prediction to the analysis, to the synthesis at each resolution and to the means of the latents;
    the residual is still what is coded, so nothing is lost to a bottleneck (Brand et al. 2022).
    """

    def __init__(self, config: ResidualConfig, motion_latents: int, levels: int = 0):
        super().__init__()
        if config.entropy.side not in (0, SIDE_CHANNELS):
            raise ValueError(f"block motion gives {SIDE_CHANNELS} channels of side information")
        self.config, transform = config, config.transform
        self.stride = transform.stride
        deviations = dct_deviations(transform.latents, 3, self.stride) if transform.shortcut else None
        if config.conditional:
            widths = config.condition_widths
            self.condition: nn.Module | None = _PredictionFeatures(widths, transform.strides)
            self.analysis = Analysis(6, transform, levels)
            self.latent_codec = LatentCodec(
                transform.latents, config.entropy, levels, deviations, widths[-1], stream="residual"
            )
            self.synthesis = Synthesis(3, transform, levels, conditions=widths[::-1])
        else:
            self.condition = None
            self.analysis = Analysis(3, transform, levels)
            self.latent_codec = LatentCodec(transform.latents, config.entropy, levels, deviations, stream="residual")
            self.synthesis = Synthesis(3, transform, levels, latent_channels=transform.latents + motion_latents)

    def code(self, coder: EntropyCoder, x: Tensor | None, motion: Motion, quality: Tensor,
             previous: Latents | None = None) -> tuple[Tensor, Latents]:  # fmt: skip
        """The coded residual (batch, 3, H, W) of x over motion.prediction, and its latents; x is None when decoding.

        previous: the residual latents of the frame before, if it has any.
        """
        batch, _, height, width = motion.prediction.shape
        shape = (batch, self.config.transform.latents, -(-height // self.stride), -(-width // self.stride))
        prediction = pad_to_multiple(motion.prediction, self.stride)
        features = self.condition(prediction - 0.5) if self.condition is not None else None

        y = None
        if x is not None:
            residual = pad_to_multiple(x, self.stride) - prediction
            y = self.analysis(residual if features is None else torch.cat([residual, prediction - 0.5], dim=1), quality)
        side = None
        if self.config.entropy.side and motion.fields is not None:
            side = block_features(motion.fields, shape[2:])
        latents = self.latent_codec.code(coder, y, shape, quality, features and features[0], previous, side)
        if features is None:
            assert motion.latents is not None, "block motion has no latents: only a conditional residual goes with it"
            decoded = self.synthesis(torch.cat([latents.y_hat, motion.latents.y_hat], dim=1), quality)
        else:
            decoded = self.synthesis(latents.y_hat, quality, features)
        return decoded[:, :, :height, :width].float(), latents


class _PredictionFeatures(nn.Sequential):
    """Features of the prediction after each of the transform's sampling steps, coarsest first."""

    def __init__(self, widths: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        strides = tuple(stride for stride in strides if stride > 1)
        if len(widths) != len(strides):
            raise ValueError(f"{len(widths)} condition_widths for {len(strides)} sampling steps")
        inputs = (3, *widths[:-1])
        for name, before, width, stride in zip(NAMES[: len(widths)], inputs, widths, strides, strict=True):
            self.add_module(name, nn.Sequential(downsample(before, width, 1, stride, "shuffle"), nn.LeakyReLU(0.1)))

    def forward(self, prediction: Tensor) -> list[Tensor]:
        features = [prediction]
        for step in self:
            features.append(step(features[-1]))
        return features[:0:-1]
