"""The container: exact bytes, small framing, and what survives damage, loss, truncation and malice."""

import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from vcodec.bitstream import Damage, Packet, StreamHeader, StreamReader, StreamWriter
from vcodec.bitstream_syntax import SYNC, TRAILER, varint, write_header, write_parameters
from vcodec.errors import VcodecError
from vcodec.video import VideoFormat

HEADER = StreamHeader(
    model="tiny.r1",
    weights_hash=b"\x01\x02\x03\x04\x05\x06\x07\x08",
    format=VideoFormat(416, 240, matrix="bt601"),
    frame_rate=Fraction(50),
    time_base=Fraction(1, 12800),
    frame_count=3,
    gop_size=2,
)


def packets(count: int, gop_size: int, iframe_bytes: int = 40, pframe_bytes: int = 10) -> list[Packet]:
    """Packets whose payloads all differ."""
    made = []
    for frame in range(count):
        frame_type, size = ("I", iframe_bytes) if frame % gop_size == 0 else ("P", pframe_bytes)
        payload = (varint(frame + 1) * size)[:size]
        made.append(Packet(frame_type, 32, 256 * frame, payload))
    return made


def written(header: StreamHeader, items: list[Packet]) -> tuple[bytes, list[int]]:
    """A whole stream, and where each packet begins (and the end record after the last)."""
    file = io.BytesIO()
    offsets = []
    with StreamWriter(file, header) as writer:
        for item in items:
            offsets.append(writer.bytes_written)
            writer.write(item)
        offsets.append(writer.bytes_written)
    return file.getvalue(), offsets


def read(data: bytes) -> list[Packet | Damage]:
    return list(StreamReader(io.BytesIO(data)))


