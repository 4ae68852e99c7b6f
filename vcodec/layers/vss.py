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
        self.in_proj = nn.Conv2d(channels, inner, 1, bias=False)  # 1x1 convolutions run faster than nn.Linear on CPUs
        self.gate_proj = nn.Conv2d(channels, inner, 1, bias=False)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scan = SelectiveScan2d(inner, d_state, dt_rank or math.ceil(channels / 16))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normalized = _over_channels(self.norm, x)
        hidden = self.scan(F.silu(self.depthwise(self.in_proj(normalized))))
        hidden = _over_channels(self.out_norm, hidden) * F.silu(self.gate_proj(normalized))
        return x + self.out_proj(hidden)


class SelectiveScan2d(nn.Module):
    """2DSS with input-dependent step sizes, B and C for each of the four directions: MambaVC, equations 15 to 23.

    Initialised as Mamba is: A = -(1 .. d_state), D = 1, step sizes log-uniform in [0.001, 0.1].
    """

    def __init__(self, channels: int, d_state: int, dt_rank: int):
        super().__init__()
        self.sizes = [DIRECTIONS * dt_rank, DIRECTIONS * d_state, DIRECTIONS * d_state]
        self.x_proj = nn.Conv2d(channels, sum(self.sizes), 1, bias=False)  # step sizes (low rank), B, C
        self.dt_proj = nn.Conv2d(DIRECTIONS * dt_rank, DIRECTIONS * channels, 1, groups=DIRECTIONS, bias=False)
        bound = dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        step = torch.exp(torch.empty(DIRECTIONS, channels).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus gives back the step
        states = torch.arange(1, d_state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(states.log().expand(DIRECTIONS, channels, d_state).clone())
        self.D = nn.Parameter(torch.ones(DIRECTIONS, channels))

    def forward(self, u: Tensor) -> Tensor:
        low_rank, B, C = self.x_proj(u).split(self.sizes, dim=1)
        return selective_scan_2d(
            u,
            self.dt_proj(low_rank).unflatten(1, (DIRECTIONS, -1)),
            -torch.exp(self.A_log),
            B.unflatten(1, (DIRECTIONS, -1)),
            C.unflatten(1, (DIRECTIONS, -1)),
            self.D,
            self.dt_bias,
            delta_softplus=True,
        )


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
