"""The passes of the checkerboard: every latent once, from coarse to fine, and each later one with neighbours."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import check_round_trip

from vcodec.entropy.checkerboard import CheckerboardHyperprior, pass_masks
from vcodec.entropy.config import EntropyConfig
from vcodec.layers.transform import TransformConfig

HYPER = TransformConfig(widths=(8, 8), strides=(2, 2), kernels=(3, 3), depths=(1,))


def masks_of(height: int, width: int, passes: int, channels: int = 2) -> list[torch.Tensor]:
    return pass_masks((1, channels, height, width), torch.device("cpu"), passes)


def model_of(passes: int) -> CheckerboardHyperprior:
    torch.manual_seed(passes)
    config = EntropyConfig(
        model="checkerboard", hyper=HYPER, width=8, linear=True, adaptive=True, passes=passes, dc_prediction=True
    )
    model = CheckerboardHyperprior(6, config, log_scale_start=torch.zeros(1, 6))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.stream = "here"
    model.prior.update()
    return model.eval()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([2, 4, 6]), st.integers(1, 5))
def test_every_latent_is_coded_once(height, width, passes, channels):
    masks = masks_of(height, width, passes, channels)
    assert len(masks) == passes
    assert (torch.stack(masks).sum(0) == 1).all()


def test_two_passes_are_the_black_and_the_white_fields():
    first, second = masks_of(4, 5, 2)
    board = (torch.arange(4)[:, None] + torch.arange(5)) % 2 == 0
    assert torch.equal(first[0, 0], board)
    assert torch.equal(first[0, 1], ~board)
    assert torch.equal(second, ~first)


@pytest.mark.parametrize("passes", [4, 6])
def test_every_later_latent_has_four_neighbours_at_the_spacing_of_its_pass(passes):
    masks = [mask[0, 0] for mask in masks_of(32, 32, passes)]
    for number, spacing in enumerate([2 ** ((passes - 1 - n) // 2) for n in range(passes)]):
        if not number:
            assert float(masks[0].float().mean()) == 2 / 2**passes
            continue
        known = torch.stack(masks[:number]).any(0)
        inside = masks[number].clone()
        inside[:spacing], inside[-spacing:], inside[:, :spacing], inside[:, -spacing:] = False, False, False, False
        for row, column in inside.nonzero().tolist():
            around = known[row - spacing :: spacing, column - spacing :: spacing][:3, :3]
            assert int(around.sum()) == 4


@pytest.mark.parametrize("passes", [2, 4, 6])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_what_was_written_is_read_and_is_what_was_estimated(passes, size):
    coded, read = check_round_trip(model_of(passes), size)
    assert torch.equal(coded.symbols, read.symbols)


def test_an_odd_number_of_passes_is_refused():
    with pytest.raises(ValueError, match="2, 4, 6 or more passes"):
        model_of(3)