class Pipe(io.RawIOBase):
    """Hands over a few bytes at a time and can't seek."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(memoryview(buffer)[:7])


def test_the_bytes_of_a_stream_never_change():
    second = Packet("P", 30, 257, b"second", skip=2)
    stream, _ = written(HEADER, [Packet("I", 32, 0, b"first"), second, Packet("I", 30, 600, b"third")])
    assert stream == bytes.fromhex(
        # magic and version, length, frame count + 1, width, height, picture, flags, time base, frame rate
        "f5564342 01 1d 04 a003 f001 01 01 01 8064 3201"
        # GOP size, weights hash, model name, CRC-32
        "02 0102030405060708 07 74696e792e7231 67f13396"
        # I-frame: marker, kind, number, time, quality, no parameters, length, payload, CRC-32
        "f5565301 00 00 00 20 00 05 6669727374 8ccd3804"
        # P-frame: residual skipped, one unit late, a new quality, length, payload, CRC-32
        "16 1e 06 7365636f6e64 eca7af9c"
        # I-frame: marker, kind, number, time, quality, parameters, length, payload, CRC-32
        "f5565301 00 02 b001 1e"
        "1c a003f001010101806432010201020304050607080774696e792e7231 05 7468697264 17644c81"
        # end record: marker, kind, frame count, two I-frames at 0 and 39 bytes on, CRC-32; its length, VCBE
        "f5565301 01 03 02 0027 0220 9f37ccdc 0f000000 56434245"
    )


def test_packets_and_header_come_back_as_they_were_written():
    items = packets(30, 12)
    stream, _ = written(HEADER, items)
    reader = StreamReader(io.BytesIO(stream))
    assert reader.header == HEADER
    assert list(reader) == items
    assert reader.frame_count == 30  # of the end record; the header announced 3


def test_a_stream_can_be_read_from_a_pipe():
    items = packets(30, 12)
    stream, _ = written(HEADER, items)
    reader = StreamReader(Pipe(stream))
    assert list(reader) == items
    assert reader.frame_count == HEADER.frame_count


def test_a_pipe_gives_each_packet_as_soon_as_it_is_whole():
    class Watched(Pipe):
        def readinto(self, buffer) -> int:
            count = super().readinto(buffer)
            self.read_so_far = self._file.tell()
            return count

    stream, offsets = written(HEADER, packets(5, 5))
    pipe = Watched(stream)
    reader = StreamReader(pipe)
    for frame, _ in enumerate(reader):
        assert pipe.read_so_far <= offsets[frame + 1] + 7


@pytest.mark.parametrize(("size", "budget"), [(0, 6), (100, 6), (127, 6), (16383, 7)])
def test_pframe_framing_stays_within_its_budget(size, budget):
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER)
    writer.write(Packet("I", 32, 0, b""))
    assert writer.write(Packet("P", 32, 256, bytes(size))) - size == budget
    assert writer.write(Packet("P", 33, 512, bytes(size))) - size == budget + 1  # at most 8


@pytest.mark.parametrize("rate", ["50", "30000/1001", "24000/1001", "25", "120", "1/10"])
@pytest.mark.parametrize("time_base", ["1/1000", "1/90000", "1/12800", "1001/30000"])
def test_time_stamps_at_a_constant_rate_cost_nothing(rate, time_base):
    header = replace(HEADER, frame_rate=Fraction(rate), time_base=Fraction(time_base))
    times = [round(frame / header.frame_rate / header.time_base) for frame in range(200)]
    items = [Packet("P" if frame else "I", 32, pts, b"") for frame, pts in enumerate(times)]
    stream, offsets = written(header, items)
    assert read(stream) == items
    assert max(b - a for a, b in pairwise(offsets[1:])) == 6


def test_varying_time_stamps_are_kept():
    times = [0, 256, 300, 5000, 4999, -7, 1 << 40]
    items = [Packet("P" if frame else "I", 32, pts, b"x") for frame, pts in enumerate(times)]
    assert read(written(HEADER, items)[0]) == items


def test_any_flipped_byte_costs_at_most_its_gop():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    for position in range(5, len(stream)):
        gop = max((frame for frame in (0, 3, 6) if offsets[frame] <= position), default=0)
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(stream)
            damaged[position] ^= flip
            got = read(bytes(damaged))
            lost = [item for item in got if isinstance(item, Damage)]
            whole = [item for item in got if isinstance(item, Packet)]
            assert all(item in items for item in whole)
            if position >= len(stream) - TRAILER.size:
                assert got == items  # the index is lost, and nothing else
            elif position >= offsets[-1]:
                assert (whole, len(lost), lost[0].count) == (items, 1, 0)
            else:
                assert len(lost) == 1
                assert len(whole) + lost[0].count == 9
                assert [item.pts // 256 for item in whole if not gop <= item.pts // 256 < gop + 3] == [
                    frame for frame in range(9) if not gop <= frame < gop + 3
                ]


def test_every_whole_packet_before_a_cut_is_delivered():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    header_bytes = offsets[0]
    for length in range(header_bytes, offsets[-1]):
        got = read(stream[:length])
        whole = sum(end <= length for end in offsets[1:])
        assert got[:-1] == items[:whole]
        assert (got[-1].frame, got[-1].count, got[-1].reason) == (whole, 0, "the stream is cut off")
    for length in range(header_bytes):
        with pytest.raises(VcodecError, match=r"not a vcodec stream|header is damaged"):
            read(stream[:length])


def test_a_lost_packet_is_noticed_and_costs_at_most_its_gop():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    for frame in range(9):
        got = read(stream[: offsets[frame]] + stream[offsets[frame + 1] :])
        next_iframe = (frame // 3 + 1) * 3
        (lost,) = (item for item in got if isinstance(item, Damage))
        assert (lost.frame, lost.count, lost.pts) == (frame, next_iframe - frame, 256 * frame)
        assert [item for item in got if isinstance(item, Packet)] == items[:frame] + items[next_iframe:]


def test_repeated_packets_are_reported_and_not_delivered_twice():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    got = read(stream[: offsets[6]] + stream[offsets[3] :])
    assert [item for item in got if isinstance(item, Packet)] == items
    assert [(item.frame, item.count) for item in got if isinstance(item, Damage)] == [(6, 0)]


def test_a_packet_of_another_stream_is_not_accepted():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    other, other_offsets = written(replace(HEADER, weights_hash=b"another!"), items)
    got = read(stream[: offsets[3]] + other[other_offsets[3] : other_offsets[6]] + stream[offsets[6] :])
    assert [(item.frame, item.count) for item in got if isinstance(item, Damage)] == [(3, 3)]


def test_a_damaged_sequence_header_is_found_again_in_the_next_iframe():
    stream, _ = written(HEADER, packets(9, 3))
    damaged = bytearray(stream)
    damaged[10] ^= 0xFF
    reader = StreamReader(io.BytesIO(bytes(damaged)))
    assert reader.header == replace(HEADER, frame_count=None)
    got = list(reader)
    assert (got[0].frame, got[0].count) == (0, 3)
    assert got[1:] == packets(9, 3)[3:]


def test_strict_reading_stops_at_the_first_damage():
    stream, offsets = written(HEADER, packets(9, 3))
    damaged = bytearray(stream)
    damaged[offsets[4] + 5] ^= 1
    reader = StreamReader(io.BytesIO(bytes(damaged)), strict=True)
    with pytest.raises(VcodecError, match="the stream: frame 4: its checksum is wrong"):
        list(reader)


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "scan"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_seeking_starts_at_the_iframe_before(indexed, piped):
    items = packets(30, 12)
    stream, _ = written(HEADER, items)
    if not indexed:
        stream = stream[: -TRAILER.size]
    for frame in range(30):
        reader = StreamReader(Pipe(stream) if piped else io.BytesIO(stream))
        start = reader.seek(frame)
        assert start == frame // 12 * 12
        assert next(reader) == items[start]
        assert reader.frame == start
        assert list(reader) == items[start + 1 :]
    with pytest.raises(VcodecError, match="there is no frame 30"):
        StreamReader(Pipe(stream) if piped else io.BytesIO(stream)).seek(30)


def test_seeking_by_the_index_reads_only_what_it_needs():
    class Counted(io.BytesIO):
        count = 0

        def read1(self, size=-1):
            data = super().read1(size)
            self.count += len(data)
            return data

    stream, _ = written(HEADER, packets(600, 12, iframe_bytes=5000, pframe_bytes=500))
    file = Counted(stream)
    reader = StreamReader(file)
    reader.seek(500)
    assert len(stream) > 500_000
    assert file.count < 4 * 65536


def test_seeking_into_damage_starts_before_it():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    damaged = bytearray(stream)
    damaged[offsets[3] + 20] ^= 1  # the I-frame 3 itself
    reader = StreamReader(io.BytesIO(bytes(damaged)))
    assert reader.seek(4) == 0
    got = list(reader)
    assert got[:3] == items[:3]
    assert (got[3].frame, got[3].count) == (3, 3)


def test_a_false_index_is_not_followed():
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    record = SYNC + b"\x01" + varint(9) + varint(2) + varint(0) + varint(1) + varint(3) + varint(1 << 62)
    record += struct.pack("<I", zlib.crc32(record, zlib.crc32(struct.pack("<Q", 9))))
    false = stream[: offsets[-1]] + record + TRAILER.pack(len(record), b"VCBE")
    reader = StreamReader(io.BytesIO(false))
    assert reader.seek(4) == 3
    assert list(reader) == items[3:]


def test_writing_goes_on_after_the_last_whole_gop(tmp_path):
    items = packets(9, 3)
    stream, offsets = written(HEADER, items)
    for length in range(offsets[0], len(stream) - TRAILER.size, 5):
        path = tmp_path / "part.vcb"
        path.write_bytes(stream[:length])
        with path.open("r+b") as file, StreamWriter.resume(file, HEADER) as writer:
            assert writer.frame_count % 3 == 0
            for item in items[writer.frame_count :]:
                writer.write(item)
        assert path.read_bytes() == stream
    path.write_bytes(stream[: offsets[5]])
    with path.open("r+b") as file, pytest.raises(VcodecError, match="another video"):
        StreamWriter.resume(file, replace(HEADER, gop_size=4))


def test_what_is_no_stream_is_refused_by_name(tmp_path):
    path = tmp_path / "clip.vcb"
    for content, message in [
        (b"", "not a vcodec stream"),
        (b"\x00" * 100, "not a vcodec stream"),
        (written(HEADER, packets(3, 3))[0].replace(b"VCB\x01", b"VCB\x07", 1), "version 7"),
        (write_header(HEADER)[:-1] + b"\x00", "the sequence header is damaged"),
    ]:
        path.write_bytes(content)
        with path.open("rb") as file, pytest.raises(VcodecError, match=f"clip.vcb: .*{message}"):
            StreamReader(file)


def test_sizes_and_lengths_are_checked_before_anything_is_allocated():
    def stream_with(fields: bytes) -> bytes:
        data = b"\xf5VCB\x01" + varint(len(fields)) + fields
        return data + struct.pack("<I", zlib.crc32(data))

    good = b"\x00" + write_parameters(HEADER)
    assert StreamReader(io.BytesIO(stream_with(good))).header == replace(HEADER, frame_count=None)
    size = varint(416) + varint(240)
    for hostile in [varint(16385) + varint(1), varint(0) + varint(5), varint(1 << 62) + varint(1 << 62)]:
        with pytest.raises(VcodecError, match="picture size"):
            StreamReader(io.BytesIO(stream_with(good.replace(size, hostile))))

    iframe = SYNC + b"\x00\x00\x00\x20\x00" + varint(1 << 40)  # a payload of a terabyte
    (damage,) = read(stream_with(good) + iframe)
    assert (damage.frame, damage.count, damage.reason) == (0, 0, "a number is out of range")


def test_a_far_jump_of_frame_numbers_is_not_believed():
    parameters = write_parameters(HEADER)
    number = 1 << 31
    packet = SYNC + b"\x00" + varint(number) + b"\x00\x20" + varint(len(parameters)) + parameters + b"\x00"
    packet += struct.pack("<I", zlib.crc32(packet, zlib.crc32(struct.pack("<Q", number))))
    stream, offsets = written(HEADER, packets(3, 3))
    got = read(stream[: offsets[-1]] + packet)
    assert (got[-1].frame, got[-1].count) == (3, 0)


def test_no_more_frames_are_lost_than_were_whole(monkeypatch):
    """Else a few I-frames after many small packets could ask for any number of pictures."""
    monkeypatch.setattr("vcodec.bitstream_reader.MAX_LOST_FRAMES", 3)
    parameters = write_parameters(HEADER)

    def iframe(number: int) -> bytes:
        packet = SYNC + b"\x00" + varint(number) + b"\x00\x20" + varint(len(parameters)) + parameters + b"\x00"
        return packet + struct.pack("<I", zlib.crc32(packet, zlib.crc32(struct.pack("<Q", number))))

    stream, offsets = written(HEADER, packets(5, 5))
    got = read(stream[: offsets[-1]] + iframe(9) + iframe(14) + iframe(19) + iframe(24))
    assert [(item.frame, item.count) for item in got if isinstance(item, Damage)] == [(5, 4), (10, 0)]


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        (varint(1) + varint(12800), varint(2) + varint(25600)),  # the time base, not in lowest terms
        (b"\x01\x01\x01\x80\x64\x32\x01", b"\x01\x03\x01\x80\x64\x32\x01\x02\x02"),  # colours that need no flag
        (b"\x01\x01\x01\x80\x64\x32\x01", b"\x01\x05\x01\x80\x64\x32\x01\x01\x01"),  # square pixels, flagged
    ],
)
def test_parameters_have_one_form_only(fields, others):
    """A copy of them in an I-frame is compared byte by byte."""
    parameters = write_parameters(HEADER)
    assert parameters.count(fields) == 1
    content = b"\x00" + parameters.replace(fields, others)
    data = b"\xf5VCB\x01" + varint(len(content)) + content
    with pytest.raises(VcodecError, match=r"not in their shortest form"):
        StreamReader(io.BytesIO(data + struct.pack("<I", zlib.crc32(data))))


def test_false_packets_within_each_other_take_linear_time():
    parameters = write_parameters(HEADER)
    false = SYNC + b"\x00\x00\x00\x20" + varint(len(parameters)) + parameters + varint(HEADER.max_payload)
    stream = write_header(HEADER) + false * 60_000
    passed_over = []

    class Counting(StreamReader):
        def _synchronise(self, start):
            found = super()._synchronise(start)
            passed_over.append(self._wasted)
            return found

    got = list(Counting(io.BytesIO(stream)))
    assert [type(item) for item in got] == [Damage]
    assert passed_over[-1] <= 6 * len(stream) + (1 << 22)


def test_values_that_do_not_fit_are_refused_when_writing():
    with pytest.raises(VcodecError, match="quality of 64"):
        Packet("P", 64, 0, b"")
    with pytest.raises(VcodecError, match="GOP of 0"):
        replace(HEADER, gop_size=0)
    with pytest.raises(VcodecError, match="model name"):
        replace(HEADER, model="x" * 65)
    writer = StreamWriter(io.BytesIO(), replace(HEADER, format=VideoFormat(1, 1)))
    with pytest.raises(VcodecError, match="begins with an I-frame"):
        writer.write(Packet("P", 3, 0, b""))
    with pytest.raises(VcodecError, match="too much"):
        writer.write(Packet("I", 3, 0, bytes(70_000)))
