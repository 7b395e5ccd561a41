"""Cut-outs: which pixels are opaque, and that nothing of the background remains."""

from __future__ import annotations

import numpy as np
import pytest

from vidtrack.labels import Masks
from vidtrack.reports.cutout import _MARGIN, cut_out


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (40, 60, 3)).astype(np.uint8)


@pytest.fixture
def masks() -> Masks:
    ids = np.zeros((40, 60), np.uint8)
    ids[5:12, 8:20], ids[10:20, 15:22], ids[8, 8] = 1, 7, 0
    return Masks(ids)


@pytest.mark.parametrize(("objects", "kept"), [(None, [1, 7]), ([7], [7]), ([1, 7, 9], [1, 7]), ([9], [])])
def test_chosen_objects_are_opaque_and_keep_their_colours(image, masks, objects, kept):
    result = cut_out(image, masks, objects=objects)
    inside = np.isin(masks.ids, kept)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[..., 3], np.where(inside, 255, 0))
    np.testing.assert_array_equal(result[inside, :3], image[inside])


def test_clear_pixels_have_the_colour_of_the_nearest_opaque_one_or_none(image, masks):
    result = cut_out(image, masks)
    opaque = np.argwhere(masks.ids > 0)
    for y, x in np.argwhere(masks.ids == 0):
        distances = np.hypot(*(opaque - (y, x)).T)
        if distances.min() > _MARGIN + 1:
            assert not result[y, x].any()
        elif distances.min() < _MARGIN - 1:  # OpenCV's distance is good to a few percent
            candidates = opaque[distances <= distances.min() * 1.05 + 1e-6]
            assert any((image[a, b] == result[y, x, :3]).all() for a, b in candidates)


def test_soft_edges(image, masks):
    soft = np.linspace(-0.1, 1.1, 60, dtype=np.float32)[None].repeat(40, axis=0)
    soft[0, 0] = np.nan
    result = cut_out(image, masks, soft=soft)
    np.testing.assert_array_equal(result[1, :, 3], np.rint(soft[1].clip(0, 1) * 255))
    assert result[0, 0, 3] == 0
    partly = result[..., 3] > 0
    np.testing.assert_array_equal(result[partly, :3], image[partly])
    only = cut_out(image, masks, soft=soft, objects=[1])
    assert not only[masks.ids == 7, 3].any()
    np.testing.assert_array_equal(only[masks.ids != 7, 3], result[masks.ids != 7, 3])


def test_nothing_and_everything(image):
    assert not cut_out(image, Masks(np.zeros((40, 60), np.uint8))).any()
    whole = cut_out(image, Masks(np.ones((40, 60), np.uint8)))
    np.testing.assert_array_equal(whole, np.dstack([image, np.full((40, 60), 255, np.uint8)]))


def test_wrong_arrays(image, masks):
    with pytest.raises(ValueError, match=r"image must be uint8 \[40, 60, 3\]"):
        cut_out(image[:30], masks)
    for soft in (np.ones((40, 61)), np.ones((40, 60), np.uint8)):
        with pytest.raises(ValueError, match=r"soft must be float \[40, 60\]"):
            cut_out(image, masks, soft=soft)
