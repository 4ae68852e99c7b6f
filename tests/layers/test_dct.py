"""The cosine basis: orthonormal, most important pictures first."""

import pytest
import torch

from vcodec.layers.dct import dct_analysis_weight, dct_deviations


@pytest.mark.parametrize(("channels", "block"), [(3, 4), (3, 8), (2, 4), (1, 2)])
def test_the_basis_is_orthonormal(channels, block):
    size = channels * block**2
    basis = dct_analysis_weight(size, channels, block).reshape(size, size)
    assert torch.allclose(basis @ basis.T, torch.eye(size), atol=1e-5)


def test_the_first_picture_is_the_mean_brightness():
    first = dct_analysis_weight(1, 3, 8)[0]
    assert torch.allclose(first, torch.full_like(first, 1 / (8 * 3**0.5)))


def test_deviations_fall_and_spare_latents_stay_zero():
    deviations = dct_deviations(60, 3, 4)
    assert (deviations[:48].diff() <= 0).all()
    assert (deviations > 0).all()
    assert not dct_analysis_weight(60, 3, 4)[48:].any()
