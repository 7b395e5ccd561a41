"""The Masks object: round trips, label maps, sizes, real files."""

import sys
import tempfile
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.agree import agree
from vidtrack.labels.masks import same_aspect
from vidtrack.labels.palette import PALETTE, color

FEW = settings(deadline=None, max_examples=30)


def masks_of(ids: list, **options: object) -> Masks:
    return Masks(np.array(ids, np.uint8), **options)


def test_palette_has_the_published_colours() -> None:
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        4: (0, 0, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        19: (128, 192, 0),
        64: (32, 0, 0),
        255: (224, 224, 192),
    }
    assert {i: color(i) for i in expected} == expected
    assert len({tuple(c) for c in PALETTE.tolist()}) == 256


def test_saved_file_is_a_palette_png(tmp_path: Path) -> None:
    masks_of([[0, 1], [7, 254]]).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", (2, 2))
        assert image.getpalette() == PALETTE.ravel().tolist()
        assert np.asarray(image).tolist() == [[0, 1], [7, 254]]


@FEW
@given(
    ids=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 254)),
    blank=st.booleans(),
)
def test_save_and_load_give_the_same(ids: np.ndarray, blank: bool) -> None:
    void = None
    if blank:
        void = ids == ids[0, 0]
        ids = np.where(void, np.uint8(0), ids)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        Masks(ids, void).save(path)
        if not ids.any():
            with pytest.raises(InputError, match="no object"):
                Masks.load(path, void=255)
            return
        loaded = Masks.load(path, void=255)
    assert np.array_equal(loaded.ids, ids)
    assert loaded.void is not None
    assert np.array_equal(loaded.void, np.zeros_like(ids, bool) if void is None else void)


def test_save_replaces_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    masks_of([[1]]).save(path)
    with pytest.raises(InputError, match="exists already"):
        masks_of([[2]]).save(path)
    assert Masks.load(path).objects == [1]
    masks_of([[2]]).save(path, overwrite=True)
    assert Masks.load(path).objects == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]


def test_save_takes_slices(tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3, 4]], np.uint8)[:, ::2]  # not contiguous
    Masks(ids).save(tmp_path / "mask.png")
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == [[1, 3]]


def test_label_map() -> None:
    masks = masks_of([[0, 7], [2, 0]], void=np.array([[False, False], [False, True]]))
    label_map = masks.to_label_map()
    assert label_map.dtype == np.float32
    assert label_map.tolist() == [
        [[1, 0], [0, 0]],  # background; the void pixel is in no channel
        [[0, 0], [1, 0]],  # object 2
        [[0, 1], [0, 0]],  # object 7
    ]
    back = Masks.from_label_map(label_map, masks.objects)
    assert np.array_equal(back.ids, masks.ids)


@FEW
@given(ids=hnp.arrays(np.uint8, (3, 4), elements=st.integers(0, 254)))
def test_label_map_round_trip(ids: np.ndarray) -> None:
    masks = Masks(ids)
    assert np.array_equal(Masks.from_label_map(masks.to_label_map(), masks.objects).ids, ids)


def test_from_label_map_takes_the_largest_and_background_on_a_tie() -> None:
    probabilities = np.array([[[0.4, 0.2, 0.5]], [[0.3, 0.7, 0.5]], [[0.3, 0.1, 0.0]]])
    assert Masks.from_label_map(probabilities, [5, 9]).ids.tolist() == [[0, 5, 0]]
    with pytest.raises(ValueError, match="1 objects need 2 channels, not 3"):
        Masks.from_label_map(probabilities, [5])


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(InputError, match=r"whole numbers \[H, W\], not float64 \[1, 1\]"):
        Masks(np.array([[1.0]]))
    with pytest.raises(ValueError, match="void must be bool"):
        Masks(np.zeros((2, 2), np.uint8), np.zeros((2, 3), bool))


def test_another_size_is_resized_by_nearest_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(path)
    masks = Masks.load(path, void=255, size=(4, 4))
    assert masks.ids.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
    assert (
        masks.void is not None and masks.void.tolist() == [[False] * 4] * 2 + [[False, False, True, True]] * 2
    )
    assert masks.warnings == [f"{path} is 2x2 and was resized to the video's 4x4."]


