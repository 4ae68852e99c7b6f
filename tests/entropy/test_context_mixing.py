"""Adaptive context mixing: exact bytes, the same from C and from Python, learning, and no surprise from damage."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.entropy.coders import SymbolDecoder, SymbolEncoder
from vcodec.entropy.context_mixing import ContextMixer, DCPrediction, Statistics, SymbolMap
from vcodec.entropy.factorized import FactorizedPrior
from vcodec.entropy.gaussian import gaussian_tables
from vcodec.entropy.laplace import laplace_tables
from vcodec.entropy.rans import RansDecoder, RansEncoder
from vcodec.errors import VcodecError

INT32 = np.iinfo(np.int32)
DC_PREDICTIONS: tuple[DCPrediction, ...] = (None, "checkerboard", "raster")


def symbol_map(seed: int, shape: tuple[int, int, int], wild: float = 0.02, spacing: int = 1) -> SymbolMap:
    """Symbols (H, W, C) that fit their rows, but for some that could be anything."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 64, shape).astype(np.int32)
    symbols = np.round(random.laplace(0, np.exp(-2.2 + 0.123 * rows) / 1.4)).astype(np.int64)
    strange = random.random(shape) < wild
    symbols[strange] = random.integers(INT32.min, INT32.max, int(strange.sum()), endpoint=True)
    coded = (random.random(shape) < 0.8).astype(np.uint8)
    return SymbolMap(coded, rows, rows.astype(np.uint8), symbols.astype(np.int32), spacing)


def in_two_passes(whole: SymbolMap) -> list[SymbolMap]:
    first = (np.indices(whole.rows.shape).sum(0) % 2).astype(np.uint8)
    return [replace(whole, coded=whole.coded & part) for part in (first, 1 - first)]


def encode(mixer: ContextMixer, whole: SymbolMap, use_c: bool, tables=laplace_tables, dc: DCPrediction = None) -> bytes:
    rans = RansEncoder(use_c=use_c)
    mixer.begin(whole.rows.shape, dc)
    for part in in_two_passes(whole):
        mixer.encode(part, rans, tables())
    return rans.finish()


def decode(
    mixer: ContextMixer, data: bytes, whole: SymbolMap, use_c: bool, tables=laplace_tables, dc: DCPrediction = None
) -> np.ndarray:
    rans = RansDecoder(data, use_c=use_c)
    mixer.begin(whole.rows.shape, dc)
    for part in in_two_passes(whole):
        read = mixer.decode(SymbolMap(part.coded, part.rows, part.levels, spacing=part.spacing), rans, tables())
    rans.finish()
    return read


def coded_size(whole: SymbolMap, dc: DCPrediction) -> int:
    """Of a map in one part."""
    rans, mixer = RansEncoder(), ContextMixer()
    mixer.begin(whole.rows.shape, dc)
    mixer.encode(whole, rans, laplace_tables())
    return len(rans.finish())


@pytest.mark.parametrize("use_c", [True, False])
def test_the_bytes_never_change(use_c):
    mixer = ContextMixer(use_c=use_c)
    frames = [encode(mixer, symbol_map(seed, (3, 2, 4), wild=0.05), use_c).hex() for seed in (1, 2, 3)]
    assert frames == [
        "2defd3f782d34dde8b320d101f567cd5c8ae",
        "0624fe7a89dc00113decc76251d3e8d349e263e03e71",
        "045a0f2126b88550acfb64",
    ]


