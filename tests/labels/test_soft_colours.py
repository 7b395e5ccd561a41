"""Painted masks as programs save them: soft brushes, layers, transparency in palettes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vidtrack.labels import Masks
from vidtrack.labels.agree import agree as mask_agree

RED, BLUE, GREEN, BLACK = (230, 30, 30), (30, 60, 220), (20, 200, 40), (0, 0, 0)


def seam(height: int = 360, width: int = 640) -> np.ndarray:
    """Two objects that meet along a curve, ids `[H, W]`."""
    y, x = np.mgrid[:height, :width]
    body = ((x - 0.45 * width) / (0.3 * width)) ** 2 + ((y - 0.6 * height) / (0.25 * height)) ** 2 < 1
    return np.where(body, np.where(x + 40 * np.sin(y / 30) < 0.45 * width, 1, 2), 0).astype(np.uint8)


def painted(ids: np.ndarray, blur: float) -> np.ndarray:
    """Float RGB `[H, W, 3]` of red and blue with soft edges on black."""
    colors = np.array([BLACK, RED, BLUE], np.float64)[ids]
    return cv2.GaussianBlur(colors, (0, 0), blur)


def agree(masks: Masks, ids: np.ndarray, share: float) -> None:
    """Two objects of these colours, with most pixels of each."""
    assert sorted(masks.colors.values()) == sorted([RED, BLUE])
    for color, number in ((RED, 1), (BLUE, 2)):
        (own,) = (i for i, one in masks.colors.items() if one == color)
        both = ((masks.ids == own) & (ids == number)).sum() / ((masks.ids == own) | (ids == number)).sum()
        assert both > share


@pytest.mark.parametrize("blur", [0.7, 1, 2, 3, 6])
def test_soft_objects_that_touch_stay_two(blur: float, tmp_path: Path) -> None:
    ids = seam()
    picture = painted(ids, blur)
    Image.fromarray(picture.round().astype(np.uint8)).save(tmp_path / "black.png")
    masks = Masks.load(tmp_path / "black.png")
    agree(masks, ids, 0.8 if blur > 3 else 0.9)
    assert len(masks.warnings) == 1 and "soft edges" in masks.warnings[0]
    # The same on a transparent layer: there the colours are mixed where the objects meet alone.
    alpha = cv2.GaussianBlur((ids > 0).astype(np.float64), (0, 0), blur)
    pure = picture / np.maximum(alpha, 1e-3)[..., None]
    layer = np.dstack([pure.clip(0, 255), 255 * alpha]).round().astype(np.uint8)
    Image.fromarray(layer).save(tmp_path / "layer.png")
    agree(Masks.load(tmp_path / "layer.png"), ids, 0.97)


@pytest.mark.parametrize("blur", [1, 3, 5])
@pytest.mark.parametrize("color", [(230, 40, 0), (255, 255, 254), (30, 60, 220)])
def test_a_soft_brush_is_one_object(blur: float, color: tuple[int, int, int], tmp_path: Path) -> None:
    soft = cv2.GaussianBlur((seam() > 0).astype(np.float64), (0, 0), blur)
    picture = (soft[..., None] * color).astype(np.uint8)  # rounded down: a wide ring of nearly that colour
    Image.fromarray(picture).save(tmp_path / "mask.png")
    masks = Masks.load(tmp_path / "mask.png")
    assert masks.objects == [1] and np.abs(np.subtract(masks.colors[1], color)).max() <= 1
    inside = seam() > 0
    assert ((masks.ids == 1) & inside).sum() > 0.93 * ((masks.ids == 1) | inside).sum()


def test_a_small_hard_object_beside_soft_ones_stays(tmp_path: Path) -> None:
    picture = painted(seam(), 2).round().astype(np.uint8)
    picture[20:26, 500:506] = (120, 40, 125)  # a colour of the seam
    picture[300, 600] = GREEN
    Image.fromarray(picture).save(tmp_path / "mask.png")
    assert sorted(Masks.load(tmp_path / "mask.png").colors.values()) == sorted(
        [RED, BLUE, GREEN, (120, 40, 125)]
    )


@pytest.mark.parametrize("other", [RED, (255, 255, 255)])
def test_black_is_an_object_on_a_transparent_layer(other: tuple[int, int, int], tmp_path: Path) -> None:
    layer = np.zeros((20, 30, 4), np.uint8)
    layer[5:12, 5:12] = (*BLACK, 255)
    layer[5:12, 12:20] = (*other, 255)
    Image.fromarray(layer).save(tmp_path / "mask.png")
    masks = Masks.load(tmp_path / "mask.png")
    assert masks.colors == {1: BLACK, 2: other} and masks.keys == masks.colors
    assert (masks.ids == 1).sum() == 49 and (masks.ids == 2).sum() == 56
    layer[..., 3] = 255
    layer[0, :, 3] = 0  # the corners of a picture that was turned
    Image.fromarray(layer).save(tmp_path / "turned.png")
    assert len(Masks.load(tmp_path / "turned.png").objects) == 1


@pytest.mark.parametrize("opacity", [0.25, 0.47, 0.6])
def test_a_brush_that_is_seen_through_paints(opacity: float, tmp_path: Path) -> None:
    layer = np.zeros((20, 30, 4), np.uint8)
    layer[5:12, 5:12] = (*RED, round(255 * opacity))
    Image.fromarray(layer).save(tmp_path / "mask.png")
    masks = Masks.load(tmp_path / "mask.png")
    assert (masks.ids == 1).sum() == 49 and masks.colors == {1: RED}
    assert len(masks.warnings) == 1 and "nowhere opaque" in masks.warnings[0]


@pytest.mark.parametrize("mode", ["P", "P, several", "L", "RGB"])
def test_a_value_that_is_transparent_is_background(mode: str, tmp_path: Path) -> None:
    inside = np.zeros((20, 30), bool)
    inside[5:12, 5:12] = True
    values = np.where(inside, 0, 255).astype(np.uint8)
    options: dict[str, object] = {"transparency": 255}
    if mode.startswith("P"):
        image = Image.fromarray((~inside).astype(np.uint8)).convert("P")
        image.frombytes((~inside).astype(np.uint8).tobytes())
        image.putpalette([*BLACK, *RED] if mode == "P" else [*BLUE, *RED])
        options = {"transparency": 1 if mode == "P" else bytes([255, 0])}
    elif mode == "RGB":
        image = Image.fromarray(np.where(inside[..., None], RED, (255, 255, 255)).astype(np.uint8))
        options = {"transparency": (255, 255, 255)}
    else:
        image = Image.fromarray(values)
    image.save(tmp_path / "mask.png", **options)
    assert np.array_equal(Masks.load(tmp_path / "mask.png").ids > 0, inside)


def test_ids_stay_ids_where_the_background_is_transparent(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 3, 7]], np.uint8)).convert("P")
    image.frombytes(bytes([0, 3, 7]))
    image.putpalette([*BLACK, *(8 * i for i in range(1, 31))])
    image.save(tmp_path / "mask.png", transparency=0)
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == [[0, 3, 7]]


@pytest.mark.parametrize("alpha", [[0, 128, 128], [255, 100, 100], [255, 255, 0]], ids=str)
def test_ids_stay_ids_whatever_the_palette_shows(alpha: list[int], tmp_path: Path) -> None:
    values = np.repeat(np.arange(4, dtype=np.uint8), 9).reshape(4, 9)
    image = Image.fromarray(values)
    image.putpalette([*BLACK, *RED, *RED, *BLUE])  # turns mode L into P and keeps the indices
    image.save(tmp_path / "mask.png", transparency=bytes(alpha))
    expected = np.where((np.array([*alpha, 255]) > 0)[values], values, 0)
    assert np.array_equal(Masks.load(tmp_path / "mask.png").ids, expected)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_void_may_be_transparent(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 3, 7, 255]], np.uint8))
    if mode == "P":
        image.putpalette([*BLACK, *(i for i in range(1, 256) for _ in range(3))])
    image.save(tmp_path / "mask.png", transparency=255)
    masks = Masks.load(tmp_path / "mask.png", void=255)
    assert masks.void is not None and masks.void.tolist() == [[False, False, False, True]]
    assert masks.ids.tolist() == [[0, 3, 7, 0]]
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == [[0, 3, 7, 0]]


def smooth(shape: str, size: int) -> np.ndarray:
    """An anti-aliased picture of a disc of radius `size` or a stroke that wide, 0..1 `[480, 854]`."""
    large = np.zeros((4 * 480, 4 * 854), np.uint8)
    if shape == "disc":
        cv2.circle(large, (1600, 960), 4 * size, 255, -1)
    else:
        cv2.polylines(large, [np.array([[400, 400], [1600, 1200], [2800, 480]])], False, 255, 4 * size)
    return cv2.resize(large, (854, 480), interpolation=cv2.INTER_AREA) / 255


@pytest.mark.parametrize(("shape", "size"), [("disc", 4), ("disc", 30), ("stroke", 5), ("stroke", 12)])
def test_smooth_edges_stay_with_their_object(shape: str, size: int, tmp_path: Path) -> None:
    inside = smooth(shape, size)
    other = np.zeros((480, 854))
    other[400:440, 40:90] = 1  # far away, of the colour of the edges
    dark = (128, 10, 0)
    picture = inside[..., None] * [255, 0, 0] + other[..., None] * dark
    Image.fromarray(picture.round().astype(np.uint8)).save(tmp_path / "mask.png")
    masks = Masks.load(tmp_path / "mask.png")
    ids = {color: number for number, color in masks.colors.items()}
    assert set(ids) == {(255, 0, 0), dark}
    assert np.array_equal(masks.ids == ids[dark], other > 0)
    found = masks.ids == ids[255, 0, 0]
    assert (found & (inside > 0.5)).sum() > 0.98 * (found | (inside > 0.5)).sum()


def test_thin_hard_objects_are_no_soft_edges(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (200, 3)).astype(np.uint8)
    picture = np.tile(colors[np.arange(426) * 200 // 426], (240, 1, 1))  # 2 or 3 pixels wide
    Image.fromarray(picture).save(tmp_path / "mask.png")
    assert (
        len(Masks.load(tmp_path / "mask.png").objects) > 150
    )  # those of 2 pixels may be edges of two others


def test_one_object_on_a_layer_is_known_by_its_colour(tmp_path: Path) -> None:
    layer = np.zeros((20, 30, 4), np.uint8)
    layer[2:8, 2:8], layer[12:18, 12:18] = (*RED, 255), (*BLUE, 255)
    Image.fromarray(layer).save(tmp_path / "first.png")
    layer[2:8, 2:8] = 0
    Image.fromarray(layer).save(tmp_path / "fix.png")
    agreed = mask_agree({n: Masks.load(tmp_path / f"{name}.png") for n, name in ((0, "first"), (9, "fix"))})
    assert agreed[0].colors[2] == BLUE and agreed[9].objects == [2]
