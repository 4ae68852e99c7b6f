"""The learned prior of the hyper latents: one univariate density a channel, in a bank over the quality levels."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gaussian import quantized_cdf
from .rans import FrequencyTables

REACH = 40  # symbols beyond +-REACH are coded as "outside"


class FactorizedPrior(nn.Module):
    """A factorised density for z, as in Ballé et al. 2018 (appendix 6.1), with `banks` sets of parameters.

    A variable-rate model takes the bank of the nearest quality level, since the spread of z grows with quality.
    The integer tables are part of the state: they are made once by `update()` and saved with the weights.

    Args: channels of z; banks; filters, the widths of the density's small network.
    """

    tables: Tensor

    def __init__(self, channels: int, banks: int = 1, filters: tuple[int, ...] = (3, 3, 3), init_scale: float = 10.0):
        super().__init__()
        self.channels, self.banks = channels, banks
        widths = (1, *filters, 1)
        scale = init_scale ** (1 / (len(filters) + 1))
        rows = banks * channels
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for i, (inner, outer) in enumerate(itertools.pairwise(widths)):
            start = float(np.log(np.expm1(1 / scale / outer)))
            self.matrices.append(nn.Parameter(torch.full((rows, outer, inner), start)))
            self.biases.append(nn.Parameter(torch.empty(rows, outer, 1).uniform_(-0.5, 0.5)))
            if i < len(filters):
                self.factors.append(nn.Parameter(torch.zeros(rows, outer, 1)))
        self.register_buffer("tables", torch.zeros(rows, 2 * REACH + 3, dtype=torch.int32))

    def bits(self, z: Tensor, bank: Tensor) -> Tensor:
        """Bits of the unit intervals around z (batch, channels, H, W), the bank of each sample in bank (batch,)."""
        batch, channels = z.shape[:2]
        rows = (bank[:, None] * channels + torch.arange(channels, device=z.device)).reshape(-1)
        values = z.float().reshape(batch * channels, 1, -1)
        lower, upper = self._logits(values - 0.5, rows), self._logits(values + 0.5, rows)
        sign = -torch.sign(lower + upper).detach()
        likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return -torch.log2(likelihood.clamp_min(1e-9)).reshape(z.shape)

    def _logits(self, values: Tensor, rows: Tensor) -> Tensor:
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            values = torch.baddbmm(bias[rows], F.softplus(matrix[rows]), values)
            if i < len(self.factors):
                values = values + torch.tanh(self.factors[i][rows]) * torch.tanh(values)
        return values

    @torch.no_grad()
    def update(self) -> None:
        """Makes the integer tables from the density. Call before saving a model that shall code."""
        edges = torch.arange(-REACH, REACH + 2, device=self.tables.device) - 0.5
        rows = torch.arange(self.tables.shape[0], device=self.tables.device)
        logits = self._logits(edges.float().expand(len(rows), 1, -1), rows)[:, 0].double()
        probabilities = torch.sigmoid(logits).diff(dim=-1).clamp_min(0).cpu().numpy()
        cdf = np.stack([quantized_cdf(row) for row in probabilities]).astype(np.int32)
        self.tables.copy_(torch.from_numpy(cdf))

    @property
    def has_tables(self) -> bool:
        """Whether `update()` was called or tables were loaded, and every row is one that can be coded with."""
        ends = self.tables[:, [0, -1]] == torch.tensor([0, 65536], device=self.tables.device)
        return bool(ends.all() and (self.tables.diff(dim=1) > 0).all())

    def frequency_tables(self) -> FrequencyTables:
        """The tables as the entropy coder takes them; row = bank * channels + channel."""
        cdf = self.tables.cpu().numpy()
        return FrequencyTables(
            cdf=cdf.astype(np.uint32).reshape(-1),
            row_start=np.arange(0, cdf.size + 1, cdf.shape[1], dtype=np.int32),
            minimum=np.full(len(cdf), -REACH, np.int32),
        )
