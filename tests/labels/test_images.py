"""Every kind of mask image, as tiny literal arrays."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.palette import PALETTE

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def write(path: Path, pixels: list, mode: str | None = None, **options: object) -> Path:
    dtype = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.array(pixels, dtype)).save(path, **options)
    return path


def palette_png(path: Path, pixels: list, palette: np.ndarray = PALETTE) -> Path:
    image = Image.fromarray(np.array(pixels, np.uint8)).convert("P")
    image.frombytes(np.array(pixels, np.uint8).tobytes())
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[0, 255], [255, 0]], [[0, 1], [1, 0]]),  # binary
        ([[255, 255]], [[1, 1]]),  # all of it is the object
        ([[0, 1, 7, 254]], [[0, 1, 7, 254]]),  # ids need not be contiguous and are kept
        ([[0, 128]], [[0, 128]]),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".pgm", ".weird"])
def test_gray(tmp_path: Path, pixels: list, expected: list, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    options = {".webp": {"lossless": True}, ".weird": {"format": "PNG"}}.get(suffix, {})
    masks = Masks.load(write(path, pixels, **options))
    assert masks.ids.tolist() == expected
    assert masks.ids.dtype == np.uint8
    assert masks.void is None
    assert masks.warnings == []
    assert masks.size == np.array(pixels).shape


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [([[0, 1, 7, 254]], [[0, 1, 7, 254]]), ([[0, 65535]], [[0, 1]]), ([[0, 255]], [[0, 1]])],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_16_bit(tmp_path: Path, pixels: list, expected: list, suffix: str) -> None:
    path = write(tmp_path / f"mask{suffix}", pixels, "I;16")
    assert Masks.load(path).ids.tolist() == expected


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "mask.png")
    assert Image.open(tmp_path / "mask.png").mode == "1"
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("pixels", "void", "ids", "unlabelled"),
    [
        ([[0, 1, 255]], 255, [[0, 1, 0]], [[False, False, True]]),
        ([[0, 1, 2]], 2, [[0, 1, 0]], [[False, False, True]]),
        ([[0, 1, 2]], 0, [[0, 1, 2]], [[True, False, False]]),
        ([[0, 1, 2]], 255, [[0, 1, 2]], [[False, False, False]]),
    ],
)
def test_void(tmp_path: Path, pixels: list, void: int, ids: list, unlabelled: list) -> None:
    for path in (write(tmp_path / "gray.png", pixels), palette_png(tmp_path / "palette.png", pixels)):
        masks = Masks.load(path, void=void)
        assert masks.ids.tolist() == ids
        assert masks.void is not None and masks.void.tolist() == unlabelled


def test_palette_indices_are_ids(tmp_path: Path) -> None:
    other = np.random.default_rng(0).integers(1, 256, (256, 3))
    other[0] = BLACK
    for palette in (PALETTE, other):
        path = palette_png(tmp_path / "mask.png", [[0, 3, 5], [9, 9, 0]], palette)
        assert Masks.load(path).ids.tolist() == [[0, 3, 5], [9, 9, 0]]


def test_palette_whose_black_is_not_index_0_is_read_by_colour(tmp_path: Path) -> None:
    palette = np.zeros((256, 3))
    palette[:3] = [RED, BLACK, BLUE]  # as image editors sort a palette, by frequency
    masks = Masks.load(palette_png(tmp_path / "mask.png", [[1, 0, 2]], palette))
    assert masks.ids.tolist() == [[0, 1, 2]]
    assert masks.colors == {1: RED, 2: BLUE}


@pytest.mark.parametrize(
    ("pixels", "ids", "colors"),
    [
        ([[BLACK, BLUE], [RED, BLUE]], [[0, 1], [2, 1]], {1: BLUE, 2: RED}),  # by first appearance
        ([[WHITE, RED]], [[1, 2]], {1: WHITE, 2: RED}),
        ([[(0, 128, 0), (128, 0, 0)]], [[2, 1]], {1: (128, 0, 0), 2: (0, 128, 0)}),  # the palette's own ids
        ([[(191, 0, 0), (0, 128, 0)]], [[9, 2]], {9: (192, 0, 0), 2: (0, 128, 0)}),  # as DAVIS rounds them
        ([[BLACK, WHITE]], [[0, 1]], {}),  # only gray: read as gray
        ([[(5, 5, 5), (9, 9, 9)]], [[5, 9]], {}),
        ([[BLACK, (224, 224, 192)]], [[0, 1]], {1: (224, 224, 192)}),  # the palette's 255 alone: the object
    ],
)
def test_colours(tmp_path: Path, pixels: list, ids: list, colors: dict) -> None:
    masks = Masks.load(write(tmp_path / "mask.png", pixels))
    assert masks.ids.tolist() == ids
    assert masks.colors == colors
    assert masks.warnings == []


def test_void_among_colours(tmp_path: Path) -> None:
    white = Masks.load(write(tmp_path / "white.png", [[BLACK, RED, WHITE]]), void=255)
    palette = Masks.load(write(tmp_path / "voc.png", [[BLACK, (128, 0, 0), (224, 224, 192)]]), void=255)
    for masks in (white, palette):
        assert masks.ids.tolist() == [[0, 1, 0]]
        assert masks.void is not None and masks.void.tolist() == [[False, False, True]]
    assert white.colors == {1: RED}
    assert palette.colors == {1: (128, 0, 0)}


def discs(colors: list[tuple[int, int, int]], smooth: int) -> np.ndarray:
    """Overlapping discs on black, drawn `smooth` times larger and averaged: smooth 1 has hard edges."""
    large = np.zeros((64 * smooth, 96 * smooth, 3), np.uint8)
    for number, color in enumerate(colors):
        center = (int((20 + 22 * number) * smooth), int((20 + 9 * number) * smooth))
        cv2.circle(large, center, 14 * smooth, color, -1)
    return cv2.resize(large, (96, 64), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("smooth", [4, 8])
@pytest.mark.parametrize("colors", [[RED], [RED, GREEN, BLUE], [(200, 30, 90), WHITE, (250, 200, 0)]])
def test_anti_aliased_colours_go_to_the_nearest_real_colour(
    tmp_path: Path, colors: list, smooth: int
) -> None:
    picture = discs(colors, smooth)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > len(colors) + 5
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert list(masks.colors.values()) == colors
    assert len(masks.warnings) == 1 and "soft edges" in masks.warnings[0]
    # Slow and obvious: the nearest of the real colours, at each pixel by itself.
    table = np.array([BLACK, *colors])
    distance = ((picture[:, :, None].astype(int) - table) ** 2).sum(-1)
    agreement = (distance.argmin(-1) == masks.ids).mean()
    assert agreement > 0.99  # ties, and blends that look like a third colour far away, may differ


@pytest.mark.parametrize("blur", [1.0, 3.0])
def test_a_soft_brush_is_no_crowd_of_objects(tmp_path: Path, blur: float) -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(picture, (120, 120), 70, RED, -1)
    cv2.circle(picture, (180, 180), 70, GREEN, -1)
    cv2.circle(picture, (240, 120), 70, BLUE, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert sorted(masks.colors.values()) == [BLUE, GREEN, RED]
    assert len(masks.warnings) == 1
    gray = Masks.load(write(tmp_path / "gray.png", picture[:, :, 1].tolist()))
    assert np.array_equal(gray.ids, picture[:, :, 1] > 127)


def test_a_blend_never_becomes_an_object_elsewhere_in_the_picture(tmp_path: Path) -> None:
    picture = discs([RED, GREEN], 8)
    picture[50:60, 80:90] = (128, 128, 0)  # an olive object, the very colour of the edge between the two
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert masks.colors == {1: RED, 2: GREEN, 3: (128, 128, 0)}
    own = (picture == (128, 128, 0)).all(axis=2)
    assert np.array_equal(masks.ids == 3, own)
    assert (np.abs(picture[:45].astype(int) - (128, 128, 0)).max(axis=2) < 40).sum() > own[:45].sum()


def test_small_and_thin_objects_are_not_taken_for_edges(tmp_path: Path) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[5:20, 5:20] = RED
    picture[5:20, 26:36] = WHITE
    picture[5:20, 25] = (0, 200, 0)  # between black and white in each channel, but no gray
    picture[30, 30] = GREEN  # one pixel
    picture[25, 3:30] = (250, 250, 10)  # a line
    picture[35, 5] = (128, 0, 0)  # between red and black, but nowhere near red
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert masks.colors == {1: RED, 2: (0, 200, 0), 3: WHITE, 4: (250, 250, 10), 5: GREEN, 6: (128, 0, 0)}
    assert masks.warnings == []


def test_soft_gray_edges(tmp_path: Path) -> None:
    picture = discs([WHITE], 8)[..., 0]
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert np.array_equal(masks.ids, picture > 127)
    assert len(masks.warnings) == 1 and "soft edges" in masks.warnings[0]


def test_ids_inside_a_void_border_are_not_soft_edges(tmp_path: Path) -> None:
    picture = np.zeros((30, 30), np.uint8)
    for number in range(5):  # small objects close to both background and a wide void border
        picture[3 + 5 * number : 7 + 5 * number, 3:7] = 10 * (number + 1)
    picture[:, 8:14] = 255
    path = write(tmp_path / "mask.png", picture.tolist())
    with pytest.raises(InputError, match="--void 255"):
        Masks.load(path)
    assert Masks.load(path, void=255).objects == [10, 20, 30, 40, 50]
    picture[:, :8] = 0
    picture[:, 7] = 9  # a thin object along the void border
    with pytest.raises(InputError, match="--void 255"):
        Masks.load(write(path, picture.tolist()))


def rgba(alpha: list, colors: list) -> list:
    return [
        [(*c, a) for c, a in zip(cs, alphas, strict=True)] for cs, alphas in zip(colors, alpha, strict=True)
    ]


@pytest.mark.parametrize(
    ("alpha", "colors", "ids", "listed"),
    [
        ([[255, 0, 128, 127]], [[RED] * 4], [[1, 0, 1, 0]], {1: RED}),  # one colour: alpha is the object
        ([[255, 0]], [[BLACK, BLACK]], [[1, 0]], {1: BLACK}),  # black is an object if it is cut out
        ([[255, 255, 0]], [[RED, BLUE, GREEN]], [[1, 2, 0]], {1: RED, 2: BLUE}),  # colours under it
        ([[255, 255]], [[RED, BLACK]], [[1, 0]], {1: RED}),  # the same alpha everywhere is ignored
        ([[90, 90]], [[RED, BLACK]], [[1, 0]], {1: RED}),
    ],
)
def test_alpha(tmp_path: Path, alpha: list, colors: list, ids: list, listed: dict) -> None:
    masks = Masks.load(write(tmp_path / "mask.png", rgba(alpha, colors)))
    assert masks.ids.tolist() == ids
    assert masks.colors == listed


def test_photo_cut_out_is_one_object(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    picture[..., 3] = 0
    picture[5:30, 10:35, 3] = 255
    masks = Masks.load(write(tmp_path / "mask.png", picture.tolist()))
    assert np.array_equal(masks.ids, picture[..., 3] > 0)


def test_gray_with_alpha(tmp_path: Path) -> None:
    picture = np.zeros((1, 4, 2), np.uint8)
    picture[0] = [(3, 255), (9, 255), (9, 0), (0, 255)]
    Image.fromarray(picture, "LA").save(tmp_path / "mask.png")
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == [[3, 9, 0, 0]]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, ">i2"])
def test_npy(tmp_path: Path, dtype: object) -> None:
    np.save(tmp_path / "mask.npy", np.array([[0, 1]]).astype(dtype))
    assert Masks.load(tmp_path / "mask.npy").ids.tolist() == [[0, 1]]


def test_pages_and_rotation(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.array([[0, v]], np.uint8)) for v in (1, 2))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    masks = Masks.load(tmp_path / "pages.tif")
    assert masks.ids.tolist() == [[0, 1]]
    assert "several pages" in masks.warnings[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise, as every viewer does
    first.save(tmp_path / "turned.png", exif=exif)
    assert Masks.load(tmp_path / "turned.png").ids.tolist() == [[0], [1]]


def jpeg(format_: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(stream, format_, **options)
    return stream.getvalue()


def png(pixels: object, dtype: type = np.uint8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype)).save(stream, "PNG")
    return stream.getvalue()


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: np.asarray(value) for name, value in arrays.items()})
    return stream.getvalue()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_as_segment_anything_gives_them(tmp_path: Path, suffix: str) -> None:
    stack = np.zeros((3, 2, 4), bool)
    stack[0, :, :3], stack[1, 0, 2:], stack[2, 1, 0] = True, True, True
    content = npz(masks=stack, scores=[0.9, 0.8, 0.7]) if suffix == ".npz" else npy(stack)
    (tmp_path / f"sam{suffix}").write_bytes(content)
    masks = Masks.load(tmp_path / f"sam{suffix}")
    assert masks.ids.tolist() == [[1, 1, 2, 2], [3, 1, 1, 0]]
    assert len(masks.warnings) == 1 and ": 2 pixels are of several of its 3 objects" in masks.warnings[0]
    np.save(tmp_path / "one.npy", stack[:1])
    assert not Masks.load(tmp_path / "one.npy").warnings


def test_ids_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz(arr_0=[[0, 7]]))
    assert Masks.load(tmp_path / "a.npz").ids.tolist() == [[0, 7]]


def npy(values: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values))
    return stream.getvalue()


MANY = np.zeros((20, 20, 3), np.uint8)
MANY.reshape(-1, 3)[:] = np.random.default_rng(0).integers(0, 256, (400, 3))

ERRORS = {
    "jpeg": (jpeg(), "is a JPEG, whose compression destroys ids: save the mask as PNG"),
    "lossy webp": (jpeg("WEBP"), "is a lossy WebP image, whose compression"),
    "lossy tiff": (jpeg("TIFF", compression="jpeg"), "is a TIFF compressed as JPEG, whose compression"),
    "not an image": (b"hello", "is neither an image nor JSON"),
    "empty file": (b"", "is neither an image nor JSON"),
    "truncated": (png(MANY)[:-60], "is damaged"),
    "no object": (png([[0, 0]]), "has no object: every pixel is background"),
    "transparent": (png(np.zeros((2, 2, 4))), "has no object"),
    "255 and ids": (png([[0, 1, 255]]), "holds 255 beside other ids: add --void 255"),
    "16 bit": (png([[0, 300]], np.uint16), "holds the value 300: renumber the objects to ids 1 to 254"),
    "16 bit many": (png([range(300)], np.uint16), "has 299 ids, but at most 254"),
    "colours": (png(MANY), "has 400 colours, and each would be an object, but at most 254 fit"),
    "negative": (npy([[0, -3]]), "holds the value -3"),
    "fractions": (npy([[0.5, 1.0]]), r"holds float64 \[1, 2\]: save integer ids"),
    "3-d": (npy([[[1]]]), r"holds int64 \[1, 1, 1\]"),
    "many": (npy(np.ones((255, 1, 2), bool)), "has 255 objects"),
    "other names": (npz(a=[[1]], b=[[1]]), "holds the arrays a, b: name the one with the masks masks"),
    "scores": (npz(masks=[[0.5]], scores=[1]), r"holds float64 \[1, 1\]"),
    "damaged npz": (npz(masks=[[1]])[:60], "is a damaged .npz file"),
    "damaged npy": (npy([[0, 1]])[:40], "is a damaged .npy file"),
    "broken json": (b'{"shapes": [', "looks like JSON but can't be read"),
    "unknown json": (b'{"a": 1}', "is JSON, but neither labelme nor COCO"),
    "list json": (b"[1, 2]", "is JSON, but neither labelme nor COCO"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_sentence_with_the_path(tmp_path: Path, case: str) -> None:
    content, message = ERRORS[case]
    path = tmp_path / "mask.png"  # the extension doesn't matter
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Masks.load(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and text.endswith(".") and "\n" not in text


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.png doesn't exist"):
        Masks.load(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="is a folder"):
        Masks.load(tmp_path)


def test_void_255_with_nothing_else_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without --void 255, 255 is the object"):
        Masks.load(write(tmp_path / "mask.png", [[0, 255]]), void=255)


def test_colours_up_to_the_limit(tmp_path: Path) -> None:
    """254 flat colours fit, 255 don't; each is 3x3 pixels, so none is an edge."""
    for count in (254, 255):
        picture = np.zeros((3, 3 * count, 3), np.uint8)
        for i in range(count):
            picture[:, 3 * i : 3 * i + 3] = (i + 1, 255 - i, 7)
        path = write(tmp_path / f"{count}.png", picture.tolist())
        if count == 254:
            assert Masks.load(path).objects == list(range(1, 255))
        else:
            with pytest.raises(InputError, match="has 255 colours"):
                Masks.load(path)
