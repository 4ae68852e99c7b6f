"""What must hold for every registered model; the fast tests take an eighth of each width."""

import contextlib

import numpy as np
import pytest
import torch
from recording import perturbed, record
from synthetic import assert_same_picture, moving_frames, scrambled, small_model

from vcodec.codec import Decoder, Encoder
from vcodec.errors import VcodecError
from vcodec.models import ImageModel, VideoModel, create_model, list_models, model_config, registered_model
from vcodec.video import Frame, VideoFormat

# millions of parameters; the first three are the published sizes' counterparts (MambaVC, table 4 and appendix A)
PARAMETERS = {
    "convvc-ssf": 34.2,
    "mambavc-ssf": 46.4,
    "swinvc-ssf": 49.4,
    "mambavc": 53.3,
    "mambavc-ssf-small": 2.58,
}


def any_quality(model: ImageModel) -> int:
    return 40 if model.variable_rate else model.config.fixed_quality


def check_coding(model: ImageModel, size: tuple[int, int], count: int) -> None:
    """Every decoded frame is the encoder's reconstruction, exactly."""
    format = VideoFormat(*size, "420")
    encoder = Encoder(model, format, any_quality(model), gop_size=12)
    decoder = Decoder(model, format)
    for frame in moving_frames(format, count):
        packet = encoder.encode(frame)
        assert_same_picture(decoder.decode(packet), encoder.reconstruction)


@pytest.mark.parametrize("name", list_models())
def test_every_model_trains_codes_and_decodes_what_was_coded(name):
    model = small_model(name)
    count = 2 if isinstance(model, VideoModel) else 1
    frames = torch.rand(2, count, 3, 32, 48)
    quality = torch.tensor([10.0, 60.0]) if model.variable_rate else torch.full((2,), float(any_quality(model)))

    output = model.train()(frames, quality)
    assert output.x_hat.shape == frames.shape
    assert output.bits.shape == (2, count)
    (output.bits.mean() + (output.x_hat - frames).square().sum()).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    assert unused == []
    assert all(p.grad.isfinite().all() for p in model.parameters())

    with torch.no_grad():
        output = model.eval()(frames, quality)
    assert ((output.x_hat >= 0) & (output.x_hat <= 1)).all()
    assert (output.bits > 0).all()
    check_coding(model, (44, 35), count + 1)


@pytest.mark.parametrize("name", ["mambavc-ssf", "convvc-ssf-small", "swinvc-ssf-small"])
@pytest.mark.parametrize("size", [(1, 1), (2, 67), (64, 64)])
def test_models_code_any_size(name, size):
    check_coding(small_model(name), size, 2)


@pytest.mark.parametrize("name", list_models("*-small"))
def test_small_models_code_at_every_quality_and_gop_size(name):
    model, format = small_model(name), VideoFormat(40, 24, "420")
    for quality in (0, 31, 63):
        for gop_size in (1, 2, 12):
            encoder, decoder = Encoder(model, format, quality, gop_size), Decoder(model, format)
            for frame in moving_frames(format, 3):
                packet = encoder.encode(frame)
                assert_same_picture(decoder.decode(packet), encoder.reconstruction)


@pytest.mark.parametrize("name", list_models())
def test_models_have_the_size_they_are_known_for(name):
    with torch.device("meta"):
        model = create_model(name, pretrained=False)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS.get(name, count), abs=0.06)
    video = registered_model(name).kind == "video"
    assert isinstance(model, VideoModel) == video
    assert len(model.image_parameters()) + len(model.video_parameters()) == len(list(model.parameters()))
    assert bool(model.video_parameters()) == video


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (416, 240)])
def test_full_sizes_decode_what_was_coded(name, size):
    torch.manual_seed(0)
    check_coding(scrambled(create_model(name, pretrained=False)), size, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mambavc-ssf-small", "convvc-ssf"])
def test_full_sizes_code_full_hd(name):
    torch.manual_seed(0)
    check_coding(scrambled(create_model(name, pretrained=False)), (1920, 1080), 2)


def with_grain(frame: Frame) -> Frame:
    """The frame with noise that no motion explains."""
    random = np.random.default_rng(frame.pts)
    planes = (np.clip(plane + random.normal(0, 12, plane.shape), 0, 255).astype(plane.dtype) for plane in frame.planes)
    return Frame(tuple(planes), frame.pts, frame.format)


def test_the_frame_before_informs_a_temporal_model_and_its_noise_no_scale():
    model = small_model("mambavc-ssf-small")
    frames = [with_grain(frame) for frame in moving_frames(VideoFormat(64, 48, "420"), 3, (3.0, 2.0))]
    encoder = Encoder(model, frames[0].format, 50, cascade=False)
    packets = [encoder.encode(frame) for frame in frames]
    assert packets[2].skip == 0
    seen = []
    for size in (0.0, 1e-3):
        decoder = Decoder(model, frames[0].format)
        for packet in packets[:2]:
            decoder.decode(packet)
        assert decoder._reference.fields.any()
        assert decoder._reference.residual.symbols.any()
        decoder._reference = perturbed(decoder._reference, size)
        seen.append(record(decoder, packets[2]))
    for a, b in zip(seen[0].levels + seen[0].symbols, seen[1].levels + seen[1].symbols, strict=True):
        assert (a == b).all()

    decoder = Decoder(model, frames[0].format)
    for packet in packets[:2]:
        decoder.decode(packet)
    decoder._reference = decoder._reference.repeated()  # without the latents it is another frame, or no frame at all
    with contextlib.suppress(VcodecError):
        levels = record(decoder, packets[2]).levels
        assert any((a != b).any() for a, b in zip(levels, seen[0].levels, strict=True))


def test_names_are_listed_by_pattern_and_kind():
    assert "mambavc-ssf" in list_models()
    assert set(list_models("*-small")) < set(list_models())
    assert set(list_models(kind="image")) | set(list_models(kind="video")) == set(list_models())
    assert all(registered_model(name).notes for name in list_models())


def test_default_is_a_name():
    assert model_config("default") == model_config("mambavc-ssf-small")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(VcodecError, match=r"no model named 'mambavc2'.*mambavc-ssf"):
        create_model("mambavc2")


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(VcodecError, match="options are iframe, flow, residual"):
        create_model("mambavc-ssf-small", pretrained=False, depth=3)


def test_any_image_codec_can_stand_in_the_iframe_s_place():
    with torch.device("meta"):
        model = create_model("mambavc-ssf", pretrained=False, iframe="ssf")
    assert isinstance(model, VideoModel)
    with pytest.raises(VcodecError, match="no image codec"):
        create_model("mambavc-ssf", pretrained=False, iframe="mambavc-ssf")


def test_a_result_does_not_depend_on_how_a_batch_is_split():
    model = small_model("mambavc-ssf-small").train()
    frames, quality = torch.rand(2, 2, 3, 32, 32), torch.tensor([5.0, 50.0])

    def run(samples: slice) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)][samples]
        return model(frames[samples], quality[samples], generators=generators).bits

    together = run(slice(0, 2))
    assert torch.allclose(together, torch.cat([run(slice(0, 1)), run(slice(1, 2))]), rtol=1e-4)
