"""Opening every kind of video: what the file says about itself is used, and what is no video is refused."""

import io
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vcodec.errors import VcodecError
from vcodec.video import Frame, VideoFormat, create_video, open_video, to_rgb
from vcodec.video.raw import Y4mSource, parse_yuv_name
from vcodec.video.truncation import is_cut_off


@pytest.mark.parametrize(
    ("name", "size", "pixel_format", "rate"),
    [
        ("BasketballPass_416x240_50.yuv", (416, 240), "yuv420p", 50),
        ("Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), "yuv420p", 120),
        ("Bosphorus_3840x2160_120fps_420_10bit_YUV.yuv", (3840, 2160), "yuv420p10le", 120),
        ("Kimono1_1920x1080_24.yuv", (1920, 1080), "yuv420p", 24),
        ("NebutaFestival_2560x1600_60_10bit_crop.yuv", (2560, 1600), "yuv420p10le", 60),
        ("videoSRC01_1280x720_30.yuv", (1280, 720), "yuv420p", 30),
        ("clip-352x288-29.97fps-422.yuv", (352, 288), "yuv422p", Fraction(2997, 100)),
        ("x_64x48_yuv444p10le.yuv", (64, 48), "yuv444p10le", None),
        ("x_64x48_400.yuv", (64, 48), "gray", None),
        ("Tango_4096x2160p60_10bit_420.yuv", (4096, 2160), "yuv420p10le", 60),
        ("foreman_cif.yuv", (352, 288), "yuv420p", None),
        ("carphone_qcif_30.yuv", (176, 144), "yuv420p", 30),
    ],
)
def test_names_of_raw_video_say_its_geometry(name, size, pixel_format, rate):
    format, found = parse_yuv_name(name, None, None)
    assert (format.width, format.height) == size
    assert format.pixel_format == pixel_format
    assert found == rate


def test_what_is_given_wins_over_the_name():
    format, _ = parse_yuv_name("Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (64, 48), "yuv422p10le")
    assert (format.width, format.height, format.pixel_format) == (64, 48, "yuv422p10le")
    with pytest.raises(VcodecError, match="give --size"):
        parse_yuv_name("clip.yuv", None, None)
    with pytest.raises(VcodecError, match="'nv12' is not supported"):
        parse_yuv_name("clip_64x48.yuv", None, "nv12")


def test_hd_is_bt709_and_smaller_is_bt601_unless_the_file_says():
    for size, matrix in [((1280, 720), "bt709"), ((1920, 1080), "bt709"), ((720, 576), "bt601"), ((416, 240), "bt601")]:
        assert parse_yuv_name("clip.yuv", size, None)[0].matrix == matrix


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "I;16"])
def test_png_of_every_kind_is_read(tmp_path, mode):
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (7, 9, 3), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(generator.integers(0, 65536, (7, 9), np.uint16))
        expected = np.repeat(np.asarray(image)[..., None] / 65535, 3, axis=2)
    else:
        image = Image.fromarray(rgb).convert(mode)
        expected = np.asarray(image.convert("RGB")) / 255
    path = tmp_path / "image.png"
    image.save(path)
    with open_video(path) as reader:
        assert reader.frame_count == 1
        (frame,) = reader
    tolerance = 0.51 / 1023 if mode == "I;16" else 1e-6
    assert np.abs(to_rgb(frame) - expected).max() <= tolerance
    assert frame.format.chroma == ("rgb" if mode in ("RGB", "RGBA", "P") else "gray")


def test_pictures_over_the_limit_are_refused_by_name(tmp_path):
    cases = {(16385, 1): "16385x1 is outside the limits", (16400, 16400): "not an image that can be read"}
    for size, message in cases.items():
        path = tmp_path / "large.png"
        Image.new("1", size).save(path)
        with pytest.raises(VcodecError, match=rf"large.png: .*{message}"):
            open_video(path)


def test_jpeg_is_read_as_the_planes_it_holds(tmp_path):
    y, x = np.mgrid[0:64, 0:96]
    smooth = np.stack([x * 2 + 20, y * 3 + 30, 128 + 0 * x], axis=-1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "image.jpg", quality=95)
    with open_video(tmp_path / "image.jpg") as reader:
        (frame,) = reader
    assert (frame.format.chroma, frame.format.matrix, frame.format.full_range) == ("420", "bt601", True)
    shown = np.asarray(Image.open(tmp_path / "image.jpg").convert("RGB")) / 255
    assert np.abs(to_rgb(frame) - shown).max() < 4 / 255  # libjpeg smooths chroma
    assert np.abs(to_rgb(frame) - smooth / 255).max() < 8 / 255


def test_folders_are_read_in_natural_order(tmp_path):
    for number in (1, 2, 10, 11):
        Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_text("no picture")
    with open_video(tmp_path, frame_rate=30) as reader:
        assert (reader.frame_rate, reader.time_base, reader.frame_count) == (30, Fraction(1, 30), 4)
        frames = list(reader)
    assert [frame.planes[0][0, 0] for frame in frames] == [1, 2, 10, 11]
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    Image.fromarray(np.zeros((4, 7, 3), np.uint8)).save(tmp_path / "frame12.png")
    with open_video(tmp_path) as reader, pytest.raises(VcodecError, match=r"frame12.png: 7x4 gbrp among"):
        list(reader)


