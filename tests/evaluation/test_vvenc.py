"""VVenC: the arguments, and a round trip where an ffmpeg has it."""

from dataclasses import replace

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import CodecOptions, create_codec
from vcodec.evaluation.ffmpeg import find_ffmpeg
from vcodec.evaluation.jobs import Job, run_job
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.vvenc import VvencCodec


def test_the_arguments_ask_for_low_delay_and_the_presets_intra_period():
    arguments = VvencCodec(PAPER, "ffmpeg").arguments(32)
    assert arguments[:8] == ["-c:v", "libvvenc", "-preset", "medium", "-qp", "32", "-qpa", "0"]
    assert "picreordering=0" in arguments[-1]
    assert arguments[-1].endswith("intraperiod=12")
    one_group = replace(PAPER, intra_period=-1)
    assert VvencCodec(one_group, "ffmpeg").arguments(32)[-1].endswith("intraperiod=-1")


def test_an_ffmpeg_without_vvenc_is_refused(tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho nothing\n")
    program.chmod(0o755)
    with pytest.raises(VcodecError, match="VVenC needs an ffmpeg that was built with libvvenc"):
        create_codec("vvenc", PAPER, CodecOptions(ffmpeg=str(program)))


def test_a_round_trip(small_source):
    ffmpeg = find_ffmpeg("libvvenc", "encoder")
    if ffmpeg is None:
        pytest.skip("no ffmpeg with libvvenc on the path")
    record = run_job(Job(VvencCodec(PAPER, ffmpeg), small_source, 32, PAPER)).record
    assert record["frames"] == 14
    assert record["psnr_rgb"] > 25
    bits = record["per_frame"]["bits"]
    assert min(bits[0], bits[12]) > max(bits[1:12])  # I-frames
