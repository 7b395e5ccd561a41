"""Maps as colours: one scale for the whole video, and nothing drawn where nothing is known."""

import numpy as np
import pytest

from vidtrack.labels.maps import Maps
from vidtrack.reports.maps import SHARE, MapColours

IMAGE = np.full((4, 6, 3), (200, 100, 50), np.uint8)
GRAY = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def maps(values: np.ndarray) -> Maps:
    return Maps(values.astype(np.float32))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_colours_keep_their_values(top: float) -> None:
    values = np.zeros((4, 6, 3))
    values[0, 0] = (top, 0, 0)
    drawn = MapColours([maps(values)]).draw(IMAGE, maps(values)).astype(float)
    expected = np.round(np.array([SHARE * 255, 0, 0]) + (1 - SHARE) * GRAY)
    assert np.abs(drawn[0, 0] - expected).max() <= 1
    assert np.abs(drawn[1, 1] - (1 - SHARE) * GRAY).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_scale_is_that_of_the_annotations(channels: int) -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(40, 9, (4, 6, channels))
    colours = MapColours([maps(first)])
    low, high = (np.full((4, 6, channels), np.percentile(first, p, axis=(0, 1))) for p in (1, 99))
    beyond = colours.draw(IMAGE, maps(high + 99))
    assert np.array_equal(colours.draw(IMAGE, maps(high)), beyond)
    assert not np.array_equal(colours.draw(IMAGE, maps(low)), beyond)
    moved = maps(first[:, ::-1])  # the values decide, not the frame that they are in
    assert np.array_equal(colours.draw(IMAGE, moved), colours.draw(IMAGE, maps(first))[:, ::-1])


def test_unknown_pixels_show_the_gray_frame() -> None:
    values = np.arange(24.0).reshape(4, 6, 1)
    values[2, 3] = np.nan
    drawn = MapColours([maps(values)]).draw(IMAGE, maps(values))
    assert (drawn[2, 3] == GRAY).all() and not (drawn[2, 2] == GRAY).all()
    constant = MapColours([maps(np.ones((4, 6, 1)))])
    assert constant.draw(IMAGE, maps(np.ones((4, 6, 1)))).shape == (4, 6, 3)
