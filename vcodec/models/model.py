"""The assembled models: one frame step per frame type, used by training, estimating, encoding and decoding alike."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..entropy.coders import EntropyCoder, RateEstimator
from ..entropy.factorized import FactorizedPrior
from ..entropy.hyperprior import EntropyModel
from ..flow import Motion, ScaleSpaceFlow
from ..iframe import ImageCodec, ImageConfig
from ..residual import ResidualCodec
from .config import VideoConfig

SKIP_FLOW, SKIP_RESIDUAL = 1, 2


class ModelOutput(NamedTuple):
    """x_hat (batch, T, 3, H, W) in [0, 1]; bits (batch, T); flow (batch, T - 1, 3, H, W), None for an image model."""

    x_hat: Tensor
    bits: Tensor
    flow: Tensor | None


class ImageModel(nn.Module):
    """An image codec as a model of its own: every frame is an I-frame."""

    name: str = "unnamed"  # what streams call the model

    def __init__(self, config: ImageConfig):
        super().__init__()
        self.config = config
        self.iframe = ImageCodec(config)

    def code_iframe(
        self, coder: EntropyCoder, x: Tensor | None, shape: tuple[int, int, int], quality: Tensor
    ) -> Tensor:
        """x_hat (batch, 3, H, W): what is shown, and the reference of the next frame.

        x: (batch, 3, H, W) in [0, 1], None when decoding; shape: (batch, H, W); quality: float (batch,), 0 .. 63.
        """
        return self.iframe.code(coder, x, shape, quality)

    def forward(
        self, frames: Tensor, quality: Tensor, *, generators: Sequence[torch.Generator] | None = None
    ) -> ModelOutput:
        """Codes frames (batch, T, 3, H, W), each by itself, and estimates the bits.

        In training mode quantisation is noise for the rate and straight-through rounding for the picture; in
        evaluation mode it is rounding for both. generators: one a sample, for the noise.
        """
        pictures, bits = [], []
        for x in frames.unbind(1):
            coder = RateEstimator(len(x), training=self.training, generators=generators, device=x.device)
            pictures.append(self.code_iframe(coder, x, (len(x), *x.shape[-2:]), quality))
            bits.append(coder.bits)
        return ModelOutput(torch.stack(pictures, 1), torch.stack(bits, 1), None)

    def image_parameters(self) -> list[nn.Parameter]:
        """The parameters of the I-frame codec."""
        return list(self.iframe.parameters())

    def video_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion and residual paths: none."""
        return []

    def update(self) -> None:
        """Makes the integer tables of the priors from their densities; call before saving or coding."""
        for module in self.modules():
            if isinstance(module, FactorizedPrior):
                module.update()

    @property
    def has_tables(self) -> bool:
        """Whether the model can code: its priors' integer tables were made."""
        return all(m.has_tables for m in self.modules() if isinstance(m, FactorizedPrior))

    @property
    def variable_rate(self) -> bool:
        """Whether one set of weights serves every quality."""
        return self.config.levels > 0

    def make_exact(self) -> None:
        """Turns everything on the way to the scales to float64: the last step before coding."""
        for module in self.modules():
            if isinstance(module, EntropyModel | ImageCodec):
                module.make_exact()


class VideoModel(ImageModel):
    """MambaVC-SSF: an image codec for I-frames, scale-space flow and a residual for P-frames.

        P-frame:  flow    <- flow.code(x, reference)
                  motion  <- warp of the reference through its scale-space volume
                  x_hat   <- clamp(prediction + residual.code(x, prediction))

    Qin et al. 2024 (section 3.2.4), Agustsson et al. 2020.
    """

    config: VideoConfig  # type: ignore[assignment]

    def __init__(self, config: VideoConfig):
        nn.Module.__init__(self)
        self.config = config
        self.iframe = ImageCodec(config.iframe)
        self.flow = ScaleSpaceFlow(config.flow, config.levels)
        self.residual = ResidualCodec(config.residual, config.flow.transform.latents, config.levels)

    def code_pframe(self, coder: EntropyCoder, x: Tensor | None, reference: Tensor, quality: Tensor,
                    skip: int = 0) -> tuple[Tensor, Motion]:  # fmt: skip
        """x_hat (batch, 3, H, W), clamped to [0, 1], and the motion it came by.

        x: as in code_iframe; reference: the x_hat of the frame before; skip: SKIP_FLOW leaves the motion out (the
        reference is the prediction), SKIP_RESIDUAL the residual.
        """
        if skip & SKIP_FLOW:
            batch, _, height, width = reference.shape
            stride = self.flow.stride
            latents = reference.new_zeros(
                batch, self.config.flow.transform.latents, -(-height // stride), -(-width // stride)
            )
            motion = Motion(reference, torch.zeros_like(reference), latents)
        else:
            motion = self.flow.code(coder, x, reference, quality)
        if skip & SKIP_RESIDUAL:
            return motion.prediction.clamp(0, 1), motion
        residual = self.residual.code(coder, x, motion, quality)
        return (motion.prediction + residual).clamp(0, 1), motion

    def forward(self, frames: Tensor, quality: Tensor, *, generators: Sequence[torch.Generator] | None = None,
                detach_reference: bool = False) -> ModelOutput:  # fmt: skip
        """As ImageModel.forward, the first frame an I-frame and the others P-frames.

        detach_reference: stop the gradient between frames.
        """
        pictures: list[Tensor] = []
        bits: list[Tensor] = []
        flows: list[Tensor] = []
        for x in frames.unbind(1):
            coder = RateEstimator(len(x), training=self.training, generators=generators, device=x.device)
            if not pictures:
                x_hat = self.code_iframe(coder, x, (len(x), *x.shape[-2:]), quality)
            else:
                reference = pictures[-1].detach() if detach_reference else pictures[-1]
                x_hat, motion = self.code_pframe(coder, x, reference, quality)
                flows.append(motion.flow)
            pictures.append(x_hat)
            bits.append(coder.bits)
        flow = torch.stack(flows, 1) if flows else None
        return ModelOutput(torch.stack(pictures, 1), torch.stack(bits, 1), flow)

    def video_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion and residual paths."""
        return [*self.flow.parameters(), *self.residual.parameters()]
