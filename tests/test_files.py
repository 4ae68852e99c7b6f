"""Whole files: `encode` and `decode`, any frame by seeking, and what they say when it can't be done."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from synthetic import TEST_DATA, assert_same_picture, moving_frames

from vcodec import decode, encode
from vcodec.bitstream import Damage, Packet, StreamReader, StreamWriter
from vcodec.codec import Encoder
from vcodec.errors import VcodecError
from vcodec.models import ImageModel
from vcodec.models.registry import build_model
from vcodec.video import Frame, VideoFormat, create_video, open_video, to_rgb

FORMAT = VideoFormat(30, 22)
FRAMES, GOP_SIZE = 10, 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.y4m"
    with create_video(path, FORMAT, 25) as writer:
        for frame in moving_frames(FORMAT, FRAMES):
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def stream(clip, tiny_model) -> Path:
    path = clip.with_suffix(".vcb")
    encode(clip, path, model=tiny_model, gop_size=GOP_SIZE)
    return path


@pytest.fixture(scope="module")
def decoded(stream, tiny_model) -> list[Frame]:
    return list(decode(stream, model=tiny_model))


def assert_same_frames(found: list[Frame], expected: list[Frame]) -> None:
    assert [f.pts for f in found] == [f.pts for f in expected]
    for one, other in zip(found, expected, strict=True):
        assert_same_picture(one, other)


def test_a_file_holds_what_the_encoder_reconstructs(clip, tiny_model, decoded):
    encoder = Encoder(tiny_model, FORMAT, 32, GOP_SIZE)
    with open_video(clip) as video:
        expected = [encoder.reconstruction for frame in video if encoder.encode(frame)]
    assert_same_frames(decoded, expected)


def test_the_report_counts_every_byte(clip, tiny_model, tmp_path):
    report = encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=GOP_SIZE, measure_psnr=True)
    size = (tmp_path / "a.vcb").stat().st_size
    assert report.bytes == size
    assert report.bpp == pytest.approx(8 * size / (30 * 22 * FRAMES))
    assert [frame.frame_type for frame in report.per_frame] == list("IPPPIPPPIP")
    assert sum(frame.bytes for frame in report.per_frame) < size  # header and index come on top
    pictures = zip(open_video(clip), decode(tmp_path / "a.vcb", model=tiny_model), strict=True)
    psnr = [-10 * np.log10(np.square(to_rgb(a) - to_rgb(b)).mean()) for a, b in pictures]
    assert report.psnr_rgb == pytest.approx(np.mean(psnr), abs=1e-4)


@pytest.mark.parametrize("seek", range(FRAMES))
@pytest.mark.parametrize("frames", [None, 1, 3])
def test_any_frame_can_be_decoded_alone(stream, tiny_model, decoded, seek, frames):
    end = None if frames is None else seek + frames
    assert_same_frames(list(decode(stream, model=tiny_model, seek=seek, frames=frames)), decoded[seek:end])


def test_seeking_reads_one_gop(stream, tiny_model, decoded, monkeypatch):
    monkeypatch.setattr("vcodec.bitstream_reader.READ_SIZE", 16)
    data = stream.read_bytes()

    class Counting(io.BytesIO):
        total = 0

        def read1(self, size: int | None = -1) -> bytes:
            part = super().read1(size)
            Counting.total += len(part)
            return part

    assert_same_frames(list(decode(Counting(data), model=tiny_model, seek=5, frames=2)), decoded[5:7])
    reader = StreamReader(io.BytesIO(data))
    used = sum(reader.packet_bytes for _ in reader if 4 <= reader.frame < 7)
    assert Counting.total < used + 150  # the header, and what was read ahead


def test_a_pipe_is_read_no_further_than_asked(stream, tiny_model, decoded):
    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes):
            self.rest = data

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            assert self.rest, "a pipe would wait here for ever"
            part, self.rest = self.rest[:8], self.rest[8:]
            return part

    reader = StreamReader(io.BytesIO(stream.read_bytes()))
    offsets = [reader.packet_offset for _ in reader]
    pipe = Pipe(stream.read_bytes()[: offsets[3]])
    assert_same_frames(list(decode(pipe, model=tiny_model, frames=3)), decoded[:3])


def test_seeking_without_an_index_gives_the_same(stream, tiny_model, decoded):
    reader = StreamReader(io.BytesIO(stream.read_bytes()))
    ends = [reader.packet_offset + reader.packet_bytes for _ in reader]
    cut = stream.read_bytes()[: ends[-1]]
    damage: list[Damage] = []
    frames = list(decode(io.BytesIO(cut), model=tiny_model, seek=7, damage=damage))
    assert_same_frames(frames, decoded[7:])
    assert [(d.frame, d.count) for d in damage] == [(FRAMES, 0)]  # nothing is lost, yet the end is missing


def test_seeking_beyond_the_end_is_one_sentence(stream, tiny_model):
    with pytest.raises(VcodecError, match=r"no frame 10: it ends after 10 frames"):
        next(decode(stream, model=tiny_model, seek=FRAMES))


def with_payload(stream: Path, frame: int, payload: bytes) -> io.BytesIO:
    """The stream with another payload in one packet, the checksum right."""
    reader, file = StreamReader(stream.open("rb"), strict=True), io.BytesIO()
    with StreamWriter(file, reader.header) as writer:
        for item in reader:
            assert isinstance(item, Packet)
            if reader.frame == frame:
                item = Packet(item.frame_type, item.quality, item.pts, payload, 0)
            writer.write(item)
    file.seek(0)
    return file


@pytest.mark.parametrize(("frame", "lost"), [(0, range(4)), (2, range(2, 4)), (4, range(4, 8)), (9, [9])])
def test_symbols_that_make_no_sense_cost_the_rest_of_the_gop(stream, tiny_model, decoded, frame, lost):
    damage: list[Damage] = []
    damaged = with_payload(stream, frame, b"\0" + bytes(range(1, 200)))
    frames = list(decode(damaged, model=tiny_model, damage=damage))
    assert [(d.frame, d.count, d.pts) for d in damage] == [(frame, len(lost), frame)]
    assert "damaged" in damage[0].reason
    assert [f.pts for f in frames] == list(range(FRAMES))
    for number in range(FRAMES):
        if number not in lost:
            assert_same_picture(frames[number], decoded[number])
        elif frame > 0:
            assert_same_picture(frames[number], decoded[frame - 1])
        else:
            assert len(np.unique(frames[number].planes[0])) == 1  # grey
    damaged.seek(0)
    with pytest.raises(VcodecError, match=f"frame {frame} can't be decoded"):
        list(decode(damaged, model=tiny_model, strict=True))


def test_an_image_model_codes_every_frame_by_itself(clip, tiny_model, tmp_path):
    model = ImageModel(tiny_model.config.iframe)
    model.iframe.load_state_dict(tiny_model.iframe.state_dict())
    report = encode(clip, tmp_path / "a.vcb", model=model, gop_size=12)
    assert {frame.frame_type for frame in report.per_frame} == {"I"}
    assert len(list(decode(tmp_path / "a.vcb", model=model))) == FRAMES


def test_a_picture_is_a_video_of_one_frame(tiny_model, tmp_path):
    frame = moving_frames(VideoFormat(20, 10, "rgb", full_range=True), 1)[0]
    with create_video(tmp_path / "a.png", frame.format) as writer:
        writer.write(frame)
    report = encode(tmp_path / "a.png", tmp_path / "a.vcb", model=tiny_model)
    (picture,) = decode(tmp_path / "a.vcb", model=tiny_model)
    assert report.frames == 1
    assert (picture.format.chroma, picture.format.width, picture.format.height) == ("rgb", 20, 10)


def test_time_stamps_and_rate_are_kept(tiny_model, tmp_path):
    frames = [Frame(f.planes, pts, FORMAT) for f, pts in zip(moving_frames(FORMAT, 4), (0, 100, 150, 900), strict=True)]
    with create_video(tmp_path / "a.mkv", FORMAT, 10, Fraction(1, 1000)) as writer:
        for frame in frames:
            writer.write(frame)
    encode(tmp_path / "a.mkv", tmp_path / "a.vcb", model=tiny_model, gop_size=2)
    reader = StreamReader((tmp_path / "a.vcb").open("rb"))
    assert [f.pts * reader.header.time_base for f in decode(tmp_path / "a.vcb", model=tiny_model)] == [
        Fraction(pts, 1000) for pts in (0, 100, 150, 900)
    ]


def test_a_model_is_found_by_its_file(clip, decoded, tmp_path):
    path = str(TEST_DATA / "tiny.safetensors")
    encode(clip, tmp_path / "a.vcb", model=path, gop_size=GOP_SIZE)
    assert_same_frames(list(decode(tmp_path / "a.vcb", model=path)), decoded)


def test_a_stream_of_a_model_that_does_not_ship_asks_for_its_file(stream):
    with pytest.raises(VcodecError, match=r"made with model 'tiny\.r1', which does not ship.*-m"):
        next(decode(stream))


def test_another_model_is_refused_by_both_names(stream, tiny_model):
    other = build_model(tiny_model.config)
    other.name = "other"
    other.update()
    with pytest.raises(VcodecError, match=r"'tiny\.r1' \(weights .*'other' has weights"):
        next(decode(stream, model=other))


def test_nothing_to_encode_leaves_nothing(clip, tiny_model, tmp_path):
    for options in ({"frames": 0}, {"seek": FRAMES}):
        with pytest.raises(VcodecError, match="there is no frame"):
            encode(clip, tmp_path / "a.vcb", model=tiny_model, **options)
    with pytest.raises(VcodecError, match="does not exist; make it first"):
        encode(clip, tmp_path / "missing" / "a.vcb", model=tiny_model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [0, -1])
def test_an_impossible_number_of_threads_is_refused(clip, tiny_model, tmp_path, threads):
    with pytest.raises(VcodecError, match="make no sense"):
        encode(clip, tmp_path / "a.vcb", model=tiny_model, threads=threads)
