"""Redundancy reduction after the singular value decomposition: weak components of a map are taken out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankReduction(nn.Module):
    """V diag(relu(s - t) / s) U x: a low-rank approximation of the channels by a learned soft threshold t.

    U x are a map's components in a learned basis, s (batch, channels) the root mean square of each over the picture,
    which stands for the singular value; a component weaker than its threshold vanishes for the whole picture and the
    others shrink. U starts orthogonal, V as its transpose, t small: nearly the identity. Maps (batch, channels, H, W)
    to the same shape. SAMIC's text names the module (SVD-RRM) and its soft threshold; the form is ours.
    """

    def __init__(self, channels: int, start: float = 0.01):
        super().__init__()
        basis = nn.init.orthogonal_(torch.empty(channels, channels))[:, :, None, None]
        self.analysis = nn.Parameter(basis.clone())
        self.synthesis = nn.Parameter(basis.transpose(0, 1).clone())
        self.threshold_root = nn.Parameter(torch.full((channels,), start**0.5))

    def forward(self, x: Tensor) -> Tensor:
        components = F.conv2d(x, self.analysis)
        return F.conv2d(components * self.gains(components)[:, :, None, None], self.synthesis)

    def gains(self, components: Tensor) -> Tensor:
        """The factor (batch, channels) of each component, 0 for those under the threshold."""
        strengths = (components.float().square().mean(dim=(2, 3)) + 1e-12).sqrt()
        return (F.relu(strengths - self.threshold_root**2) / strengths).to(components.dtype)
