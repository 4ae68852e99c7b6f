"""The three coders do the same; the symbols' tables are chosen alike on machines that differ a little."""

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.entropy.coders import GUARD, RateEstimator, SymbolDecoder, SymbolEncoder, rdo_quantize
from vcodec.entropy.factorized import FactorizedPrior
from vcodec.entropy.gaussian import LOG_SCALE_MIN, LOG_SCALE_STEP, gaussian_bits
from vcodec.errors import VcodecError

SHAPE = (1, 6, 9, 7)


def latents(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, means and log-scales (float64) as a model would give them."""
    generator = torch.Generator().manual_seed(seed)
    log_scales = torch.empty(shape, dtype=torch.float64).uniform_(-3, 3, generator=generator)
    means = torch.randn(shape, generator=generator)
    y = means + torch.randn(shape, generator=generator) * torch.exp(log_scales).float()
    return y, means, log_scales


def checkerboard(shape: tuple[int, ...]) -> torch.Tensor:
    rows, columns = torch.arange(shape[2]), torch.arange(shape[3])
    return ((rows[:, None] + columns) % 2 == 0)[None, None]


def make_prior(channels: int = 4, banks: int = 3) -> FactorizedPrior:
    torch.manual_seed(1)
    prior = FactorizedPrior(channels, banks)
    prior.update()
    return prior


@pytest.mark.parametrize("masked", [False, True])
def test_the_decoder_reads_what_the_encoder_wrote(masked):
    y, means, log_scales = latents(0)
    mask = checkerboard(SHAPE) if masked else None
    encoder = SymbolEncoder()
    y_hat, symbols = encoder.code_latents(y, means, log_scales, mask)
    decoder = SymbolDecoder(encoder.finish())
    decoded, decoded_symbols = decoder.code_latents(None, means, log_scales, mask)
    decoder.finish()
    assert torch.equal(decoded, y_hat)
    assert torch.equal(decoded_symbols, symbols)
    assert torch.equal(symbols, symbols.round())
    if mask is not None:
        assert not y_hat[~mask.expand(SHAPE)].any()
        assert not symbols[~mask.expand(SHAPE)].any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stream", [None, "here"])
@pytest.mark.parametrize("rdoq", [0, 8])
def test_what_is_read_lies_in_memory_as_what_was_written(layout, stream, rdoq):
    """Convolutions may round other layouts otherwise; a close call must not change that either."""
    y, means, log_scales = (values.contiguous(memory_format=layout) for values in latents(0))
    mask = checkerboard(SHAPE)
    close_call = LOG_SCALE_MIN + (20 - 0.5) * LOG_SCALE_STEP
    for listed in (False, True):
        log_scales[0, 0, 0, 0] = close_call if listed else 0
        encoder = SymbolEncoder(rdoq=rdoq)
        encoder.begin(stream)
        written = [*encoder.code_latents(y, means, log_scales), *encoder.code_latents(y, means, log_scales, mask)]
        payload = encoder.finish()
        assert payload[0] == 2 * listed
        decoder = SymbolDecoder(payload)
        decoder.begin(stream)
        read = [*decoder.code_latents(None, means, log_scales), *decoder.code_latents(None, means, log_scales, mask)]
        for one, other in zip(written, read, strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()


def test_factorized_symbols_come_back_however_far_out():
    prior, shape = make_prior(), (1, 4, 2, 3)
    z = torch.linspace(-1e10, 1e10, 24).reshape(shape)
    z[0, 1] = torch.tensor([[0.4, -0.6, 1.5], [41, -41, 1e4]])
    encoder = SymbolEncoder()
    z_hat = encoder.code_factorized(prior, z, shape, torch.tensor([2]))
    decoder = SymbolDecoder(encoder.finish())
    assert torch.equal(decoder.code_factorized(prior, None, shape, torch.tensor([2])), z_hat)
    decoder.finish()
    assert z_hat[0, 1].tolist() == [[0, -1, 2], [41, -41, 1e4]]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_a_whole_frame_of_several_calls_comes_back(seed, height, width, masked):
    shape = (1, 4, height, width)
    prior, bank = make_prior(), torch.tensor([seed % 3])
    y, means, log_scales = latents(seed, shape)
    z = torch.randn(shape) * 5
    mask = checkerboard(shape) if masked else torch.ones(1, 1, 1, 1, dtype=torch.bool)
    encoder = SymbolEncoder()
    written = [encoder.code_factorized(prior, z, shape, bank), *encoder.code_latents(y, means, log_scales, mask)]
    written += encoder.code_latents(y, means, log_scales, ~mask)
    decoder = SymbolDecoder(encoder.finish())
    read = [decoder.code_factorized(prior, None, shape, bank), *decoder.code_latents(None, means, log_scales, mask)]
    read += decoder.code_latents(None, means, log_scales, ~mask)
    decoder.finish()
    assert all(torch.equal(a, b) for a, b in zip(written, read, strict=True))


def test_the_estimate_is_the_length_of_the_bytes_within_two_percent():
    shape = (1, 16, 40, 40)
    y, means, log_scales = latents(3, shape)
    estimator = RateEstimator(1, training=False)
    estimated, _ = estimator.code_latents(y, means, log_scales)
    encoder = SymbolEncoder()
    coded, _ = encoder.code_latents(y, means, log_scales)
    assert torch.equal(estimated, coded)
    assert 8 * len(encoder.finish()) == pytest.approx(estimator.bits.item(), rel=0.02)


def test_the_estimate_of_hyper_latents_is_the_length_of_the_bytes_within_two_percent():
    prior, shape, bank = make_prior(), (1, 4, 60, 60), torch.tensor([1])
    z = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    estimator, encoder = RateEstimator(1, training=False), SymbolEncoder()
    assert torch.equal(estimator.code_factorized(prior, z, shape, bank).double(),
                       encoder.code_factorized(prior, z, shape, bank))  # fmt: skip
    assert 8 * len(encoder.finish()) == pytest.approx(estimator.bits.item(), rel=0.02)


def test_training_rounds_straight_through_and_the_noise_belongs_to_the_sample():
    y, means, log_scales = (torch.cat([a, b]) for a, b in zip(latents(1), latents(2), strict=True))
    y.requires_grad_()

    def estimate(samples: slice) -> tuple[torch.Tensor, torch.Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)][samples]
        coder = RateEstimator(len(generators), training=True, generators=generators, rdoq=0)
        y_hat, _ = coder.code_latents(y[samples], means[samples], log_scales[samples])
        (by_noise,) = torch.autograd.grad(coder.bits.sum(), y, retain_graph=True)
        return y_hat, by_noise[samples]

    y_hat, by_noise = estimate(slice(0, 2))
    assert torch.allclose(y_hat, torch.round(y - means) + means, atol=1e-5)
    (gradient,) = torch.autograd.grad(y_hat.sum(), y)
    assert torch.equal(gradient, torch.ones_like(y))
    assert by_noise.any()
    assert torch.allclose(by_noise, torch.cat([estimate(slice(0, 1))[1], estimate(slice(1, 2))[1]]))


def test_noise_pulls_a_learned_analysis_but_neither_means_nor_scales():
    y, means, log_scales = (x.float().requires_grad_() for x in latents(1))
    fixed, learned = (RateEstimator(1, training=True) for _ in range(2))
    expected, _ = fixed.code_latents(y.detach(), means, log_scales)
    y_hat, _ = learned.code_latents(y, means, log_scales)
    assert torch.equal(y_hat, expected)
    assert learned.bits.item() == pytest.approx(fixed.bits.item(), rel=1e-6)
    ours = torch.autograd.grad(learned.bits.sum(), [means, log_scales], retain_graph=True)
    for gradient, same in zip(ours, torch.autograd.grad(fixed.bits.sum(), [means, log_scales]), strict=True):
        assert torch.allclose(gradient, same)
    by_y, by_means = torch.autograd.grad(y_hat.sum(), [y, means], retain_graph=True)
    assert torch.equal(by_y, torch.ones_like(y))
    assert torch.equal(by_means, torch.ones_like(means))
    assert torch.autograd.grad(learned.bits.sum(), y)[0].any()


def test_training_sees_the_rate_of_what_is_sent_where_the_analysis_is_fixed():
    y, means, log_scales = latents(1)
    means, log_scales = means.clone().requires_grad_(), log_scales.float().clamp_min(-1).requires_grad_()
    training, evaluation = (RateEstimator(1, training=mode) for mode in (True, False))
    y_hat, symbols = training.code_latents(y, means, log_scales)
    expected, _ = evaluation.code_latents(y, means, log_scales)
    assert torch.equal(y_hat, expected)
    assert training.bits.item() == pytest.approx(evaluation.bits.item(), rel=1e-5)
    assert not symbols.requires_grad  # the choice is given: the picture moves with the means alone
    (gradient,) = torch.autograd.grad(y_hat.sum(), means, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(means))
    scales, by_means = torch.autograd.grad(training.bits.sum(), [log_scales, means])
    assert scales.any()
    assert not by_means[symbols == 0].any()


@pytest.mark.parametrize("price", [4.0, 8.66, 30.0])
def test_optimised_quantisation_is_the_best_of_nearest_and_next_lower(price):
    y, means, log_scales = latents(3)
    residuals = (y - means).double()
    chosen = rdo_quantize(residuals, log_scales.double(), price)
    nearest = residuals.round()

    def cost(symbols: torch.Tensor) -> torch.Tensor:
        return price * (residuals - symbols).square() + gaussian_bits(symbols, log_scales.double())

    lower = nearest - nearest.sign()
    assert torch.allclose(cost(chosen), torch.minimum(cost(nearest), cost(lower)))
    assert (chosen != nearest).any()
    assert torch.equal(rdo_quantize(residuals, log_scales, 0.0), nearest)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-9, 1e-12]))
def test_scales_that_differ_a_little_give_the_same_symbols(seed, noise):
    """Half of the log-scales are put on a boundary of the grid, where the least difference changes the level."""
    y, means, log_scales = latents(seed)
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(-2, 66, SHAPE, generator=generator)
    near = torch.empty(SHAPE, dtype=torch.float64).uniform_(-2 * noise, 2 * noise, generator=generator)
    boundary = LOG_SCALE_MIN + (levels - 0.5) * LOG_SCALE_STEP + near
    log_scales = torch.where(torch.rand(SHAPE, generator=generator) < 0.5, boundary, log_scales)
    encoder = SymbolEncoder()
    y_hat, _ = encoder.code_latents(y, means, log_scales)
    other = log_scales + torch.empty(SHAPE, dtype=torch.float64).uniform_(-noise, noise, generator=generator)
    decoder = SymbolDecoder(encoder.finish())
    assert torch.equal(decoder.code_latents(None, means, other)[0], y_hat)
    decoder.finish()


def test_without_the_list_of_close_calls_a_boundary_would_be_lost():
    """The test above can fail: the same case just outside the guard band does."""
    y, means, _ = latents(0)
    at_boundary = torch.full(SHAPE, LOG_SCALE_MIN + 19.5 * LOG_SCALE_STEP, dtype=torch.float64)
    outside = at_boundary + 1.5 * GUARD * LOG_SCALE_STEP
    encoder = SymbolEncoder()
    encoder.code_latents(y, means, outside)
    decoder = SymbolDecoder(encoder.finish())
    decoder.code_latents(None, means, at_boundary - 1.5 * GUARD * LOG_SCALE_STEP)
    with pytest.raises(VcodecError):
        decoder.finish()


def test_ordinary_scales_cost_one_byte_for_the_list():
    y, means, log_scales = latents(5)
    encoder = SymbolEncoder()
    encoder.code_latents(y, means, log_scales)
    assert encoder.finish()[0] == 0


def test_a_frame_of_certain_zeros_costs_nothing():
    zeros = torch.zeros(1, 8, 50, 50)
    small = torch.full(zeros.shape, math.log(0.05), dtype=torch.float64)
    encoder = SymbolEncoder()
    encoder.code_latents(zeros + 0.3, zeros, small)
    assert encoder.finish() == b""
    decoder = SymbolDecoder(b"")
    assert not decoder.code_latents(None, zeros, small)[1].any()
    decoder.finish()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scales_that_are_no_numbers_are_coded_like_any_other(value):
    y, means, log_scales = latents(6)
    log_scales[0, :3] = value
    encoder = SymbolEncoder()
    y_hat, _ = encoder.code_latents(y, means, log_scales)
    decoder = SymbolDecoder(encoder.finish())
    assert torch.equal(decoder.code_latents(None, means, log_scales)[0], y_hat)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    prior, shape = make_prior(), (1, 4, 2, 2)
    _, means, log_scales = latents(4, shape)
    with contextlib.suppress(VcodecError):
        decoder = SymbolDecoder(data)
        decoder.code_factorized(prior, None, shape, torch.tensor([0]))
        decoder.code_latents(None, means, log_scales)
        decoder.finish()


@given(st.data())
def test_damaged_bytes_are_read_or_refused(data):
    y, means, log_scales = latents(8)
    log_scales[0, 0] = LOG_SCALE_MIN + 9.5 * LOG_SCALE_STEP  # close calls, so that their list is damaged as well
    encoder = SymbolEncoder()
    encoder.code_latents(y, means, log_scales)
    damaged = bytearray(encoder.finish())
    at = data.draw(st.integers(0, 140) | st.integers(0, len(damaged) - 1))
    damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(VcodecError):
        decoder = SymbolDecoder(bytes(damaged))
        decoder.code_latents(None, means, log_scales)
        decoder.finish()
