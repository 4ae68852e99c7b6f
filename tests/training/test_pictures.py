"""Pictures of motion and scale say what they should."""

import colorsys

import torch

from vcodec.training.pictures import flow_picture, scale_picture


def test_no_motion_is_white_and_direction_is_hue():
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, 0, 0, 1], flow[0, 0, 1, 0] = 3.0, -3.0  # to the right, to the left
    picture = flow_picture(flow)
    assert picture.shape == (1, 3, 2, 2)
    assert torch.allclose(picture[0, :, 0, 0], torch.ones(3))
    right, left = (colorsys.rgb_to_hsv(*picture[0, :, y, x].tolist()) for y, x in ((0, 1), (1, 0)))
    assert right[1] > 0.99
    assert abs(abs(right[0] - left[0]) - 0.5) < 0.02


def test_longer_motion_is_more_saturated():
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 1, 0] = torch.tensor([1.0, 2.0, 4.0])
    saturations = [colorsys.rgb_to_hsv(*flow_picture(flow)[0, :, 0, x].tolist())[1] for x in range(3)]
    assert saturations == sorted(saturations)
    assert saturations[0] < 0.3


def test_the_sharp_plane_is_black():
    scale = torch.tensor([[[0.0, 1.5], [-1.0, 3.0]]])
    picture = scale_picture(scale)
    assert picture.shape == (1, 3, 2, 2)
    assert torch.equal(picture[0, 0], torch.tensor([[0.0, 0.5], [0.0, 1.0]]))
