"""Encoder and decoder: what is decoded is the encoder's own reconstruction, whatever the size and the settings."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import perturbed, record, symbols_of
from synthetic import assert_same_picture, moving_frames

from vcodec.bitstream import Packet
from vcodec.codec import Decoder, Encoder, coding_model
from vcodec.entropy.coders import SymbolDecoder, SymbolEncoder
from vcodec.errors import VcodecError
from vcodec.layers.chroma import subsampled
from vcodec.models import create_model
from vcodec.models.model import SKIP_FLOW, SKIP_RESIDUAL, Reference
from vcodec.models.registry import build_model
from vcodec.video import Frame, VideoFormat

FORMAT = VideoFormat(46, 38)


def encode_all(encoder: Encoder, frames: list[Frame]) -> list[tuple[Packet, Frame]]:
    return [(encoder.encode(frame), encoder.reconstruction) for frame in frames]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (16, 16), (17, 15), (64, 48)])
@pytest.mark.parametrize(("gop_size", "types"), [(1, "IIII"), (2, "IPIP"), (12, "IPPP"), (-1, "IPPP")])
@pytest.mark.parametrize("quality", [0, 31, 63])
def test_decoding_gives_the_encoder_s_reconstruction(tiny_model, size, gop_size, types, quality):
    format = VideoFormat(*size)
    encoder = Encoder(tiny_model, format, quality, gop_size)
    decoder = Decoder(tiny_model, format)
    coded = encode_all(encoder, moving_frames(format, 4))
    assert "".join(packet.frame_type for packet, _ in coded) == types
    for packet, reconstruction in coded:
        assert abs(packet.quality - quality) <= 5
        decoded = decoder.decode(packet)
        assert decoded.pts == packet.pts == reconstruction.pts
        assert_same_picture(decoded, reconstruction)


@settings(max_examples=20, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 50),
    chroma=st.sampled_from(["420", "422", "444", "gray", "rgb"]),
    depth=st.sampled_from([8, 10]),
    quality=st.integers(0, 63),
    arithmetic=st.sampled_from(["fp32", "bf16"]),
    noise=st.floats(0, 0.5),
)
def test_decoding_gives_the_reconstruction_of_any_picture(
    tiny_model, width, height, chroma, depth, quality, arithmetic, noise
):
    format = VideoFormat(width, height, chroma, depth, full_range=chroma == "rgb")
    generator = np.random.default_rng(width * 100 + height)
    frames = [
        dataclasses.replace(
            frame,
            planes=tuple(
                (p + noise * generator.integers(0, format.max_value, p.shape)).clip(0, format.max_value).astype(p.dtype)
                for p in frame.planes
            ),
        )
        for frame in moving_frames(format, 3)
    ]
    encoder = Encoder(tiny_model, format, quality, 2, arithmetic=arithmetic)
    decoder = Decoder(tiny_model, format, arithmetic=arithmetic)
    for packet, reconstruction in encode_all(encoder, frames):
        assert_same_picture(decoder.decode(packet), reconstruction)


@pytest.fixture(scope="module")
def adaptive_model(tiny_model):
    """The tiny model with adaptive coding in every path, and references as 4:2:0 video shows them."""

    def adaptive(part):
        return dataclasses.replace(part, entropy=dataclasses.replace(part.entropy, adaptive=True))

    config = tiny_model.config
    parts = {name: adaptive(getattr(config, name)) for name in ("iframe", "flow", "residual")}
    model = build_model(dataclasses.replace(config, subsampled_references=True, **parts)).eval()
    model.load_state_dict(tiny_model.state_dict())
    return model


@pytest.mark.parametrize("chroma", ["420", "444"])
def test_an_adaptive_model_decodes_what_it_encoded(adaptive_model, chroma):
    format = VideoFormat(46, 38, chroma)
    encoder, decoder = Encoder(adaptive_model, format, 40, 4), Decoder(adaptive_model, format)
    frames = moving_frames(format, 4) * 2
    packets = []
    for packet, reconstruction in encode_all(encoder, frames):
        assert_same_picture(decoder.decode(packet), reconstruction)
        packets.append(packet)
    payloads = [packet.payload for packet in packets]
    assert payloads[:4] == payloads[4:], "an I-frame begins anew"


@pytest.mark.parametrize("chroma", ["422", "444", "rgb"])
def test_a_model_of_subsampled_pictures_shows_such_pictures_in_any_format(adaptive_model, chroma):
    config = dataclasses.replace(adaptive_model.config, subsampled_pictures=True)
    model = build_model(config).eval()
    model.load_state_dict(adaptive_model.state_dict())
    format = VideoFormat(46, 38, chroma, full_range=chroma == "rgb")
    frames = moving_frames(format, 3)
    full, encoder, decoder = Encoder(adaptive_model, format, 40), Encoder(model, format, 40), Decoder(model, format)
    full.encode(frames[0])
    encoder.encode(frames[0])
    assert torch.equal(encoder._reference.picture, subsampled(full._reference.picture))
    for packet, reconstruction in encode_all(Encoder(model, format, 40), frames):
        assert_same_picture(decoder.decode(packet), reconstruction)


def test_an_adaptive_model_learns_from_the_frames_before(adaptive_model):
    frames = moving_frames(FORMAT, 3)
    packets = [packet for packet, _ in encode_all(Encoder(adaptive_model, FORMAT, 50), frames)]
    decoder = Decoder(adaptive_model, FORMAT)
    for packet in packets[:2]:
        decoder.decode(packet)
    untaught = Decoder(adaptive_model, FORMAT)
    untaught.decode(packets[0])
    with contextlib.suppress(VcodecError):  # without the second frame the third is another one, or none
        other = untaught.decode(packets[2])
        assert any((a != b).any() for a, b in zip(other.planes, decoder.decode(packets[2]).planes, strict=True))


def test_references_are_kept_as_420_video_shows_them(adaptive_model):
    format = VideoFormat(45, 37, "420")
    encoder = Encoder(adaptive_model, format, 40, 4)
    for frame in moving_frames(format, 3):
        encoder.encode(frame)
        picture = encoder._reference.picture
        assert torch.allclose(subsampled(picture), picture, atol=2e-2)  # but for what is clamped


def test_more_quality_costs_more_and_looks_better(tiny_model):
    frames = moving_frames(FORMAT, 1)
    source = frames[0].planes[0].astype(float)
    results = []
    for quality in (0, 16, 32, 48, 63):
        packet, reconstruction = encode_all(Encoder(tiny_model, FORMAT, quality), frames)[0]
        results.append((len(packet.payload), -np.square(reconstruction.planes[0] - source).mean()))
    assert results == sorted(results)
    assert len({error for _, error in results}) == 5


def test_estimated_bits_are_those_of_the_real_stream(tiny_model):
    """On pictures like those that the model was trained on; symbols far out cost less than their probability says."""
    format = VideoFormat(48, 48, "rgb", full_range=True)
    frames = moving_frames(format, 2, (0.8, -0.4))
    x = torch.stack([torch.from_numpy(np.stack(f.planes).astype(np.float32) / 255) for f in frames])
    model, quality = coding_model(tiny_model), torch.tensor([40.0])
    with torch.inference_mode():
        estimated = tiny_model(x[None], quality).bits[0].tolist()
        iframe, pframe = SymbolEncoder(), SymbolEncoder()
        reference = model.code_iframe(iframe, x[:1], (1, 48, 48), quality)
        model.code_pframe(pframe, x[1:], Reference(reference), quality)
    assert 8 * len(iframe.finish()) == pytest.approx(estimated[0], rel=0.01, abs=40)
    assert 8 * len(pframe.finish()) == pytest.approx(estimated[1], rel=0.01, abs=40)


@pytest.mark.parametrize("skip", [0, SKIP_FLOW, SKIP_RESIDUAL, SKIP_FLOW | SKIP_RESIDUAL])
def test_what_is_skipped_is_not_coded(tiny_model, skip):
    model, quality = coding_model(tiny_model), torch.tensor([40.0])
    x, reference = torch.rand(1, 3, 38, 46), Reference(torch.rand(1, 3, 38, 46))
    with torch.inference_mode():
        encoder = SymbolEncoder()
        coded, motion = model.code_pframe(encoder, x, reference, quality, skip)
        decoder = SymbolDecoder(encoder.finish())
        decoded, _ = model.code_pframe(decoder, None, reference, quality, skip)
        decoder.finish()
    x_hat = coded.picture
    assert torch.equal(decoded.picture, x_hat)
    assert motion.flow.any() != bool(skip & SKIP_FLOW)
    assert torch.equal(x_hat, motion.prediction.clamp(0, 1)) == bool(skip & SKIP_RESIDUAL)
    if skip == SKIP_FLOW | SKIP_RESIDUAL:
        assert torch.equal(x_hat, reference.picture)


def test_a_still_picture_costs_no_byte(tiny_model):
    frame = moving_frames(FORMAT, 1)[0]
    encoder = Encoder(tiny_model, FORMAT)
    coded = encode_all(encoder, [dataclasses.replace(frame, pts=pts) for pts in range(3)])
    first, later = coded[0], coded[1:]
    decoder = Decoder(tiny_model, FORMAT)
    decoder.decode(first[0])
    for packet, _ in later:
        if packet.skip == SKIP_FLOW | SKIP_RESIDUAL:
            assert packet.payload == b""
            assert_same_picture(decoder.decode(packet), first[1])
    assert later[-1][0].skip == SKIP_FLOW | SKIP_RESIDUAL


def test_scales_do_not_depend_on_the_reference_picture(tiny_model):
    """Another machine's pictures differ a little; its symbols must not."""
    encoder = Encoder(tiny_model, FORMAT, 50)
    (iframe, _), (pframe, _) = encode_all(encoder, moving_frames(FORMAT, 2, (6.0, 4.0)))
    assert pframe.skip == 0
    seen = []
    for size in (0.0, 1e-3, 0.2):
        decoder = Decoder(tiny_model, FORMAT)
        decoder.decode(iframe)
        decoder._reference = perturbed(decoder._reference, size)
        seen.append(record(decoder, pframe))
    for other in seen[1:]:
        for name in ("levels", "symbols"):
            for a, b in zip(getattr(seen[0], name), getattr(other, name), strict=True):
                np.testing.assert_array_equal(a, b)
    used = np.unique(np.concatenate([level.reshape(-1) for level in seen[0].levels]))
    assert len(used) > 5  # the test would be worth nothing if all scales were the same


