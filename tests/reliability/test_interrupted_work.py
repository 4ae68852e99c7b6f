"""Work that is killed leaves the finished file or none; with --resume it goes on, to the same bytes."""

import contextlib
import io
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import TEST_DATA, moving_frames

from vcodec import encode
from vcodec.bitstream import StreamReader
from vcodec.cli import main
from vcodec.errors import VcodecError
from vcodec.files import decode
from vcodec.video import VideoFormat, create_video

resource = pytest.importorskip("resource")

TINY = str(TEST_DATA / "tiny.safetensors")
PATIENCE = 240


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    """A folder with a clip that takes a while, and its stream, made without interruption."""
    path = tmp_path_factory.mktemp("long") / "clip.y4m"
    format = VideoFormat(64, 48)
    with create_video(path, format, 25) as writer:
        for frame in moving_frames(format, 120):
            writer.write(frame)
    assert main(["encode", str(path), str(path.with_suffix(".vcb")), *OPTIONS]) == 0
    return path


OPTIONS = ["-m", TINY, "--gop", "6", "--threads", "1", "--quiet"]


def start(*arguments: object, **options) -> subprocess.Popen:
    """The command line as a process that answers Ctrl-C, which shells make their background processes ignore."""
    command = [sys.executable, "-m", "vcodec.cli", *map(str, arguments)]
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def wait_for_size(process: subprocess.Popen, path: Path, size: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and path.stat().st_size >= size):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_encode_is_resumed_to_the_same_bytes(long_clip, tmp_path, number):
    expected = long_clip.with_suffix(".vcb").read_bytes()
    output, part = tmp_path / "a.vcb", tmp_path / "a.vcb.part"
    process = start("encode", long_clip, output, *OPTIONS, "--resume")
    wait_for_size(process, part, len(expected) // 3)
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert error == (b"" if number == signal.SIGKILL else b"vcodec: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb.part"]
    kept = part.read_bytes()
    assert expected.startswith(kept)
    assert main(["encode", str(long_clip), str(output), *OPTIONS, "--resume"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb"]
    assert output.read_bytes() == expected


def test_without_resume_a_killed_run_is_simply_repeated(long_clip, tmp_path):
    expected = long_clip.with_suffix(".vcb").read_bytes()
    output, part = tmp_path / "a.vcb", tmp_path / "a.vcb.part"
    process = start("encode", long_clip, output, *OPTIONS)
    wait_for_size(process, part, 200)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb.part"]
    assert main(["encode", str(long_clip), str(output), *OPTIONS]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb"]
    assert output.read_bytes() == expected


def test_a_killed_decode_is_simply_repeated(long_clip, tmp_path):
    stream, output = long_clip.with_suffix(".vcb"), tmp_path / "pictures"
    process = start("decode", stream, output, "-m", TINY, "--threads", "1", "--quiet")
    wait_for_size(process, tmp_path / "pictures.part" / "000003.png", 100)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert [path.name for path in tmp_path.iterdir()] == ["pictures.part"]
    assert main(["decode", str(stream), str(output), "-m", TINY, "--frames", "5", "--quiet"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize(
    ("name", "begun", "size", "number"),
    [
        ("a.vcb", "a.vcb.part", 100, signal.SIGINT),
        ("a.vcb", "a.vcb.part", 100, signal.SIGTERM),
        ("a.mkv", "a.mkv.part", 0, signal.SIGINT),  # of which nothing is written before much is known
        ("a", "a.part/000003.png", 100, signal.SIGTERM),
        pytest.param("a.y4m", "a.y4m.part", 100, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("a.mkv", "a.mkv.part", 0, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_nothing_behind(long_clip, tmp_path, name, begun, size, number):
    """And one sentence, by an encode (.vcb) as by a decode; whoever kills with SIGKILL finds a .part at most."""
    if name.endswith(".vcb"):
        process = start("encode", long_clip, tmp_path / name, *OPTIONS)
    else:
        stream = long_clip.with_suffix(".vcb")
        process = start("decode", stream, tmp_path / name, "-m", TINY, "--threads", "1", "--quiet")
    wait_for_size(process, tmp_path / begun, size)
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (130, b"vcodec: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_encode_that_is_killed_again_and_again_gets_done(long_clip, tmp_path, seed):
    """At random moments, from the start of the program on; every attempt but the last goes on where it was left."""
    expected, delays = long_clip.with_suffix(".vcb").read_bytes(), random.Random(seed)
    output, part = tmp_path / "a.vcb", tmp_path / "a.vcb.part"
    reader = StreamReader(io.BytesIO(expected))
    gops = [0, *(reader.packet_offset for packet in reader if packet.frame_type == "I")]
    kept = 0
    for attempt in itertools.count():
        process = start("encode", long_clip, output, *OPTIONS, "--resume")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=delays.uniform(0, 3 + attempt))
        process.kill()
        process.communicate(timeout=PATIENCE)
        if output.exists():
            break
        if part.exists():
            assert expected.startswith(part.read_bytes())
            assert part.stat().st_size >= kept
            kept = max(offset for offset in gops if offset <= part.stat().st_size)
    assert output.read_bytes() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the list of child processes from /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_jobs_end_with_the_process_that_started_them(long_clip, tmp_path, number):
    process = start("encode", long_clip, tmp_path / "a.vcb", *OPTIONS, "--jobs", 2, start_new_session=True)
    wait_for_size(process, tmp_path / "a.vcb.part", 200)
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does on Ctrl-C
    else:
        process.kill()
    _, error = process.communicate(timeout=PATIENCE)
    if number == signal.SIGINT:
        assert error == b"vcodec: interrupted\n"
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if number == signal.SIGINT else ["a.vcb.part"])


def test_a_reader_that_leaves_an_encode_is_no_error_message(long_clip):
    process = start("encode", long_clip, "-", *OPTIONS)
    assert process.stdout is not None
    assert len(process.stdout.read(50)) == 50
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_a_reader_that_leaves_a_decode_is_no_error_message(long_clip):
    process = start("decode", long_clip.with_suffix(".vcb"), "-", "-m", TINY, "--quiet")
    assert process.stdout is not None
    assert process.stdout.read(9) == b"YUV4MPEG2"
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize("name", ["a.vcb", "a.y4m", "a.yuv", "a.mkv", "a.png", "a"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(clip, stream, tmp_path, capsys, name):
    """A limit on the size of files stands for it: writing fails in the same way."""
    source = clip if name == "a.vcb" else stream
    frames = ["--frames", "1"] if name == "a.png" else []
    command = ["encode" if name == "a.vcb" else "decode", str(source), str(tmp_path / name), "-m", TINY, "--quiet"]
    with files_no_longer_than(300):
        assert main([*command, *frames]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"vcodec: {tmp_path / name}: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_can_be_resumed(clip, stream, tmp_path, capsys):
    output = tmp_path / "a.vcb"
    command = ["encode", str(clip), str(output), "-m", TINY, "--gop", "4", "--threads", "1", "--quiet", "--resume"]
    with files_no_longer_than(len(stream.read_bytes()) * 2 // 3):
        assert main(command) == 1
    assert "a.vcb: can't be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcb.part"]
    assert main(command) == 0
    assert output.read_bytes() == stream.read_bytes()


def test_whatever_was_written_last_is_resumed_to_the_same_bytes(clip, stream, tiny_model, tmp_path):
    """A kill may fall between any two bytes: within the header, an I-frame, a P-frame, or the end record."""
    whole = stream.read_bytes()
    reader = StreamReader(stream.open("rb"))
    packets = [(reader.packet_offset, reader.packet_bytes) for _ in reader]
    cuts = {0, 3, packets[0][0] - 1, packets[0][0], packets[0][0] + 9, sum(packets[0]), packets[4][0] - 1}
    cuts |= {packets[4][0], packets[8][0] + 1, packets[10][0] + 2, sum(packets[-1]), len(whole) - 1, len(whole)}
    for cut in sorted(cuts):
        (tmp_path / "a.vcb.part").write_bytes(whole[:cut])
        report = encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=4, threads=1, resume=True)
        assert (tmp_path / "a.vcb").read_bytes() == whole, cut
        assert report.frames == 14
        assert report.bytes == len(whole)
        assert [frame.bytes for frame in report.per_frame] == [size for _, size in packets]
        assert [path.name for path in tmp_path.iterdir()] == ["a.vcb"]


def test_what_can_t_be_resumed_is_refused_and_left_alone(clip, stream, tiny_model, tmp_path):
    output, part = tmp_path / "a.vcb", tmp_path / "a.vcb.part"
    begun = stream.read_bytes()[:-100]

    def attempt(sentence: str, data: bytes = begun, **options) -> None:
        part.write_bytes(data)
        with pytest.raises(VcodecError, match=sentence):
            encode(clip, output, model=tiny_model, resume=True, **{"gop_size": 4, **options})
        assert [path.name for path in tmp_path.iterdir()] == ["a.vcb.part"]
        assert part.read_bytes()[: len(data) // 2] == data[: len(data) // 2]

    attempt("of another video, model or setting; delete it", gop_size=5)
    attempt("of another video, model or setting; delete it", frames=3)
    attempt("of another quality", quality=40)
    attempt("not a vcodec stream", b"something else altogether")
    with pytest.raises(VcodecError, match="resume without measuring"):
        encode(clip, output, model=tiny_model, resume=True, measure_psnr=True)
    with pytest.raises(VcodecError, match="standard output can't be resumed"):
        encode(clip, "-", model=tiny_model, resume=True)


def test_a_source_that_has_changed_since_is_not_mixed_in(clip, stream, tiny_model, tmp_path):
    part = tmp_path / "a.vcb.part"
    part.write_bytes(stream.read_bytes()[:-100])
    os.utime(part, (1, 1))
    with pytest.raises(VcodecError, match="an older video"):
        encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=4, resume=True)


def test_a_resumed_stream_decodes(clip, stream, decoded, tiny_model, tmp_path):
    (tmp_path / "a.vcb.part").write_bytes(stream.read_bytes()[: len(stream.read_bytes()) // 2])
    encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=4, threads=1, resume=True, jobs=2)
    assert (tmp_path / "a.vcb").read_bytes() == stream.read_bytes()
    assert len(list(decode(tmp_path / "a.vcb", model=tiny_model, strict=True))) == len(decoded)
