"""The picture of views that found each other, and the accuracy."""

import numpy as np
import pytest
import torch

from pretrain.contrast import accuracy, blurred, matches
from pretrain.pictures import GAP


def test_the_picture_shows_what_was_taken_for_the_other_view() -> None:
    first, second = (torch.full((3, 3, 4, 4), low) for low in (0.0, 0.5))
    for number in range(3):  # the red of a view tells its image
        first[number, 0] = second[number, 0] = number / 3
    queries = torch.eye(3)
    keys = 5 * torch.eye(3)[[2, 1, 0]]  # the first and the last are taken for each other
    picture = matches(first, second, queries, keys)
    assert "1 of 3 right" in picture.caption
    places = (
        picture.image[0, :: 4 + GAP, 0] / 255
    )  # a view, its other one, the one that was taken; three times
    assert np.allclose(places, np.array([0, 0, 2, 1, 1, 1, 2, 2, 0]) / 3, atol=0.01)
    assert picture.image[0, :: 4 + GAP, 1].tolist() == [0, 128, 128] * 3


def test_accuracy() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    assert float(accuracy(scores, torch.tensor([1, 1, 1, 1]))) == 0.75


@pytest.mark.parametrize(
    ("size", "blur", "changes"),
    [(32, None, {"blur_p": 0.0}), (64, None, {"blur_p": 0.0}), (65, None, {}), (32, 0.3, {"blur_p": 0.3})],
)
def test_small_images_are_not_blurred(size: int, blur: float | None, changes: dict[str, float]) -> None:
    assert blurred(size, blur) == changes
