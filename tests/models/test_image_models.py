"""The image codecs: every one trains, codes what it shows, keeps its weights, and is as large as published."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vcodec
from vcodec.cli import main
from vcodec.codec import Decoder, Encoder, coding_model
from vcodec.demo import CLIP
from vcodec.entropy.coders import SymbolDecoder, SymbolEncoder
from vcodec.errors import VcodecError
from vcodec.models import create_model, describe_model, describe_models, list_models, load_model, save_model
from vcodec.models.model import ImageModel
from vcodec.models.registry import model_config
from vcodec.models.weights import has_weights, shipped_weights
from vcodec.video import Frame, VideoFormat, open_video, to_rgb

SMALL = ["mambavc-small", "convvc-small", "swinvc-small", "mambaic-small", "samic-small"]
FULL = ["mambavc", "convvc", "swinvc", "mambaic", "samic"]
EACH = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in FULL)]
RGB = VideoFormat(width=53, height=37, chroma="rgb", bit_depth=8, matrix="bt601", full_range=True)


def fresh(name: str, **options: object) -> ImageModel:
    """A model with its own random weights, none of them zero, that is ready to code."""
    torch.manual_seed(0)
    model = create_model(name, pretrained=False, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.003 * torch.randn_like(parameter))
    model.update()
    return model


def quality_of(model: ImageModel, quality: int = 20) -> int:
    return quality if model.variable_rate else model.config.fixed_quality


def ramp(height: int, width: int) -> Tensor:
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None, :]
    return torch.stack([rows.expand(height, width), columns.expand(height, width), rows * columns])


@pytest.mark.parametrize("name", EACH)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = fresh(name)
    x = ramp(64, 64)[None, None]
    output = model(x, torch.tensor([float(quality_of(model))]))
    assert output.x_hat.shape == x.shape
    assert output.bits.shape == (1, 1)
    (output.bits.sum() / 4096 + output.x_hat.square().sum()).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", EACH)
def test_decoder_shows_the_encoders_reconstruction_at_an_odd_size(name: str) -> None:
    model = fresh(name)
    pixels = (ramp(37, 53) * 255).round().to(torch.uint8).numpy()
    frame = Frame(tuple(np.ascontiguousarray(plane) for plane in pixels), 0, RGB)
    encoder = Encoder(model, RGB, quality=quality_of(model))
    packet = encoder.encode(frame)
    decoded = Decoder(model, RGB).decode(packet)
    assert packet.frame_type == "I"
    assert len(packet.payload) > 0
    for plane, expected in zip(decoded.planes, encoder.reconstruction.planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("name", SMALL)
def test_estimated_bits_are_those_of_the_file(name: str, data_directory: Path) -> None:
    torch.manual_seed(0)
    entropy = replace(model_config(name).entropy, adaptive=False, dc_prediction=False)
    model = create_model(name, pretrained=False, entropy=entropy).eval()
    model.update()
    crop = photograph(photographs(data_directory)[0])[:, 32:128, 64:160]
    pixels = ((0.5 + 0.15 * (crop - crop.mean())) * 255).round()  # no outliers: an untrained model does not fit them
    format = VideoFormat(width=96, height=96, chroma="rgb", bit_depth=8, matrix="bt601", full_range=True)
    frame = Frame(tuple(plane.to(torch.uint8).numpy() for plane in pixels), 0, format)
    packet = Encoder(model, format, quality=50).encode(frame)
    with torch.inference_mode():
        estimated = model((pixels / 255)[None, None], torch.tensor([50.0])).bits.item()
    assert 8 * len(packet.payload) == pytest.approx(estimated, rel=0.05, abs=200)
    adaptive = create_model(name, pretrained=False).eval()
    adaptive.load_state_dict(model.state_dict())
    adaptive.update()
    assert len(Encoder(adaptive, format, quality=50).encode(frame).payload) < len(packet.payload)


@pytest.mark.parametrize("name", EACH)
def test_a_saved_model_loads_and_codes_the_same_bytes(name: str, tmp_path: Path) -> None:
    model = fresh(name)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    pixels = (ramp(37, 53) * 255).round().to(torch.uint8).numpy()
    frame = Frame(tuple(np.ascontiguousarray(plane) for plane in pixels), 0, RGB)
    packets = [Encoder(m, RGB, quality=quality_of(m)).encode(frame) for m in (model, loaded)]
    assert loaded.config == model.config
    assert packets[0] == packets[1]


@pytest.mark.parametrize("name", SMALL)
def test_training_on_photographs_lowers_the_loss(name: str, data_directory: Path) -> None:
    torch.manual_seed(1)
    model = create_model(name, pretrained=False)
    crops = torch.stack([photograph(path)[:, 64:128, 96:160] for path in photographs(data_directory)[:2]])
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)
    quality = torch.full((2,), 32.0)
    losses = []
    for _ in range(12):
        output = model(crops[:, None], quality)
        mse = (output.x_hat[:, 0] - crops).square().mean()
        loss = output.bits.mean() / 64**2 + 0.0844 * 255**2 * mse
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.parametrize("name", SMALL)
def test_is_the_iframe_codec_of_the_video_model(name: str) -> None:
    torch.manual_seed(0)
    model = create_model("convvc-ssf-small", pretrained=False, iframe=name).eval()
    frames = ramp(48, 64)[None, None].expand(1, 2, -1, -1, -1)
    with torch.inference_mode():
        output = model(frames, torch.tensor([30.0]))
        alone = ImageModel.forward(model, frames[:, :1], torch.tensor([30.0]))
    assert output.x_hat.shape == frames.shape
    assert torch.equal(output.x_hat[:, 0], alone.x_hat[:, 0])


@pytest.mark.parametrize("name", SMALL)
def test_a_pictures_rounding_does_not_move_the_scales(name: str) -> None:
    """What decides the tables is computed without the picture: another synthesis decodes the same symbols."""
    model = coding_model(fresh(name))
    x, level = ramp(64, 80)[None], torch.tensor([40.0])
    with torch.inference_mode():
        encoder = SymbolEncoder()
        model.code_iframe(encoder, x, (1, 64, 80), level)
        # transforms of the picture that round differently: the entropy path must not notice
        for parameter in model.iframe.synthesis.parameters():
            parameter.mul_(1 + 1e-3)
        decoder = SymbolDecoder(encoder.finish())
        model.code_iframe(decoder, None, (1, 64, 80), level)
        decoder.finish()


@pytest.mark.parametrize(
    "ablation",
    [{"channel": False}, {"spatial": False}, {"attention": 0}, {"kind": "conv"}, {"kind": "swin"}, {"kind": "vss"}],
    ids=str,
)
def test_mambaic_without_a_part_of_its_context_decodes_what_it_coded(ablation: dict[str, object]) -> None:
    whole = create_model("mambaic-small", pretrained=False)
    options = {f"entropy.context.{name}": value for name, value in ablation.items()}
    model = fresh("mambaic-small", **options)
    if ablation != {"kind": "vss"}:
        assert parameters_of(model) != parameters_of(whole)
    frame = Frame(tuple((ramp(37, 53) * 255).round().to(torch.uint8).numpy()), 0, RGB)
    encoder = Encoder(model, RGB, quality=30)
    decoded = Decoder(model, RGB).decode(encoder.encode(frame))
    for plane, expected in zip(decoded.planes, encoder.reconstruction.planes, strict=True):
        np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"entropy.context.nonesuch": 1}, "no field 'nonesuch'"),
        ({"entropy.nonesuch.spatial": False}, "no 'entropy.nonesuch.spatial'"),
        ({"entropy.context.spatial": "no"}, "not of type bool"),
        ({"nonesuch": 1}, "no option of that name"),
        ({"levels": "many"}, "not of type int"),
        ({"entropy.context.slices": 7}, "can't be divided into 7 slices"),
        ({"entropy.context.kernel": 2}, "odd sizes"),
        ({"entropy.model": "nonesuch"}, "unknown entropy model"),
    ],
)
def test_wrong_options_of_a_model_are_refused_in_a_sentence(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(VcodecError, match=complaint):
        create_model("mambaic-small", **options)


def parameters_of(model: ImageModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_models_are_listed_without_being_built() -> None:
    descriptions = {description.name: description for description in describe_models()}
    assert sorted(descriptions) == list_models()
    assert [d.name for d in descriptions.values() if d.default] == ["mambavc-ssf-small"]
    assert 23.75e6 < descriptions["samic"].parameters < 26.25e6
    assert {descriptions[name].transform for name in FULL} == {"vss", "conv", "swin", "semantic"}
    assert all(descriptions[name].kind == "image" and not descriptions[name].weights for name in FULL)
    small = create_model("samic-small", pretrained=False)
    assert describe_model("samic-small").parameters == sum(p.numel() for p in small.parameters())


def test_the_command_line_lists_them_with_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list_models()
    for entry in entries:
        assert {"name", "kind", "parameters", "transform", "weights", "default"} <= set(entry)
        assert isinstance(entry["parameters"], int)
    assert sum(entry["default"] for entry in entries) == 1


@pytest.mark.parametrize(("name", "millions"), [("mambavc", 53.3), ("swinvc", 60.4), ("convvc", 74.0)])
def test_parameters_are_the_papers(name: str, millions: float) -> None:
    assert describe_model(name).parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_full_sizes_without_weights_are_refused() -> None:
    with pytest.raises(VcodecError, match="no weights ship for 'mambavc'"):
        create_model("mambavc", pretrained=True)


SHIPPED = [name for name in list_models(kind="image") if has_weights(name)]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_take_fewer_bits_than_jpeg_for_the_same_psnr(name: str) -> None:
    with open_video(Path(vcodec.__file__).parent / "data" / CLIP) as reader:
        frame = next(iter(reader))
    rgb = (to_rgb(frame)[:128, :192] * 255).round().astype(np.uint8)
    planes = tuple(np.ascontiguousarray(plane) for plane in rgb.transpose(2, 0, 1))
    format = VideoFormat(width=192, height=128, chroma="rgb", bit_depth=8, matrix="bt601", full_range=True)
    model = create_model(name)
    packet = Encoder(model, format, quality=32).encode(Frame(planes, 0, format))
    decoded = np.stack(Decoder(model, format).decode(packet).planes, axis=-1)
    jpegs = [as_jpeg(rgb, jpeg_quality) for jpeg_quality in range(10, 96, 5)]
    as_good = [len(file) for file in jpegs if psnr(np.asarray(Image.open(io.BytesIO(file))), rgb) >= psnr(decoded, rgb)]
    assert len(packet.payload) < 0.8 * min(as_good)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_of_the_registered_model_and_small(name: str) -> None:
    path = shipped_weights(name)
    assert path is not None
    assert path.stat().st_size <= 16_000_000
    assert replace(load_model(path).config, experience=False) == model_config(name)
    assert path.with_suffix(".md").is_file(), "a model card"


def as_jpeg(rgb: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


def psnr(picture: np.ndarray, source: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(picture.astype(float) - source).mean()))


def test_a_picture_is_coded_with_weights_and_refused_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, coded, shown = (str(tmp_path / name) for name in ("photo.png", "photo.vcb", "shown.png"))
    Image.fromarray((ramp(37, 53) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).save(picture)
    assert main(["encode", picture, coded, "-m", "mambavc", "--quiet"]) == 1
    refusal = capsys.readouterr().err
    assert refusal.startswith("vcodec: model 'mambavc' has no trained weights, so it can't code")
    assert refusal.count("\n") == 1
    assert not Path(coded).exists()
    assert main(["encode", picture, coded, "-m", "mambavc-small", "--quiet"]) == 0
    assert main(["decode", coded, shown, "--quiet"]) == 0
    with Image.open(shown) as decoded:
        assert decoded.size == (53, 37)
    weights = str(tmp_path / "trained.safetensors")
    save_model(fresh("mambavc-small"), weights)
    assert main(["encode", picture, coded, "-m", weights, "--quiet"]) == 0
    assert main(["decode", coded, shown, "-m", weights, "--quiet"]) == 0
    with Image.open(shown) as decoded:
        assert decoded.size == (53, 37)


def photographs(data_directory: Path) -> list[Path]:
    return sorted((data_directory / "stills").glob("*.jpg"))


def photograph(path: Path) -> Tensor:
    with open_video(path) as reader:
        return torch.from_numpy(to_rgb(next(iter(reader)))).permute(2, 0, 1)
