"""The warp through a scale-space volume (Agustsson et al. 2020, section 3.1)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def scale_space_warp(reference: Tensor, flow: Tensor, levels: int, *, sigma: float = 1.5,
                     interpolation: str = "bilinear") -> Tensor:  # fmt: skip
    """The picture that `flow` predicts from the reference.

    reference: (batch, 3, H, W). flow: (batch, 3, H, W): x and y displacement in pixels (the pixel at p is fetched
    from p + displacement), and the scale: 0 is the sharp plane, k the k-th blurred one, linear between, clamped to
    [0, levels]. Beyond the border the last pixel is repeated. sigma: see `scale_space_planes`. interpolation: of the
    sharp plane, "bilinear" or "bicubic"; blurred planes are always sampled bilinearly.
    """
    grid = sampling_grid(flow[:, :2])
    scale = flow[:, 2:3].clamp(0, levels)
    sampled = sample(reference, grid, interpolation)
    prediction = sampled * (1 - scale).clamp_min(0)
    for k, plane in enumerate(scale_space_planes(reference, levels, sigma), start=1):
        sampled = sample(plane, grid)
        prediction = torch.addcmul(prediction, sampled, (1 - (scale - k).abs()).clamp_min(0))
    return prediction


def scale_space_planes(x: Tensor, levels: int, sigma: float) -> list[Tensor]:
    """The blurred planes of the scale-space volume, sharpest first.

    With sigma > 0, as published: x blurred; then pooled by two, blurred and enlarged again, once, twice, ... more,
    each (batch, 3, H, W). With sigma 0, a plain pyramid: x pooled by two, four, ...; sampling enlarges it, at a
    small part of the time.
    """
    planes, current = [], x
    for level in range(levels):
        if level > 0 or sigma == 0:
            current = F.avg_pool2d(current, 2, ceil_mode=True, count_include_pad=False)
        if sigma > 0:
            current = gaussian_blur(current, sigma)
        planes.append(current if level == 0 or sigma == 0 else _enlarge(current, x.shape[-2:], 2**level))
    return planes


def sample(x: Tensor, grid: Tensor, interpolation: str = "bilinear") -> Tensor:
    """grid_sample with the border repeated; a single picture is cut into bands so that every thread has one."""
    bands = math.gcd(grid.shape[1], torch.get_num_threads()) if len(x) == 1 else 1
    if bands > 1:
        x, grid = x.expand(bands, -1, -1, -1), grid.unflatten(1, (bands, -1))[0]
    sampled = F.grid_sample(x, grid, mode=interpolation, padding_mode="border", align_corners=False)
    return sampled.transpose(0, 1).flatten(1, 2)[None] if bands > 1 else sampled


def sampling_grid(displacement: Tensor) -> Tensor:
    """The grid (batch, H, W, 2) of grid_sample (align_corners=False) for displacements (batch, 2, H, W) in pixels."""
    _, _, height, width = displacement.shape
    columns = torch.arange(width, device=displacement.device, dtype=displacement.dtype)
    rows = torch.arange(height, device=displacement.device, dtype=displacement.dtype)
    x = (displacement[:, 0] + columns + 0.5) * (2 / width) - 1
    y = (displacement[:, 1] + rows[:, None] + 0.5) * (2 / height) - 1
    return torch.stack([x, y], dim=-1)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of every channel, out to three sigma, the border repeated."""
    reach = int(3 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (offsets / sigma) ** 2, dim=0)
    channels = x.shape[1]
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _enlarge(x: Tensor, size: torch.Size, factor: int) -> Tensor:
    resized = F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return resized[:, :, : size[0], : size[1]]
