"""Drawn keypoints and boxes against what each pixel must be, and their places to a fraction of a pixel."""

import numpy as np
import pytest

from vidtrack.labels import Boxes, Keypoints
from vidtrack.labels.palette import color
from vidtrack.reports.boxes import draw_boxes
from vidtrack.reports.keypoints import draw_keypoints
from vidtrack.reports.marks import light, mark_color

NAN = float("nan")
SIZE = (120, 160)


def gray(size: tuple[int, int] = SIZE, value: int = 0) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def points(*xy: tuple[float, float], seen: bool = True, skeleton: tuple = ()) -> Keypoints:
    keypoints = Keypoints.from_points(list(xy), skeleton=skeleton)
    keypoints.visible[:] = seen
    return keypoints


def people(*xy: tuple[float, float]) -> Keypoints:
    """One point for each of several instances."""
    array = np.float32(xy)[:, None]
    ones = np.ones(array.shape[:2])
    return Keypoints(
        array, ones.astype(bool), np.float32(ones), ("a",), tuple(str(i) for i in range(len(xy)))
    )


def center_of(change: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y) of what was drawn on black."""
    weight = change.astype(float).sum(axis=2)
    y, x = np.mgrid[: change.shape[0], : change.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def near(pixel: np.ndarray, wanted: tuple[int, int, int]) -> bool:
    """The colour of a mark, up to what OpenCV's smoothing of thin lines mixes in."""
    return bool(np.abs(pixel.astype(int) - wanted).max() <= 16)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("fraction", [0.0, 0.125, 0.25, 0.5, 0.8125])
def test_points_are_placed_to_a_fraction_of_a_pixel(seen: bool, fraction: float) -> None:
    place = np.array([70 + fraction, 40 - fraction])
    drawn = draw_keypoints(gray(), points(tuple(place), seen=seen))
    np.testing.assert_allclose(center_of(drawn), place, atol=0.08)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75])
def test_boxes_are_placed_on_their_edges(fraction: float) -> None:
    edges = 30 + fraction, 20 - fraction, 90 + fraction, 70 - fraction
    drawn = draw_boxes(gray(), Boxes.from_xyxy([edges]), ids=False)
    # The pixel i covers i..i+1: its centre is half a pixel beyond the edge of the same number.
    expected = [(edges[0] + edges[2]) / 2 - 0.5, (edges[1] + edges[3]) / 2 - 0.5]
    np.testing.assert_allclose(center_of(drawn), expected, atol=0.2)  # OpenCV's lines of 1 pixel are uneven
    row = drawn[45].astype(float).sum(axis=1)
    left = (row[:60] * np.arange(60)).sum() / row[:60].sum()
    np.testing.assert_allclose(left, edges[0] - 0.5, atol=0.2)


def test_a_visible_point_is_full_and_an_occluded_one_hollow() -> None:
    image = gray(value=50)
    full = draw_keypoints(image, points((60, 50)))
    hollow = draw_keypoints(image, points((60, 50), seen=False))
    assert full[50, 60].tolist() == list(color(1))
    assert hollow[50, 60].tolist() == [50, 50, 50]
    for drawn in (full, hollow):  # both have a light rim
        ys, xs = np.nonzero((drawn != image).any(axis=2))
        assert 6 <= np.ptp(xs) + 1 <= 12 and 6 <= np.ptp(ys) + 1 <= 12
        nearest = np.abs(drawn.astype(int) - light(color(1))).sum(axis=2).min()
        assert nearest < 60
    assert (image == 50).all()


def test_a_line_does_not_fill_the_hole_but_ends_there() -> None:
    keypoints = points((40, 50), (100, 50), seen=False, skeleton=((0, 1),))
    drawn = draw_keypoints(gray(value=50), keypoints)
    assert drawn[50, 40].tolist() == drawn[50, 100].tolist() == [50, 50, 50]
    assert near(drawn[50, 70], color(1))


def test_lost_points_and_their_lines_are_not_drawn() -> None:
    keypoints = points((40, 50), (NAN, NAN), (100, 50), skeleton=((0, 1), (1, 2)))
    drawn = draw_keypoints(gray(), keypoints)
    changed = drawn.any(axis=2)
    assert not changed[:, 50:90].any()
    assert changed[50, 40] and changed[50, 100]
    assert not draw_keypoints(gray(), points((NAN, NAN))).any()
    assert not draw_boxes(gray(), Boxes.from_xyxy([(NAN,) * 4])).any()


