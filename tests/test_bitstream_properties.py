"""Whatever is written comes back; whatever is done to a stream ends in packets, damage or a sentence."""

import io
from contextlib import suppress
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.bitstream import Damage, Packet, StreamHeader, StreamReader, StreamWriter
from vcodec.errors import VcodecError
from vcodec.video import VideoFormat

ratios = st.builds(Fraction, st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1))
bytes_of_headers = st.integers(0, 255)


@st.composite
def formats(draw) -> VideoFormat:
    chroma = draw(st.sampled_from(["gray", "420", "422", "444", "rgb"]))
    return VideoFormat(
        draw(st.integers(1, 16384)),
        draw(st.integers(1, 16384)),
        chroma,
        draw(st.sampled_from([8, 10])),
        draw(st.sampled_from(["bt601", "bt709", "bt2020"])),
        chroma == "rgb" or draw(st.booleans()),
        draw(bytes_of_headers),
        draw(bytes_of_headers),
        draw(ratios),
    )


headers = st.builds(
    StreamHeader,
    model=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64),
    weights_hash=st.binary(min_size=8, max_size=8),
    format=formats(),
    frame_rate=st.none() | ratios,
    time_base=ratios,
    frame_count=st.none() | st.integers(0, 1 << 32),
    gop_size=st.just(-1) | st.integers(1, 1 << 32),
    arithmetic=st.sampled_from(["fp32", "bf16"]),
)


@st.composite
def packet_lists(draw) -> list[Packet]:
    made = []
    for frame in range(draw(st.integers(1, 12))):
        frame_type = "I" if frame == 0 else draw(st.sampled_from("IPPP"))
        skip = 0 if frame_type == "I" else draw(st.integers(0, 3))
        pts = draw(st.integers(-(1 << 60), 1 << 60) | st.just(frame))
        made.append(Packet(frame_type, draw(st.integers(0, 63)), pts, draw(st.binary(max_size=200)), skip))
    return made


def stream_of(header: StreamHeader, packets: list[Packet]) -> bytes:
    file = io.BytesIO()
    with StreamWriter(file, header) as writer:
        for packet in packets:
            writer.write(packet)
    return file.getvalue()


@given(headers, packet_lists())
def test_what_is_written_comes_back(header, packets):
    reader = StreamReader(io.BytesIO(stream_of(header, packets)), strict=True)
    assert reader.header == header
    assert list(reader) == packets
    assert reader.frame_count == len(packets)


@given(headers, packet_lists(), st.data())
def test_seeking_finds_the_iframe_before(header, packets, data):
    frame = data.draw(st.integers(0, len(packets) - 1))
    reader = StreamReader(io.BytesIO(stream_of(header, packets)))
    start = reader.seek(frame)
    assert start == max(n for n in range(frame + 1) if packets[n].frame_type == "I")
    assert list(reader) == packets[start:]


@st.composite
def mutations(draw, length: int) -> list[tuple[str, int, bytes]]:
    kinds = st.sampled_from(["overwrite", "insert", "delete", "cut", "repeat"])
    changes = st.tuples(kinds, st.integers(0, length), st.binary(min_size=1, max_size=20))
    return draw(st.lists(changes, min_size=1, max_size=4))


def mutate(stream: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, data in changes:
        before, after = stream[:at], stream[at:]
        stream = {
            "overwrite": before + data + after[len(data) :],
            "insert": before + data + after,
            "delete": before + after[len(data) :],
            "cut": before,
            "repeat": before + stream[max(0, at - 60) : at] + after,
        }[kind]
    return stream


@settings(max_examples=300)
@given(headers, packet_lists(), st.data())
def test_a_damaged_stream_gives_packets_of_the_original_and_damage_or_a_sentence(header, packets, data):
    stream = stream_of(header, packets)
    damaged = mutate(stream, data.draw(mutations(len(stream))))
    with suppress(VcodecError):
        reader = StreamReader(io.BytesIO(damaged))
        frame = -1
        for item in reader:
            if isinstance(item, Damage):
                frame += item.count
            else:
                frame += 1
                assert reader.frame == frame
                assert item == packets[frame]


@settings(max_examples=200)
@given(headers, packet_lists(), st.data(), st.booleans())
def test_seeking_in_a_damaged_stream_ends_well(header, packets, data, strict):
    stream = stream_of(header, packets)
    damaged = mutate(stream, data.draw(mutations(len(stream))))
    with suppress(VcodecError):
        reader = StreamReader(io.BytesIO(damaged), strict=strict)
        start = reader.seek(data.draw(st.integers(0, 15)))
        for item in reader:
            assert isinstance(item, Damage) or item == packets[reader.frame]
            assert reader.frame >= start


@given(st.binary(max_size=300))
def test_any_bytes_after_a_magic_end_well(data):
    with suppress(VcodecError):
        list(StreamReader(io.BytesIO(b"\xf5VCB\x01" + data)))
