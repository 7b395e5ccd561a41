"""Masks of all kinds of tools become the same ids, and one sentence says what can't."""

import shutil

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.davis_task import davis_task
from vidtrack.benchmark.mask_files import check_results, has_result, read_result
from vidtrack.labels.palette import PALETTE

from .conftest import SIZE, draw, save_gray, save_palette

IDS = draw(2, 3)  # background, 1, 2, 3
KNOWN = (1, 2, 3)


def write(folder, kind, ids=IDS, known=KNOWN):
    """Save the ids of frame "00002" as one kind of tool does."""
    path = folder / "00002.png"
    folder.mkdir(parents=True, exist_ok=True)
    onehot = ids == np.array(known)[:, None, None]
    if kind == "palette":
        save_palette(path, ids)
    elif kind in ("L", "LA", "RGB gray"):
        Image.fromarray(ids).convert(kind.removesuffix(" gray")).save(path)
    elif kind == "colours":
        Image.fromarray(PALETTE[ids]).save(path)
    elif kind == "colours with 191":
        colors = PALETTE.copy()
        colors[colors == 192] = 191
        Image.fromarray(colors[ids]).convert("RGBA").save(path)
    elif kind == "moved palette":
        image = Image.fromarray(255 - ids, "P")
        image.putpalette(PALETTE[::-1].tobytes())
        image.save(path)
    elif kind == "objects":
        for id_, mask in zip(known, onehot, strict=True):
            save_gray(folder / f"{id_:03d}" / "00002.png", mask.astype(np.uint8) * 255)
    elif kind == "objects in frames":
        for id_, mask in zip(known, onehot, strict=True):
            save_gray(folder / "00002" / f"{id_}.png", mask)
    elif kind == "npy ids":
        np.save(folder / "00002.npy", ids.astype(np.int64))
    elif kind == "npy maps":
        np.save(folder / "00002.npy", onehot)
    elif kind == "npy maps with background":
        np.save(folder / "00002.npy", np.concatenate([ids[None] == 0, onehot]).astype(np.uint8))
    elif kind == "npy scores":
        np.save(folder / "00002.npy", onehot * 0.2 + 0.4)
    elif kind == "npy logits":
        np.save(folder / "00002.npy", np.concatenate([ids[None] == 0, onehot]) * 9.0 - 12)
    return folder / "00002"


KINDS = [
    "palette",
    "L",
    "LA",
    "RGB gray",
    "colours",
    "colours with 191",
    "moved palette",
    "objects",
    "objects in frames",
    "npy ids",
    "npy maps",
    "npy maps with background",
    "npy scores",
    "npy logits",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 9])  # 9: ids 9, 18, 27; that of 9 is (192, 0, 0)
def test_all_kinds_are_the_same_ids(tmp_path, kind, scale):
    ids, known = (IDS * scale).astype(np.uint8), tuple(id_ * scale for id_ in KNOWN)
    path = write(tmp_path / "seq", kind, ids, known)
    assert has_result(path) and not has_result(tmp_path / "seq" / "00003")
    got = read_result(path, SIZE, known)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, ids)


def test_a_file_itself_and_stems_with_dots(tmp_path):
    save_palette(tmp_path / "frame.0001.png", IDS)
    np.testing.assert_array_equal(read_result(tmp_path / "frame.0001", SIZE, KNOWN), IDS)
    np.testing.assert_array_equal(read_result(tmp_path / "frame.0001.png", SIZE, KNOWN), IDS)


@pytest.mark.parametrize("kind", ["L", "RGB", "1", "P", "npy"])
def test_white_is_the_only_object(tmp_path, kind):
    one = draw(2)
    if kind == "npy":
        np.save(tmp_path / "m.npy", one > 0)
    elif kind == "P":
        save_palette(tmp_path / "m.png", one * 255)
    else:
        Image.fromarray(one * 255).convert(kind).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_result(tmp_path / "m", SIZE, [7]), one * 7)
    if kind not in ("npy", "1"):  # of one bit it would be the id 1
        with pytest.raises(InputError, match=r"m.png has the id 255, but the objects .* are 1, 2\."):
            read_result(tmp_path / "m", SIZE, [1, 2])