def test_resizing_by_an_odd_factor_takes_the_middle_pixel() -> None:
    ids = np.arange(1, 37, dtype=np.uint8).reshape(6, 6)
    assert Masks(ids).resized((2, 2)).ids.tolist() == [[8, 11], [26, 29]]


def test_the_right_size_is_left_alone(tmp_path: Path) -> None:
    masks_of([[0, 1]]).save(tmp_path / "mask.png")
    assert Masks.load(tmp_path / "mask.png", size=(1, 2)).warnings == []


def test_objects_lost_in_resizing_are_named(tmp_path: Path) -> None:
    ids = np.zeros((90, 90), np.uint8)
    ids[:50] = 1
    ids[80, 80] = 9
    Masks(ids).save(tmp_path / "mask.png")
    masks = Masks.load(tmp_path / "mask.png", size=(30, 30))
    assert masks.objects == [1]
    assert "too small to survive the resizing: object 9" in masks.warnings[1]
    ids[:50] = 0
    Masks(ids).save(tmp_path / "tiny.png")
    with pytest.raises(InputError, match="no object left when resized from 90x90 to the video's 30x30"):
        Masks.load(tmp_path / "tiny.png", size=(30, 30))


def test_another_aspect_ratio_names_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Masks(np.ones((48, 64), np.uint8)).save(path)
    with pytest.raises(
        InputError, match=r"mask\.png is 64x48 but the video is 854x480, another aspect ratio"
    ):
        Masks.load(path, size=(480, 854))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((480, 854), (1080, 1920), True),  # 853.33 rounded up to even
        ((480, 853), (1080, 1920), True),
        ((240, 432), (480, 854), False),  # 427 would be right
        ((480, 850), (480, 854), False),
        ((480, 853), (480, 854), True),  # one pixel
        ((480, 640), (480, 854), False),
        ((854, 480), (480, 854), False),
        ((144, 256), (1080, 1920), True),
        ((1080, 1920), (144, 256), True),
        ((145, 256), (1080, 1920), True),
        ((147, 256), (1080, 1920), False),
    ],
)
def test_aspect_ratio_up_to_one_pixel(first: tuple, second: tuple, same: bool) -> None:
    assert same_aspect(first, second) is same
    assert same_aspect(second, first) is same


