"""The assembled models: one frame step per frame type, used by training, estimating, encoding and decoding alike."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..entropy import block_vectors, context_mixing
from ..entropy.coders import EntropyCoder, RateEstimator
from ..entropy.context_mixing import Statistics
from ..entropy.experience import FIELD, Experience
from ..entropy.factorized import FactorizedPrior
from ..entropy.hyperprior import EntropyModel
from ..entropy.latent_codec import Latents
from ..flow import BlockMotion, BlockRefinement, Motion, ScaleSpaceFlow
from ..iframe import ImageCodec, ImageConfig
from ..layers.chroma import subsampled
from ..residual import ResidualCodec
from .config import VideoConfig

SKIP_FLOW, SKIP_RESIDUAL = 1, 2


class ModelOutput(NamedTuple):
    """x_hat (batch, T, 3, H, W) in [0, 1]; bits (batch, T); flow (batch, T - 1, 3, H, W), None for an image model."""

    x_hat: Tensor
    bits: Tensor
    flow: Tensor | None


class Reference(NamedTuple):
    """What the next P-frame is coded from: the picture (batch, 3, H, W) that is shown, and the latents of its motion
    and its residual (None after an I-frame, and for a residual that was left out; motion that was left out is zero).

    fields: the block motion, where motion comes in blocks; quality (batch,): that the picture was coded at; older: the
    picture before, or a better one before that (see `after`), with its quality; None after an I-frame.
    """

    picture: Tensor
    motion: Latents | None = None
    residual: Latents | None = None
    fields: Tensor | None = None
    quality: Tensor | None = None
    older: Tensor | None = None
    older_quality: Tensor | None = None

    def repeated(self) -> "Reference":
        """The reference after a frame that shows the same picture again, without motion and residual."""
        return self._replace(motion=None, residual=None, fields=None)

    def after(self, before: "Reference") -> "Reference":
        """This reference with `older` from the one that it was coded from.

        That is its picture; but if that was coded at a lower quality than this one and its older one, the older one
        stays: in a cascade of qualities the better frames are worth keeping.
        """
        older, quality = before.picture, before.quality
        if before.older is not None and before.older_quality is not None and quality is not None:
            assert self.quality is not None, "a reference that others are coded from has its quality"
            keep = (quality < self.quality) & (quality < before.older_quality)
            older = torch.where(keep.view(-1, 1, 1, 1), before.older, older)
            quality = torch.where(keep, before.older_quality, quality)
        return self._replace(older=older, older_quality=quality)

    def shown(self, chroma: str) -> "Reference":
        """The reference as video of this chroma shows it ("420", "444", ...)."""
        return self._replace(picture=shown(self.picture, chroma))

    def detached(self) -> "Reference":
        """The same values without gradient."""
        motion, residual = (latents and latents.detached() for latents in (self.motion, self.residual))
        older = None if self.older is None else self.older.detach()
        return self._replace(picture=self.picture.detach(), motion=motion, residual=residual, older=older)


class ImageModel(nn.Module):
    """An image codec as a model of its own: every frame is an I-frame."""

    name: str = "unnamed"  # what streams call the model

    def __init__(self, config: ImageConfig):
        super().__init__()
        self.config = config
        self.iframe = ImageCodec(config)
        self.experience = Experience(self._adaptive_streams()) if config.experience else None

    def code_iframe(
        self, coder: EntropyCoder, x: Tensor | None, shape: tuple[int, int, int], quality: Tensor
    ) -> Tensor:
        """x_hat (batch, 3, H, W): what is shown, and the reference of the next frame.

        x: (batch, 3, H, W) in [0, 1], None when decoding; shape: (batch, H, W); quality: float (batch,), 0 .. 63.
        """
        return self.iframe.code(coder, x, shape, quality)

    def forward(self, frames: Tensor, quality: Tensor, *, generators: Sequence[torch.Generator] | None = None,
                chroma: str = "444") -> ModelOutput:  # fmt: skip
        """Codes frames (batch, T, 3, H, W), each by itself, and estimates the bits.

        Quantisation is the encoder's choice, for the rate and for the picture; in training mode gradients go straight
        through it, those of the rate by way of noise (see `RateEstimator`). generators: one a sample, for the noise.
        chroma: "420" gives pictures as 4:2:0 video shows them.
        """
        pictures, bits = [], []
        for x in frames.unbind(1):
            coder = self._estimator(x, generators)
            pictures.append(shown(self.code_iframe(coder, x, (len(x), *x.shape[-2:]), quality), chroma))
            bits.append(coder.bits)
        return ModelOutput(torch.stack(pictures, 1), torch.stack(bits, 1), None)

    def _estimator(self, x: Tensor, generators: Sequence[torch.Generator] | None) -> RateEstimator:
        return RateEstimator(len(x), training=self.training, generators=generators, device=x.device)

    def image_parameters(self) -> list[nn.Parameter]:
        """The parameters of the I-frame codec."""
        return list(self.iframe.parameters())

    def video_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion and residual paths: none."""
        return []

    def motion_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion path: none."""
        return []

    def residual_parameters(self) -> list[nn.Parameter]:
        """The parameters of the residual path: none."""
        return []

    def synthesis_parameters(self, kind: str) -> list[nn.Parameter]:
        """The parameters of the synthesis of I-frames (kind "image"), or of residuals ("video")."""
        return list(self.iframe.synthesis.parameters()) if kind == "image" else []

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

    def starting_statistics(self) -> Statistics:
        """What adaptive coding of a group of pictures starts with: a copy."""
        return Statistics() if self.experience is None else self.experience.statistics()

    def _adaptive_streams(self) -> dict[str, int]:
        """How many kinds of decisions each takes."""
        streams = {}
        for module in self.modules():
            if isinstance(module, EntropyModel) and module.stream:
                streams[f"{module.stream}/z"] = context_mixing.KINDS_WITHOUT_DC
                dc = module.config.dc_prediction
                streams[f"{module.stream}/y"] = context_mixing.KINDS if dc else context_mixing.KINDS_WITHOUT_DC
        return streams

    def make_exact(self) -> None:
        """Turns everything on the way to the scales to float64: the last step before coding."""
        for module in self.modules():
            if isinstance(module, EntropyModel | ImageCodec | BlockRefinement):
                module.make_exact()


class VideoModel(ImageModel):
    """MambaVC-SSF: an image codec for I-frames, scale-space flow and a residual for P-frames.

        P-frame:  flow    <- flow.code(x, reference, motion latents of the frame before), or motion in blocks
                  motion  <- warp of the reference through its scale-space volume
                  x_hat   <- clamp(prediction + residual.code(x, prediction, residual latents of the frame before))

    Qin et al. 2024 (section 3.2.4), Agustsson et al. 2020.
    """

    config: VideoConfig  # type: ignore[assignment]

    def __init__(self, config: VideoConfig):
        nn.Module.__init__(self)
        self.config = config
        self.iframe = ImageCodec(config.iframe)
        self.flow: BlockMotion | ScaleSpaceFlow
        if config.flow.blocks:
            if not config.residual.conditional:
                raise ValueError("motion in blocks has no latents: only a conditional residual goes with it")
            self.flow = BlockMotion(config.flow)
        else:
            self.flow = ScaleSpaceFlow(config.flow, config.levels)
        self.residual = ResidualCodec(config.residual, config.flow.transform.latents, config.levels)
        self.experience = Experience(self._adaptive_streams()) if config.experience else None

    def _adaptive_streams(self) -> dict[str, int]:
        streams = super()._adaptive_streams()
        return {**streams, FIELD: block_vectors.KINDS} if self.config.flow.blocks else streams

    def code_pframe(self, coder: EntropyCoder, x: Tensor | None, reference: Reference, quality: Tensor,
                    skip: int = 0, fields: Tensor | None = None) -> tuple[Reference, Motion]:  # fmt: skip
        """The coded frame, its picture clamped to [0, 1], and the motion it came by.

        x: as in code_iframe; reference: the frame before; skip: SKIP_FLOW leaves the motion out (the reference's
        picture is the prediction), SKIP_RESIDUAL the residual. fields: block motion that was found for x before.
        """
        if skip & SKIP_FLOW:
            motion = self.flow.still(reference.picture)
        else:
            motion = self._code_motion(coder, x, reference, quality, fields)
        picture, latents = motion.prediction, None
        if not skip & SKIP_RESIDUAL:
            residual, latents = self.residual.code(coder, x, motion, quality, reference.residual)
            picture = picture + residual
        coded = Reference(picture.clamp(0, 1), motion.latents, latents, motion.fields, quality)
        return coded.after(reference), motion

    def _code_motion(self, coder: EntropyCoder, x: Tensor | None, reference: Reference, quality: Tensor,
                     fields: Tensor | None = None) -> Motion:  # fmt: skip
        if isinstance(self.flow, BlockMotion):
            return self.flow.code(coder, x, reference.picture, quality, reference.fields, reference.older, fields)
        return self.flow.code(coder, x, reference.picture, quality, reference.motion)

    def forward(self, frames: Tensor, quality: Tensor, *, generators: Sequence[torch.Generator] | None = None,
                chroma: str = "444", detach_reference: bool = False,
                motion_only: bool = False) -> ModelOutput:  # fmt: skip
        """As ImageModel.forward, the first frame an I-frame and the others P-frames.

        quality: (batch,), or (batch, T) with one for each frame.
        detach_reference: stop the gradient between frames. motion_only: P-frames are their predictions, each from the
        frame before coded as an I-frame.
        """
        if motion_only:
            return self._forward_motion(frames, quality, generators, chroma)
        pictures: list[Tensor] = []
        bits: list[Tensor] = []
        flows: list[Tensor] = []
        reference = None
        for x, level in zip(frames.unbind(1), _of_frames(quality, frames), strict=True):
            coder = self._estimator(x, generators)
            if reference is None:
                picture = self.code_iframe(coder, x, (len(x), *x.shape[-2:]), level)
                reference = Reference(picture, quality=level).shown(chroma)
            else:
                before = reference.detached() if detach_reference else reference
                reference, motion = self.code_pframe(coder, x, before, level)
                reference = reference.shown(chroma)
                flows.append(motion.flow)
            pictures.append(reference.picture)
            bits.append(coder.bits)
        flow = torch.stack(flows, 1) if flows else None
        return ModelOutput(torch.stack(pictures, 1), torch.stack(bits, 1), flow)

    def _forward_motion(
        self, frames: Tensor, quality: Tensor, generators: Sequence[torch.Generator] | None, chroma: str
    ) -> ModelOutput:
        intra, intra_bits = [], []
        qualities = _of_frames(quality, frames)
        with torch.no_grad():
            for x in frames[:, :-1].unbind(1):
                coder = self._estimator(x, generators)
                intra.append(shown(self.code_iframe(coder, x, (len(x), *x.shape[-2:]), qualities[0]), chroma))
                intra_bits.append(coder.bits)
        pictures, bits, flows = [intra[0]], [intra_bits[0]], []
        before = Reference(intra[0])
        for x, past, level in zip(frames[:, 1:].unbind(1), intra, qualities[1:], strict=True):
            coder = self._estimator(x, generators)
            motion = self._code_motion(coder, x, before._replace(picture=past), level)
            before = Reference(past, motion.latents, None, motion.fields)
            pictures.append(shown(motion.prediction, chroma))
            bits.append(coder.bits)
            flows.append(motion.flow)
        return ModelOutput(torch.stack(pictures, 1), torch.stack(bits, 1), torch.stack(flows, 1))

    def video_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion and residual paths."""
        return [*self.flow.parameters(), *self.residual.parameters()]

    def motion_parameters(self) -> list[nn.Parameter]:
        """The parameters of the motion path."""
        return list(self.flow.parameters())

    def residual_parameters(self) -> list[nn.Parameter]:
        """The parameters of the residual path."""
        return list(self.residual.parameters())

    def synthesis_parameters(self, kind: str) -> list[nn.Parameter]:
        """The parameters of the synthesis of I-frames (kind "image"), or of residuals ("video")."""
        return list((self.iframe if kind == "image" else self.residual).synthesis.parameters())


def shown(picture: Tensor, chroma: str) -> Tensor:
    """The picture as video of this chroma shows it: the nearest one of 4:2:0, or itself."""
    return subsampled(picture) if chroma == "420" else picture


def _of_frames(quality: Tensor, frames: Tensor) -> tuple[Tensor, ...]:
    """The qualities (batch,) of each of the frames (batch, T, ...)."""
    return quality.view(len(quality), -1).expand(frames.shape[:2]).unbind(1)