def test_a_perturbed_reference_only_drifts(tiny_model):
    encoder = Encoder(tiny_model, FORMAT, 50)
    coded = encode_all(encoder, moving_frames(FORMAT, 5, (3.0, 2.0)))
    decoder = Decoder(tiny_model, FORMAT)
    decoder.decode(coded[0][0])
    decoder._reference = perturbed(decoder._reference, 1e-3)
    for packet, reconstruction in coded[1:]:
        decoded = decoder.decode(packet)
        difference = np.abs(decoded.planes[0].astype(int) - reconstruction.planes[0].astype(int))
        assert difference.max() <= 4


def test_a_stream_can_change_quality_and_force_iframes(tiny_model):
    encoder, decoder = Encoder(tiny_model, FORMAT, 10, 12, cascade=False), Decoder(tiny_model, FORMAT)
    types = ""
    for index, frame in enumerate(moving_frames(FORMAT, 5)):
        encoder.quality = 10 * index
        packet = encoder.encode(frame, force_iframe=index == 3)
        types += packet.frame_type
        assert packet.quality == 10 * index
        assert_same_picture(decoder.decode(packet), encoder.reconstruction)
    assert types == "IPPIP"


def test_frames_of_a_gop_are_coded_at_qualities_around_the_one_asked_for(tiny_model):
    frames = moving_frames(FORMAT, 8)

    def qualities(quality: int, gop_size: int, **options) -> list[int]:
        return [p.quality for p, _ in encode_all(Encoder(tiny_model, FORMAT, quality, gop_size, **options), frames)]

    assert qualities(30, 6) == [35, 26, 29, 26, 30, 26, 35, 26]
    assert qualities(61, -1) == [63, 57, 60, 57, 61, 57, 60, 57]
    assert qualities(2, -1)[:3] == [7, 0, 1]
    assert qualities(30, 1) == [30] * 8
    assert qualities(30, 6, cascade=False) == [30] * 8


