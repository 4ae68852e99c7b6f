"""Window attention as a gate on a map, and the residual bottleneck it is made of."""

from torch import Tensor, nn
from torch.nn.functional import relu

from .swin import SwinBlock


class WindowAttentionGate(nn.Module):
    """x + out(h + trunk(h) * sigmoid(mask(swin(h)))), h = in(x): attention inside windows decides what passes.

    The non-local attention module of Cheng et al. 2020 with Swin blocks for its mask, as Liu et al. 2023 (Mixed,
    SWAtten) use it on the supports of a channel-wise entropy model; the last layer starts at zero, so that the gate
    begins as the identity. Maps (batch, channels, H, W) to the same shape, any H and W.

    Args: channels; width, of the map inside; window; head_width, channels of an attention head.
    """

    def __init__(self, channels: int, width: int, window: int = 8, head_width: int = 16):
        super().__init__()
        heads = max(1, width // head_width)
        self.in_proj = nn.Conv2d(channels, width, 1)
        self.trunk = nn.Sequential(*[ResidualUnit(width) for _ in range(3)])
        self.swin = nn.Sequential(*[SwinBlock(width, heads, window, shift) for shift in (0, window // 2)])
        self.mask = nn.Sequential(*[ResidualUnit(width) for _ in range(3)], nn.Conv2d(width, width, 1))
        self.out_proj = nn.Conv2d(width, channels, 1)
        start_at_zero(self.out_proj)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.in_proj(x)
        gated = self.trunk(hidden) * self.mask(self.swin(hidden)).sigmoid()
        return x + self.out_proj(hidden + gated)


class ResidualUnit(nn.Module):
    """relu(x + bottleneck(x)): 1x1, 3x3 and 1x1 convolutions, half as wide inside (Cheng et al. 2020)."""

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.layers(x))


def start_at_zero(layer: nn.Conv2d) -> None:
    """The layer begins by giving zeros."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