def test_an_empty_mask_is_one(tmp_path):
    for kind in KINDS[:-1]:
        path = write(tmp_path / kind, kind, np.zeros(SIZE, np.uint8))
        assert not read_result(path, SIZE, KNOWN).any(), kind


def test_gray_may_be_a_colour(tmp_path):
    """Id 7 is (128, 128, 128) in the palette: alone in a colour file, it looks gray."""
    Image.fromarray(PALETTE[draw(2) * 7]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_result(tmp_path / "m", SIZE, [6, 7]), draw(2) * 7)
    for mode in ("RGB", "L"):  # ids first
        Image.fromarray(draw(2) * 128).convert(mode).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_result(tmp_path / "m", SIZE, [7, 128]), draw(2) * 128)


def test_2016_any_value_is_the_object(tmp_path):
    for kind in ("palette", "L", "colours", "npy ids"):
        path = write(tmp_path / kind, kind)
        np.testing.assert_array_equal(read_result(path, SIZE, [1], binary=True), IDS > 0)
    save_gray(tmp_path / "seq/000/00002.png", IDS)  # SA-V counts from 0
    np.testing.assert_array_equal(read_result(tmp_path / "seq/00002", SIZE, [1], binary=True), IDS > 0)


def test_void(tmp_path):
    ids = np.where(IDS == 2, 255, IDS).astype(np.uint8)
    save_palette(tmp_path / "m.png", ids)
    np.testing.assert_array_equal(read_result(tmp_path / "m", SIZE, KNOWN, 255), np.where(IDS == 2, 0, IDS))
    with pytest.raises(InputError, match="has the id 255"):
        read_result(tmp_path / "m", SIZE, KNOWN)


def test_overlaps_and_scores(tmp_path):
    both = np.zeros((3, *SIZE), bool)
    both[0, :5], both[2, 3:] = True, True
    np.save(tmp_path / "bits.npy", both)
    for id_, mask in zip(KNOWN, both, strict=True):
        save_gray(tmp_path / f"{id_}/files.png", mask)
    expected = np.where(np.arange(SIZE[0])[:, None] < 5, 1, 3) * np.ones(SIZE, int)
    for name in ("bits", "files"):
        np.testing.assert_array_equal(read_result(tmp_path / name, SIZE, KNOWN), expected)
    np.save(tmp_path / "bits.npy", np.concatenate([np.ones((1, *SIZE), bool), both]))  # masks win
    np.testing.assert_array_equal(read_result(tmp_path / "bits", SIZE, KNOWN), expected)
    scores = np.full((3, *SIZE), 0.3)
    scores[0, :5], scores[2, 3:] = 0.6, 0.9
    np.save(tmp_path / "scores.npy", scores)
    expected = np.where(np.arange(SIZE[0])[:, None] < 3, 1, 3) * np.ones(SIZE, int)
    np.testing.assert_array_equal(read_result(tmp_path / "scores", SIZE, KNOWN), expected)
    np.save(tmp_path / "scores.npy", scores / 2)
    assert not read_result(tmp_path / "scores", SIZE, KNOWN)[:3].any()  # 0.3 is less than half