def test_decoding_starts_at_an_iframe(tiny_model):
    coded = encode_all(Encoder(tiny_model, FORMAT, 30, 2), moving_frames(FORMAT, 4))
    decoder = Decoder(tiny_model, FORMAT)
    with pytest.raises(VcodecError, match="start at an I-frame"):
        decoder.decode(coded[1][0])
    assert_same_picture(decoder.decode(coded[2][0]), coded[2][1])
    decoder.forget()
    with pytest.raises(VcodecError, match="start at an I-frame"):
        decoder.decode(coded[3][0])


def test_lost_frames_repeat_the_last_good_picture(tiny_model):
    coded = encode_all(Encoder(tiny_model, FORMAT, 30), moving_frames(FORMAT, 2))
    decoder = Decoder(tiny_model, FORMAT)
    grey = decoder.conceal(7)
    assert grey.pts == 7
    assert len(np.unique(grey.planes[0])) == 1
    for packet, reconstruction in coded:
        decoder.decode(packet)
        repeated = decoder.conceal(99)
        assert repeated.pts == 99
        assert_same_picture(repeated, reconstruction)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_damaged_payload_gives_a_picture_or_a_sentence(tiny_model, data):
    frames = moving_frames(FORMAT, 2, (6.0, 4.0))
    iframe, pframe = (packet for packet, _ in encode_all(Encoder(tiny_model, FORMAT, 50), frames))
    decoder = Decoder(tiny_model, FORMAT)
    for packet in (iframe, pframe):
        payload = bytearray(packet.payload)
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        skip = data.draw(st.integers(0, 3)) if packet.frame_type == "P" else 0
        try:
            decoded = decoder.decode(dataclasses.replace(packet, payload=bytes(payload), skip=skip))
        except VcodecError:
            decoded = decoder.conceal(0)
        assert decoded.format == FORMAT


