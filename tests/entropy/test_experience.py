"""What coding starts with: kept in the weights, the same for C and Python, and worth its bytes."""

import numpy as np
import pytest
import torch
from synthetic_fields import random_field

from vcodec.entropy import block_vectors, context_mixing
from vcodec.entropy.block_vectors import FieldMixer
from vcodec.entropy.context_mixing import ContextMixer, Statistics, SymbolMap
from vcodec.entropy.experience import FIELD, MOST_VISITS, Experience
from vcodec.entropy.laplace import laplace_tables
from vcodec.entropy.rans import RansDecoder, RansEncoder

STREAMS = {"residual/y": context_mixing.KINDS, FIELD: block_vectors.KINDS}


def symbol_map(seed: int) -> SymbolMap:
    """Symbols that are larger than their rows say."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 30, (6, 6, 8)).astype(np.int32)
    symbols = np.round(random.laplace(0, 1.0, rows.shape)).astype(np.int32)
    return SymbolMap(np.ones(rows.shape, np.uint8), rows, rows.astype(np.uint8), symbols)


def code(statistics: Statistics, seed: int) -> tuple[bytes, bytes]:
    """The bytes of a map and of a field."""
    rans, whole = RansEncoder(), symbol_map(seed)
    mixer = statistics.mixer("residual/y")
    mixer.begin(whole.rows.shape)
    mixer.encode(whole, rans, laplace_tables())
    field = RansEncoder()
    statistics.field_mixer(FIELD).encode(random_field(seed, 8, 8), None, True, field)
    return rans.finish(), field.finish()


def taught() -> Experience:
    statistics = Statistics()
    for seed in range(20):
        code(statistics, seed)
        statistics = statistics.without_pictures()
    experience = Experience(STREAMS)
    experience.learn(statistics)
    return experience


def test_without_teaching_coding_starts_with_nothing():
    assert code(Experience(STREAMS).statistics(), 1) == code(Statistics(), 1)


def test_it_saves_bytes_at_the_start():
    with_it, without = code(taught().statistics(), 100), code(Statistics(), 100)
    assert len(with_it[0]) < 0.95 * len(without[0])
    assert len(with_it[1]) < len(without[1])


def test_it_is_part_of_the_weights_and_says_the_same_from_there():
    experience, other = taught(), Experience(STREAMS)
    other.load_state_dict(experience.state_dict())
    assert code(other.statistics(), 7) == code(experience.statistics(), 7)
    kinds = {value.dtype for value in experience.state_dict().values()}
    assert kinds == {torch.int32, torch.uint8}, "types that processes can exchange, and that halving leaves alone"
    assert int(experience.residual_y_visits.max()) == MOST_VISITS


def test_each_start_is_a_copy():
    experience = taught()
    first = code(experience.statistics(), 3)
    assert code(experience.statistics(), 3) == first


@pytest.mark.parametrize("kind", [ContextMixer, FieldMixer])
def test_c_and_python_start_alike(kind):
    records = taught().statistics().mixers()["residual/y" if kind is ContextMixer else FIELD].records
    mixers = [kind(use_c=use_c) for use_c in (True, False)]
    coded = []
    for mixer in mixers:
        mixer.records = records
        assert np.array_equal(mixer.records, records)
        rans = RansEncoder()
        if kind is ContextMixer:
            mixer.begin((6, 6, 8))
            mixer.encode(symbol_map(9), rans, laplace_tables())
        else:
            mixer.encode(random_field(9, 4, 4), None, True, rans)
        coded.append(rans.finish())
    assert coded[0] == coded[1]


def test_what_was_coded_with_it_is_decoded_with_it():
    experience = taught()
    _, data = code(experience.statistics(), 11)
    rans = RansDecoder(data)
    read = experience.statistics().field_mixer(FIELD).decode(8, 8, None, True, rans)
    rans.finish()
    assert np.array_equal(read, random_field(11, 8, 8))


def test_a_stream_without_dc_prediction_has_a_kind_less_and_starts_the_same():
    experience = Experience({"residual/y": context_mixing.KINDS_WITHOUT_DC})
    statistics = Statistics()
    code(statistics, 3)
    experience.learn(statistics.without_pictures())
    records = experience.statistics().mixer("residual/y").records
    expected = ContextMixer().records
    assert len(experience.residual_y_visits) == len(records) - 1
    assert np.array_equal(records[-1], expected[-1])
    assert not np.array_equal(records["weights"], expected["weights"])