@pytest.mark.parametrize("use_c", [True, False])
@pytest.mark.parametrize(
    ("dc", "expected"),
    [
        (
            "checkerboard",
            [
                "3a4f8b941f8d8bf4832462d092ea89b370dda9589c48b33458a1248f16dd9c6ef685c0d31d89ecfb7069a107724fffc4862324b8398f58ef6b73aeef78",
                "c761910e791a6dca37315a5c35e5bdc0d426033d58d545469ccd06b7fb30362d723b5656ae602d14c5f768559aed44967fcf01c5b2bfc40d593e886e",
            ],
        ),
        (
            "raster",
            [
                "04cf5723aa290580b3266fe061cf06af4fd4cc976c8161c027b28409b6b9ec6194b09b6d2058885ae17b",
                "099d4667087eb8b66b2a4ec7741decf9510ecdebc8b40dcc5581dd6bf116bdb5f7efe2251100dd2bd010885ec94b23f6e9e551708e75fa3e",
            ],
        ),
    ],
)
def test_the_bytes_with_dc_prediction_never_change(use_c, dc, expected):
    mixer = ContextMixer(use_c=use_c)
    maps = [symbol_map(seed, (4, 5, 3), wild=0.05, spacing=seed) for seed in (1, 2)]
    assert [encode(mixer, whole, use_c, dc=dc).hex() for whole in maps] == expected


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=3),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5)),
    st.sampled_from([laplace_tables, gaussian_tables]),
    st.integers(1, 3),
    st.sampled_from(DC_PREDICTIONS),
)
def test_c_and_python_write_the_same_bytes_and_read_them_back(seeds, shape, tables, spacing, dc):
    writers = [ContextMixer(use_c=use_c) for use_c in (True, False)]
    readers = [ContextMixer(use_c=use_c) for use_c in (True, False)]
    for seed in seeds:
        whole = symbol_map(seed, shape, spacing=spacing)
        data, same = (encode(w, whole, use_c, tables, dc) for w, use_c in zip(writers, (True, False), strict=True))
        assert data == same
        for reader, use_c in zip(readers, (True, False), strict=True):
            read = decode(reader, data, whole, use_c, tables, dc)
            assert np.array_equal(read, np.where(whole.coded, whole.symbols, 0))


def test_a_map_of_another_size_follows_in_the_same_stream():
    writer, reader = ContextMixer(), ContextMixer()
    for seed, shape in enumerate([(2, 3, 4), (5, 1, 4), (2, 3, 4), (1, 1, 1)]):
        whole = symbol_map(seed, shape)
        read = decode(reader, encode(writer, whole, True), whole, True)
        assert np.array_equal(read, np.where(whole.coded, whole.symbols, 0))


def test_what_comes_again_takes_fewer_bytes():
    mixer = ContextMixer()
    shape = (12, 12, 16)
    rows = np.full(shape, 20, np.int32)
    symbols = np.zeros(shape, np.int32)
    symbols[:, :, 3] = 2  # one channel is busy, which the rows don't tell
    whole = SymbolMap(np.ones(shape, np.uint8), rows, rows.astype(np.uint8), symbols)
    sizes = [len(encode(mixer, whole, True)) for _ in range(4)]
    fixed = RansEncoder()
    fixed.push(symbols, rows, laplace_tables())
    assert sizes[0] < len(fixed.finish()) / 2
    assert sizes[3] < sizes[0]


