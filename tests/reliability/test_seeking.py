"""Any frame by itself, by the index or by looking for it: the right picture, and no more read than it takes."""

import io
from pathlib import Path

import pytest
from synthetic import TEST_DATA, assert_same_picture

from vcodec.bitstream import Damage, Packet, StreamReader
from vcodec.bitstream_syntax import TRAILER
from vcodec.cli import main
from vcodec.codec import Decoder
from vcodec.files import decode
from vcodec.video import Frame, open_video

TINY = str(TEST_DATA / "tiny.safetensors")
GOP_SIZE, FRAMES = 4, 14


class Watched(io.BytesIO):
    """A file that remembers how many bytes were read of it."""

    def __init__(self, data: bytes, seekable: bool = True) -> None:
        super().__init__(data)
        self._seekable, self.count = seekable, 0

    def seekable(self) -> bool:
        return self._seekable

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data

    def read1(self, size: int | None = -1) -> bytes:
        data = super().read1(size)
        self.count += len(data)
        return data


@pytest.fixture(autouse=True)
def small_steps(monkeypatch) -> None:
    """Reading ahead by 64 KiB would take in these streams at once."""
    monkeypatch.setattr("vcodec.bitstream_reader.READ_SIZE", 16)


@pytest.fixture(scope="module")
def packets(stream: Path) -> list[tuple[int, int]]:
    """Where each packet begins and ends."""
    reader = StreamReader(io.BytesIO(stream.read_bytes()))
    return [(reader.packet_offset, reader.packet_offset + reader.packet_bytes) for _ in reader]


@pytest.fixture
def decoded_times(monkeypatch) -> list[int]:
    """Time stamps of the packets that are decoded from now on."""
    times: list[int] = []
    decode_packet = Decoder.decode

    def watched(decoder: Decoder, packet: Packet) -> Frame:
        times.append(packet.pts)
        return decode_packet(decoder, packet)

    monkeypatch.setattr(Decoder, "decode", watched)
    return times


@pytest.mark.parametrize("way", ["index", "no index", "pipe"])
def test_any_frame_is_right_and_no_more_is_read_and_decoded_than_it_takes(
    stream, decoded, packets, tiny_model, decoded_times, way
):
    data = stream.read_bytes()
    header, end_record = packets[0][0], len(data) - packets[-1][1]
    for frame in range(FRAMES):
        file = Watched(data[: -TRAILER.size] if way == "no index" else data, seekable=way != "pipe")
        damage: list[Damage] = []
        decoded_times.clear()
        (found,) = decode(file, model=tiny_model, seek=frame, frames=1, damage=damage)
        assert_same_picture(found, decoded[frame])
        assert (found.pts, damage) == (frame, [])
        start = frame // GOP_SIZE * GOP_SIZE
        assert decoded_times == list(range(start, frame + 1))
        first, last = packets[start][0], packets[frame][1]
        # the index is looked up through the trailer; reading goes in steps of 16 bytes
        allowed = {"index": header + end_record + TRAILER.size + last - first, "no index": TRAILER.size + last}
        assert file.count <= allowed.get(way, last) + 3 * 16


def test_a_range_of_frames_ends_where_it_was_asked_to(stream, decoded, packets, tiny_model, decoded_times):
    file = Watched(stream.read_bytes())
    found = list(decode(file, model=tiny_model, seek=6, frames=3))
    assert [frame.pts for frame in found] == [6, 7, 8]
    for one, other in zip(found, decoded[6:9], strict=True):
        assert_same_picture(one, other)
    assert decoded_times == [4, 5, 6, 7, 8]


def test_the_command_takes_any_part_of_a_stream(stream, decoded, tmp_path):
    output = tmp_path / "a.y4m"
    command = ["decode", str(stream), str(output), "-m", TINY, "--quiet", "--seek", "9", "--frames", "2"]
    assert main(command) == 0
    with open_video(output) as video:
        frames = list(video)
    assert len(frames) == 2
    for one, other in zip(frames, decoded[9:11], strict=True):
        for a, b in zip(one.planes, other.planes, strict=True):
            assert (a == b).all()


def test_frames_behind_damage_are_reached_without_an_index(stream, decoded, packets, tiny_model):
    data = bytearray(stream.read_bytes()[: -TRAILER.size])
    data[packets[2][0] + 3] ^= 1
    for frame in range(FRAMES):
        damage: list[Damage] = []
        (found,) = decode(io.BytesIO(bytes(data)), model=tiny_model, seek=frame, frames=1, damage=damage)
        if frame in (2, 3):
            assert [(d.frame, d.count) for d in damage] == [(2, 2)]
            assert_same_picture(found, decoded[1])
        else:
            assert damage == []
            assert_same_picture(found, decoded[frame])
