"""What is written to a file is read back: samples, format, frame rate and time stamps."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcodec.errors import VcodecError
from vcodec.video import Frame, VideoFormat, create_video, from_rgb, open_video, to_rgb

SIZES = [(16, 16), (17, 15), (1, 1), (64, 2), (3, 50)]


def natural(format: VideoFormat, count: int = 3, seed: int = 0) -> list[Frame]:
    """Frames of smooth colour with some noise, within the RGB cube."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : format.height, 0 : format.width].astype(np.float32)
    frames = []
    for index in range(count):
        phases = 0.1 * index + np.array([0, 1, 2], np.float32)
        rgb = 0.5 + 0.2 * np.sin(0.2 * x[..., None] + 0.1 * y[..., None] + phases)
        rgb += generator.normal(0, 0.02, rgb.shape)
        frames.append(from_rgb(rgb.astype(np.float32), format, index))
    return frames


def formats(chromas: list[str], sizes: list[tuple[int, int]] = SIZES) -> list[VideoFormat]:
    return [
        VideoFormat(*size, chroma, depth, matrix, full_range)
        for size in sizes
        for chroma in chromas
        for depth in (8, 10)
        for matrix, full_range in (("bt601", False), ("bt709", True))
        if full_range or chroma != "rgb"
    ]


def describe(format: VideoFormat) -> str:
    full = "full" if format.full_range else "limited"
    return f"{format.width}x{format.height}-{format.pixel_format}-{format.matrix}-{full}"


def rewritten(path, frames: list[Frame], rate: Fraction = Fraction(30000, 1001), **options) -> list[Frame]:
    with create_video(path, frames[0].format, rate, 1 / rate, **options) as writer:
        for frame in frames:
            writer.write(frame)
    assert not path.with_name(path.name + ".part").exists()
    with open_video(path) as reader:
        assert reader.frame_rate == rate
        return list(reader)