@pytest.mark.parametrize("spacing", [1, 2])
def test_a_smooth_first_channel_takes_fewer_bytes_with_dc_prediction(spacing):
    rows, columns = np.indices((16, 16))
    symbols = (20 * np.sin(rows / 5) + 15 * np.cos(columns / 6)).round().astype(np.int32)[..., None]
    first = ((rows + columns) // spacing % 2 == 0) & (rows % spacing == 0) & (columns % spacing == 0)
    levels = np.full(symbols.shape, 40, np.int32)
    whole = SymbolMap(first[..., None].astype(np.uint8), levels, levels.astype(np.uint8), symbols, spacing)
    sizes = [coded_size(whole, dc) for dc in (None, "checkerboard")]
    assert sizes[1] < 0.8 * sizes[0]


def test_a_smooth_first_channel_coded_in_rows_takes_fewer_bytes_with_dc_prediction():
    rows, columns = np.indices((16, 16))
    symbols = (2 * rows + 3 * columns - 30).astype(np.int32)[..., None]  # a plane: the predictor is exact inside
    levels = np.full(symbols.shape, 40, np.int32)
    whole = SymbolMap(np.ones(symbols.shape, np.uint8), levels, levels.astype(np.uint8), symbols)
    sizes = [coded_size(whole, dc) for dc in (None, "raster")]
    assert sizes[1] < 0.2 * sizes[0]


def test_large_numbers_take_fewer_bytes_where_their_lengths_are_learnt():
    symbols = np.random.default_rng(2).integers(40, 60, (8, 8, 4)).astype(np.int32)
    levels = np.full(symbols.shape, 50, np.int32)
    whole = SymbolMap(np.ones(symbols.shape, np.uint8), levels, levels.astype(np.uint8), symbols)
    sizes = [len(encode(ContextMixer(), whole, True, dc=dc)) for dc in DC_PREDICTIONS]
    assert max(sizes[1:]) < 0.9 * sizes[0]


@pytest.mark.parametrize("dc", DC_PREDICTIONS)
def test_a_coder_that_chooses_takes_fewer_bits_than_the_error_is_worth(dc):
    random, shape, price = np.random.default_rng(4), (10, 10, 8), 10.0
    levels = random.integers(10, 45, shape).astype(np.int32)
    exact = random.laplace(0, np.exp(-2.2 + 0.123 * levels) / 1.4).astype(np.float32)
    nearest = exact.round().astype(np.int32)
    whole = SymbolMap(np.ones(shape, np.uint8), levels, levels.astype(np.uint8), nearest)
    plain = encode(ContextMixer(), whole, True, dc=dc)
    data = encode(ContextMixer(), replace(whole, exact=exact, price=price), True, dc=dc)
    chosen = decode(ContextMixer(), data, whole, True, dc=dc)
    assert (np.abs(chosen - nearest) <= 1).all()
    assert (chosen != nearest).any()
    if not dc:
        assert (np.abs(chosen) <= np.abs(nearest)).all()
    worth = price * float(((chosen - exact) ** 2 - (nearest - exact) ** 2).sum())
    assert 0 < worth < 8 * (len(plain) - len(data))


def test_a_price_beyond_measure_leaves_symbols_alone():
    whole = symbol_map(8, (6, 6, 4), wild=0.0)
    exact = (whole.symbols + np.random.default_rng(1).uniform(-0.49, 0.49, whole.symbols.shape)).astype(np.float32)
    chosen = encode(ContextMixer(), replace(whole, exact=exact, price=1e6), True)
    assert chosen == encode(ContextMixer(), whole, True)


def test_a_copy_learns_for_itself():
    mixer = ContextMixer()
    first, second = symbol_map(1, (4, 4, 4)), symbol_map(2, (4, 4, 4))
    encode(mixer, first, True)
    tried = mixer.copy()
    once = encode(tried, second, True)
    assert encode(mixer, second, True) == once


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 1000))
def test_any_bytes_are_read_alike_or_refused(data, seed):
    whole = symbol_map(seed, (3, 3, 3))
    results = []
    for use_c in (True, False):
        try:
            results.append(decode(ContextMixer(use_c=use_c), data, whole, use_c).tolist())
        except VcodecError:
            results.append(None)
    assert results[0] == results[1]


def test_damage_never_crashes():
    whole = symbol_map(5, (6, 6, 6))
    data = encode(ContextMixer(), whole, True)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        with contextlib.suppress(VcodecError):
            decode(ContextMixer(), bytes(damaged), whole, True)


def test_coders_carry_what_a_frame_taught_to_the_next():
    torch.manual_seed(3)
    shape = (1, 6, 5, 4)
    prior = FactorizedPrior(6)
    prior.update()
    bank = torch.tensor([0])
    means = torch.zeros(shape, dtype=torch.float64)
    log_scales = torch.full(shape, 0.5, dtype=torch.float64)
    mask = torch.rand(1, *shape[1:]) < 0.5
    written, read = Statistics(), Statistics()
    sizes = []
    for _ in range(3):
        z, y = torch.full(shape, 3.0), torch.full(shape, 2.0)
        encoder = SymbolEncoder(statistics=written)
        encoder.begin("here")
        expected = [encoder.code_factorized(prior, z, shape, bank)]
        for part in (mask, ~mask):
            expected += encoder.code_latents(y, means, log_scales, part)
        payload, written = encoder.finish(), encoder.statistics
        decoder = SymbolDecoder(payload, read)
        decoder.begin("here")
        found = [decoder.code_factorized(prior, None, shape, bank)]
        for part in (mask, ~mask):
            found += decoder.code_latents(None, means, log_scales, part)
        decoder.finish()
        read = decoder.statistics
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        sizes.append(len(payload))
    assert sizes[2] < sizes[0]
