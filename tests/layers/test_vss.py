"""The visual state space block against its equations, one position after another."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vcodec.layers.vss import SelectiveScan2d, VSSBlock


def scan_by_equations(scan: SelectiveScan2d, u: Tensor) -> Tensor:
    """2DSS of one map (channels, H, W): four walks over the positions, summed (MambaVC, equations 15 to 23)."""
    channels, height, width = u.shape
    rank, states = scan.sizes[0] // 4, scan.sizes[1] // 4
    projected = torch.einsum("pc,chw->phw", scan.x_proj.weight[:, :, 0, 0], u)
    low_rank, B, C = projected.split(scan.sizes)
    row_by_row = [(i, j) for i in range(height) for j in range(width)]
    column_by_column = [(i, j) for j in range(width) for i in range(height)]
    y = torch.zeros_like(u)
    for k, walk in enumerate([row_by_row, row_by_row[::-1], column_by_column, column_by_column[::-1]]):
        weight = scan.dt_proj.weight.reshape(4, channels, rank)[k]
        A, state = -torch.exp(scan.A_log[k]), torch.zeros(channels, states, dtype=u.dtype)
        for i, j in walk:
            delta = F.softplus(weight @ low_rank[k * rank : (k + 1) * rank, i, j] + scan.dt_bias[k])
            b, c = B[k * states : (k + 1) * states, i, j], C[k * states : (k + 1) * states, i, j]
            state = torch.exp(delta[:, None] * A) * state + (delta * u[:, i, j])[:, None] * b
            y[:, i, j] += state @ c + scan.D[k] * u[:, i, j]
    return y


def block_by_equations(block: VSSBlock, x: Tensor) -> Tensor:
    """MambaVC, equations 12 to 14, for one map (channels, H, W)."""

    def norm(layer: torch.nn.LayerNorm, map: Tensor) -> Tensor:
        mean, variance = map.mean(0), map.var(0, unbiased=False)
        scaled = (map - mean) / torch.sqrt(variance + layer.eps)
        return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]

    def linear(layer: torch.nn.Conv2d, map: Tensor) -> Tensor:
        return torch.einsum("oc,chw->ohw", layer.weight[:, :, 0, 0], map)

    normalized = norm(block.norm, x)
    hidden = linear(block.in_proj, normalized)
    padded = F.pad(hidden, (1, 1, 1, 1))
    local = torch.zeros_like(hidden) + block.depthwise.bias[:, None, None]
    for i in range(3):
        for j in range(3):
            shifted = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            local = local + block.depthwise.weight[:, 0, i, j, None, None] * shifted
    hidden = norm(block.out_norm, scan_by_equations(block.scan, local * torch.sigmoid(local)))
    gate = linear(block.gate_proj, normalized)
    return x + linear(block.out_proj, hidden * gate * torch.sigmoid(gate))


@pytest.mark.parametrize(("d_state", "expand", "size"), [(1, 1.0, (4, 3)), (4, 2.0, (3, 5)), (16, 2.0, (1, 1))])
def test_the_block_follows_the_equations(d_state, expand, size):
    torch.manual_seed(0)
    block = VSSBlock(20, d_state, expand).double()
    with torch.no_grad():
        for parameter in (block.norm.weight, block.norm.bias, block.out_norm.weight, block.out_norm.bias):
            parameter.uniform_(-1, 1)
        x = torch.randn(2, 20, *size, dtype=torch.float64)
        expected = torch.stack([block_by_equations(block, sample) for sample in x])
        assert torch.allclose(block(x), expected, atol=1e-9)
        assert torch.allclose(block.float()(x.float()).double(), expected, atol=1e-4)


def test_step_sizes_start_where_mamba_starts_them():
    scan = SelectiveScan2d(64, 16, 4)
    steps = F.softplus(scan.dt_bias)
    assert steps.min() >= 0.001
    assert steps.max() <= 0.1
    assert torch.equal(torch.exp(scan.A_log).round()[2, 5], torch.arange(1.0, 17.0))


def test_memory_layout_makes_no_difference():
    torch.manual_seed(0)
    block, x = VSSBlock(8, 2, 1.0), torch.randn(2, 8, 5, 6)
    assert torch.allclose(block(x), block(x.contiguous(memory_format=torch.channels_last)), atol=1e-6)
