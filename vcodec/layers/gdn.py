"""Generalised divisive normalisation, the non-linearity of the convolutional codecs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GDN(nn.Module):
    """x_i / sqrt(beta_i + sum_j gamma_ij x_j^2), or times the root when inverse (Ballé et al. 2016, equation 2).

    Maps (batch, channels, H, W) to the same shape. beta and gamma are kept positive as squares of parameters.
    """

    def __init__(self, channels: int, inverse: bool = False, beta_min: float = 1e-6, gamma_start: float = 0.1):
        super().__init__()
        self.inverse, self.beta_min = inverse, beta_min
        self.beta_root = nn.Parameter(torch.ones(channels))
        self.gamma_root = nn.Parameter((gamma_start * torch.eye(channels) + 2**-36).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        gamma = (self.gamma_root**2)[:, :, None, None]
        norm = F.conv2d(x**2, gamma, self.beta_root**2 + self.beta_min)
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))
