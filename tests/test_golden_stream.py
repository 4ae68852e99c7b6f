"""A frozen stream by a frozen model: its bytes mean the same symbols for ever, and the symbols make the same bytes.

Pictures are not compared: they may differ in their last digits from machine to machine (docs/bitstream.md).
A test that fails here says that existing streams can't be decoded any more: raise the version of the format.
"""

import io
import json

import pytest
from recording import checksum, record, symbols_of
from synthetic import TEST_DATA, tiny_config

from vcodec.bitstream import Packet, StreamReader, StreamWriter
from vcodec.codec import Decoder
from vcodec.entropy import coders
from vcodec.files import decode
from vcodec.models import ImageModel
from vcodec.models.weights import weights_hash

WIDE_GUARD = 1e-3  # as in make_golden.py


def read_packets() -> tuple[StreamReader, list[Packet]]:
    reader = StreamReader(io.BytesIO((TEST_DATA / "golden.vcb").read_bytes()), strict=True)
    return reader, [packet for packet in reader if isinstance(packet, Packet)]


def test_the_model_is_known_by_the_same_hash(tiny_model):
    assert tiny_model.config == tiny_config()
    assert weights_hash(tiny_model).hex() == "95fb1206295da10c"
    assert read_packets()[0].header.weights_hash == weights_hash(tiny_model)


def test_every_symbol_is_the_one_that_was_written(tiny_model):
    expected = json.loads((TEST_DATA / "golden.json").read_text())
    reader, packets = read_packets()
    symbols = symbols_of(tiny_model, reader.header.format, packets)
    found = [
        {"type": p.frame_type, "quality": p.quality, "skip": p.skip, "pts": p.pts, "bytes": len(p.payload),
         "symbols": checksum(s)}
        for p, s in zip(packets, symbols, strict=True)
    ]  # fmt: skip
    assert found == expected


def test_the_symbols_make_the_same_file(tiny_model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coders, "GUARD", WIDE_GUARD)
    reader, packets = read_packets()
    decoder, file = Decoder(tiny_model, reader.header.format), io.BytesIO()
    with StreamWriter(file, reader.header) as writer:
        for p in packets:
            payload = record(decoder, p).encoder.finish()
            writer.write(Packet(p.frame_type, p.quality, p.pts, payload, p.skip))
    assert file.getvalue() == (TEST_DATA / "golden.vcb").read_bytes()


def test_the_stream_holds_what_makes_it_worth_keeping():
    _, packets = read_packets()
    assert {p.frame_type for p in packets} == {"I", "P"}
    assert {p.skip for p in packets} >= {0, 3}
    assert len({p.quality for p in packets}) == 3
    assert any(p.payload[:1] not in (b"", b"\0") for p in packets)  # a list of close calls


def test_the_stream_decodes_as_a_file(tiny_model: ImageModel):
    frames = list(decode(TEST_DATA / "golden.vcb", model=tiny_model, strict=True))
    assert [f.pts for f in frames] == [*range(12), 13]
