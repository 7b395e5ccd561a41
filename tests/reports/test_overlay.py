"""Overlays against what each pixel must be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidtrack.labels import Masks
from vidtrack.labels.palette import color
from vidtrack.reports import contact_sheet, draw_masks
from vidtrack.reports.text import printable, put_text, text_size

SIZES = [(1, 1), (3, 5), (40, 30), (120, 200)]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def box(size: tuple[int, int], object_id: int, top: int, left: int, bottom: int, right: int) -> Masks:
    ids = np.zeros(size, np.uint8)
    ids[top:bottom, left:right] = object_id
    return Masks(ids)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("object_id", [1, 2, 254])
def test_fill_is_the_blend_and_the_rest_is_untouched(alpha: float, object_id: int) -> None:
    image = noise(40, 30)
    before = image.copy()
    masks = box((40, 30), object_id, 5, 4, 30, 20)
    masks.ids[10:20, 8:12] = 0  # a hole
    drawn = draw_masks(image, masks, alpha=alpha, outline=False, ids=False)
    inside = masks.ids > 0
    expected = before * (1 - alpha) + np.array(color(object_id)) * alpha
    assert drawn.dtype == np.uint8
    assert np.abs(drawn[inside] - expected[inside]).max() <= 0.5 + 1e-6
    assert np.array_equal(drawn[~inside], before[~inside])
    assert np.array_equal(image, before)


def test_own_colours_come_before_the_palette() -> None:
    masks = box((9, 9), 3, 2, 2, 5, 5)
    masks.colors = {3: (1, 200, 33)}
    drawn = draw_masks(np.zeros((9, 9, 3), np.uint8), masks, alpha=1.0, outline=False, ids=False)
    assert drawn[3, 3].tolist() == [1, 200, 33]


def test_several_objects_keep_their_own_pixels() -> None:
    ids = np.random.default_rng(1).integers(0, 4, (30, 40)).astype(np.uint8)  # boxes overlap everywhere
    drawn = draw_masks(np.zeros((30, 40, 3), np.uint8), Masks(ids), alpha=1.0, outline=False, ids=False)
    table = np.array([color(i) for i in range(4)])
    assert np.array_equal(drawn, table[ids])


def slow_rim(ids: np.ndarray, object_id: int) -> np.ndarray:
    """Pixels of an object that have a pixel of something else, or the end of the image, beside them."""
    rim = np.zeros(ids.shape, bool)
    for y, x in zip(*np.nonzero(ids == object_id), strict=True):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            v, u = y + dy, x + dx
            outside = not (0 <= v < ids.shape[0] and 0 <= u < ids.shape[1])
            rim[y, x] |= outside or ids[v, u] != object_id
    return rim


def test_outline_is_the_inner_edge() -> None:
    masks = box((40, 30), 2, 20, 0, 40, 12)  # at the border
    masks.ids[22:30, 3:6] = 0
    masks.ids[5:9, 20:30] = 1
    plain = draw_masks(noise(40, 30), masks, outline=False, ids=False)
    drawn = draw_masks(noise(40, 30), masks, ids=False)
    rim = slow_rim(masks.ids, 1) | slow_rim(masks.ids, 2)
    assert np.array_equal(drawn[~rim], plain[~rim])
    for object_id in (1, 2):
        line = drawn[slow_rim(masks.ids, object_id)]
        assert (line == line[0]).all()
        # It stands out from full colour and from black: a light tint.
        assert line[0].min() > 150 and line[0].sum() > sum(color(object_id)) + 200


def test_outline_grows_with_the_image() -> None:
    def thickness(scale: int) -> int:
        masks = box((120 * scale, 160 * scale), 1, 10, 10, 100 * scale, 100 * scale)
        image = np.zeros((*masks.size, 3), np.uint8)
        row = draw_masks(image, masks, ids=False)[50 * scale, :, 1]  # green is only in the outline
        return int((row > 0).sum()) // 2

    assert [thickness(s) for s in (1, 4, 8)] == [1, 2, 4]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("corner", [(0, 0), (-1, -1), (0, -1), (-1, 0)])
def test_one_pixel_objects_anywhere(size: tuple[int, int], corner: tuple[int, int]) -> None:
    ids = np.zeros(size, np.uint8)
    ids[corner] = 7
    masks = Masks(ids, names={7: "a long name that doesn't fit"})
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_masks(image, masks)
    assert drawn.shape == image.shape
    assert drawn[corner].any()
    assert not draw_masks(image, masks, ids=False)[ids == 0].any()


@pytest.mark.parametrize("size", SIZES)
def test_no_object_changes_nothing(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert np.array_equal(draw_masks(image, Masks(np.zeros(size, np.uint8))), image)
    void = Masks(np.zeros(size, np.uint8), np.ones(size, bool))
    assert np.array_equal(draw_masks(image, void), image)


def label_box(masks: Masks, **options: object) -> tuple[float, float, int, int]:
    """Centre x, y and the size of what the label changes."""
    image = np.full((*masks.size, 3), 128, np.uint8)
    changed = draw_masks(image, masks, outline=False, alpha=0.0, **options) != image
    ys, xs = np.nonzero(changed.any(axis=2))
    return (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2, int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1


def test_label_is_at_the_centre_of_the_largest_part() -> None:
    masks = box((200, 300), 1, 100, 150, 160, 250)
    masks.ids[10:20, 10:20] = 1  # a small part
    x, y, width, height = label_box(masks)
    assert abs(x - 199.5) <= 2.5 and abs(y - 129.5) <= 2.5
    assert 4 <= width <= 24 and 8 <= height <= 24


def test_label_of_a_ring_is_on_the_ring() -> None:
    yy, xx = np.mgrid[:200, :300]
    radius = np.hypot(yy - 100, xx - 150)
    ids = ((radius > 60) & (radius < 95)).astype(np.uint8)
    x, y, *_ = label_box(Masks(ids))
    assert ids[round(y), round(x)] == 1


def test_scattered_pixels_of_a_large_object_still_get_a_label() -> None:
    ids = np.zeros((401, 401), np.uint8)
    ids[0, 400] = ids[400, 0] = 1  # a coarse grid sees neither
    x, y, *_ = label_box(Masks(ids))
    assert {x > 380, y > 380} == {True, False}


def test_label_moves_inside_at_the_border() -> None:
    whole = label_box(box((200, 300), 1, 90, 140, 110, 160))
    cornered = label_box(box((200, 300), 1, 0, 0, 2, 2))
    assert whole[2:] == cornered[2:]  # nothing was cut off
    assert cornered[0] < 20 and cornered[1] < 20


def test_label_shows_names_and_scales() -> None:
    masks = box((200, 300), 1, 50, 50, 150, 250)
    plain = label_box(masks)
    larger = label_box(masks, label_scale=2.0)
    masks.names = {1: "dog"}
    named = label_box(masks)
    assert named[2] > 2 * plain[2]
    assert 1.6 < larger[3] / plain[3] < 2.4


@pytest.mark.parametrize("background", [0, 255])
def test_label_is_legible_on_black_and_white(background: int) -> None:
    image = np.full((60, 80, 3), background, np.uint8)
    put_text(image, "8", (40, 30), 20, (255, 255, 255))
    assert image.min() < 60 and image.max() > 195  # thin strokes are not quite full


def test_text_larger_than_the_image_is_left_out() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    put_text(image, "much too long", (5, 5), 9, (255, 255, 255))
    assert not image.any()


@pytest.mark.parametrize("digits", [9, 10, 17, 40])
@pytest.mark.parametrize("text", ["1", "254 gjpqy", "WWW"])
def test_text_stays_inside_its_box(text: str, digits: int) -> None:
    width, height = text_size(text, digits)
    image = np.zeros((height + 20, width + 20, 3), np.uint8)
    put_text(image, text, ((width + 20) / 2, (height + 20) / 2), digits, (255, 0, 0))
    ys, xs = np.nonzero(image.any(axis=2))
    assert xs.min() >= 10 and ys.min() >= 10
    assert xs.max() < width + 10 and ys.max() < height + 10
    assert abs((xs.min() + xs.max()) / 2 - (width + 19) / 2) <= 2  # and in its middle


def test_text_is_made_printable() -> None:
    assert printable("Zoé 猫\n") == "Zoe ??"


def test_wrong_images_are_refused() -> None:
    masks = Masks(np.zeros((4, 5), np.uint8))
    for image in (np.zeros((5, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3))):
        with pytest.raises(ValueError, match=r"must be uint8 \[4, 5, 3\]"):
            draw_masks(image, masks)


def test_contact_sheet_places_each_picture() -> None:
    images = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]
    images.append(np.full((10, 30, 3), 40, np.uint8))  # smaller: centred
    sheet = contact_sheet(images, 3)
    assert sheet.shape == (8 + 2 * 28, 8 + 3 * 38, 3)
    for number, (top, left) in enumerate([(8, 8), (8, 46), (8, 84)]):
        assert (sheet[top : top + 20, left : left + 30] == 10 * (number + 1)).all()
    assert (sheet[36 + 5 : 36 + 15, 8:38] == 40).all()
    assert (sheet < 255).all(axis=2).sum() == 3 * 600 + 300
    assert contact_sheet(images[:1], 5).shape == (36, 46, 3)


def test_contact_sheet_captions_are_below_their_pictures() -> None:
    images = [np.full((40, 60, 3), 99, np.uint8)] * 2
    sheet = contact_sheet(images, 1, ["one", "a caption wider than the picture is made smaller"])
    plain = contact_sheet(images, 1)
    assert sheet.shape[0] > plain.shape[0] and sheet.shape[1] == plain.shape[1]
    pitch = (sheet.shape[0] - 8) // 2
    for row in range(2):
        assert (sheet[8 + row * pitch : 48 + row * pitch, 8:68] == 99).all()
        assert (sheet[48 + row * pitch : 8 + (row + 1) * pitch, 8:68] < 128).any()
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet(images, 1, ["one"])
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet([], 1)


@pytest.mark.parametrize(
    ("mask", "frame", "void"),
    [
        (
            "DAVIS-2016-dev/Annotations/480p/bear/00000.png",
            "DAVIS-2016-dev/JPEGImages/480p/bear/00000.jpg",
            None,
        ),
        (
            "CamVid-0016E5/Annotations/360p/0016E5/00000.png",
            "CamVid-0016E5/JPEGImages/360p/0016E5/00000.jpg",
            255,
        ),
    ],
)
def test_real_frames(data: Path, mask: str, frame: str, void: int | None) -> None:
    masks = Masks.load(data / "eval" / mask, void=void)
    with Image.open(data / "eval" / frame) as picture:
        image = np.asarray(picture.convert("RGB"))
    drawn = draw_masks(image, masks, ids=False)
    assert np.array_equal(drawn[masks.ids == 0], image[masks.ids == 0])
    changed = (drawn != image).any(axis=2)
    assert changed[masks.ids > 0].mean() > 0.95
    labelled = draw_masks(image, masks)
    assert 0 < (labelled != drawn).any(axis=2).mean() < 0.03
