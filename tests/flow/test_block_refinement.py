"""The encoder's choice of block vectors: it finds what moved, and C finds what PyTorch finds."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_motion_search import moving_pair, smooth_noise

from vcodec.entropy.coders import RateEstimator, SymbolDecoder, SymbolEncoder
from vcodec.flow.block_refinement import BlockRefinement, has_c_search, refinement_search, search_in_pytorch
from vcodec.flow.warp import sample, sampling_grid

needs_c = pytest.mark.skipif(not has_c_search(), reason="the C library was not built")
SEARCHES = [pytest.param(refinement_search, id="default"), pytest.param(search_in_pytorch, id="pytorch")]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_block_that_moved_otherwise_gets_a_vector_and_the_rest_none(search):
    reference = smooth_noise(64, 96)
    x = reference.clone()
    x[:, :, 24:40, 40:56] = reference[:, :, 22:38, 43:59]  # fetched from 3 right, 2 up
    vectors = search(x, reference, torch.zeros(1, 2, 64, 96), torch.tensor([0.1]), 8)
    expected = torch.zeros(1, 2, 8, 12)
    expected[:, 0, 3:5, 5:7], expected[:, 1, 3:5, 5:7] = 12, -8
    assert torch.equal(vectors, expected)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_good_prediction_is_left_alone(search):
    reference = smooth_noise(40, 48)
    x = (reference + 0.001).clamp(0, 1)
    assert not search(x, reference, torch.zeros(1, 2, 40, 48), torch.tensor([0.01]), 8).any()


@needs_c
@settings(deadline=None, max_examples=20)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([4, 8, 16]), st.integers(0, 2**31))
def test_c_finds_what_pytorch_finds(height, width, block, seed):
    generator = torch.Generator().manual_seed(seed)
    x, reference = torch.rand(2, 2, 3, height, width, generator=generator)
    flow = F.interpolate(4 * torch.randn(2, 2, 3, 3, generator=generator), (height, width), mode="bilinear")
    lmbda = torch.tensor([0.005, 0.1])
    ours, theirs = (search(x, reference, flow, lmbda, block) for search in (refinement_search, search_in_pytorch))
    assert ours.shape == theirs.shape == (2, 2, -(-height // block), -(-width // block))
    assert (ours == theirs).all(1).float().mean() >= 0.9  # rounding decides where costs tie


def test_vectors_mend_the_edges_of_what_moves():
    x, reference = moving_pair(96, 128)
    refinement, quality = BlockRefinement(8, levels=9), torch.tensor([40.0])
    flow = torch.zeros(1, 3, 96, 128)
    coder = RateEstimator(1, training=False)
    displacement = refinement.code(coder, x, reference, flow, quality)

    def error(motion):
        return (sample(reference, sampling_grid(motion)) - x).square().mean()

    assert error(displacement) < 0.7 * error(flow[:, :2])
    assert coder.bits > 0


@pytest.mark.parametrize("size", [(1, 1), (9, 23)])
def test_vectors_are_decoded_as_they_were_coded(size):
    x, reference = torch.rand(2, 1, 3, *size)
    refinement, quality = BlockRefinement(8, levels=9), torch.tensor([63.0])
    refinement.make_exact()
    flow = torch.zeros(1, 3, *size)
    encoder = SymbolEncoder()
    with torch.no_grad():
        coded = refinement.code(encoder, x, reference, flow, quality)
        decoder = SymbolDecoder(encoder.finish())
        assert torch.equal(refinement.code(decoder, None, reference, flow, quality), coded)
    decoder.finish()
    assert coded.shape == (1, 2, *size)
