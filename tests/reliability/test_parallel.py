"""Several jobs give what one gives: the same bytes, the same pictures, the same damage."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import assert_same_picture, moving_frames

from vcodec import decode, encode, parallel
from vcodec.bitstream import Damage, Packet, StreamReader, StreamWriter
from vcodec.errors import VcodecError
from vcodec.video import Frame, VideoFormat

GOP_SIZE = 4


def assert_same_frames(found: list[Frame], expected: list[Frame]) -> None:
    assert [f.pts for f in found] == [f.pts for f in expected]
    for one, other in zip(found, expected, strict=True):
        assert_same_picture(one, other)


def nonsense(stream: Path) -> bytes:
    """The stream with a payload at frame 8 that no encoder wrote, under a right checksum."""
    file = io.BytesIO()
    reader = StreamReader(stream.open("rb"), strict=True)
    with StreamWriter(file, reader.header) as writer:
        for item in reader:
            assert isinstance(item, Packet)
            payload = b"\0" + bytes(range(1, 150)) if reader.frame == 8 else item.payload
            writer.write(Packet(item.frame_type, item.quality, item.pts, payload, item.skip))
    return file.getvalue()


def damaged(stream: Path) -> bytes:
    """And with a byte changed in frame 2, a P-frame, and in frame 4, an I-frame."""
    data = bytearray(nonsense(stream))
    reader = StreamReader(io.BytesIO(bytes(data)))
    for offset in [reader.packet_offset for _ in reader if reader.frame in (2, 4)]:
        data[offset + 5] ^= 0x55
    return bytes(data)


def test_jobs_write_the_same_bytes(clip, stream, tiny_model, tmp_path):
    before = multiprocessing.active_children()
    report = encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=GOP_SIZE, jobs=2, threads=1, measure_psnr=True)
    assert (tmp_path / "a.vcb").read_bytes() == stream.read_bytes()
    assert [frame.frame_type for frame in report.per_frame] == list("IPPPIPPPIPPPIP")
    serial = encode(clip, tmp_path / "b.vcb", model=tiny_model, gop_size=GOP_SIZE, threads=1, measure_psnr=True)
    assert report.per_frame == serial.per_frame
    assert multiprocessing.active_children() == before


def test_jobs_decode_the_same_pictures(stream, decoded, tiny_model):
    assert_same_frames(list(decode(stream, model=tiny_model, seek=6, frames=5, jobs=2)), decoded[6:11])


def test_jobs_report_and_bridge_the_same_damage(stream, tiny_model):
    results = []
    for jobs in (1, 2):
        damage: list[Damage] = []
        file = io.BytesIO(damaged(stream))
        results.append((list(decode(file, model=tiny_model, damage=damage, jobs=jobs)), damage))
    assert_same_frames(results[1][0], results[0][0])
    assert results[1][1] == results[0][1]
    assert [(d.frame, d.count) for d in results[0][1]] == [(2, 6), (8, 4)]


def test_leaving_off_early_leaves_no_process(stream, decoded, tiny_model):
    before = multiprocessing.active_children()
    frames = decode(stream, model=tiny_model, jobs=2)
    assert_same_picture(next(frames), decoded[0])
    frames.close()
    started = set(multiprocessing.active_children()) - set(before)
    deadline = time.monotonic() + 60
    while any(process.is_alive() for process in started):  # join() may lose a race against the pool's own thread
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_error_in_a_worker_is_the_caller_s(stream, tiny_model):
    with pytest.raises(VcodecError, match=r"frame 8 can't be decoded"):
        list(decode(io.BytesIO(nonsense(stream)), model=tiny_model, jobs=2, strict=True))


def test_frames_are_handed_out_a_few_gops_at_a_time():
    """Memory does not grow with the length of the video."""
    format = VideoFormat(4, 4)
    handed_out = 0

    def frames():
        nonlocal handed_out
        for frame in moving_frames(format, 60):
            handed_out += 1
            yield frame

    def submit(function, gop, measure_psnr):
        return lambda: [f.pts for f in gop]

    for finished, pts in enumerate(parallel.encode_gops(submit, 2, frames(), 3, False)):
        assert pts == finished
        assert handed_out <= finished + 5 * 3
    assert handed_out == 60


def test_a_gop_without_end_is_refused():
    packets = [Packet("I", 1, 0, b""), *(Packet("P", 1, n, b"") for n in range(1, 100))]
    with pytest.raises(VcodecError, match="GOP at frame 0 is longer than the header says"):
        list(parallel.decode_gops(lambda *_: lambda: ([], []), 2, packets, 0, 1, False, [], 12))


def test_lost_frames_at_a_gop_s_start_belong_to_the_gop_before():
    items = [Packet("I", 1, 0, b""), Damage(1, 3, "gone"), Packet("I", 1, 4, b""), Packet("P", 1, 5, b"")]
    gops = list(parallel._gops([Damage(0, 7, "gone"), *items], 0, 12))
    assert gops == [([Damage(0, 7, "gone")], 0), (items[:2], 7), (items[2:], 11)]


def test_long_gops_are_coded_by_one_process(tmp_path, clip, tiny_model, monkeypatch):
    monkeypatch.setattr(parallel, "processes", None)  # would fail if it were used
    serial = encode(clip, tmp_path / "a.vcb", model=tiny_model, gop_size=-1, jobs=4)
    assert [frame.frame_type for frame in serial.per_frame].count("I") == 1
    assert not parallel.fits(VideoFormat(1920, 1080), 1000)


def test_no_jobs_are_refused(tmp_path, clip, tiny_model):
    with pytest.raises(VcodecError, match="0 jobs make no sense"):
        encode(clip, tmp_path / "a.vcb", model=tiny_model, jobs=0)


def test_without_ray_the_extra_is_named(tmp_path, clip, tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VcodecError, match=r"pip install 'vcodec\[cluster\]'"):
        encode(clip, tmp_path / "a.vcb", model=tiny_model, ray_address="auto")
    assert list(tmp_path.iterdir()) == []


def test_a_ray_cluster_gives_the_same_bytes_and_pictures(clip, stream, decoded, tiny_model, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'vcodec[cluster]')")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    options = {"model": tiny_model, "jobs": 2, "threads": 1, "ray_address": cluster.address}
    try:
        encode(clip, tmp_path / "a.vcb", gop_size=GOP_SIZE, **options)
        assert (tmp_path / "a.vcb").read_bytes() == stream.read_bytes()
        assert_same_frames(list(decode(stream, **options)), decoded)
        with pytest.raises(VcodecError, match=r"frame 8 can't be decoded"):
            list(decode(io.BytesIO(nonsense(stream)), strict=True, **options))
    finally:
        cluster.shutdown()


@pytest.fixture
def answered_interrupts() -> Iterator[None]:
    """As in a terminal, whatever started the tests: a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals can't be held back there")
def test_an_interrupt_while_a_worker_starts_is_not_lost(answered_interrupts):
    """It is answered afterwards, and by the first process alone."""
    after: list[int] = []
    waiting = threading.Event()
    other = threading.Thread(target=waiting.wait, daemon=True)  # takes signals that the first one does not
    other.start()

    def start_one() -> None:
        with parallel._interrupts_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            interrupt_itself = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
            after.append(subprocess.run([sys.executable, "-c", interrupt_itself]).returncode)

    with pytest.raises(KeyboardInterrupt):
        start_one()
    waiting.set()
    other.join()
    assert after == [0]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