def assert_same(found: list[Frame], expected: list[Frame]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.format == other.format
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("format", formats(["420", "422", "444", "gray"]), ids=describe)
def test_y4m_keeps_everything(tmp_path, format):
    frames = natural(format)
    assert_same(rewritten(tmp_path / "clip.y4m", frames), frames)


@pytest.mark.parametrize("format", formats(["420", "422", "444", "gray"], [(416, 24), (17, 15)]), ids=describe)
def test_raw_video_keeps_the_samples(tmp_path, format):
    frames = natural(format)
    path = tmp_path / "clip.yuv"
    with create_video(path, format, Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame)
    size = (format.width, format.height)
    with open_video(path, size=size, pixel_format=format.pixel_format, frame_rate=60) as reader:
        assert reader.frame_rate == 60
        assert reader.frame_count == 3
        found = list(reader)
    for one, other in zip(found, frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def lossless_formats() -> list[VideoFormat]:
    even = formats(["420", "422", "444", "gray", "rgb"], [(32, 18)])
    odd = formats(["444", "gray", "rgb"], [(17, 15)])
    return even + odd


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("format", lossless_formats(), ids=describe)
def test_h264_is_lossless_by_default(tmp_path, format, ending):
    frames = natural(format)
    found = rewritten(tmp_path / f"clip{ending}", frames)
    if format.chroma == "rgb" and format.bit_depth == 10:  # x264 has no such format
        assert found[0].format.pixel_format == "yuv444p10le"
        difference = [np.abs(to_rgb(a) - to_rgb(b)).max() for a, b in zip(found, frames, strict=True)]
        assert max(difference) < 2 / 1023
    elif format.chroma == "gray":  # decoders of H.264 add chroma planes without colour
        for one, other in zip(found, frames, strict=True):
            assert np.array_equal(one.planes[0], other.planes[0])
            assert np.allclose(to_rgb(one), to_rgb(other), atol=1e-6)
    elif format.chroma == "rgb":
        assert_same(found, [Frame(f.planes, f.pts, found[0].format) for f in frames])
    else:
        assert_same(found, frames)


@pytest.mark.parametrize("format", formats(["420", "422"], [(17, 15), (1, 1), (16, 15)]), ids=describe)
def test_h264_of_an_odd_size_shows_the_same_picture(tmp_path, format):
    frames = natural(format)
    found = rewritten(tmp_path / "clip.mkv", frames)
    for one, other in zip(found, frames, strict=True):
        assert np.array_equal(to_rgb(one), to_rgb(other))


@pytest.mark.parametrize("format", formats(["420", "422", "444"], [(17, 15), (32, 16)]), ids=describe)
def test_vp9_is_lossless_by_default(tmp_path, format):
    frames = natural(format)
    path = tmp_path / "clip.webm"
    if format.pixel_format in [f.name for f in av.Codec("libvpx-vp9", "w").video_formats]:
        assert_same(rewritten(path, frames, Fraction(25)), frames)
    else:  # libvpx is often built for 8 bits alone
        with pytest.raises(VcodecError, match="libvpx-vp9 can't hold"):
            rewritten(path, frames)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", formats(["gray", "rgb"], [(17, 15), (1, 1)]), ids=describe)
def test_png_keeps_grey_and_rgb_exactly(tmp_path, format):
    frames = natural(format)
    found = rewritten(tmp_path / "clip", frames, Fraction(25))
    assert [path.name for path in sorted((tmp_path / "clip").iterdir())] == [f"{n:06d}.png" for n in range(3)]
    if format.full_range:
        assert_same(found, [Frame(f.planes, f.pts, found[0].format) for f in frames])
    for one, other in zip(found, frames, strict=True):
        assert np.abs(to_rgb(one) - to_rgb(other)).max() <= 0.5001 / format.max_value + 0.5 / 65535


@pytest.mark.parametrize("format", formats(["420", "444"], [(17, 15)]), ids=describe)
def test_png_shows_the_picture(tmp_path, format):
    (frame,) = natural(format, 1)
    path = tmp_path / "picture.png"
    with create_video(path, format) as writer:
        writer.write(frame)
    with open_video(path) as reader:
        assert reader.frame_rate is None
        (found,) = reader
    assert np.abs(to_rgb(found) - to_rgb(frame)).max() <= 0.5001 / format.max_value + 0.5 / 65535


def test_crf_makes_smaller_files(tmp_path):
    frames = natural(VideoFormat(64, 64), 10)
    for ending in (".mp4", ".webm"):
        sizes = []
        for crf in (None, 20, 45):
            path = tmp_path / f"{crf}{ending}"
            rewritten(path, frames, Fraction(25), crf=crf)
            sizes.append(path.stat().st_size)
        assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("crf", [None, 30])
def test_varying_time_stamps_are_kept(tmp_path, ending, crf):
    times = [0, 40, 50, 51, 300, 1234, 1250]
    format = VideoFormat(32, 32)
    frames = [Frame(f.planes, t, format) for f, t in zip(natural(format, len(times)), times, strict=True)]
    path = tmp_path / f"clip{ending}"
    with create_video(path, format, Fraction(25), Fraction(1, 1000), crf=crf) as writer:
        for frame in frames:
            writer.write(frame)
    with open_video(path) as reader:
        found = [frame.pts * reader.time_base * 1000 for frame in reader]
    assert found == times


def test_colour_description_and_pixel_aspect_are_kept(tmp_path):
    format = VideoFormat(64, 32, "420", 10, "bt2020", False, 9, 16, Fraction(64, 45))
    for ending in (".mp4", ".mkv"):
        found = rewritten(tmp_path / f"hdr{ending}", natural(format), Fraction(25))
        assert found[0].format == format
    found = rewritten(tmp_path / "hdr.y4m", natural(format), Fraction(25))
    assert found[0].format.sample_aspect_ratio == Fraction(64, 45)
    assert found[0].format.matrix == "bt2020"


def test_rgb_pictures_become_444_in_y4m(tmp_path):
    frames = natural(VideoFormat(17, 15, "rgb", full_range=True))
    found = rewritten(tmp_path / "clip.y4m", frames)
    assert found[0].format.chroma == "444"
    assert found[0].format.full_range
    assert max(np.abs(to_rgb(a) - to_rgb(b)).max() for a, b in zip(found, frames, strict=True)) < 2 / 255


def test_other_programs_read_our_y4m(tmp_path):
    frames = natural(VideoFormat(18, 16, "420", 10, "bt709", True))
    path = tmp_path / "clip.y4m"
    rewritten(path, frames)
    with av.open(str(path)) as container:
        found = list(container.decode(video=0))
    assert found[0].format.name == "yuv420p10le"
    assert found[0].color_range == 2
    luma = np.frombuffer(found[1].planes[0], np.uint16).reshape(16, -1)[:, :18]
    assert np.array_equal(luma, frames[1].planes[0])


def test_seeking_and_counting_frames(tmp_path):
    frames = natural(VideoFormat(16, 16), 10)
    for name in ("a.y4m", "b.mp4", "c", "d_16x16_25.yuv"):
        with create_video(tmp_path / name, frames[0].format, Fraction(25)) as writer:
            for frame in frames:
                writer.write(frame)
        with open_video(tmp_path / name, seek=3, frames=4) as reader:
            assert reader.frame_count == 4
            found = list(reader)
        assert len(found) == 4
        with open_video(tmp_path / name) as reader:
            whole = list(reader)
        assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(found, whole[3:7], strict=True))
        with open_video(tmp_path / name, seek=10) as reader, pytest.raises(VcodecError, match="no frame at frame 10"):
            list(reader)


def test_a_frame_rate_given_replaces_the_time_stamps(tmp_path):
    frames = natural(VideoFormat(16, 16), 4)
    path = tmp_path / "clip.mp4"
    rewritten(path, frames)
    with open_video(path, frame_rate=10) as reader:
        assert (reader.frame_rate, reader.time_base) == (10, Fraction(1, 10))
        assert [frame.pts for frame in reader] == [0, 1, 2, 3]


def test_pipes_carry_y4m(monkeypatch):
    class Stream:
        def __init__(self, data: bytes = b"") -> None:
            self.buffer = io.BytesIO(data)

        def isatty(self) -> bool:
            return False

    frames = natural(VideoFormat(18, 16), 3)
    out = Stream()
    monkeypatch.setattr("sys.stdout", out)
    with create_video("-", frames[0].format, Fraction(50)) as writer:
        for frame in frames:
            writer.write(frame)
    data = out.buffer.getvalue()
    monkeypatch.setattr("sys.stdin", Stream(data))
    with open_video("-") as reader:
        assert reader.frame_rate == 50
        assert_same(list(reader), frames)
    monkeypatch.setattr("sys.stdin", Stream(b"".join(p.tobytes() for f in frames for p in f.planes)))
    with open_video("-", size=(18, 16)) as reader:
        assert len(list(reader)) == 3


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    chroma=st.sampled_from(["gray", "420", "422", "444", "rgb"]),
    depth=st.sampled_from([8, 10]),
    matrix=st.sampled_from(["bt601", "bt709", "bt2020"]),
    full_range=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_planes_to_rgb_and_back_is_the_identity(width, height, chroma, depth, matrix, full_range, seed):
    format = VideoFormat(width, height, chroma, depth, matrix, full_range or chroma == "rgb")
    (frame,) = natural(format, 1, seed)
    rgb = to_rgb(frame)
    assert rgb.dtype == np.float32
    assert rgb.shape == (height, width, 3)
    assert 0 < rgb.min() <= rgb.max() < 1
    assert_same([from_rgb(rgb, format)], [frame])
