"""vcodec's models as one of the codecs that are compared."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import small_model

from vcodec.bitstream import StreamReader
from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import CodecOptions, create_codec
from vcodec.evaluation.jobs import Job, run_job
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.sequences import Source
from vcodec.models import save_model

TINY = Path(__file__).parent.parent / "data" / "tiny.safetensors"


def codec_of(name, preset=PAPER, **options):
    return create_codec(str(name), preset, CodecOptions(device="cpu", **options))


def frame_types(stream, tmp_path):
    (tmp_path / "stream.vcb").write_bytes(stream)
    with open(tmp_path / "stream.vcb", "rb") as file:
        return "".join(packet.frame_type for packet in StreamReader(file))


def test_a_weight_file_goes_by_its_name(small_source):
    codec = codec_of(TINY)
    assert codec.label == "tiny"
    assert codec.qualities(small_source) == (0, 16, 32, 48, 63)
    assert codec_of(TINY, model_qualities=(8, 40)).qualities(small_source) == (8, 40)


def test_its_file_is_what_the_command_line_writes(small_source, tmp_path):
    result = run_job(Job(codec_of(TINY), small_source, 32, PAPER))
    assert frame_types(result.stream, tmp_path) == "I" + "P" * 11 + "IP"
    assert result.record["frames"] == len(result.record["per_frame"]["bits"]) == 14
    assert result.record["bytes"] == len(result.stream) > sum(result.record["per_frame"]["bits"]) / 8
    assert 5 < result.record["psnr_rgb"] < 100


def test_an_intra_period_of_minus_one_is_one_group(small_source, tmp_path):
    preset = replace(PAPER, intra_period=-1)
    result = run_job(Job(codec_of(TINY, preset), small_source, 32, preset))
    assert frame_types(result.stream, tmp_path) == "I" + "P" * 13


def test_ten_bits_are_coded_in_eight_under_the_papers_preset(deep_source):
    source = Source(deep_source.sequence, frames=2, bit_depth=8)
    assert run_job(Job(codec_of(TINY), source, 32, PAPER)).record["frames"] == 2
    assert run_job(Job(codec_of(TINY), replace(source, bit_depth=None), 32, PAPER)).record["frames"] == 2


def test_settings_name_the_weights(small_source):
    settings = codec_of(TINY).settings(small_source, 32)
    assert settings["gop_size"] == 12
    assert len(settings["weights"]) == 16


def test_its_work_is_counted(small_source):
    counts = codec_of(TINY).complexity(small_source)
    assert counts["parameters"] > 0
    for kind in ("iframe", "pframe"):
        assert 0 < counts[f"kmac_per_pixel_decode_{kind}"] < counts[f"kmac_per_pixel_encode_{kind}"]


def test_a_folder_of_models_of_one_rate_is_one_curve(small_source, tmp_path):
    folder = tmp_path / "family"
    folder.mkdir()
    model = small_model("ssf")
    for quality in (10, 40):
        model.config = replace(model.config, fixed_quality=quality)
        save_model(model, folder / f"quality{quality}.safetensors")
    codec = codec_of(folder)
    assert codec.label == "family"
    assert codec.qualities(small_source) == (10, 40)
    source = Source(small_source.sequence, frames=1, bit_depth=8)
    assert run_job(Job(codec, source, 10, PAPER)).record["frames"] == 1


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(VcodecError, match="no weight files"):
        codec_of(tmp_path)


def test_a_model_without_weights_is_refused():
    with pytest.raises(VcodecError, match="swinvc-ssf has no trained weights"):
        codec_of("swinvc-ssf")


def test_an_unknown_name_is_refused():
    with pytest.raises(VcodecError, match="no model named 'x266'"):
        codec_of("x266")
