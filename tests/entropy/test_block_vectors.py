"""Coding of block motion: exact bytes, the same from C and from Python, learning, and no surprise from damage."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_fields import random_field

from vcodec.entropy.block_vectors import BOTH, LONGEST, MODE, X0, X1, FieldMixer
from vcodec.entropy.rans import RansDecoder, RansEncoder
from vcodec.errors import VcodecError


def encode(mixer: FieldMixer, field: np.ndarray, previous: np.ndarray | None, two: bool) -> bytes:
    rans = RansEncoder()
    mixer.encode(field, previous, two, rans)
    return rans.finish()


def decode(mixer: FieldMixer, data: bytes, size: tuple[int, ...], previous: np.ndarray | None, two: bool) -> np.ndarray:
    rans = RansDecoder(data)
    field = mixer.decode(*size, previous, two, rans)
    rans.finish()
    return field


@pytest.mark.parametrize("use_c", [True, False])
def test_the_bytes_never_change(use_c):
    mixer, previous, frames = FieldMixer(use_c=use_c), None, []
    for seed in (1, 2, 3):
        field = random_field(seed, 4, 4, two=seed > 1)
        frames.append(encode(mixer, field, previous, seed > 1).hex())
        previous = field
    assert frames == [
        "38f1db995d7e97ad3499ceea789cd9eda8adf89c72d7",
        "7d553cd5345d0b31fc01b83dc0e78c18028a9f5b23e64c8a916ecd9e49",
        "0701061c33fab1c191932904be573b584489f9b07a17852176dfdf98ee01",
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.sampled_from([3, 60, LONGEST])), min_size=1, max_size=3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
)
def test_c_and_python_write_the_same_bytes_and_read_them_back(kinds, size, two):
    rows, columns = 2 * size[0], 2 * size[1]
    writers = [FieldMixer(use_c=use_c) for use_c in (True, False)]
    readers = [FieldMixer(use_c=use_c) for use_c in (True, False)]
    previous = None
    for seed, reach in kinds:
        field = random_field(seed, rows, columns, two=two, reach=reach)
        data, same = (encode(writer, field, previous, two) for writer in writers)
        assert data == same
        for reader in readers:
            assert np.array_equal(decode(reader, data, (rows, columns), previous, two), field)
        previous = field


def test_what_comes_again_takes_fewer_bytes():
    mixer, previous, sizes = FieldMixer(), None, []
    field = random_field(7, 16, 16)
    for _ in range(4):
        sizes.append(len(encode(mixer, field, previous, True)))
        previous = field
    assert sizes[1] < 0.75 * sizes[0]
    assert sizes[3] < sizes[1]


def test_a_field_without_motion_takes_no_bytes_to_speak_of():
    mixer, field = FieldMixer(), np.zeros((6, 68, 120), np.int16)  # of 960x544 pixels
    assert len(encode(mixer, field, None, False)) < 20


def test_bits_are_those_of_the_bytes():
    field = random_field(5, 12, 12)
    size = len(encode(FieldMixer(), field, None, True))
    assert FieldMixer().bits(field, None, True) / 8 == pytest.approx(size, abs=4)


def test_a_copy_learns_for_itself():
    mixer = FieldMixer()
    encode(mixer, random_field(1, 8, 8), None, True)
    once = encode(mixer.copy(), random_field(2, 8, 8), None, True)
    assert encode(mixer, random_field(2, 8, 8), None, True) == once


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_any_bytes_are_read_alike_or_refused_and_give_sound_fields(data, two, follows):
    results, previous = [], random_field(1, 4, 4, reach=LONGEST) if follows else None
    for use_c in (True, False):
        try:
            results.append(decode(FieldMixer(use_c=use_c), data, (4, 4), previous, two))
        except VcodecError:
            results.append(None)
    assert (results[0] is None) == (results[1] is None)
    if results[0] is not None:
        assert np.array_equal(*results)
        assert results[0][MODE].max() <= (BOTH if two else 0)
        assert np.abs(results[0][[X0, X0 + 1, X1, X1 + 1]]).max() <= LONGEST


def test_damage_never_crashes():
    field = random_field(5, 12, 12)
    data = encode(FieldMixer(), field, None, True)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        with contextlib.suppress(VcodecError):
            read = decode(FieldMixer(), bytes(damaged), (12, 12), None, True)
            assert read[MODE].max() <= BOTH
            assert np.abs(read[X0:]).max() <= LONGEST


def test_a_vector_that_is_too_long_is_refused():
    field = np.zeros((6, 2, 2), np.int16)
    field[X0] = LONGEST + 1
    for use_c in (True, False):
        with pytest.raises(ValueError, match="no encoder writes"):
            encode(FieldMixer(use_c=use_c), field, None, False)


def test_vectors_that_are_not_used_are_filled_in_alike_on_both_sides():
    field = random_field(4, 4, 4)
    bare = field.copy()
    bare[X1 : X1 + 2][:, field[MODE] == 0] = 0
    bare[X0 : X0 + 2][:, field[MODE] == 1] = 0
    assert np.array_equal(FieldMixer().encode(bare, None, True, RansEncoder()), field)
