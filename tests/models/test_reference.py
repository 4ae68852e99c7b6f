"""Which pictures the next frame may refer to."""

import pytest
import torch

from vcodec.layers.rate import frame_quality
from vcodec.models.model import Reference


def picture(number: float) -> torch.Tensor:
    return torch.full((1, 3, 4, 4), float(number))


def chain(qualities: list[float]) -> list[float | None]:
    """The older picture's number beside each frame, the frames being numbered."""
    reference, older = None, []
    for number, quality in enumerate(qualities):
        coded = Reference(picture(number), quality=torch.tensor([quality]))
        reference = coded if reference is None else coded.after(reference)
        older.append(None if reference.older is None else float(reference.older.mean()))
    return older


def test_at_one_quality_the_older_picture_is_the_one_before():
    assert chain([30.0] * 5) == [None, 0, 1, 2, 3]


def test_in_a_cascade_the_better_frames_stay():
    qualities = [float(frame_quality(30, position)) for position in range(9)]
    assert chain(qualities) == [None, 0, 0, 2, 2, 4, 4, 6, 6]


def test_each_sample_of_a_batch_has_its_own():
    first = Reference(picture(0).repeat(2, 1, 1, 1), quality=torch.tensor([35.0, 35.0]))
    second = Reference(picture(1).repeat(2, 1, 1, 1), quality=torch.tensor([20.0, 30.0])).after(first)
    third = Reference(picture(2).repeat(2, 1, 1, 1), quality=torch.tensor([30.0, 30.0])).after(second)
    assert third.older[:, 0, 0, 0].tolist() == [0, 1]
    assert third.older_quality.tolist() == [35, 30]


@pytest.mark.parametrize("name", ["older", "older_quality", "quality"])
def test_a_repeated_picture_keeps_what_is_older(name):
    first = Reference(picture(0), quality=torch.tensor([5.0]))
    reference = Reference(picture(1), quality=torch.tensor([3.0])).after(first)
    assert torch.equal(getattr(reference.repeated(), name), getattr(reference, name))
    assert reference.repeated().fields is None