def coded(path, frames: int = 3, size: tuple[int, int] = (32, 16), rotation: int = 0) -> np.ndarray:
    """Write an mp4 whose left upper quarter is bright; returns the luma."""
    luma = np.full(size[::-1], 60, np.uint8)
    luma[: size[1] // 2, : size[0] // 2] = 200
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for _ in range(frames):
            picture = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(picture.planes, (luma, 128, 128), strict=True):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = value
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return luma


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_pictures_that_a_phone_took_sideways_stand_upright(tmp_path, rotation):
    path = tmp_path / "phone.mp4"
    luma = coded(path, rotation=rotation)
    with open_video(path) as reader:
        frame = next(reader)
    assert np.array_equal(frame.planes[0], np.rot90(luma, rotation // 90))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_agree_with_swscale(matrix, full_range):
    format = VideoFormat(64, 32, "420", 8, matrix, full_range)
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:32, 0:64]
    slope = (x + y)[::2, ::2] // 3
    planes = (60 + x + y + generator.integers(0, 20, x.shape), 100 + slope, 150 - slope)
    frame = Frame(tuple(plane.astype(np.uint8) for plane in planes), 0, format)
    picture = av.VideoFrame(64, 32, "yuv420p")
    for plane, samples in zip(picture.planes, frame.planes, strict=True):
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = samples
    space = {"bt601": "ITU601", "bt709": "ITU709"}[matrix]
    color_range = "JPEG" if full_range else "MPEG"
    shown = picture.reformat(
        format="rgb24", src_colorspace=space, src_color_range=color_range, dst_color_range="JPEG"
    ).to_ndarray()
    assert np.abs(to_rgb(frame) - shown / 255).max() < 3 / 255  # it computes with few bits


def test_files_that_end_too_early_are_refused(tmp_path):
    for name in ("clip.mp4", "clip.mkv", "clip.webm", "clip.avi"):
        path = tmp_path / name
        if name == "clip.avi":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("ffv1", rate=25)
                stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
                container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
                container.mux(stream.encode(None))
        else:
            format = VideoFormat(16, 16)
            with create_video(path, format, 25) as writer:
                for pts in range(5):
                    writer.write(Frame(tuple(np.zeros(s, np.uint8) for s in format.plane_shapes), pts, format))
        assert not is_cut_off(path)
        with open_video(path) as reader:
            assert len(list(reader)) in (1, 5)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(VcodecError, match=rf"{name}: the file is cut off"):
            open_video(path)


def test_playlists_open_no_addresses(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VcodecError, match="not a video"):
        open_video(path)


def test_names_that_look_like_addresses_or_patterns_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coded("plain.mp4")
    data = (tmp_path / "plain.mp4").read_bytes()
    for name in ("concat:a.mp4", "http:x.mp4", "a%03d.mp4", "-x.mp4"):
        (tmp_path / name).write_bytes(data)
        with open_video(name) as reader:
            assert len(list(reader)) == 3


def test_a_change_of_size_within_a_video_is_refused(tmp_path):
    parts = []
    for size in ((32, 16), (48, 16)):
        path = tmp_path / f"{size[0]}.h264"
        coded(path, size=size)
        parts.append(path.read_bytes())
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(parts))
    with open_video(joined) as reader, pytest.raises(VcodecError, match="change from 32x16"):
        list(reader)


def test_elementary_streams_without_time_stamps_get_them(tmp_path):
    path = tmp_path / "clip.h264"
    coded(path, frames=5)
    with open_video(path) as reader:
        times = [frame.pts * reader.time_base * reader.frame_rate for frame in reader]
    assert all(b - a == 1 for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "empty"),
        (b"RIFF....", "not a YUV4MPEG2"),
        (b"YUV4MPEG2 W16 F25:1\n", "header is damaged"),
        (b"YUV4MPEG2 W16 Hx F25:1\n", "header is damaged"),
        (b"YUV4MPEG2 W16 H16 F25\n", "header is damaged"),
        (b"YUV4MPEG2 W0 H16 F25:1\n", "picture size of 0x16"),
        (b"YUV4MPEG2 W16 H16 C411\n", "'411' is not supported"),
        (b"YUV4MPEG2 W16 H16" + b" " * 5000, "not a YUV4MPEG2"),
    ],
)
def test_damaged_y4m_headers_are_refused(header, message):
    with pytest.raises(VcodecError, match=message):
        Y4mSource(io.BytesIO(header), "clip.y4m")


@given(st.binary(max_size=200))
def test_any_y4m_gives_frames_or_a_sentence(data):
    try:
        source = Y4mSource(io.BytesIO(b"YUV4MPEG2 W4 H2 F25:1" + data), "clip.y4m")
        assert all(frame.format == source.format for frame in source.frames(0))
    except VcodecError as error:
        assert str(error).startswith("clip.y4m: ")  # noqa: PT017


def test_ten_bit_samples_over_1023_are_refused():
    data = b"YUV4MPEG2 W2 H2 F25:1 C420p10\nFRAME\n" + b"\xff\x03" * 5 + b"\x00\x04"
    with pytest.raises(VcodecError, match="frame 0 has samples over 1023"):
        list(Y4mSource(io.BytesIO(data), "clip.y4m").frames(0))
