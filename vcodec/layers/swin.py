"""The Swin transformer block: attention inside windows, every second block shifted by half a window."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position.

    Maps (batch, channels, H, W) to the same shape, any H and W: the map is padded to whole windows, and padding
    is masked out, as are neighbours that only the cyclic shift has brought together (Liu et al. 2021, section 3.2).
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int = 0):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)
        self.position_bias = nn.Parameter(torch.zeros(heads, 2 * window - 1, 2 * window - 1))
        nn.init.trunc_normal_(self.position_bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        size, shift = self.window, self.shift if max(height, width) > self.window else 0
        padding = (0, -width % size, 0, -height % size)
        padded = torch.roll(F.pad(x, padding), (-shift, -shift), (2, 3))
        windows = _to_windows(padded, size)  # batch * windows, size * size, channels
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(windows).chunk(3, dim=-1)
        )
        bias = self._bias(height, width, padding, shift, batch, x)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        unrolled = torch.roll(_from_windows(mixed, size, padded.shape), (shift, shift), (2, 3))
        return unrolled[:, :, :height, :width]

    def _bias(self, height: int, width: int, padding: tuple[int, ...], shift: int, batch: int, x: Tensor) -> Tensor:
        offsets = torch.arange(self.window, device=x.device)
        relative = offsets[:, None] - offsets[None, :] + self.window - 1
        bias = self.position_bias[:, relative[:, None, :, None], relative[None, :, None, :]]
        bias = bias.reshape(1, self.heads, self.window**2, self.window**2).to(x.dtype)
        if shift == 0 and not any(padding):
            return bias
        # regions that may see each other carry one number; padding has its own
        rows = _region(height, padding[3], self.window, shift, x.device)
        columns = _region(width, padding[1], self.window, shift, x.device)
        region = _to_windows((rows[:, None] * 4 + columns[None, :])[None, None].to(x.dtype), self.window)[..., 0]
        apart = region[:, :, None] != region[:, None, :]
        mask = torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, -1e4)
        return bias + mask[:, None].repeat(batch, 1, 1, 1)


class SwinBlock(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)).

    With norm=False there is no LayerNorm and a ReLU follows, as in SwinVC-SSF (MambaVC, appendix A.3).
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int, mlp_ratio: float = 4.0, norm: bool = True):
        super().__init__()
        self.attention = WindowAttention(channels, heads, window, shift)
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.norm1 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.norm2 = nn.LayerNorm(channels) if norm else nn.Identity()
        self.activation = nn.Identity() if norm else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        normalized = self.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x + self.attention(normalized)
        tokens = x.permute(0, 2, 3, 1)
        return self.activation(x + self.mlp(self.norm2(tokens)).permute(0, 3, 1, 2))


def _to_windows(x: Tensor, size: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // size, size, width // size, size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, channels)


def _from_windows(windows: Tensor, size: int, shape: torch.Size) -> Tensor:
    batch, channels, height, width = shape
    x = windows.reshape(batch, height // size, width // size, size, size, channels)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(shape)


def _region(length: int, padding: int, window: int, shift: int, device: torch.device) -> Tensor:
    """One number for each stretch of positions (in rolled order) that may attend to each other."""
    position = torch.roll(torch.arange(length + padding, device=device), -shift)
    rolled_round = torch.zeros_like(position)
    if shift:
        rolled_round[-shift:] = 1
    return torch.where(position >= length, 2, rolled_round)