def test_what_is_wrong_is_said(tmp_path):
    def refused(message, path, **options):
        with pytest.raises(InputError, match=message):
            read_result(path, SIZE, KNOWN, **options)

    refused(r"none.png is missing", tmp_path / "none")
    save_palette(tmp_path / "small.png", IDS[:20])
    refused(r"small.png has 32x20 pixels, .* have 32x24", tmp_path / "small")
    save_palette(tmp_path / "nine.png", np.where(IDS == 3, 9, IDS).astype(np.uint8))
    refused(r"nine.png has the id 9, but the objects of its sequence are 1, 2, 3\.", tmp_path / "nine")
    (tmp_path / "text.png").write_text("no image")
    refused(r"text.png can't be read", tmp_path / "text")
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "deep.png")
    refused(r"deep.png has pixels of type I", tmp_path / "deep")
    photo = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    refused(r"photo.png has colours that are not of the DAVIS palette", tmp_path / "photo")
    quantized = Image.fromarray(photo // 128 * 100 + 30)  # no black
    quantized.putpixel((0, 0), (0, 0, 0))
    quantized.quantize(16).save(tmp_path / "own.png")
    refused(r"own.png has (its own palette|the id)", tmp_path / "own")
    np.save(tmp_path / "maps.npy", np.zeros((2, *SIZE)))
    refused(r"maps.npy has 2 maps, but its sequence has 3 objects", tmp_path / "maps")
    np.save(tmp_path / "logits.npy", np.full((3, *SIZE), -4.0))
    refused(r"logits.npy has scores without a background outside 0..1", tmp_path / "logits")
    np.save(tmp_path / "nan.npy", np.full((4, *SIZE), np.nan))
    refused(r"nan.npy has values that are not finite", tmp_path / "nan")
    np.save(tmp_path / "floats.npy", IDS * 0.5)
    refused(r"floats.npy has values that are no ids", tmp_path / "floats")
    np.save(tmp_path / "flat.npy", IDS.ravel())
    refused(r"flat.npy has no masks", tmp_path / "flat")
    np.save(tmp_path / "pickled.npy", np.array([None, {}]), allow_pickle=True)
    refused(r"pickled.npy can't be read as an array", tmp_path / "pickled")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    refused(r"cut.npy can't be read as an array", tmp_path / "cut")
    for id_ in (1, 2):
        save_gray(tmp_path / f"seq/{id_}/00000.png", id_ == IDS)
    refused(r"seq/00000 has no mask of object 3, only of others", tmp_path / "seq/00000")
    np.testing.assert_array_equal(
        read_result(tmp_path / "seq/00000", SIZE, KNOWN, optional=[3]), np.where(IDS == 3, 0, IDS)
    )
    save_gray(tmp_path / "seq/5/00000.png", IDS == 3)
    refused(r"seq/5/00000.png has the id 5", tmp_path / "seq/00000")


@pytest.fixture
def results(make_set, tmp_path):
    """A task of two sequences, and perfect masks for it."""
    task = davis_task(DavisSet.find(make_set(2017, {"a": 2, "b": 1}), 2017, "val"))
    for name, objects in (("a", 2), ("b", 1)):
        for index in range(6):
            save_palette(tmp_path / "masks" / name / f"{index:05d}.png", draw(index, objects))
    return task, tmp_path / "masks"


def test_check_results(results):
    task, masks = results
    check_results(task, masks)
    for index in (0, 5):  # not scored
        (masks / f"a/{index:05d}.png").unlink()
    check_results(task, str(masks))
    with pytest.raises(InputError, match=r"nowhere is not a folder"):
        check_results(task, masks / "nowhere")
    with pytest.raises(InputError, match=r"a is missing: .*\(there is .*/masks/a: give .*/masks\)"):
        check_results(task, masks.parent)
    save_palette(masks / "b/00003.png", draw(3, 2))
    with pytest.raises(InputError, match=r"b/00003.png has the id 2, but the objects .* are 1\."):
        check_results(task, masks)
    (masks / "a/00004.png").unlink()
    with pytest.raises(InputError, match=r"a/00004.png is missing: each scored frame needs a mask"):
        check_results(task, masks)
    (masks / "b").rename(masks / "c")
    (masks / "a").rename(masks / "d")
    with pytest.raises(InputError, match=r"masks/a is missing: the masks of each sequence need a folder\."):
        check_results(task, masks)


def test_an_object_with_two_masks_of_a_frame(tmp_path):
    write(tmp_path, "objects")
    (tmp_path / "1").mkdir()
    shutil.copy(tmp_path / "001/00002.png", tmp_path / "1/00002.png")
    with pytest.raises(InputError, match=r"00002\.png and .*00002\.png are both of object 1: remove one"):
        read_result(tmp_path / "00002", SIZE, KNOWN)


def test_an_array_that_is_none(tmp_path):
    (tmp_path / "00002.npy").write_text("x")
    with pytest.raises(InputError, match=r"can't be read as an array: write it again with numpy\.save\.$"):
        read_result(tmp_path / "00002", SIZE, KNOWN)
