"""The effective receptive field: which pixels a latent depends on (MambaVC, figures 7 and 15; Luo et al. 2016)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..iframe import ImageCodec, pad_to_multiple


def effective_receptive_field(function: Callable[[Tensor], Tensor], pictures: Iterable[Tensor]) -> Tensor:
    """|d latent / d pixel| (H, W) of the latent in the middle, summed over its channels and the picture's, averaged.

    function: (1, 3, H, W) to (1, channels, h, w); pictures of one size. The largest value is scaled to 1.
    """
    total: Tensor | None = None
    for x in pictures:
        x = x.detach().clone().requires_grad_()
        latents = function(x)
        middle = latents[0, :, latents.shape[2] // 2, latents.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, x)
        field = gradient.abs().sum(dim=(0, 1))
        total = field if total is None else total + field
    if total is None:
        raise ValueError("a receptive field needs at least one picture")
    return total / total.max().clamp_min(1e-30)


def reached_share(field: Tensor, threshold: float = 1e-3) -> float:
    """The share of the pixels whose influence is over a thousandth of the largest."""
    return float((field > threshold).float().mean())


def radius_of_energy(field: Tensor, share: float = 0.95) -> float:
    """How many pixels around the middle (as the radius of a square) hold this share of the influence."""
    height, width = field.shape
    weights = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mass = field.double() / field.sum()
    centre = [float((axis * mass).sum()) for axis in weights]
    distance = torch.maximum((weights[0] - centre[0]).abs(), (weights[1] - centre[1]).abs()).reshape(-1)
    order = distance.argsort()
    reached = mass.reshape(-1)[order].cumsum(0) >= share - 1e-9
    return float(distance[order][reached.nonzero()[0, 0]])


def latent_function(codec: ImageCodec, quality: float) -> Callable[[Tensor], Tensor]:
    """g_a: picture to latents y."""
    level = torch.full((1,), float(quality))
    return lambda x: codec.analysis(pad_to_multiple(x - 0.5, codec.stride), level)


def hyper_latent_function(codec: ImageCodec, quality: float) -> Callable[[Tensor], Tensor]:
    """h_a after g_a: picture to hyper latents z."""
    latents = latent_function(codec, quality)
    gain = codec.latent_codec.gain
    level = torch.full((1,), float(quality))

    def function(x: Tensor) -> Tensor:
        y = latents(x)
        scaled = y if gain is None else y * gain(level)[0]
        return codec.latent_codec.model.hyper_analysis(torch.asinh(scaled))

    return function