def test_colours_tell_keypoints_apart_and_with_several_instances_the_instances() -> None:
    alone = draw_keypoints(gray(), points((30, 30), (60, 30), (90, 30)))
    assert [alone[30, x].tolist() for x in (30, 60, 90)] == [list(color(i)) for i in (1, 2, 3)]
    both = Keypoints(
        np.float32([[[30, 30], [60, 30]], [[30, 60], [60, 60]]]),
        np.ones((2, 2), bool),
        np.ones((2, 2), np.float32),
        ("a", "b"),
        ("0", "1"),
        ((0, 1),),
    )
    drawn = draw_keypoints(gray(), both)
    for y, number in ((30, 1), (60, 2)):
        assert all(near(drawn[y, x], color(number)) for x in (30, 45, 60))
    boxes = Boxes((3, 5), np.float32([[10, 10, 50, 50], [80, 10, 140, 50]]) + 0.5, np.ones(2, np.float32))
    marked = draw_boxes(gray(), boxes, ids=False)
    for number in (1, 2, 3, 4, 5):
        assert any(near(pixel, color(number)) for pixel in marked[20:40].reshape(-1, 3)) == (number in (3, 5))


def test_colours_repeat_after_254() -> None:
    assert [mark_color(i) for i in (1, 254, 255, 508, 509)] == [
        color(1),
        color(254),
        color(1),
        color(254),
        color(1),
    ]


def test_visible_points_lie_over_holes() -> None:
    keypoints = people((60, 50), (60, 50))
    keypoints.visible[1] = False
    assert draw_keypoints(gray(value=50), keypoints)[50, 60].tolist() == list(color(1))


def test_marks_grow_with_the_frame() -> None:
    def widths(scale: int) -> list[int]:
        image = gray((120 * scale, 160 * scale))
        point = draw_keypoints(image, points((80 * scale, 60 * scale)))
        box = draw_boxes(
            image, Boxes.from_xyxy([(20 * scale, 20 * scale, 140 * scale, 100 * scale)]), ids=False
        )
        return [int(np.count_nonzero(d.any(axis=2)[60 * scale])) for d in (point, box)]

    for small, large in zip(widths(4), widths(16), strict=True):
        assert 2.5 * small < large < 5 * small


@pytest.mark.parametrize("place", [-1e30, -1e6, -300, -1, 0, 159.5, 160, 500, 1e6, 3e38])
@pytest.mark.parametrize("seen", [True, False])
def test_places_outside_the_frame_do_no_harm(place: float, seen: bool) -> None:
    keypoints = points((place, place), (20, 20), seen=seen, skeleton=((0, 1),))
    drawn = draw_keypoints(gray(), keypoints)
    assert drawn[20:30, 20:30].any()  # the point inside is there
    if abs(place) > 1 << 20:  # nothing is drawn towards it
        drawn[10:31, 10:31] = 0
        assert not drawn.any()
    far = abs(place) + 10
    boxes = Boxes.from_xyxy([(-far, 20, far, 60), (place, place, place, place)])
    drawn = draw_boxes(gray(), boxes)
    assert drawn[20, 5:155].any(axis=1).all() or far < 155  # the edges inside are there


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (40, 30)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    assert draw_keypoints(gray(size), points((0, 0))).shape == (*size, 3)
    assert draw_boxes(gray(size), Boxes.from_xyxy([(0, 0, 1, 1)])).shape == (*size, 3)


def test_the_number_of_a_box_is_above_it_and_inside_the_frame() -> None:
    for top, rows in ((60, slice(30, 60)), (0, slice(0, 30))):
        boxes = Boxes.from_xyxy([(40, top, 120, top + 50)])
        with_id, without = draw_boxes(gray(), boxes), draw_boxes(gray(), boxes, ids=False)
        ys, xs = np.nonzero((with_id != without).any(axis=2))
        assert len(ys) and ys.min() >= rows.start and ys.max() < rows.stop and 38 <= xs.min() < 60
    outside = Boxes.from_xyxy([(400, 400, 500, 500)])
    assert not draw_boxes(gray(), outside).any()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image must be uint8"):
        draw_keypoints(image, points((0, 0)))
    with pytest.raises(ValueError, match="image must be uint8"):
        draw_boxes(image, Boxes.from_xyxy([]))
