"""The analyses, on cases with a known answer and end to end on a small model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vcodec.cli import main
from vcodec.evaluation.analysis import find_pictures, read_picture
from vcodec.evaluation.analysis_complexity import _MacCounter, _MemoryMeter, complexity
from vcodec.evaluation.analysis_latents import (
    LatentHistogram,
    LatentRecorder,
    SpatialCorrelation,
    deviation_map,
    record_latents,
    whiten_channels,
)
from vcodec.evaluation.analysis_plots import short_name
from vcodec.evaluation.analysis_receptive_field import (
    effective_receptive_field,
    radius_of_energy,
    reached_share,
)
from vcodec.models import create_model, save_model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_white_noise_has_no_neighbours_and_a_moving_average_half() -> None:
    correlation = SpatialCorrelation(reach=2)
    white = noise(1, 8, 64, 65)
    correlation.add((white[..., 1:] + white[..., :-1]) / 2)  # averages of two share one of them with the next
    matrix = correlation.matrix
    assert matrix[2, 2] == pytest.approx(1)
    assert matrix[2, 3] == pytest.approx(0.5, abs=0.02)
    assert matrix[2, 1] == pytest.approx(0.5, abs=0.02)
    assert abs(matrix[2, 4]) < 0.02
    assert matrix[1, 2].abs() < 0.02
    assert matrix[1, 3].abs() < 0.02


def test_a_constant_map_is_all_correlation_also_where_it_is_small() -> None:
    correlation = SpatialCorrelation(reach=1)
    correlation.add(torch.ones(1, 2, 3, 1))
    assert correlation.matrix[:, 1].tolist() == pytest.approx([1, 1, 1])
    assert correlation.matrix[1, 0] == 0  # a column further there is none


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.0, 0.5), (1.0, 1.0), (0.5, 2.0)])
def test_divergence_is_that_of_normal_distributions(mean: float, deviation: float) -> None:
    distribution = LatentHistogram(limit=12, bins=480)
    distribution.add(mean + deviation * noise(1_000_000))
    expected = (deviation**2 + mean**2 - 1) / 2 - math.log(deviation)
    assert distribution.kl_divergence == pytest.approx(expected, abs=0.004)
    assert float(distribution.density.sum() * 24 / 480) == pytest.approx(1)


def test_deviation_is_relative_to_the_latents() -> None:
    y = torch.tensor([-2.0, 2.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 4)
    assert torch.allclose(deviation_map(y, y + 0.5), torch.full((3, 4), 0.25))
    assert torch.equal(deviation_map(y, y), torch.zeros(3, 4))


def test_whitened_channels_have_mean_zero_and_deviation_one() -> None:
    maps = [3 + 2 * noise(1, 2, 8, 8), 3 + 2 * noise(1, 2, 5, 9)]
    values = torch.cat([m[0, 1].flatten() for m in whiten_channels(maps)])
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    assert float(values.std()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(whiten_channels([torch.ones(1, 1, 4, 4)])[0], torch.zeros(1, 1, 4, 4))


def test_a_convolution_sees_its_kernel() -> None:
    layer = nn.Conv2d(3, 4, 5, padding=2)
    nn.init.ones_(layer.weight)
    field = effective_receptive_field(layer, [noise(1, 3, 21, 21)] * 2)
    expected = torch.zeros(21, 21)
    expected[8:13, 8:13] = 1
    assert torch.allclose(field, expected)
    assert reached_share(field) == pytest.approx(25 / 441)
    assert radius_of_energy(field) == 2
    assert radius_of_energy(field, share=9 / 25) == 1


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("mambavc", 326.1, {"g_a": 140.9, "h_a": 0.6311, "h_s": 43.6}),
        ("swinvc", 560.9, {"g_a": 257.9, "h_a": 0.9295, "h_s": 44.2}),
        ("convvc", 425.1, {"g_a": 188.8, "h_a": 1.6, "h_s": 45.8}),
    ],
)
def test_multiply_accumulates_are_the_papers(name: str, total: float, parts: dict[str, float]) -> None:
    """MambaVC, table 4: within half a percent in total and 5 % in each part."""
    counted = complexity(name, 768, 512)
    assert sum(counted.macs.values()) / 1e9 == pytest.approx(total, rel=0.005)
    for part, macs in parts.items():
        assert counted.macs[part] / 1e9 == pytest.approx(macs, rel=0.05)
    assert all(counted.all_macs[part] >= counted.macs[part] for part in counted.macs)
    assert counted.peak_bytes > 4 * counted.parameters


def test_cost_grows_with_the_number_of_pixels() -> None:
    small, large = complexity("mambavc-small", 256, 256), complexity("mambavc-small", 512, 512)
    for part in ("g_a", "g_s"):
        assert large.all_macs[part] == 4 * small.all_macs[part]
    assert large.parameters == small.parameters


def test_the_full_count_adds_projections_recurrence_and_attention() -> None:
    model = create_model("mambavc-small", pretrained=False).eval()
    scan = model.iframe.analysis.stages[0][1].scan
    with torch.inference_mode(), _MacCounter(model) as counter:
        model.iframe.analysis.stages[0][1](torch.zeros(1, 48, 4, 6))
    places, width, rank, states = 24, 48, 3, 1
    projections = places * 4 * width * (rank + 2 * states) + places * 4 * rank * width
    recurrence = places * 4 * width * (4 * states + 2)
    assert scan.x_proj.weight.shape[0] == 4 * (rank + 2 * states)
    assert counter.macs["g_a"] == places * (3 * width**2 + 9 * width)
    assert counter.all_macs["g_a"] - counter.macs["g_a"] == projections + recurrence


def test_memory_is_what_lives_at_a_time() -> None:
    module = nn.Linear(4, 4, bias=False)
    with _MemoryMeter(module) as meter:
        first = torch.zeros(1000)
        second = first + 1  # both live: 8000 bytes
        del first
        third = second + 1  # the first is gone
        view = third[:10]
    assert meter.peak == 64 + 8000
    assert view.numel() == 10


def test_a_recorder_joins_passes_and_slices() -> None:
    recorder, y = LatentRecorder(), noise(1, 2, 4, 4)
    means, log_scales = torch.ones_like(y), torch.full_like(y, math.log(2))
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., ::2] = True
    recorder.code_latents(y, means, log_scales, mask)
    recorder.code_latents(y, 2 * means, log_scales, ~mask)
    recorder.code_latents(y, means, log_scales)
    joined = recorder.normalized()
    assert joined.shape == (1, 4, 4, 4)
    assert torch.allclose(joined[:, :2][mask.expand(1, 2, 4, 4)], ((y - 1) / 2)[mask.expand(1, 2, 4, 4)])
    assert torch.allclose(joined[:, :2][~mask.expand(1, 2, 4, 4)], ((y - 2) / 2)[~mask.expand(1, 2, 4, 4)])
    assert torch.allclose(joined[:, 2:], (y - 1) / 2)


@pytest.mark.parametrize("name", ["mambavc-small", "mambaic-small", "ssf"])
def test_recorded_latents_are_the_models(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, pretrained=False).eval()
    x = torch.rand(1, 3, 70, 90)
    latents = record_latents(model.iframe, x, 32)
    with torch.inference_mode():
        output = model(x[:, None], torch.tensor([32.0]))
    assert latents.y.shape == latents.y_hat.shape == latents.normalized.shape
    assert latents.bits == pytest.approx(output.bits.item(), rel=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("analysis") / "model.safetensors"
    save_model(create_model("convvc-small", pretrained=False), path)
    return path


def run(*arguments: str) -> int:
    return main(["analyze", *arguments])


@pytest.mark.parametrize("analysis", ["correlation", "distribution", "deviation", "receptive-field"])
def test_every_analysis_writes_its_picture_and_its_numbers(
    analysis: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 264, 3), np.uint8)).save(picture)
    assert run(analysis, str(tmp_path), "-m", str(weights), "-o", str(tmp_path / "out")) == 0
    numbers = json.loads((tmp_path / "out" / f"{analysis}.json").read_text())
    assert list(numbers) == [str(weights)]
    with Image.open(tmp_path / "out" / f"{analysis}.png") as drawn:
        assert drawn.width > 300
    assert str(weights) in capsys.readouterr().out


def test_complexity_is_written_for_every_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--size", "64x64", "--size", "128x64"]
    assert run("complexity", "-m", "convvc-small", *sizes, "-o", str(tmp_path), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "complexity.json").read_text())
    assert list(printed["convvc-small"]) == ["64x64", "128x64"]
    assert (tmp_path / "complexity.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["correlation", "missing.png"], "missing.png: there is no such file or folder"),
        (["correlation"], "there are no pictures to analyse"),
        (["complexity", "--size", "7"], "'7' is no size"),
        (["complexity", "-m", "nothing"], "there is no model named 'nothing'"),
        (["deviation", __file__, "-m", "mambavc"], "no weights ship for 'mambavc'"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "-o", str(tmp_path / "out")) == 1
    assert capsys.readouterr().err.startswith(f"vcodec: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("mambavc", "mambavc"),
        ("runs/first/best.safetensors", "first"),
        ("runs/first/stage-0.safetensors", "stage-0"),
        ("best.safetensors", "best"),
    ],
)
def test_plots_name_a_weight_file_in_a_word(model: str, shown: str) -> None:
    assert short_name(model) == shown


def test_pictures_are_found_in_folders_and_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert find_pictures([tmp_path]) == [tmp_path / "b.png"]
    x = read_picture(tmp_path / "b.png")
    assert torch.equal((x[0] * 255).round().permute(1, 2, 0).to(torch.uint8), torch.from_numpy(pixels))
