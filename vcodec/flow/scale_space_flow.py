"""The motion path: scale-space flow, coded and applied (Agustsson et al. 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder
from ..entropy.latent_codec import LatentCodec, Latents
from ..iframe.image_codec import pad_to_multiple
from ..layers.dct import dct_deviations
from ..layers.rate import lambda_of_quality
from ..layers.transform import Analysis, Synthesis, full_precision
from .block_refinement import BlockRefinement
from .config import FlowConfig
from .motion import Motion
from .motion_search import motion_search
from .warp import sampling_grid, scale_space_warp

DEVIATION = 12.0  # pixels: how far strong motion is from none, where the entropy model starts


class ScaleSpaceFlow(nn.Module):
    """(x, reference) -> analysis -> latent codec -> synthesis -> flow field (-> block refinement)
    -> warp of the reference -> prediction.

    The field has three channels: displacement in pixels along x and y, and the plane of the scale-space volume,
    where 0 is the sharp one.
    """

    def __init__(self, config: FlowConfig, levels: int = 0):
        super().__init__()
        self.config, transform = config, config.transform
        self.stride = config.resolution * transform.stride
        picture_channels = 3 * config.resolution**2
        in_channels = 2 * picture_channels + (2 if config.search else 0)
        self.analysis = Analysis(in_channels, transform, levels, shortcut_channels=2)
        deviations = None
        if transform.shortcut:
            deviations = DEVIATION * dct_deviations(transform.latents, 2, transform.stride)
        self.latent_codec = LatentCodec(transform.latents, config.entropy, levels, deviations, stream="motion")
        self.synthesis = Synthesis(3, transform, levels, shortcut_channels=2)
        self.refinement = BlockRefinement(config.refinement, levels) if config.refinement else None

    def code(self, coder: EntropyCoder, x: Tensor | None, reference: Tensor, quality: Tensor,
             previous: Latents | None = None) -> Motion:  # fmt: skip
        """Codes the motion from the reference (batch, 3, H, W) to x, both in [0, 1]; x is None when decoding.

        previous: the motion latents of the frame before, if it has any.
        Always in full precision: in bfloat16 a displacement of 20 pixels is off by up to a sixteenth of one.
        """
        with full_precision(reference):
            return self._code(coder, x, reference, quality, previous)

    def still(self, reference: Tensor) -> Motion:
        """No motion at all: the reference is the prediction."""
        batch, _, height, width = reference.shape
        latents = reference.new_zeros(
            batch, self.config.transform.latents, -(-height // self.stride), -(-width // self.stride)
        )
        return Motion(reference, torch.zeros_like(reference), Latents(latents, latents, latents))

    def _code(self, coder: EntropyCoder, x: Tensor | None, reference: Tensor, quality: Tensor,
              previous: Latents | None) -> Motion:  # fmt: skip
        batch, _, height, width = reference.shape
        shape = (batch, self.config.transform.latents, -(-height // self.stride), -(-width // self.stride))
        y = self._analyse(x, reference, quality) if x is not None else None
        latents = self.latent_codec.code(coder, y, shape, quality, previous=previous)
        field = self.synthesis(latents.y_hat, quality).float()
        if self.config.resolution > 1:
            field = F.interpolate(field, scale_factor=float(self.config.resolution), mode="bilinear")
        flow = field[:, :, :height, :width]
        if self.refinement is not None:
            displacement = self.refinement.code(coder, x, reference, flow, quality)
            flow = torch.cat([flow[:, :2] + displacement, flow[:, 2:]], dim=1)
        prediction = scale_space_warp(
            reference,
            flow,
            self.config.planes,
            sigma=self.config.sigma,
            interpolation=self.config.interpolation,
        )
        return Motion(prediction, flow, latents)

    def _analyse(self, x: Tensor, reference: Tensor, quality: Tensor) -> Tensor:
        x, reference = pad_to_multiple(x, self.stride), pad_to_multiple(reference, self.stride)
        factor = self.config.resolution
        if not self.config.search:
            pictures = [F.pixel_unshuffle(p - 0.5, factor) for p in (x, reference)]
            return self.analysis(torch.cat(pictures, dim=1), quality)
        guess = motion_search(x, reference.detach(), lambda_of_quality(quality))
        full = F.interpolate(guess, scale_factor=4.0, mode="bilinear")
        guess = F.avg_pool2d(full, factor) if factor != 4 else guess
        warped = F.grid_sample(reference, sampling_grid(full), padding_mode="border", align_corners=False)
        pictures = [F.pixel_unshuffle(p, factor) for p in (x - warped, x - 0.5)]
        return self.analysis(torch.cat([guess, *pictures], dim=1), quality)
