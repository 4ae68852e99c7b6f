"""The rate-distortion objective: L = lambda * 255^2 * MSE + bpp, averaged over the frames of the unroll."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor

from ..layers.rate import LAMBDA_MIN, OCTAVES, QUALITY_MAX
from .perceptual import NLPD_RATIO, normalized_laplacian_distance
from .schedule import Stage

#: One lambda serves both distortions: with 1 - MS-SSIM, lambda is multiplied by this. It is the mean ratio
#: between the field's usual lambdas for MS-SSIM and for MSE at like rates (2.40 to 60.50 against 0.0018 to
#: 0.0483).
MS_SSIM_LAMBDA_RATIO = 1285.0

#: lambda * 255^2 * MSE at which codecs leave an error as it is.
UNCODED = 0.5

#: Where a balanced loss weighs a sample by one: about the middle of the scale of qualities.
BALANCED_LAMBDA = 0.03


def quality_of_lambda(lmbda: float) -> float:
    """The quality whose lambda this is; the nearest end of the scale where it lies beyond."""
    quality = math.log2(lmbda / LAMBDA_MIN) * QUALITY_MAX / OCTAVES
    return min(float(QUALITY_MAX), max(0.0, quality))


def residual_cost(prediction: Tensor, x: Tensor, lmbda: Tensor) -> Tensor:
    """About what it costs (batch,) to mend a prediction (batch, 3, H, W), in bits per pixel.

    In each block of 8x8 the price of the error as long as it is not worth coding; from there on it grows with the
    error's logarithm, as the rate of a Gaussian source does.
    """
    error = (prediction.float() - x.float()).square().mean(dim=1, keepdim=True)
    price = lmbda.view(-1, 1, 1, 1) * 255**2 * F.avg_pool2d(error, 8, ceil_mode=True, count_include_pad=False)
    coded = UNCODED * (1 + torch.log(price.clamp_min(UNCODED) / UNCODED))
    return torch.where(price < UNCODED, price, coded).mean(dim=(1, 2, 3))


class RateDistortion(NamedTuple):
    """loss: scalar with gradient; bpp, mse: (B, T) without."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor


def rate_distortion(x_hat: Tensor, bits: Tensor, frames: Tensor, lmbda: Tensor, stage: Stage) -> RateDistortion:
    """The loss of a batch.

    x_hat, frames: (B, T, 3, H, W) in [0, 1]; bits: (B, T); lmbda: (B,), or (B, T) with one for each
    frame.
    """
    height, width = frames.shape[-2:]
    bpp = bits.float() / (height * width)
    lmbda = lmbda.view(len(lmbda), -1).expand(bpp.shape)
    mse = (x_hat.float() - frames.float()).square().mean(dim=(2, 3, 4))
    if stage.train == "motion":
        distortion = residual_cost(x_hat.flatten(0, 1), frames.flatten(0, 1), lmbda.flatten()).view_as(mse)
    elif stage.distortion == "mse":
        distortion = lmbda * 255**2 * mse
    else:
        similarity = ms_ssim(
            x_hat.float().flatten(0, 1), frames.float().flatten(0, 1), data_range=1.0, size_average=False
        )
        distortion = lmbda * MS_SSIM_LAMBDA_RATIO * (1 - similarity.view_as(mse))
    if stage.perceptual:
        distance = normalized_laplacian_distance(x_hat.float().flatten(0, 1), frames.float().flatten(0, 1))
        distortion = distortion + stage.perceptual * lmbda * 255**2 * NLPD_RATIO * distance.view_as(mse)
    if stage.frame_weights:
        distortion = distortion * torch.tensor(stage.frame_weights, device=distortion.device)
    weight = (lmbda / BALANCED_LAMBDA) ** -stage.balance
    return RateDistortion((weight * (distortion + bpp)).mean(), bpp.detach(), mse.detach())
