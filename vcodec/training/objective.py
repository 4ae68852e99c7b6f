"""The rate-distortion objective: L = lambda * 255^2 * MSE + bpp, averaged over the frames of the unroll."""

import math
from typing import NamedTuple

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor

from ..models.rate import LAMBDA_MIN, OCTAVES, QUALITY_MAX
from .perceptual import NLPD_RATIO, normalized_laplacian_distance
from .schedule import Stage

#: One lambda serves both distortions: with 1 - MS-SSIM, lambda is multiplied by this. It is the mean ratio
#: between the field's usual lambdas for MS-SSIM and for MSE at like rates (2.40 to 60.50 against 0.0018 to
#: 0.0483).
MS_SSIM_LAMBDA_RATIO = 1285.0

#: Where a balanced loss weighs a sample by one: about the middle of the scale of qualities.
BALANCED_LAMBDA = 0.03


def quality_of_lambda(lmbda: float) -> float:
    """The quality whose lambda this is; the nearest end of the scale where it lies beyond."""
    quality = math.log2(lmbda / LAMBDA_MIN) * QUALITY_MAX / OCTAVES
    return min(float(QUALITY_MAX), max(0.0, quality))


class RateDistortion(NamedTuple):
    """loss: scalar with gradient; bpp, mse: (B, T) without."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor


def rate_distortion(x_hat: Tensor, bits: Tensor, frames: Tensor, lmbda: Tensor, stage: Stage) -> RateDistortion:
    """The loss of a batch.

    x_hat, frames: (B, T, 3, H, W) in [0, 1]; bits: (B, T); lmbda: (B,).
    """
    height, width = frames.shape[-2:]
    bpp = bits.float() / (height * width)
    mse = (x_hat.float() - frames.float()).square().mean(dim=(2, 3, 4))
    if stage.distortion == "mse":
        distortion = lmbda[:, None] * 255**2 * mse
    else:
        similarity = ms_ssim(
            x_hat.float().flatten(0, 1), frames.float().flatten(0, 1), data_range=1.0, size_average=False
        )
        distortion = lmbda[:, None] * MS_SSIM_LAMBDA_RATIO * (1 - similarity.view_as(mse))
    if stage.perceptual:
        distance = normalized_laplacian_distance(x_hat.float().flatten(0, 1), frames.float().flatten(0, 1))
        distortion = distortion + stage.perceptual * lmbda[:, None] * 255**2 * NLPD_RATIO * distance.view_as(mse)
    if stage.frame_weights:
        distortion = distortion * torch.tensor(stage.frame_weights, device=distortion.device)
    weight = (lmbda / BALANCED_LAMBDA) ** -stage.balance
    return RateDistortion((weight[:, None] * (distortion + bpp)).mean(), bpp.detach(), mse.detach())
