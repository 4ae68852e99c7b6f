"""The residual path: what the prediction lacks."""

import torch
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder
from ..entropy.latent_codec import LatentCodec, Latents
from ..flow.scale_space_flow import Motion
from ..iframe.image_codec import pad_to_multiple
from ..layers.dct import dct_deviations
from ..layers.transform import Analysis, Synthesis, downsample
from .config import ResidualConfig


class ResidualCodec(nn.Module):
    """x - prediction -> analysis -> latent codec -> synthesis -> residual, to be added to the prediction.

    The plain path gives the motion latents to the synthesis beside its own (Agustsson et al. 2020). The conditional
    one gives the prediction to the analysis, to the synthesis at each resolution and to the means of the latents;
    the residual is still what is coded, so nothing is lost to a bottleneck (Brand et al. 2022).
    """

    def __init__(self, config: ResidualConfig, motion_latents: int, levels: int = 0):
        super().__init__()
        self.config, transform = config, config.transform
        self.stride = transform.stride
        deviations = dct_deviations(transform.latents, 3, self.stride) if transform.shortcut else None
        if config.conditional:
            fine, middle, coarse = config.condition_widths
            self.condition: nn.Module | None = _PredictionFeatures(config.condition_widths)
            self.analysis = Analysis(6, transform, levels)
            self.latent_codec = LatentCodec(
                transform.latents, config.entropy, levels, deviations, coarse, stream="residual"
            )
            self.synthesis = Synthesis(3, transform, levels, conditions=(coarse, middle, fine))
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
        residual = pad_to_multiple(x, self.stride) - prediction if x is not None else None
        if self.condition is None:
            y = self.analysis(residual, quality) if residual is not None else None
            latents = self.latent_codec.code(coder, y, shape, quality, previous=previous)
            decoded = self.synthesis(torch.cat([latents.y_hat, motion.latents.y_hat], dim=1), quality)
        else:
            features = self.condition(prediction - 0.5)
            y = None
            if residual is not None:
                y = self.analysis(torch.cat([residual, prediction - 0.5], dim=1), quality)
            latents = self.latent_codec.code(coder, y, shape, quality, features[0], previous)
            decoded = self.synthesis(latents.y_hat, quality, features)
        return decoded[:, :, :height, :width].float(), latents


class _PredictionFeatures(nn.Module):
    """Features of the prediction at strides 16, 8 and 4 (in this order)."""

    def __init__(self, widths: tuple[int, int, int]):
        super().__init__()
        fine, middle, coarse = widths
        self.fine = nn.Sequential(downsample(3, fine, 1, 4, "shuffle"), nn.LeakyReLU(0.1))
        self.middle = nn.Sequential(downsample(fine, middle, 1, 2, "shuffle"), nn.LeakyReLU(0.1))
        self.coarse = nn.Sequential(downsample(middle, coarse, 1, 2, "shuffle"), nn.LeakyReLU(0.1))

    def forward(self, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.fine(prediction)
        middle = self.middle(fine)
        return self.coarse(middle), middle, fine