@FEW
@given(st.integers(50, 3000), st.integers(50, 3000), st.floats(0.05, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_scaled_size_always_has_the_same_aspect(h: int, w: int, scale: float, e: float, f: float) -> None:
    small = (max(1, int(h * scale + e)), max(1, int(w * scale)))  # any rounding by less than a pixel
    if small[0] >= h * scale - 1 and small[0] <= h * scale + 1:
        assert same_aspect(small, (h, w))


def test_labels_need_no_torch() -> None:
    code = "import sys, vidtrack.labels; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("path", "void", "objects", "size"),
    [
        ("DAVIS-2016-dev/Annotations/480p/bear/00000.png", None, [1], (480, 854)),
        ("DAVIS-2017-240p/Annotations/240p/schoolgirls/00000.png", None, [1, 2, 3, 4, 5, 6, 7], (240, 432)),
        ("CamVid-0016E5/Annotations/360p/0016E5/00000.png", 255, list(range(1, 12)), (360, 480)),
        ("PUMaVOS-chair/Annotations/480p/chair/00000.png", None, [1], (480, 720)),
    ],
)
def test_real_masks(
    data: Path, tmp_path: Path, path: str, void: int | None, objects: list[int], size: tuple[int, int]
) -> None:
    masks = Masks.load(data / "eval" / path, void=void, size=size)
    with Image.open(data / "eval" / path) as image:
        values = np.asarray(image)
        if image.mode == "P":  # DAVIS rounds 192 to 191, and has its own colours from id 22 on
            table = np.array(image.getpalette()).reshape(-1, 3)
            assert np.abs(table[:22] - PALETTE[:22].astype(int)).max() <= 1
    assert masks.objects == objects
    assert masks.warnings == []
    assert np.array_equal(masks.ids > 0, (values > 0) & (values != void))
    if void is not None:
        assert masks.void is not None and np.array_equal(masks.void, values == void)
    masks.save(tmp_path / "again.png")
    again = Masks.load(tmp_path / "again.png", void=void)
    assert np.array_equal(again.ids, masks.ids)
    assert np.array_equal(Masks.from_coco(masks.to_coco()).ids, masks.ids)
    rgb = PALETTE[values if len(objects) > 1 else masks.ids]  # the same mask as colours of the palette
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    assert np.array_equal(Masks.load(tmp_path / "rgb.png", void=void).ids, masks.ids)


def test_real_void_needs_the_option(data: Path) -> None:
    with pytest.raises(InputError, match="--void 255"):
        Masks.load(data / "eval/CamVid-0016E5/Annotations/360p/0016E5/00000.png")


def test_a_video_frame_is_not_a_mask(data: Path, tmp_path: Path) -> None:
    frame = data / "eval/DAVIS-2016-dev/JPEGImages/480p/bear/00000.jpg"
    with pytest.raises(InputError, match="is a JPEG"):
        Masks.load(frame)
    with Image.open(frame) as image:
        image.save(tmp_path / "frame.png")
    with pytest.raises(InputError, match="colours, and each would be an object"):
        Masks.load(tmp_path / "frame.png")


def test_objects_are_saved_in_their_colours(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2, 3, 4, 5]], np.uint8)
    colors = {1: (255, 0, 0), 2: (0, 0, 0), 3: (255, 0, 0), 4: tuple(int(v) for v in PALETTE[5])}
    Masks(ids, colors=colors).save(tmp_path / "mask.png")
    assert Masks.load(tmp_path / "mask.png").ids.tolist() == ids.tolist()
    shown = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))[0]
    wanted = PALETTE[:6].copy()
    wanted[1] = (255, 0, 0)  # black is the background's, red that of object 1
    wanted[4], wanted[5] = PALETTE[5], PALETTE[1]  # what 5 would have is that of 4
    assert shown.tolist() == wanted.tolist()


def test_a_result_that_lost_its_palette_is_known_by_its_colours(tmp_path: Path) -> None:
    painted = np.zeros((9, 9, 3), np.uint8)
    painted[:3], painted[5:] = (230, 30, 30), (30, 60, 220)
    Image.fromarray(painted).save(tmp_path / "first.png")
    first = Masks.load(tmp_path / "first.png")
    Masks(first.ids[::-1].copy(), colors=first.colors).save(tmp_path / "result.png")
    Image.open(tmp_path / "result.png").convert("RGB").save(tmp_path / "fixed.png")  # as an editor does
    agreed = agree({0: first, 6: Masks.load(tmp_path / "fixed.png")})
    assert np.array_equal(agreed[6].ids, first.ids[::-1])


def test_colours_of_the_usual_palette_keep_their_objects(tmp_path: Path) -> None:
    """Green and red in the other order than the palette of DAVIS has them."""
    colors = [(0, 128, 0), (128, 0, 0), (0, 0, 255)]
    painted = np.zeros((9, 9, 3), np.uint8)
    painted[0:2], painted[3:5], painted[6:8] = colors
    Image.fromarray(painted).save(tmp_path / "first.png")
    first = Masks.load(tmp_path / "first.png")
    fewer = Masks(np.where(first.ids == 2, 0, first.ids).astype(np.uint8), colors=first.colors)
    for name, masks in (("all", first), ("fewer", fewer)):
        masks.save(tmp_path / f"{name}.png")
        image = Image.open(tmp_path / f"{name}.png").convert("RGB")
        assert np.array_equal(np.asarray(image), np.where(masks.ids[..., None] > 0, painted, 0))
        image.save(tmp_path / "fixed.png")
        assert np.array_equal(agree({0: first, 6: Masks.load(tmp_path / "fixed.png")})[6].ids, masks.ids)


def test_a_palette_has_no_colour_twice() -> None:
    usual = [tuple(int(v) for v in color) for color in PALETTE]
    colors = {i: usual[255 - i] for i in range(1, 200)}
    found = Masks(np.zeros((2, 2), np.uint8), colors=colors)._palette()
    assert len(np.unique(found, axis=0)) == 256
    assert all(tuple(found[i]) == color for i, color in colors.items())
