"""A perceptual distance that needs no trained network: the normalised Laplacian pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5
CONSTANT = 0.02  # contrasts well under this are not normalised: noise in flat areas stays small
TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)

#: MSE over this distance, the geometric mean over photographs compressed by JPEG at qualities 10 to 70: brings both
#: to one scale.
NLPD_RATIO = 0.005


def normalized_laplacian_distance(x_hat: Tensor, x: Tensor) -> Tensor:
    """Distance (batch,) between pictures (batch, channels, H, W) in [0, 1], 0 for equal ones; differentiable.

    Each band of a Laplacian pyramid is divided by the local mean of its own magnitude plus a constant, as contrast
    masking in early vision does; the distance is the root mean square difference of a band, averaged over the bands.
    Laparra et al. 2016, "Perceptual image quality assessment using a normalized Laplacian pyramid", on all colour
    channels and with one neighbourhood for all bands in place of their fitted ones. Sides under 2^LEVELS pixels have
    fewer bands.
    """
    distances = []
    for band_hat, band in zip(_normalized_bands(x_hat), _normalized_bands(x), strict=True):
        distances.append(((band_hat - band).square().mean(dim=(1, 2, 3)) + 1e-10).sqrt() - 1e-5)
    return torch.stack(distances).mean(0)


def _normalized_bands(x: Tensor) -> list[Tensor]:
    bands = []
    for _ in range(LEVELS):
        if min(x.shape[2:]) < 4:
            break
        low = _blur(x)[:, :, ::2, ::2]
        bands.append(x - F.interpolate(low, x.shape[2:], mode="bilinear", align_corners=False))
        x = low
    bands.append(x - 0.5)
    return [band / (CONSTANT + _blur(band.abs())) for band in bands]


def _blur(x: Tensor) -> Tensor:
    channels = x.shape[1]
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device)
    mode = "reflect" if min(x.shape[2:]) > 2 else "replicate"
    x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode), taps.expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(F.pad(x, (0, 0, 2, 2), mode), taps[:, None].expand(channels, 1, -1, 1), groups=channels)
