"""CompressAI's ssf2020 network: its files decode to what it encoded, with a user's checkpoint in any usual form."""

import math

import numpy as np
import pytest
import torch

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import CodecOptions, create_codec
from vcodec.evaluation.compressai_import import import_compressai
from vcodec.evaluation.jobs import Job, run_job
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import PAPER
from vcodec.evaluation.sequences import Source
from vcodec.video import from_rgb, to_rgb


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return import_compressai("compressai.models.video").ScaleSpaceFlow().eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    """As CompressAI's training example stores it: no coding tables yet."""
    path = tmp_path_factory.mktemp("checkpoints") / "low.pth.tar"
    torch.save({"epoch": 1, "state_dict": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def source(dataset_directory, small_source):
    return Source(small_source.sequence, frames=3, bit_depth=8)


def codec_of(*checkpoints):
    return create_codec("ssf2020", PAPER, CodecOptions(device="cpu", ssf2020_checkpoints=checkpoints))


def test_a_file_decodes_to_the_networks_own_pictures(network, checkpoint, source, tmp_path):
    codec = codec_of(checkpoint)
    sizes = codec.encode(source, 1, tmp_path / "stream", Meter())
    decoded = list(codec.decode(source, 1, tmp_path / "stream", Meter()))

    network.update()
    frames = [torch.from_numpy(to_rgb(frame)).permute(2, 0, 1)[None] for frame in source]
    padded = [torch.nn.functional.pad(x, (0, 64, 0, 80), mode="replicate") for x in frames]
    with torch.inference_mode():
        strings, shapes = network.compress(padded)
        pictures = network.decompress(strings, shapes)
    for frame, x_hat in zip(decoded, pictures, strict=True):
        rgb = x_hat[0, :, :48, :64].clamp(0, 1).permute(1, 2, 0).numpy()
        for plane, expected in zip(frame.planes, from_rgb(rgb, source.format).planes, strict=True):
            np.testing.assert_array_equal(plane, expected)
    payload = sum(len(s[0]) for s in strings[0]) + sum(len(s[0]) for f in strings[1:] for p in f.values() for s in p)
    assert payload < sum(sizes) <= payload + 2 * 2 + 2 * 4 * 2  # a varint of at most two bytes per string
    assert (tmp_path / "stream").stat().st_size == sum(sizes) + 8


def test_a_job_measures_it(checkpoint, source):
    record = run_job(Job(codec_of(checkpoint), source, 1, PAPER)).record
    assert record["frames"] == 3
    assert math.isfinite(record["psnr_rgb"])


def test_quality_is_the_place_of_the_checkpoint(checkpoint, source):
    assert codec_of(checkpoint, checkpoint).qualities(source) == (1, 2)


def test_its_work_is_counted(checkpoint, source):
    counts = codec_of(checkpoint).complexity(source)
    assert counts["parameters"] == pytest.approx(34.2e6, rel=0.001)
    assert 0 < counts["kmac_per_pixel_decode_pframe"] < counts["kmac_per_pixel_encode_pframe"]


def test_a_checkpoint_with_tables_and_a_module_prefix_loads(network, source, tmp_path):
    network.update()
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(weights, tmp_path / "x.pth")
    one = Source(source.sequence, frames=1, bit_depth=8)
    assert codec_of(tmp_path / "x.pth").encode(one, 1, tmp_path / "stream", Meter())[0] > 0


def test_a_truncated_file_is_refused(checkpoint, source, tmp_path):
    codec = codec_of(checkpoint)
    codec.encode(source, 1, tmp_path / "whole", Meter())
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:8])
    with pytest.raises(VcodecError, match="ends too early"):
        list(codec.decode(source, 1, tmp_path / "cut", Meter()))


@pytest.mark.parametrize("content", [b"no checkpoint", b""])
def test_another_file_is_refused(content, source, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(VcodecError, match="not a checkpoint of ssf2020"):
        codec_of(tmp_path / "x.pth").encode(source, 1, tmp_path / "stream", Meter())


def test_without_checkpoints_it_says_what_it_needs(tmp_path):
    with pytest.raises(VcodecError, match="--ssf2020-checkpoint FILE"):
        codec_of()
    with pytest.raises(VcodecError, match="no such checkpoint"):
        codec_of(tmp_path / "gone.pth")
