"""The command line: what it writes and prints, its exit codes, and that nothing half-written is left behind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vcodec
from vcodec.bitstream import StreamReader
from vcodec.cli import main
from vcodec.video import Frame, VideoFormat, create_video, from_rgb, open_video

TINY = str(Path(__file__).parent / "data" / "tiny.safetensors")
FRAMES = 5


def picture(format: VideoFormat, index: int) -> Frame:
    y, x = np.mgrid[0 : format.height, 0 : format.width].astype(np.float32)
    phases = 0.3 * index + np.array([0, 1, 2], np.float32)
    rgb = 0.5 + 0.2 * np.sin(0.3 * x[..., None] + 0.2 * y[..., None] + phases)
    return from_rgb(rgb.astype(np.float32), format, index)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Five frames of 33x21."""
    path = tmp_path_factory.mktemp("clip") / "clip.y4m"
    format = VideoFormat(33, 21)
    with create_video(path, format, 25) as writer:
        for index in range(FRAMES):
            writer.write(picture(format, index))
    return path


@pytest.fixture(scope="session")
def stream(clip) -> Path:
    """The clip, coded in GOPs of two frames."""
    path = clip.with_suffix(".vcb")
    assert main(["encode", str(clip), str(path), "-m", TINY, "--gop", "2", "--quiet"]) == 0
    return path


@pytest.fixture(scope="session")
def decoded(stream) -> list[Frame]:
    return list(vcodec.decode(stream, model=TINY))


def same_pictures(found: list[Frame], expected: list[Frame]) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(a, b)
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one.planes, other.planes, strict=True)
    )


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vcodec.cli", *map(str, arguments)]


