"""What a motion path makes of a frame."""

from typing import NamedTuple

from torch import Tensor

from ..entropy.latent_codec import Latents


class Motion(NamedTuple):
    """prediction (batch, 3, H, W); flow (batch, 3, H, W) in pixels and planes; and what the next frame's motion is
    coded with: latents at the path's stride, of a learned flow, or fields, of block motion."""

    prediction: Tensor
    flow: Tensor
    latents: Latents | None = None
    fields: Tensor | None = None
