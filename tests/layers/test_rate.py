"""The cascade of qualities is one, whether an encoder asks frame by frame or training for a whole unroll."""

import torch

from vcodec.layers.rate import cascaded, frame_quality


def test_training_codes_frames_at_the_qualities_that_an_encoder_gives_them():
    qualities = cascaded(torch.tensor([0.0, 30.0, 63.0]), 7)
    expected = [[frame_quality(quality, position) for position in range(7)] for quality in (0, 30, 63)]
    assert qualities.tolist() == expected
