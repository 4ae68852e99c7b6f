"""The visual state space block: what MambaVC puts where other codecs have GDN or attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import selective_scan_2d

DIRECTIONS = 4


class VSSBlock(nn.Module):
    """x + Linear(LN(2DSS(SiLU(DWConv(Linear(LN(x)))))) * SiLU(Linear(LN(x)))): MambaVC, equations 12 to 14.

    Maps (batch, channels, H, W) to the same shape; channels-last memory is the fast layout.

    Args: channels; d_state, the size of the scan's state; expand, inner width over channels; dt_rank, the rank of
    the step sizes (default: channels / 16, rounded up).
    """

    def __init__(self, channels: int, d_state: int = 16, expand: float = 2.0, dt_rank: int | None = None):
        super().__init__()
        inner = int(channels * expand)
        self.norm = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, inner, bias=False)
        self.gate_proj = nn.Linear(channels, inner, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = SelectiveScan2d(inner, d_state, dt_rank or math.ceil(channels / 16))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        normalized = self.norm(tokens)
        hidden = F.silu(self.depthwise(self.in_proj(normalized).permute(0, 3, 1, 2)))
        hidden = self.out_norm(self.scan(hidden).permute(0, 2, 3, 1))
        hidden = hidden * F.silu(self.gate_proj(normalized))
        return x + self.out_proj(hidden).permute(0, 3, 1, 2)


class SelectiveScan2d(nn.Module):
    """2DSS with input-dependent step sizes, B and C for each of the four directions: MambaVC, equations 15 to 23.

    Initialised as Mamba is: A = -(1 .. d_state), D = 1, step sizes log-uniform in [0.001, 0.1].
    """

    def __init__(self, channels: int, d_state: int, dt_rank: int):
        super().__init__()
        self.d_state, self.dt_rank = d_state, dt_rank
        bound = channels**-0.5
        self.x_proj = nn.Parameter(torch.empty(DIRECTIONS, dt_rank + 2 * d_state, channels).uniform_(-bound, bound))
        bound = dt_rank**-0.5
        self.dt_proj = nn.Parameter(torch.empty(DIRECTIONS, channels, dt_rank).uniform_(-bound, bound))
        step = torch.exp(torch.empty(DIRECTIONS, channels).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus gives back the step
        states = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(states.log().expand(DIRECTIONS, channels, d_state).clone())
        self.D = nn.Parameter(torch.ones(DIRECTIONS, channels))

    def forward(self, u: Tensor) -> Tensor:
        batch, channels, height, width = u.shape
        tokens = u.permute(0, 2, 3, 1).reshape(-1, channels)
        projected = F.linear(tokens, self.x_proj.flatten(0, 1)).view(-1, DIRECTIONS, self.dt_rank + 2 * self.d_state)
        low_rank, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = torch.bmm(low_rank.transpose(0, 1), self.dt_proj.transpose(1, 2))  # direction, token, channel
        return selective_scan_2d(
            u,
            delta.view(DIRECTIONS, batch, height, width, channels).permute(1, 0, 4, 2, 3),
            -torch.exp(self.A_log),
            B.view(batch, height, width, DIRECTIONS, -1).permute(0, 3, 4, 1, 2),
            C.view(batch, height, width, DIRECTIONS, -1).permute(0, 3, 4, 1, 2),
            self.D,
            self.dt_bias,
            delta_softplus=True,
        )
