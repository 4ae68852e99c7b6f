"""The discrete cosine transform as a strided convolution: where the linear shortcuts start from.

A transform that begins as an orthonormal block transform codes pictures from the first step; training then bends it.
"""

import math

import torch
from torch import Tensor

# luma and two chroma differences as an orthonormal change of basis of (R, G, B)
COLOUR_BASIS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])
COLOUR_BASIS = COLOUR_BASIS / COLOUR_BASIS.norm(dim=1, keepdim=True)
# typical variance of each relative to the first, in natural pictures
COLOUR_VARIANCE = (1.0, 0.06, 0.02)


def dct_analysis_weight(latents: int, channels: int, block: int) -> Tensor:
    """Weight (latents, channels, block, block) of the `latents` basis pictures with the largest expected variance.

    With three channels the basis is taken over luma and two chroma planes, otherwise over each channel by itself. That
    of chroma is the transform of 4:2:0 video, over samples that each stand for two by two pixels, and then what such
    video does not have: the first block ** 2 * 3 / 2 latents hold all of a picture of 4:2:0.
    Its transpose is the inverse. More latents than basis pictures leave the rest zero.
    """
    basis, _ = _ordered_basis(channels, block)
    weight = torch.zeros(latents, channels, block, block)
    count = min(latents, len(basis))
    weight[:count] = basis[:count]
    return weight


def dct_deviations(latents: int, channels: int, block: int) -> Tensor:
    """The expected standard deviation (latents,) of each coefficient, for values in [0, 1]."""
    _, variance = _ordered_basis(channels, block)
    deviations = torch.full((latents,), 0.05)
    count = min(latents, len(variance))
    deviations[:count] = variance[:count].sqrt()
    return deviations


def _ordered_basis(channels: int, block: int) -> tuple[Tensor, Tensor]:
    frequency = torch.arange(block)
    pictures = _basis_pictures(_cosines(block))
    if channels == 3:
        colours, scales = COLOUR_BASIS.to(pictures.device), torch.tensor(COLOUR_VARIANCE)
        planes = torch.stack([pictures, *[_basis_pictures(_paired_cosines(block))] * 2])
    else:
        colours, scales = torch.eye(channels), torch.ones(channels)
        planes = pictures.expand(channels, -1, -1, -1)
    basis = torch.einsum("kc,kpxy->kpcxy", colours, planes).flatten(0, 1)
    # the spectrum of natural pictures falls with the square of the frequency
    squared = (frequency[:, None] ** 2 + frequency[None, :] ** 2).float().reshape(-1)
    spectrum = 0.3 * block / (1.0 + squared) ** 1.2 / 16
    if channels == 3:
        # chroma of 4:2:0 video ends at half the frequency
        fine = (torch.maximum(frequency[:, None], frequency[None, :]) >= block // 2).reshape(-1)
        chroma = torch.where(fine, 1e-3, 1.0) * spectrum
        variance = torch.cat([scales[0] * spectrum, scales[1] * chroma, scales[2] * chroma])
    else:
        variance = (scales[:, None] * spectrum).reshape(-1)
    order = torch.argsort(variance, descending=True, stable=True)
    return basis[order], variance[order]


def _basis_pictures(functions: Tensor) -> Tensor:
    """All products (block ** 2, block, block) of two of the functions (block, block), down and across."""
    block = len(functions)
    return torch.einsum("ux,vy->uvxy", functions, functions).reshape(-1, block, block)


def _cosines(block: int) -> Tensor:
    """The orthonormal cosine transform, a function a row."""
    position, frequency = torch.arange(block), torch.arange(block)
    cosines = torch.cos(math.pi / block * (position[None, :] + 0.5) * frequency[:, None]) * (2 / block) ** 0.5
    cosines[0] /= 2**0.5
    return cosines


def _paired_cosines(block: int) -> Tensor:
    """Cosines of half the length over the sums of neighbours, then over their differences."""
    half = _cosines(block // 2) / 2**0.5
    return torch.cat([torch.stack([half, half], -1).flatten(1), torch.stack([half, -half], -1).flatten(1)])
