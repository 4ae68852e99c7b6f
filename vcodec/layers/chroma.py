"""Chroma of half the resolution, seen in RGB."""

import torch.nn.functional as F
from torch import Tensor


def subsampled(picture: Tensor) -> Tensor:
    """The picture of 4:2:0 video that is nearest to an RGB picture (batch, 3, H, W) in [0, 1].

    Video of 4:2:0 has one chroma sample for two by two pixels, so its RGB pictures fill half of the space: what the
    rest of the space holds can't be shown, and is lost in the frame that is written.
    """
    height, width = picture.shape[-2:]
    picture = picture.contiguous()  # pooling three channels-last channels takes twice as long
    grey = picture.mean(dim=1, keepdim=True)
    colour = F.pad(picture - grey, (0, width % 2, 0, height % 2), mode="replicate")
    colour = F.interpolate(F.avg_pool2d(colour, 2), scale_factor=2.0, mode="nearest")
    return (grey + colour[..., :height, :width]).clamp(0, 1)
