"""HM: the command, its configuration, streams made before, and a stand-in for its encoder."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import CodecOptions, create_codec
from vcodec.evaluation.hm import CONFIGURATION, HmCodec, HmStreams
from vcodec.evaluation.jobs import Job, run_job
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import MODERN, PAPER
from vcodec.evaluation.sequences import Source
from vcodec.evaluation.standard_codecs import StandardCodec

# Takes HM's arguments and codes with x265, so that the adapter can be tried without HM.
STAND_IN = """#!{python}
import sys
from fractions import Fraction
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.standard_codecs import encode_elementary_stream, x265_command
from vcodec.video import open_video
from pathlib import Path
words = sys.argv[1:]
value = {{w: words[i + 1] for i, w in enumerate(words[:-1])}}
option = dict(w[2:].split("=") for w in words if w.startswith("--"))
assert Path(value["-c"]).is_file(), value
size = int(option["SourceWidth"]), int(option["SourceHeight"])
with open_video(value["-i"], size=size, pixel_format="yuv420p", frame_rate=25) as video:
    frames = list(video)
assert len(frames) == int(option["FramesToBeEncoded"])
command = x265_command(int(option["QP"]), PAPER)
encode_elementary_stream(frames, Path(value["-b"]), command, frames[0].format, Fraction(25))
"""


@pytest.fixture
def streams(small_source, tmp_path):
    """A stream with an I-frame every twelve frames, under the name of an HM stream."""
    directory = tmp_path / "hm"
    directory.mkdir()
    x265 = StandardCodec("x265", ".hevc", PAPER)
    x265.encode(small_source, 30, directory / "small_qp32.hevc", Meter())
    return directory


def test_the_command(small_source, tmp_path):
    arguments = HmCodec(PAPER, tmp_path / "TAppEncoder").encode_arguments(small_source, 32, frames=14)
    assert arguments == [
        "--InputBitDepth=8",
        "--InternalBitDepth=8",
        "--InputChromaFormat=420",
        "--SourceWidth=64",
        "--SourceHeight=48",
        "--FrameRate=25",
        "--FramesToBeEncoded=14",
        "--IntraPeriod=12",
        "--DecodingRefreshType=2",
        "--QP=32",
    ]


def test_one_group_and_ten_bits(deep_source, tmp_path):
    preset = replace(MODERN, intra_period=-1)
    arguments = HmCodec(preset, tmp_path / "TAppEncoder").encode_arguments(deep_source, 32, frames=14)
    assert {"--IntraPeriod=-1", "--DecodingRefreshType=0", "--InternalBitDepth=10", "--Profile=main10"} <= {*arguments}


def test_the_configuration_is_low_delay_p_in_groups_of_four():
    text = CONFIGURATION.read_text()
    settings = dict(re.findall(r"^(\w+)\s*:\s*(\S+)", text, re.MULTILINE))
    assert settings["GOPSize"] == "4"
    assert settings["LambdaFromQpEnable"] == settings["IntraQPOffset"] == "0"
    entries = [line.split(":")[1].split() for line in text.splitlines() if re.match(r"Frame\d", line)]
    assert [entry[0] for entry in entries] == ["P"] * 4
    assert [int(entry[1]) for entry in entries] == [1, 2, 3, 4]
    assert [int(entry[2]) for entry in entries] == [3, 2, 3, 1]
    assert [float(entry[7]) for entry in entries] == [0.4624, 0.4624, 0.4624, 0.578]
    references = [[int(word) for word in entry[13:17]] for entry in entries]
    assert references == [[-1, -5, -9, -13], [-1, -2, -6, -10], [-1, -3, -7, -11], [-1, -4, -8, -12]]


def test_the_adapter_runs_the_encoder_and_decodes_its_file(small_source, tmp_path):
    encoder = tmp_path / "TAppEncoder"
    encoder.write_text(STAND_IN.format(python=sys.executable))
    encoder.chmod(0o755)
    codec = create_codec("hm", PAPER, CodecOptions(hm_encoder=encoder))
    result = run_job(Job(codec, small_source, 32, PAPER))
    assert result.record["frames"] == 14
    assert result.record["psnr_rgb"] > 25
    assert result.record["encode_seconds"] > 0


def test_programs_may_come_from_the_environment(tmp_path, monkeypatch):
    program = tmp_path / "TAppEncoder"
    program.touch()
    monkeypatch.setenv("VCODEC_HM_ENCODER", str(program))
    assert create_codec("hm", PAPER, CodecOptions()).encoder == program


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VcodecError, match="TAppEncoder: there is no such file"):
        create_codec("hm", PAPER, CodecOptions(hm_encoder=tmp_path / "TAppEncoder"))


def test_without_program_and_streams_hm_says_what_it_needs(tmp_path):
    with pytest.raises(VcodecError, match="HM needs --hm-encoder"):
        create_codec("hm", PAPER, CodecOptions(hm_streams=tmp_path))


def test_streams_made_before_are_measured_like_any_other(small_source, streams):
    codec = create_codec("hm", PAPER, CodecOptions(hm_streams=streams))
    assert codec.qualities(small_source) == (32,)
    result = run_job(Job(codec, small_source, 32, PAPER))
    assert result.stream == (streams / "small_qp32.hevc").read_bytes()
    assert result.record["psnr_rgb"] > 25
    assert result.record["encode_seconds"] is None


def test_a_stream_is_cut_to_the_frames_that_are_compared(small_source, streams):
    whole = run_job(Job(HmStreams(PAPER, streams), small_source, 32, PAPER))
    source = Source(small_source.sequence, frames=5, bit_depth=8)
    cut = run_job(Job(HmStreams(PAPER, streams), source, 32, PAPER))
    assert cut.record["frames"] == 5
    assert whole.stream.startswith(cut.stream)
    assert cut.record["per_frame"]["psnr_rgb"] == whole.record["per_frame"]["psnr_rgb"][:5]


def test_a_stream_with_other_iframes_is_refused(small_source, streams):
    preset = replace(PAPER, intra_period=4)
    with pytest.raises(VcodecError, match="I-frames do not stand where the preset paper puts them"):
        run_job(Job(HmStreams(preset, streams), small_source, 32, preset))


def test_a_sequence_without_streams_has_no_points(small_source, streams):
    (streams / "small_qp32.hevc").rename(streams / "another_qp32.hevc")
    assert HmStreams(PAPER, streams).qualities(small_source) == ()


def test_a_program_is_run_by_its_path_also_when_it_lies_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "TAppEncoder").touch()
    monkeypatch.chdir(tmp_path)
    codec = create_codec("hm", PAPER, CodecOptions(hm_encoder=Path("TAppEncoder")))
    assert codec.encoder == tmp_path / "TAppEncoder"
