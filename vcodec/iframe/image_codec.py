"""The image codec that codes I-frames: a transform, an entropy model, the transform back."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder
from ..entropy.latent_codec import LatentCodec, Latents, closed_loop
from ..layers.dct import dct_deviations
from ..layers.semantic import SemanticRouter
from ..layers.transform import Analysis, Synthesis, full_precision
from .config import ImageConfig


class ImageCodec(nn.Module):
    """x -> g_a -> y -> latent codec (h_a, z, contexts, symbols) -> y_hat -> g_s -> x_hat.

    Which codec of the literature it is depends on the configuration: MambaVC (Qin et al. 2024), its convolutional
    and Swin variants, MambaIC (Zeng et al. 2025), SAMIC, or the hyperprior codec of scale-space flow (Agustsson et
    al. 2020). Semantic blocks (SAMIC) of the synthesis are routed by the exact latents, in float64 when coding: which
    position belongs to which cluster is a decision that every decoder has to take alike.
    """

    def __init__(self, config: ImageConfig):
        super().__init__()
        transform, latents = config.transform, config.transform.latents
        self.config, self.stride = config, transform.stride
        deviations = dct_deviations(latents, 3, transform.stride) if transform.shortcut else None
        self.analysis = Analysis(3, transform, config.levels)
        self.latent_codec = LatentCodec(latents, config.entropy, config.levels, deviations, stream="iframe")
        self.router = None
        if transform.kind == "semantic":
            if not self.latent_codec.model.exact_latents:
                raise ValueError(f"semantic transforms need exact latents, which '{config.entropy.model}' has not")
            self.router = SemanticRouter(latents, transform.clusters)
        self.synthesis = Synthesis(3, transform, config.levels, routed=self.router is not None)

    def code(self, coder: EntropyCoder, x: Tensor | None, shape: tuple[int, int, int], quality: Tensor) -> Tensor:
        """x_hat (batch, 3, H, W) in [0, 1].

        x: (batch, 3, H, W) in [0, 1], None when decoding; shape: (batch, H, W); quality: float (batch,), 0 .. 63.
        """
        batch, height, width = shape
        latent_shape = (
            batch, self.config.transform.latents, -(-height // self.stride), -(-width // self.stride)
        )  # fmt: skip

        def code(coder: EntropyCoder, y: Tensor | None) -> tuple[Latents, Tensor]:
            latents = self.latent_codec.code(coder, y, latent_shape, quality)
            assignment = self._route(latents.exact) if self.router is not None else None
            return latents, self.synthesis(latents.y_hat, quality, assignment=assignment)

        y = None
        if x is not None:
            y = closed_loop(self.analysis(pad_to_multiple(x - 0.5, self.stride), quality), code, self.analysis)
        _, decoded = code(coder, y)
        return (decoded[:, :, :height, :width].float() + 0.5).clamp(0, 1)

    def _route(self, exact: Tensor) -> Tensor:
        assert self.router is not None
        with full_precision(exact):
            return self.router(torch.asinh(exact))

    def make_exact(self) -> None:
        """Turns the routing to float64, for coding."""
        if self.router is not None:
            self.router.double()


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicates the last column and row to the right and below until both sides are multiples."""
    height, width = x.shape[-2:]
    right, below = -width % multiple, -height % multiple
    if not right and not below:
        return x.contiguous(memory_format=torch.channels_last)
    return F.pad(x, (0, right, 0, below), mode="replicate").contiguous(memory_format=torch.channels_last)
