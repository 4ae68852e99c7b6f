"""Pictures as 4:2:0 video shows them."""

import numpy as np
import pytest
import torch

from vcodec.layers.chroma import subsampled
from vcodec.layers.dct import dct_analysis_weight
from vcodec.video import VideoFormat, from_rgb, to_rgb


def picture(height: int, width: int) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 6), (8, 5), (1, 1), (3, 9)])
def test_a_picture_of_420_stays_as_it_is(height, width):
    x = subsampled(picture(height, width))
    assert torch.allclose(subsampled(x), x, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 12), (7, 9)])
def test_writing_such_a_picture_loses_no_more_than_rounding(height, width):
    format = VideoFormat(width, height, "420", 10)
    x = subsampled(picture(height, width))[0].permute(1, 2, 0).numpy()
    assert np.abs(to_rgb(from_rgb(x, format)) - x).max() < 0.003


def test_no_picture_of_420_is_nearer():
    x = picture(8, 8)
    nearest = subsampled(x)
    for seed in range(5):
        other = subsampled(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)))
        assert (x - nearest).square().sum() <= (x - (0.9 * nearest + 0.1 * other)).square().sum()


def test_half_of_the_cosine_basis_holds_a_picture_of_420():
    block = 8
    basis = dct_analysis_weight(block**2 * 3 // 2, 3, block).flatten(1)
    x = subsampled(picture(block, block)).flatten()
    assert torch.allclose(basis.T @ (basis @ x), x, atol=1e-5)