def test_the_same_frames_give_the_same_bytes(tiny_model):
    frames = moving_frames(FORMAT, 4)
    runs = [[packet for packet, _ in encode_all(Encoder(tiny_model, FORMAT), frames)] for _ in range(2)]
    assert runs[0] == runs[1]


def test_the_arithmetic_of_pictures_leaves_the_symbols_alone(tiny_model):
    packets = [packet for packet, _ in encode_all(Encoder(tiny_model, FORMAT, 50), moving_frames(FORMAT, 3))]
    exact = symbols_of(tiny_model, FORMAT, packets)
    rounded = symbols_of(tiny_model, FORMAT, packets, arithmetic="bf16")
    for one, other in zip(exact, rounded, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("gop_size", [0, -2])
def test_an_impossible_gop_is_refused(tiny_model, gop_size):
    with pytest.raises(VcodecError, match="makes no sense"):
        Encoder(tiny_model, FORMAT, 30, gop_size)


@pytest.mark.parametrize("quality", [-1, 64])
def test_a_quality_out_of_range_is_refused(tiny_model, quality):
    with pytest.raises(VcodecError, match=r"from 0 \(smallest\) to 63 \(best\)"):
        Encoder(tiny_model, FORMAT, quality)


def test_a_model_of_one_rate_refuses_another_quality():
    with torch.device("meta"):
        model = create_model("ssf", pretrained=False)
    with pytest.raises(VcodecError, match="made for quality 32 alone"):
        Encoder(model, FORMAT, 40)


def test_a_model_without_weights_can_t_code():
    model = create_model("convvc-ssf-small", pretrained=False)
    with pytest.raises(VcodecError, match="no trained weights"):
        Encoder(model, FORMAT, 32)
    with pytest.raises(VcodecError, match="no trained weights"):
        Decoder(model, FORMAT)


def test_a_frame_of_another_format_is_refused(tiny_model):
    encoder = Encoder(tiny_model, FORMAT)
    with pytest.raises(VcodecError, match="one stream holds one format"):
        encoder.encode(moving_frames(VideoFormat(46, 38, "444"), 1)[0])
