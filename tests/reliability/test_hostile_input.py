"""Files that mean harm: they are refused before memory is taken, and nothing in them is run or followed."""

import ast
import io
import os
import struct
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from synthetic import TEST_DATA

import vcodec
from vcodec.bitstream import Packet, StreamHeader, StreamReader, StreamWriter
from vcodec.bitstream_syntax import SYNC, checksum, varint, write_header
from vcodec.cli import main
from vcodec.entropy.coders import SymbolDecoder
from vcodec.errors import VcodecError
from vcodec.files import check_memory, decode
from vcodec.memory import memory_of_machine
from vcodec.models import load_model
from vcodec.models.weights import shipped_weights, weights_hash
from vcodec.video import VideoFormat, open_video

HEADER = StreamHeader("tiny.r1", bytes(8), VideoFormat(64, 48), Fraction(25), Fraction(1, 25))
TINY = str(TEST_DATA / "tiny.safetensors")
LARGE = VideoFormat(16384, 16384)


def stream_of(header: StreamHeader, payload: bytes = b"") -> bytes:
    file = io.BytesIO()
    with StreamWriter(file, header) as writer:
        writer.write(Packet("I", 30, 0, payload))
    return file.getvalue()


def with_crc(frame: int, data: bytes) -> bytes:
    return data + struct.pack("<I", checksum(frame, data))


# --- Sizes, counts and lengths ---

HOSTILE_PARTS = {
    "payload of a terabyte": SYNC + b"\x00\x00\x00\x20\x00" + varint(1 << 40),
    "payload of all that is allowed": SYNC + b"\x00\x00\x00\x20\x00" + varint(HEADER.max_payload),
    "parameters of a gigabyte": SYNC + b"\x00\x00\x00\x20" + varint(1 << 30),
    "a number without end": SYNC + b"\x00" + b"\xff" * 50,
    "an index of a billion entries": SYNC + b"\x01\x05" + varint(1 << 30),
    "the largest index, missing": SYNC + b"\x01\x05" + varint(1 << 16),
    "a frame beyond all": with_crc(1 << 32, SYNC + b"\x00" + varint(1 << 32) + b"\x00\x20\x00\x00"),
    "an end beyond all": with_crc(1 << 32, SYNC + b"\x01" + varint(1 << 32) + b"\x00"),
    "a trailer of four gigabytes": struct.pack("<I4s", (1 << 32) - 1, b"VCBE"),
    "a trailer of a megabyte": struct.pack("<I4s", 1 << 20, b"VCBE"),
}


@pytest.mark.parametrize("part", HOSTILE_PARTS.values(), ids=HOSTILE_PARTS.keys())
@pytest.mark.parametrize("seek", [0, 1 << 31])
def test_a_length_is_checked_before_memory_is_taken(part, seek):
    data = write_header(HEADER) + part
    tracemalloc.start()
    try:
        reader = StreamReader(io.BytesIO(data))
        if seek:
            with pytest.raises(VcodecError, match="there is no frame"):
                reader.seek(seek)
        else:
            (damage,) = reader
            assert damage.count == 0
        assert reader.frame_count == HEADER.frame_count
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_header_longer_than_any_is_refused():
    with pytest.raises(VcodecError, match="header is damaged"):
        StreamReader(io.BytesIO(b"\xf5VCB\x01" + varint(1 << 40) + bytes(100)))


@pytest.mark.parametrize(
    "payload",
    [
        varint((1 << 34) + 5),  # close calls
        varint(1 << 20) + b"\x01\x05" * 10,
        b"\x01\x01\x40",  # a level that is none
        b"\xff" * 20,
    ],
    ids=["a count", "a list cut short", "a level", "a number"],
)
def test_a_list_of_close_calls_that_is_none_is_refused(payload):
    with pytest.raises(VcodecError, match="damaged"):
        SymbolDecoder(payload)


def test_a_few_bytes_do_not_get_many_gigabytes(tmp_path, tiny_model, capsys):
    """They are refused before the model is even looked for."""
    path = tmp_path / "large.vcb"
    header = replace(HEADER, format=LARGE, weights_hash=weights_hash(tiny_model))
    path.write_bytes(stream_of(header))
    assert path.stat().st_size < 90
    assert main(["info", str(path)]) == 0
    with pytest.raises(VcodecError, match=r"16384x16384 take about 64\.0 GiB .* raise it \(--memory-limit\)"):
        next(decode(path, model=TINY, memory_limit=63 << 30))
    assert main(["decode", str(path), str(tmp_path / "a.y4m"), "-m", "no.such.model", "--memory-limit", "3"]) == 1
    assert "the limit is 3.0 GiB" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["large.vcb"]