def test_encode_prints_what_it_wrote(clip, tmp_path, capsys):
    output = tmp_path / "a.vcb"
    assert main(["encode", str(clip), str(output), "-m", TINY, "-q", "40", "--gop", "3", "--psnr", "--json"]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert (report["frames"], report["width"], report["height"]) == (FRAMES, 33, 21)
    assert report["bytes"] == output.stat().st_size
    assert report["bpp"] == pytest.approx(8 * report["bytes"] / (FRAMES * 33 * 21))
    assert [frame["frame_type"] for frame in report["per_frame"]] == list("IPPIP")
    assert [frame["quality"] for frame in report["per_frame"]] == [45, 36, 39, 45, 36]
    assert 0 < report["psnr_rgb"] < 100
    assert "bpp" in printed.err
    assert "frame/s" in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb"]

    assert main(["encode", str(clip), str(output), "-m", TINY, "-q", "40", "--flat", "--json"]) == 0
    assert {frame["quality"] for frame in json.loads(capsys.readouterr().out)["per_frame"]} == {40}
    assert main(["encode", str(clip), str(output), "-m", TINY, "--frames", "2", "--seek", "1", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{output}: 2 frames of 33x21, {output.stat().st_size} bytes, ")
    assert printed.err == ""


@pytest.mark.parametrize("name", ["out.y4m", "out.mp4", "out.mkv", "out.yuv"])
def test_decode_writes_the_pictures_by_ending(stream, decoded, tmp_path, name):
    output = tmp_path / name
    assert main(["decode", str(stream), str(output), "-m", TINY, "--quiet"]) == 0
    raw = {"size": (33, 21), "frame_rate": 25} if name.endswith("yuv") else {}
    with open_video(output, **raw) as reader:
        assert reader.frame_rate == 25
        found = list(reader)
    if found[0].format.chroma == "444":  # H.264 has no 4:2:0 of odd size
        found = [Frame((f.planes[0], *(p[::2, ::2] for p in f.planes[1:])), f.pts, VideoFormat(33, 21)) for f in found]
    assert same_pictures(found, decoded)


def test_decode_writes_folders_and_lossy_video(stream, tmp_path):
    assert main(["decode", str(stream), str(tmp_path / "frames"), "-m", TINY, "--quiet"]) == 0
    assert len(list((tmp_path / "frames").glob("*.png"))) == FRAMES
    assert main(["decode", str(stream), str(tmp_path / "a.mp4"), "-m", TINY, "--crf", "40", "--quiet"]) == 0
    assert main(["decode", str(stream), str(tmp_path / "b.mp4"), "-m", TINY, "--quiet"]) == 0
    assert (tmp_path / "a.mp4").stat().st_size < (tmp_path / "b.mp4").stat().st_size


@pytest.mark.parametrize(("seek", "frames"), [(0, 2), (3, 1), (1, None), (4, 100)])
def test_decode_can_begin_anywhere(stream, decoded, tmp_path, capsys, seek, frames):
    output = tmp_path / "part.y4m"
    limit = [] if frames is None else ["--frames", str(frames)]
    assert main(["decode", str(stream), str(output), "-m", TINY, "--seek", str(seek), *limit, "--json"]) == 0
    expected = decoded[seek:] if frames is None else decoded[seek : seek + frames]
    assert json.loads(capsys.readouterr().out)["frames"] == len(expected)
    with open_video(output) as reader:
        assert same_pictures(list(reader), expected)


def test_an_image_is_a_legal_input(tmp_path):
    image = tmp_path / "image.png"
    format = VideoFormat(20, 12, "rgb", matrix="bt601", full_range=True)
    with create_video(image, format) as writer:
        writer.write(picture(format, 0))
    assert main(["encode", str(image), str(tmp_path / "image.vcb"), "-m", TINY, "--quiet"]) == 0
    assert main(["decode", str(tmp_path / "image.vcb"), str(tmp_path / "back.png"), "-m", TINY, "--quiet"]) == 0
    with open_video(tmp_path / "back.png") as reader:
        assert reader.format == format


def test_pipes_carry_streams_and_pictures(clip, decoded, tmp_path):
    shown = tmp_path / "shown.y4m"
    with clip.open("rb") as source, shown.open("wb") as sink:
        encoder = subprocess.Popen(
            command("encode", "-", "-", "-m", TINY, "--gop", 2), stdin=source, stdout=subprocess.PIPE
        )
        decoder = subprocess.Popen(command("decode", "-", "-", "-m", TINY), stdin=encoder.stdout, stdout=sink)
        assert (encoder.wait(timeout=300), decoder.wait(timeout=300)) == (0, 0)
    with open_video(shown) as reader:
        assert same_pictures(list(reader), decoded)


def test_info_shows_header_and_frames(stream, capsys):
    assert main(["info", str(stream), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["frame_count"] == FRAMES
    assert (info["width"], info["height"], info["chroma"], info["gop_size"]) == (33, 21, "420", 2)
    assert info["bytes"] == stream.stat().st_size
    assert [frame["type"] for frame in info["frames"]] == list("IPIPI")
    assert sum(frame["bytes"] for frame in info["frames"]) < info["bytes"]
    assert main(["info", str(stream)]) == 0
    assert "33x21 420 8 bit" in capsys.readouterr().out


def test_models_are_listed(capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == vcodec.list_models()
    assert sum(entry["default"] for entry in listed) == 1
    assert main(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(listed)


def test_help_and_info_do_not_wait_for_torch(stream):
    program = (
        "import sys; from vcodec.cli import build_parser, main; build_parser().format_help();"
        f"main(['info', {str(stream)!r}]); assert not {{'torch', 'av'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["encode", "a.y4m"],
        ["encode", "a.y4m", "b.vcb", "-q", "64"],
        ["encode", "a.y4m", "b.vcb", "-q", "x"],
        ["encode", "a.y4m", "b.vcb", "--gop", "0"],
        ["encode", "a.y4m", "b.vcb", "--gop", "-2"],
        ["encode", "a.y4m", "b.vcb", "--frames", "0"],
        ["encode", "a.y4m", "b.vcb", "--seek", "-1"],
        ["encode", "a.y4m", "b.vcb", "--size", "16"],
        ["encode", "a.y4m", "b.vcb", "--fps", "0"],
        ["encode", "a.y4m", "b.vcb", "--threads", "0"],
        ["encode", "a.y4m", "b.vcb", "--device", "tpu"],
        ["decode", "b.vcb"],
        ["unknown"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "vcodec" in capsys.readouterr().err


def bad_commands(folder: Path, clip: Path, stream: Path) -> dict[str, list[str]]:
    """Commands that must fail, by a part of the sentence that they print."""
    (folder / "empty.mp4").touch()
    (folder / "empty.vcb").touch()
    (folder / "text.mp4").write_text("no video")
    (folder / "cut.y4m").write_bytes(clip.read_bytes()[:-100])
    (folder / "header.y4m").write_bytes(clip.read_bytes().partition(b"\n")[0] + b"\n")
    (folder / "huge.y4m").write_bytes(b"YUV4MPEG2 W99999 H99999 F25:1 C420jpeg\nFRAME\n")
    (folder / "other_version.vcb").write_bytes(stream.read_bytes().replace(b"VCB\x01", b"VCB\x09", 1))
    (folder / "cut_header.vcb").write_bytes(stream.read_bytes()[:20])
    (folder / "raw.yuv").write_bytes(bytes(100))
    (folder / "images").mkdir()
    out, coded, source = str(folder / "out.vcb"), str(stream), str(clip)
    tiny = ["-m", TINY]
    return {
        "missing.mp4: no such file": ["encode", str(folder / "missing.mp4"), out, *tiny],
        "empty.mp4: the file is empty": ["encode", str(folder / "empty.mp4"), out, *tiny],
        "text.mp4: not a video": ["encode", str(folder / "text.mp4"), out, *tiny],
        "cut off in the middle of frame 4": ["encode", str(folder / "cut.y4m"), out, *tiny],
        "no frame": ["encode", str(folder / "header.y4m"), out, *tiny],
        "99999x99999 is outside the limits": ["encode", str(folder / "huge.y4m"), out, *tiny],
        "give --size": ["encode", str(folder / "raw.yuv"), out, *tiny],
        "no whole number": ["encode", str(folder / "raw.yuv"), out, "--size", "16x16", *tiny],
        "no image in this folder": ["encode", str(folder / "images"), out, *tiny],
        "no frame at frame 9": ["encode", source, out, "--seek", "9", *tiny],
        "no such model file": ["encode", source, out, "-m", str(folder / "none.safetensors")],
        "no model named": ["encode", source, out, "-m", "none"],
        "missing/out.vcb": ["encode", source, str(folder / "missing" / "out.vcb"), *tiny],
        "with the ending .vcb": ["encode", source, str(folder / "out.mp4"), *tiny],
        "missing.vcb: no such file": ["decode", str(folder / "missing.vcb"), str(folder / "a.y4m"), *tiny],
        "empty.vcb: not a vcodec stream": ["decode", str(folder / "empty.vcb"), str(folder / "a.y4m"), *tiny],
        "clip.y4m: not a vcodec stream": ["decode", source, str(folder / "a.y4m"), *tiny],
        "version 9": ["decode", str(folder / "other_version.vcb"), str(folder / "a.y4m"), *tiny],
        "header is damaged": ["decode", str(folder / "cut_header.vcb"), str(folder / "a.y4m"), *tiny],
        "does not exist": ["decode", coded, str(folder / "missing" / "a.y4m"), *tiny],
        "videos end in": ["decode", coded, str(folder / "a.xyz"), *tiny],
        "a CRF can be given": ["decode", coded, str(folder / "a.y4m"), "--crf", "20", *tiny],
        "a .png holds one picture": ["decode", coded, str(folder / "a.png"), *tiny],
        "same file": ["decode", coded, coded, *tiny],
        "no frame 7": ["decode", coded, str(folder / "a.y4m"), "--seek", "7", *tiny],
        "info.vcb: no such file": ["info", str(folder / "info.vcb")],
        "text.mp4: not a vcodec": ["info", str(folder / "text.mp4")],
    }


def test_bad_input_gets_one_sentence_and_leaves_nothing(tmp_path, clip, stream, capsys):
    for expected, arguments in bad_commands(tmp_path, clip, stream).items():
        before = sorted(tmp_path.rglob("*"))
        extra = [] if arguments[0] == "info" else ["--quiet"]
        assert main([*arguments, *extra]) == 1, arguments
        printed = capsys.readouterr()
        assert printed.out == ""
        assert expected in printed.err
        assert printed.err.startswith("vcodec: ")
        assert printed.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_another_model_is_refused_by_name(tmp_path, stream, capsys):
    from vcodec.models import load_model, save_model

    other = load_model(TINY)
    next(other.parameters()).data += 1
    save_model(other, tmp_path / "other.safetensors", name="other")
    arguments = ["decode", str(stream), str(tmp_path / "a.y4m"), "-m", str(tmp_path / "other.safetensors")]
    assert main([*arguments, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "tiny" in error
    assert "other" in error


def test_of_a_cut_stream_every_whole_frame_is_written(tmp_path, stream, decoded, capsys):
    with stream.open("rb") as file:
        ends = [reader.packet_offset + reader.packet_bytes for reader in [StreamReader(file)] for _ in reader]
    cut = tmp_path / "cut.vcb"
    output = tmp_path / "cut.y4m"
    for length in (ends[0], ends[2] + 3, ends[4]):
        cut.write_bytes(stream.read_bytes()[:length])
        whole = sum(end <= length for end in ends)
        assert main(["decode", str(cut), str(output), "-m", TINY, "--quiet"]) == 1
        assert f"nothing can be read after frame {whole - 1}" in capsys.readouterr().err
        with open_video(output) as reader:
            assert same_pictures(list(reader), decoded[:whole])
    assert main(["info", str(cut)]) == 1


def test_damage_is_bridged_and_reported_or_stops_a_strict_decoder(tmp_path, stream, decoded, capsys):
    with stream.open("rb") as file:
        offsets = [reader.packet_offset for reader in [StreamReader(file)] for _ in reader]
    damaged = bytearray(stream.read_bytes())
    damaged[offsets[1] + 1] ^= 0xFF
    path, output = tmp_path / "damaged.vcb", tmp_path / "out.y4m"
    path.write_bytes(damaged)
    assert main(["decode", str(path), str(output), "-m", TINY, "--json", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["damage"][0]["frame"] == 1
    assert "frame 1 is lost" in printed.err
    with open_video(output) as reader:
        assert same_pictures(list(reader), [decoded[0], decoded[0], *decoded[2:]])
    output.unlink()
    assert main(["decode", str(path), str(output), "-m", TINY, "--strict", "--quiet"]) == 1
    assert "frame 1" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.vcb"]


def start_and_feed(arguments: list[str], data: bytes, until: Path) -> subprocess.Popen:
    """A command whose standard input stays open after `data`; returns when the file appears."""
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    deadline = time.monotonic() + 120
    while not until.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert until.exists()
    return process


@pytest.mark.parametrize(("direction", "number"), [("encode", signal.SIGTERM), ("decode", signal.SIGINT)])
def test_interrupted_work_leaves_nothing(tmp_path, clip, stream, direction, number):
    if direction == "encode":
        data, output = clip.read_bytes(), tmp_path / "out.vcb"
    else:
        data, output = stream.read_bytes()[:-40], tmp_path / "out.y4m"
    part = output.with_name(output.name + ".part")
    process = start_and_feed(command(direction, "-", output, "-m", TINY, "--quiet"), data, part)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.decode() == "vcodec: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error_message(stream):
    process = subprocess.Popen(
        command("decode", stream, "-", "-m", TINY, "--quiet"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_a_full_disk_leaves_nothing(tmp_path, clip, stream, capsys, direction):
    resource = pytest.importorskip("resource")
    source, output = (clip, "out.vcb") if direction == "encode" else (stream, "out.y4m")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        code = main([direction, str(source), str(tmp_path / output), "-m", TINY, "--quiet"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{output}: can't be written" in error
    assert list(tmp_path.iterdir()) == []
