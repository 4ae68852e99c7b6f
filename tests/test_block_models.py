"""Models with motion in blocks and experience, through encoder and decoder."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic import assert_same_picture, moving_frames, small_model

from vcodec.codec import Decoder, Encoder, coding_model
from vcodec.entropy.coders import SymbolDecoder, SymbolEncoder
from vcodec.entropy.context_mixing import Statistics
from vcodec.errors import VcodecError
from vcodec.models import VideoModel
from vcodec.models.model import SKIP_FLOW, SKIP_RESIDUAL, Reference
from vcodec.training.initial import fitting_schedule
from vcodec.training.schedule import Schedule, Stage
from vcodec.training.teach import with_experience
from vcodec.video import Frame, VideoFormat

FORMAT = VideoFormat(46, 38, "420")


@pytest.fixture(scope="module")
def block_model() -> VideoModel:
    model = with_experience(small_model("mambavc-ssf-small"))
    encoder = Encoder(model, VideoFormat(64, 48, "420"), 40, statistics=Statistics())
    for frame in moving_frames(encoder.format, 4):
        encoder.encode(frame)
    model.experience.learn(encoder.statistics.without_pictures())
    return model


def frames_with_surprises(format: VideoFormat, count: int) -> list[Frame]:
    """Motion, a picture that stands still, and noise that nothing predicts."""
    frames = moving_frames(format, count, (2.5, -1.25))
    for position in (2, 3):
        frames[position] = dataclasses.replace(frames[1], pts=frames[position].pts)
    random = np.random.default_rng(1)
    noise = tuple(random.integers(0, 256, plane.shape).astype(plane.dtype) for plane in frames[4].planes)
    frames[4] = Frame(noise, frames[4].pts, format)
    return frames


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (8, 33), (64, 48)])
@pytest.mark.parametrize("gop_size", [1, 3, 12])
@pytest.mark.parametrize("quality", [0, 63])
def test_decoding_gives_the_encoder_s_reconstruction(block_model, size, gop_size, quality):
    format = VideoFormat(*size, "420")
    encoder, decoder = Encoder(block_model, format, quality, gop_size), Decoder(block_model, format)
    for number, frame in enumerate(frames_with_surprises(format, 8)):
        packet = encoder.encode(frame, force_iframe=number == 6)
        assert_same_picture(decoder.decode(packet), encoder.reconstruction)


def test_frames_that_leave_out_motion_or_residual_are_met(block_model):
    encoder = Encoder(block_model, FORMAT, 20)
    skips = {encoder.encode(frame).skip for frame in frames_with_surprises(FORMAT, 8)}
    assert SKIP_FLOW | SKIP_RESIDUAL in skips
    assert len(skips) > 1


def test_decoding_goes_on_at_the_next_iframe_whatever_was_lost(block_model):
    encoder = Encoder(block_model, FORMAT, 40, 4)
    coded = [(encoder.encode(frame), encoder.reconstruction) for frame in frames_with_surprises(FORMAT, 8)]
    decoder = Decoder(block_model, FORMAT)
    for packet, _ in coded[:2]:
        decoder.decode(packet)
    decoder.forget()
    with pytest.raises(VcodecError, match="before any I-frame"):
        decoder.decode(coded[3][0])
    for packet, reconstruction in coded[4:]:
        assert_same_picture(decoder.decode(packet), reconstruction)


def test_damaged_payloads_are_decoded_or_refused(block_model):
    encoder = Encoder(block_model, FORMAT, 30)
    packets = [encoder.encode(frame) for frame in moving_frames(FORMAT, 3, (3.0, 1.0))]
    refused = 0
    for position in range(len(packets[2].payload)):
        decoder = Decoder(block_model, FORMAT)
        for packet in packets[:2]:
            decoder.decode(packet)
        payload = bytearray(packets[2].payload)
        payload[position] ^= 0x55
        try:
            decoder.decode(dataclasses.replace(packets[2], payload=bytes(payload)))
        except VcodecError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("skip", [0, SKIP_FLOW, SKIP_RESIDUAL, SKIP_FLOW | SKIP_RESIDUAL])
def test_what_is_skipped_is_not_coded(block_model, skip):
    model, quality = coding_model(block_model), torch.tensor([40.0])
    x, newest, older = torch.rand(3, 1, 3, 38, 46)
    reference = Reference(newest, quality=quality).after(Reference(older, quality=quality))
    with torch.inference_mode():
        encoder = SymbolEncoder()
        coded, motion = model.code_pframe(encoder, x, reference, quality, skip)
        decoder = SymbolDecoder(encoder.finish())
        decoded, _ = model.code_pframe(decoder, None, reference, quality, skip)
        decoder.finish()
    assert torch.equal(decoded.picture, coded.picture)
    assert (motion.fields is None) == bool(skip & SKIP_FLOW)
    if motion.fields is not None:
        assert torch.equal(decoded.fields, coded.fields)
    assert torch.equal(coded.older, newest)


def test_blocks_need_a_conditional_residual(block_model):
    residual = dataclasses.replace(block_model.config.residual, conditional=False)
    with pytest.raises(ValueError, match="only a conditional residual"):
        VideoModel(dataclasses.replace(block_model.config, residual=residual))
    entropy = dataclasses.replace(block_model.config.residual.entropy, side=2)
    residual = dataclasses.replace(block_model.config.residual, entropy=entropy)
    with pytest.raises(ValueError, match="channels of side information"):
        VideoModel(dataclasses.replace(block_model.config, residual=residual))


def test_motion_in_blocks_has_no_parameters(block_model):
    assert block_model.motion_parameters() == []
    schedule = Schedule("mine", (Stage("first", "video", 1, frames=2, train="motion"),))
    with pytest.raises(VcodecError, match="motion in blocks"):
        fitting_schedule(schedule, block_model)
