"""The golden stream damaged in every way: what is lost is said, is at most a GOP, and all other pictures stay."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import TEST_DATA, assert_same_picture
from test_bitstream_properties import mutate, mutations

from vcodec.bitstream import Damage, Packet, StreamReader
from vcodec.bitstream_syntax import TRAILER
from vcodec.cli import main
from vcodec.codec import Decoder, bridge, decode_packets
from vcodec.errors import VcodecError
from vcodec.models import ImageModel
from vcodec.video import Frame, VideoFormat, open_video

GOLDEN = TEST_DATA / "golden.vcb"
TINY = str(TEST_DATA / "tiny.safetensors")
FRAMES, IFRAMES = 13, (0, 5, 10)


class Shown(NamedTuple):
    frames: list[Frame]
    damage: list[Damage]


Show = Callable[[bytes], Shown]


class RememberingDecoder(Decoder):
    """Decodes what it has not decoded before: a picture depends on the packets since the I-frame alone."""

    def __init__(self, model: ImageModel, format: VideoFormat) -> None:
        super().__init__(model, format)
        self._memory: dict[tuple[Packet, ...], tuple] = {}
        self._since: tuple[Packet, ...] = ()

    def decode(self, packet: Packet) -> Frame:
        self._since = (packet,) if packet.frame_type == "I" else (*self._since, packet)
        if self._since not in self._memory:
            self._memory[self._since] = (super().decode(packet), self._reference)
        frame, self._reference = self._memory[self._since]
        return frame


@pytest.fixture(scope="module")
def show(tiny_model) -> Show:
    """What `vcodec.decode` gives for the bytes of a stream of the golden one's format."""
    decoder = RememberingDecoder(tiny_model, StreamReader(io.BytesIO(GOLDEN.read_bytes())).header.format)

    def shown(data: bytes) -> Shown:
        damage: list[Damage] = []
        reader = StreamReader(io.BytesIO(data))
        assert reader.header.format == decoder.format
        decoder.forget()
        decoded = decode_packets(decoder, reader, 0, reader.pts_step, False, damage)
        return Shown(list(bridge(decoded, decoder.format)), damage)

    return shown


@pytest.fixture(scope="module")
def offsets() -> list[int]:
    """Where each packet begins, and the end record after the last."""
    reader = StreamReader(io.BytesIO(GOLDEN.read_bytes()))
    starts = [(reader.packet_offset, reader.packet_bytes) for _ in reader]
    return [*(offset for offset, _ in starts), sum(starts[-1])]


def next_iframe(frame: int) -> int:
    return next((n for n in IFRAMES if n > frame), FRAMES)


def assert_only_lost(found: Shown, whole: list[Frame], lost: range) -> None:
    """The lost frames repeat the picture before, or are grey; the others are what they were."""
    assert len(found.frames) == len(whole)
    for number, (one, other) in enumerate(zip(found.frames, whole, strict=True)):
        if number not in lost:
            assert_same_picture(one, other)
        elif number > 0:
            assert_same_picture(one, found.frames[number - 1])
        else:
            assert len(np.unique(one.planes[0])) == 1
    if lost:
        assert [(d.frame, d.count) for d in found.damage] == [(lost.start, len(lost))]
        assert found.damage[0].reason


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_every_flipped_byte_is_reported_and_costs_at_most_its_gop(show, offsets, flip):
    data = GOLDEN.read_bytes()
    whole = show(data).frames
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= flip
        if position < 5:  # magic and version
            with pytest.raises(VcodecError, match=r"not a vcodec stream|version"):
                show(bytes(damaged))
            continue
        found = show(bytes(damaged))
        if position >= offsets[-1]:  # the end record, and the trailer, which only an index is found by
            assert_only_lost(found, whole, range(0))
            assert [(d.frame, d.count) for d in found.damage] == [(13, 0)] * (position < len(data) - TRAILER.size)
            continue
        # without a sequence header the first GOP is lost: the next I-frame brings it along
        frame = max((n for n in range(FRAMES) if offsets[n] <= position), default=0)
        assert_only_lost(found, whole, range(frame, next_iframe(frame)))


