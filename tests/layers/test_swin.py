"""Window attention sees its own window and nothing else, at any size, shifted or not."""

import pytest
import torch

from vcodec.layers.swin import SwinBlock, WindowAttention

WINDOW = 4


def attended(size: tuple[int, int], shift: int, position: tuple[int, int]) -> torch.Tensor:
    """Which input positions the output at `position` depends on, found by its gradient."""
    torch.manual_seed(0)
    attention = WindowAttention(8, heads=2, window=WINDOW, shift=shift)
    x = torch.randn(1, 8, *size, requires_grad=True)
    attention(x)[0, :, position[0], position[1]].square().sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(0) > 1e-9


def expected(size: tuple[int, int], shift: int, position: tuple[int, int]) -> torch.Tensor:
    """Positions in the same window; with a shift, windows begin `shift` later and are cut at the borders."""
    if max(size) <= WINDOW:
        shift = 0
    same = []
    for length, here in zip(size, position, strict=True):
        window = (torch.arange(length) - shift).div(WINDOW, rounding_mode="floor")
        same.append(window == window[here])
    return same[0][:, None] & same[1][None, :]


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (3, 2), (9, 6), (5, 12), (1, 1)])
@pytest.mark.parametrize("shift", [0, 2])
def test_attention_stays_within_its_window(size, shift):
    rows, columns = {0, size[0] // 2, size[0] - 1}, {0, size[1] // 2, size[1] - 1}
    for position in [(row, column) for row in rows for column in columns]:
        assert torch.equal(attended(size, shift, position), expected(size, shift, position)), position


def test_attention_is_the_softmax_of_scaled_products_and_relative_positions():
    torch.manual_seed(0)
    attention, x = WindowAttention(8, heads=2, window=WINDOW), torch.randn(1, 8, WINDOW, WINDOW)
    tokens = x[0].flatten(1).T
    query, key, value = (part.reshape(16, 2, 4) for part in attention.qkv(tokens).chunk(3, dim=1))
    rows, columns = torch.arange(16) // WINDOW, torch.arange(16) % WINDOW
    mixed = torch.empty(16, 2, 4)
    for head in range(2):
        products = query[:, head] @ key[:, head].T / 4**0.5
        row_offset, column_offset = rows[:, None] - rows + WINDOW - 1, columns[:, None] - columns + WINDOW - 1
        products = products + attention.position_bias[head, row_offset, column_offset]
        mixed[:, head] = torch.softmax(products, dim=1) @ value[:, head]
    expected = attention.out_proj(mixed.reshape(16, 8)).T.reshape(1, 8, WINDOW, WINDOW)
    assert torch.allclose(attention(x), expected, atol=1e-6)


def test_a_batch_is_treated_sample_by_sample():
    torch.manual_seed(0)
    block, x = SwinBlock(8, heads=2, window=WINDOW, shift=2), torch.randn(3, 8, 7, 5)
    alone = torch.cat([block(sample[None]) for sample in x])
    assert torch.allclose(block(x), alone, atol=1e-5)


def test_the_plain_block_has_a_relu_for_its_norms():
    block = SwinBlock(8, heads=2, window=WINDOW, shift=0, norm=False)
    assert not any(isinstance(m, torch.nn.LayerNorm) for m in block.modules())
    assert (block(torch.randn(1, 8, 4, 4)) >= 0).all()
