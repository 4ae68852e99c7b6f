"""x264, x265 and SVT-AV1 as anchors: the settings, the files, and what comes back from them."""

import os
import sys
from dataclasses import replace
from fractions import Fraction

import av
import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.metrics import measure_frame
from vcodec.evaluation.presets import MODERN, PAPER
from vcodec.evaluation.standard_codecs import (
    COMMANDS,
    EXTENSIONS,
    EncoderCommand,
    StandardCodec,
    decode_elementary_stream,
    encode_elementary_stream,
    packet_sizes,
    svtav1_command,
    x264_command,
    x265_command,
)

LABELS = ("x264", "x265", "svtav1")


def encoded(label, source, path, quality=30, preset=PAPER):
    codec = StandardCodec(label, EXTENSIONS[label], preset)
    if COMMANDS[label](quality, preset).encoder not in av.codecs_available:
        pytest.skip(f"this PyAV has no {label}")
    return codec.encode(source, quality, path, Meter())


def keyframes(path):
    with av.open(str(path)) as container:
        return [index for index, packet in enumerate(container.demux(video=0)) if packet.size and packet.is_keyframe]


def test_the_papers_x264_command():
    assert x264_command(23, PAPER) == EncoderCommand(
        "libx264",
        {
            "preset": "medium",
            "tune": "zerolatency",
            "crf": "23",
            "x264-params": "keyint=12:min-keyint=12:scenecut=0:threads=1",
        },
    )


def test_the_papers_x265_command():
    assert x265_command(23, PAPER, threads=3) == EncoderCommand(
        "libx265",
        {
            "preset": "medium",
            "tune": "zerolatency",
            "crf": "23",
            "x265-params": "keyint=12:min-keyint=12:scenecut=0:pools=3:info=0:log-level=error",
        },
    )


def test_an_intra_period_of_minus_one_asks_for_one_iframe():
    one_group = replace(MODERN, intra_period=-1)
    assert "keyint=infinite:" in x264_command(23, one_group).options["x264-params"]
    assert "keyint=-1:" in x265_command(23, one_group).options["x265-params"]
    assert "keyint=-1:" in svtav1_command(23, one_group).options["svtav1-params"]


@pytest.mark.parametrize("label", LABELS)
def test_every_frame_comes_back_and_iframes_stand_every_twelve(label, small_source, tmp_path):
    path = tmp_path / f"stream{EXTENSIONS[label]}"
    sizes = encoded(label, small_source, path)
    decoded = list(decode_elementary_stream(path, small_source.format))
    assert len(decoded) == len(sizes) == 14
    assert sum(sizes) == path.stat().st_size
    assert packet_sizes(path) == sizes
    assert keyframes(path) == [0, 12]
    for source, frame in zip(small_source, decoded, strict=True):
        assert measure_frame(source, frame).psnr_y > 25


@pytest.mark.parametrize("label", ["x264", "x265"])
def test_a_file_holds_no_text_of_the_encoder(label, small_source, tmp_path):
    path = tmp_path / "stream"
    encoded(label, small_source, path)
    assert label.encode() not in path.read_bytes()


@pytest.mark.parametrize("label", ["x264", "x265"])
def test_ten_bits_stay_ten_bits(label, deep_source, tmp_path):
    path = tmp_path / f"stream{EXTENSIONS[label]}"
    encoded(label, deep_source, path, preset=replace(MODERN, speed="medium"))
    frame = next(iter(decode_elementary_stream(path, deep_source.format)))
    assert frame.format.bit_depth == 10
    assert keyframes(path) == [0]


def test_a_lower_crf_gives_more_bytes_and_better_pictures(small_source, tmp_path):
    qualities = {}
    for crf in (20, 35):
        encoded("x265", small_source, tmp_path / f"{crf}.hevc", crf)
        frame = next(iter(decode_elementary_stream(tmp_path / f"{crf}.hevc", small_source.format)))
        qualities[crf] = measure_frame(next(iter(small_source)), frame).psnr_rgb
    assert (tmp_path / "20.hevc").stat().st_size > (tmp_path / "35.hevc").stat().st_size
    assert qualities[20] > qualities[35]


def test_a_file_of_another_size_is_refused(small_source, tmp_path):
    path = tmp_path / "stream.264"
    encoded("x264", small_source, path)
    with pytest.raises(VcodecError, match="holds 64x48 yuv420p, but its source is 96x48"):
        list(decode_elementary_stream(path, replace(small_source.format, width=96)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="scheduling as Linux has it")
def test_no_encoder_takes_priority_over_the_rest_of_the_machine(small_source, tmp_path):
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV has no svtav1")
    policy, policies = os.sched_getscheduler(0), set()

    def watched():
        for frame in small_source:
            policies.update(os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task"))
            yield frame

    command = svtav1_command(40, PAPER)
    encode_elementary_stream(watched(), tmp_path / "x.obu", command, small_source.format, Fraction(25))
    assert policies == {policy}


def test_an_encoder_that_is_not_there_is_refused(small_source, tmp_path):
    with pytest.raises(VcodecError, match="no encoder libnothing"):
        encode_elementary_stream(
            small_source, tmp_path / "x", EncoderCommand("libnothing", {}), small_source.format, Fraction(25)
        )