def test_every_whole_frame_before_a_cut_is_shown(show, offsets):
    data = GOLDEN.read_bytes()
    whole = show(data)
    for length in range(len(data)):
        if length < offsets[0]:
            with pytest.raises(VcodecError, match=r"not a vcodec stream|header is damaged"):
                show(data[:length])
            continue
        found = show(data[:length])
        shown = sum(end <= length for end in offsets[1:])
        assert_only_lost(found, whole.frames[:shown], range(0))
        ended = length >= len(data) - TRAILER.size
        assert [(d.frame, d.count, d.reason) for d in found.damage] == (
            [] if ended else [(shown, 0, "the stream is cut off")]
        )


def test_every_lost_packet_is_noticed_and_costs_at_most_its_gop(show, offsets):
    data = GOLDEN.read_bytes()
    whole = show(data).frames
    for frame in range(FRAMES):
        found = show(data[: offsets[frame]] + data[offsets[frame + 1] :])
        assert_only_lost(found, whole, range(frame, next_iframe(frame)))


@given(st.sets(st.integers(0, FRAMES - 1)))
def test_any_packets_may_be_lost(show, offsets, missing):
    data = GOLDEN.read_bytes()
    kept = [data[offsets[n] : offsets[n + 1]] for n in range(FRAMES) if n not in missing]
    found = show(b"".join([data[: offsets[0]], *kept, data[offsets[-1] :]]))
    lost = {n for frame in missing for n in range(frame, next_iframe(frame))}
    assert reported(found) == lost
    assert_others_stay(found, show(data).frames)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_stream_a_picture_is_right_or_reported(show, data):
    stream = GOLDEN.read_bytes()
    with suppress(VcodecError):
        found = show(mutate(stream, data.draw(mutations(len(stream)))))
        assert_others_stay(found, show(stream).frames)


def reported(found: Shown) -> set[int]:
    return {n for d in found.damage for n in range(d.frame, d.frame + d.count)}


def assert_others_stay(found: Shown, whole: list[Frame]) -> None:
    for number in set(range(len(found.frames))) - reported(found):
        assert_same_picture(found.frames[number], whole[number])


# --- The command line ---


def flipped(tmp_path, offset: int) -> str:
    data = bytearray(GOLDEN.read_bytes())
    data[offset] ^= 0x10
    path = tmp_path / "damaged.vcb"
    path.write_bytes(data)
    return str(path)


def test_the_command_names_the_frames_that_are_lost_and_writes_all(tmp_path, offsets, capsys):
    path, output = flipped(tmp_path, offsets[6] + 4), tmp_path / "a.y4m"
    assert main(["decode", path, str(output), "-m", TINY, "--quiet", "--json"]) == 1
    out, error = capsys.readouterr()
    assert error == f"vcodec: {path}: frames 6 to 9 are lost: its checksum is wrong\n"
    damage = {"frame": 6, "count": 4, "reason": "its checksum is wrong", "pts": 6}
    assert json.loads(out)["damage"] == [damage]
    with open_video(output) as video:
        assert len(list(video)) == FRAMES


def test_the_command_stops_at_damage_where_it_shall_be_strict(tmp_path, offsets, capsys):
    path, output = flipped(tmp_path, offsets[6] + 4), tmp_path / "a.y4m"
    assert main(["decode", path, str(output), "-m", TINY, "--quiet", "--strict"]) == 1
    assert capsys.readouterr().err == f"vcodec: {path}: frame 6: its checksum is wrong\n"
    assert not list(tmp_path.glob("a.y4m*"))


def test_the_command_puts_what_came_before_a_cut_in_place(tmp_path, offsets, capsys):
    path, output = tmp_path / "cut.vcb", tmp_path / "a.y4m"
    path.write_bytes(GOLDEN.read_bytes()[: offsets[8] + 9])
    assert main(["decode", str(path), str(output), "-m", TINY, "--quiet"]) == 1
    assert "nothing can be read after frame 7 of 13: the stream is cut off" in capsys.readouterr().err
    with open_video(output) as video:
        assert len(list(video)) == 8
