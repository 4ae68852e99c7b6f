"""The semantic-aware Mamba block: tokens are grouped by what they show, scanned group by group, and put back."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import selective_scan

FREQUENCIES = 4  # octaves of the positional encoding


class SemanticBlock(nn.Module):
    """x + Linear(LN(SemanticScan(SiLU(DWConv(Linear(LN(x)))))) * SiLU(Linear(LN(x)))), after SAMIC's description.

    The VSS block with its four fixed scans replaced by one scan in semantic order. Maps (batch, channels, H, W) to
    the same shape.

    Args: channels; d_state; expand, inner width over channels; clusters; routed: the assignment of positions to
    clusters is given to forward(), else a router of the block's own finds it in the block's input.
    """

    def __init__(self, channels: int, d_state: int, expand: float, clusters: int, routed: bool):
        super().__init__()
        inner = int(channels * expand)
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Conv2d(channels, inner, 1, bias=False)
        self.gate_proj = nn.Conv2d(channels, inner, 1, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.router = None if routed else SemanticRouter(channels, clusters)
        self.scan = SemanticScan(inner, d_state, math.ceil(channels / 16), clusters)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor, assignment: Tensor | None = None) -> Tensor:
        """assignment: one-hot (batch, clusters, h, w), at the map's own or a coarser resolution."""
        normalized = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.router is not None:
            assignment = self.router(normalized)
        elif assignment is None:
            raise ValueError("this block's routing comes from outside: give the assignment")
        assignment = F.interpolate(assignment, x.shape[2:], mode="nearest").to(x.dtype)
        hidden = self.scan(F.silu(self.depthwise(self.in_proj(normalized))), assignment)
        hidden = self.out_norm(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.out_proj(hidden * F.silu(self.gate_proj(normalized)))


class SemanticRouter(nn.Module):
    """Soft clustering: each position's logits over the clusters, from its features and its place in the picture.

    In training a hard sample by Gumbel-softmax, with the soft one's gradient; in evaluation the largest logit, without
    noise. Gives one-hot (batch, clusters, H, W) of the input's dtype.
    """

    def __init__(self, channels: int, clusters: int, temperature: float = 1.0):
        super().__init__()
        self.clusters, self.temperature = clusters, temperature
        width = max(clusters, channels // 4)
        self.features = nn.Conv2d(channels + 4 * FREQUENCIES, width, 1)
        self.centroids = nn.Conv2d(width, clusters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.centroids.weight.dtype)
        placed = torch.cat([x, positional_encoding(x).expand(len(x), -1, -1, -1)], dim=1)
        logits = self.centroids(F.gelu(self.features(placed)))
        if self.training:
            return F.gumbel_softmax(logits.float(), self.temperature, hard=True, dim=1).to(logits.dtype)
        return F.one_hot(logits.argmax(1), self.clusters).permute(0, 3, 1, 2).to(logits.dtype)


class SemanticScan(nn.Module):
    """One selective scan over all positions, sorted by cluster and in reading order within each (a stable sort).

    A prompt of each position's cluster is added to its C, so that a position also reads by what its cluster is; it is
    the way by which gradients reach the router.
    """

    def __init__(self, channels: int, d_state: int, dt_rank: int, clusters: int):
        super().__init__()
        self.sizes = [channels, dt_rank, d_state, d_state]
        self.x_proj = nn.Conv2d(channels, dt_rank + 2 * d_state, 1, bias=False)  # step sizes (low rank), B, C
        self.prompt = nn.Conv2d(clusters, d_state, 1, bias=False)
        self.dt_proj = nn.Linear(dt_rank, channels, bias=False)
        bound = dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        step = torch.exp(torch.empty(channels).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))

    def forward(self, u: Tensor, assignment: Tensor) -> Tensor:
        low_rank, B, C = self.x_proj(u).split(self.sizes[1:], dim=1)
        C = C + self.prompt(assignment)
        order = semantic_order(assignment)
        tokens = _reorder(torch.cat([u, low_rank, B, C], dim=1).flatten(2).transpose(1, 2), order)
        u_sorted, low_rank, B, C = tokens.split(self.sizes, dim=2)
        y = selective_scan(
            u_sorted.transpose(1, 2),
            self.dt_proj(low_rank).transpose(1, 2),
            -torch.exp(self.A_log),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D,
            self.dt_bias,
            delta_softplus=True,
        )
        return _reorder(y.transpose(1, 2), order.argsort(dim=1)).transpose(1, 2).unflatten(2, u.shape[2:])


def semantic_order(assignment: Tensor) -> Tensor:
    """Positions (batch, H * W) in the order of the scan, for one-hot (batch, clusters, H, W)."""
    return assignment.detach().argmax(1).flatten(1).argsort(dim=1, stable=True)


def positional_encoding(x: Tensor) -> Tensor:
    """Sines and cosines (1, 4 * FREQUENCIES, H, W) of row and column as shares of height and width."""
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device, dtype=x.dtype) + 0.5) / height
    columns = (torch.arange(width, device=x.device, dtype=x.dtype) + 0.5) / width
    octaves = math.pi * 2.0 ** torch.arange(FREQUENCIES, device=x.device, dtype=x.dtype)
    waves = [
        wave(octaves[:, None, None] * place)
        for place in (rows[:, None].expand(height, width), columns[None, :].expand(height, width))
        for wave in (torch.sin, torch.cos)
    ]
    return torch.cat(waves)[None]


def _reorder(tokens: Tensor, order: Tensor) -> Tensor:
    return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))