def test_the_default_limit_is_what_the_machine_has_and_32_gib_at_most(monkeypatch):
    assert (memory_of_machine() or 1 << 40) > 1 << 28
    for memory, most in ((8 << 30, 8 << 30), (512 << 30, 32 << 30), (None, 32 << 30)):
        monkeypatch.setattr("vcodec.files.memory_of_machine", lambda memory=memory: memory)
        height = most // 256 // 16384
        check_memory(VideoFormat(16384, height))
        for jobs, rows in ((1, height + 1), (2, height // 2 + 1)):
            with pytest.raises(VcodecError, match="take about"):
                check_memory(VideoFormat(16384, rows), jobs)


def test_a_group_of_processes_may_have_less_than_the_machine(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("123456789\n")
    (tmp_path / "none").write_text("max\n")
    paths = [tmp_path / "none", tmp_path / "limit", tmp_path / "missing"]
    monkeypatch.setattr("vcodec.memory.CONTROL_GROUPS", paths)
    assert memory_of_machine() == 123456789


def test_a_picture_of_all_that_is_allowed_can_be_declared_by_a_video_but_not_had(tmp_path):
    path = tmp_path / "a.y4m"
    for size, sentence in (("W16384 H16384", "cut off"), ("W40000 H2", "outside the limits"), ("W-4 H4", "limits")):
        path.write_bytes(f"YUV4MPEG2 {size} F25:1 C420jpeg\nFRAME\n".encode() + bytes(100))
        with pytest.raises(VcodecError, match=sentence), open_video(path) as video:
            next(video)


# --- Models ---


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../../tmp/evil.r1", "..", ".", "**/*", "a**b", "x/../y", "[a-z]*", "?", "*", "a b", "a\\b.r1",
     "/abs.r1", "~.r1", "x" * 64],
)  # fmt: skip
def test_a_model_s_name_in_a_stream_is_no_path_and_no_pattern(name, tmp_path):
    assert shipped_weights(name) is None
    with pytest.raises(VcodecError, match="which does not ship"):
        next(decode(io.BytesIO(stream_of(replace(HEADER, model=name)))))


def test_a_file_beside_the_shipped_ones_is_not_reached_by_name(tmp_path, monkeypatch):
    """The name would lead there, were it taken for a path."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "evil.r1.safetensors").write_bytes((TEST_DATA / "tiny.safetensors").read_bytes())
    monkeypatch.setattr("vcodec.models.weights.SHIPPED", tmp_path / "weights")
    assert (tmp_path / "weights" / "../evil.r1.safetensors").is_file()
    assert shipped_weights("../evil.r1") is None


@pytest.mark.parametrize("length", [50, 1 << 27, (1 << 63) - 1, (1 << 64) - 1])
def test_a_model_file_that_declares_more_than_it_holds_is_refused(tmp_path, length):
    path = tmp_path / "model.safetensors"
    content = b'{"x":{"dtype":"F32","shape":[100000000000],"data_offsets":[0,400000000000]}}'
    path.write_bytes(struct.pack("<Q", length) + content)
    with pytest.raises(VcodecError, match="not a safetensors file"):
        load_model(path)


# --- Folders ---


def test_pictures_are_written_inside_their_folder_alone(tmp_path):
    output = tmp_path / "out" / "pictures"
    output.parent.mkdir()
    golden = str(TEST_DATA / "golden.vcb")
    assert main(["decode", golden, str(output), "-m", TINY, "--frames", "3", "--quiet"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in output.parent.iterdir()] == ["pictures"]
    assert sorted(p.name for p in output.iterdir()) == ["000000.png", "000001.png", "000002.png"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_in_the_place_of_an_unfinished_folder_is_not_emptied(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "000000.png").write_bytes(b"mine")
    (tmp_path / "pictures.part").symlink_to(elsewhere)
    golden = str(TEST_DATA / "golden.vcb")
    assert main(["decode", golden, str(tmp_path / "pictures"), "-m", TINY, "--frames", "1", "--quiet"]) == 1
    assert (elsewhere / "000000.png").read_bytes() == b"mine"
    assert len(list(elsewhere.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_picture_in_a_folder_is_not_opened(tmp_path):
    """A pipe would be waited for without end."""
    golden = str(TEST_DATA / "golden.vcb")
    assert main(["decode", golden, str(tmp_path / "pictures"), "-m", TINY, "--frames", "2", "--quiet"]) == 0
    os.mkfifo(tmp_path / "pictures" / "000002.png")
    (tmp_path / "pictures" / "000003.png").mkdir()
    with open_video(tmp_path / "pictures") as video:
        assert len(list(video)) == 2


# --- The program itself ---


def test_no_shell_is_started_and_nothing_is_unpickled_or_evaluated():
    sources = [*Path(vcodec.__file__).parent.rglob("*.py"), *Path(vcodec.__file__).parents[1].glob("kernels/*.py")]
    assert len(sources) > 80
    for path in sources:
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            options = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert name not in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"), path
            assert name.split(".")[0] not in ("pickle", "marshal", "shelve"), path
            assert name != "np.load" or options.get("allow_pickle", "False") == "False", path
            assert name != "torch.load" or options.get("weights_only") == "True", path
            assert options.get("shell", "False") == "False", path
