"""Finding sequences in DAVIS layout, and one clear error for everything that can be wrong with it."""

import shutil

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSet, read_ids

from .conftest import SIZE, draw, save_gray, save_palette


def names(davis):
    return [sequence.name for sequence in davis.sequences]


def test_sequences_of_2017(make_set):
    root = make_set(2017, {"two": 2, "one": 1})
    davis = DavisSet.find(root, 2017, "val")
    assert (davis.resolution, names(davis)) == ("480p", ["two", "one"])
    two = davis.sequences[0]
    assert (two.objects, two.size, two.void) == ((1, 2), SIZE, 255)
    assert two.frame_folder == root / "JPEGImages/480p/two"
    assert [path.name for path in two.frames] == [f"{index:05d}.jpg" for index in range(6)]
    np.testing.assert_array_equal(two.annotation(3), draw(3, 2))


def test_2016_has_one_object_whatever_the_values(make_set):
    root = make_set(2016, {"one": 1})
    save_gray(root / "Annotations/480p/one/00002.png", draw(2, 3) * 80)
    (one,) = DavisSet.find(root, 2016, "val").sequences
    assert (one.objects, one.void) == ((1,), None)
    np.testing.assert_array_equal(one.annotation(0), draw(0))
    np.testing.assert_array_equal(one.annotation(2), draw(2, 3) > 0)


def test_void_is_no_object_and_later_ids_are_not_scored(make_set):
    root = make_set(2017, {"one": 1})
    first = draw(0)
    first[0] = 255
    save_palette(root / "Annotations/480p/one/00000.png", first)
    save_palette(root / "Annotations/480p/one/00001.png", draw(1, 2))
    (one,) = DavisSet.find(root, 2017, "val").sequences
    assert one.objects == (1,)
    np.testing.assert_array_equal(one.annotation(0), first)


def test_frames_lie_as_they_are_seen(make_set):
    root = make_set(2016, {"one": 1})
    for path in (root / "JPEGImages/480p/one").iterdir():  # as phones save them: on their side
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    (one,) = DavisSet.find(root, 2016, "val").sequences
    assert one.size == SIZE


def test_where_a_split_is_looked_for(make_set):
    root = make_set(2017, {"a": 1, "b": 1, "c": 1})
    lists = root / "ImageSets"
    (lists / "480p").mkdir()
    (lists / "480p/val.txt").write_text(
        "/JPEGImages/480p/c/00000.jpg /Annotations/480p/c/00000.png\n"
        "/JPEGImages/480p/c/00001.jpg /Annotations/480p/c/00001.png\n"
    )
    (lists / "val.txt").write_text("b\n\n")
    (lists / "2017/val.txt").write_text("  a  \n")
    assert names(DavisSet.find(root, 2017, "val")) == ["a"]
    (lists / "2017/val.txt").unlink()
    assert names(DavisSet.find(root, 2017, "val")) == ["b"]
    (lists / "val.txt").unlink()
    assert names(DavisSet.find(root, 2017, "val")) == ["c"]
    with pytest.raises(InputError, match=r"ImageSets has no split vla of 2017: there is 480p/val"):
        DavisSet.find(root, 2017, "vla")
    shutil.rmtree(lists)
    assert names(DavisSet.find(root, 2017, "anything")) == ["a", "b", "c"]


def test_resolution(make_set):
    root = make_set(2017, {"a": 1}, "480p")
    make_set(2017, {"a": 1}, "1080p")
    (root / "JPEGImages/.cache").mkdir()
    with pytest.raises(InputError, match=r"JPEGImages has several folders \(1080p, 480p\): .*--resolution"):
        DavisSet.find(root, 2017, "val")
    assert DavisSet.find(root, 2017, "val", "1080p").resolution == "1080p"
    with pytest.raises(InputError, match=r"JPEGImages/240p is missing: there is 1080p, 480p"):
        DavisSet.find(root, 2017, "val", "240p")


def test_natural_order_of_frames(make_set):
    root = make_set(2017, {"a": 1})
    for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root / part / "480p" / "a"
        for index in range(6):
            (folder / f"{index:05d}.{suffix}").rename(folder / f"f{index + 6}.{suffix}")
    (sequence,) = DavisSet.find(root, 2017, "val").sequences
    assert [path.stem for path in sequence.frames] == ["f6", "f7", "f8", "f9", "f10", "f11"]
    assert [path.stem for path in sequence.annotations] == ["f6", "f7", "f8", "f9", "f10", "f11"]


def breaks():
    """Each: what is done to a good set of sequence `a`, and what the error says."""

    def remove(path):
        return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()

    def mask(index, ids):
        return lambda root: save_palette(root / f"Annotations/480p/a/{index:05d}.png", ids)

    def truncate(path):
        def cut(root):
            (root / path).write_bytes((root / path).read_bytes()[:-30])

        return cut

    def write(path, text):
        return lambda root: (root / path).write_text(text)

    def copy(source, target):
        return lambda root: shutil.copy(root / source, root / target)

    frame, label = "JPEGImages/480p/a", "Annotations/480p/a"
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[3:5, :, 0] = 128
    return {
        "no layout": (remove("JPEGImages"), "davis2017/JPEGImages is missing"),
        "no annotations": (remove("Annotations"), "davis2017/Annotations is missing"),
        "empty": (remove("JPEGImages/480p"), "davis2017/JPEGImages is empty"),
        "unknown sequence": (write("ImageSets/2017/val.txt", "a\nb"), "JPEGImages/480p/b is missing"),
        "empty split": (write("ImageSets/2017/val.txt", "\n"), "val.txt names no sequence"),
        "no annotation folder": (remove(label), "Annotations/480p/a is missing"),
        "no frames": (
            lambda root: [path.unlink() for path in (root / frame).iterdir()],
            "JPEGImages/480p/a holds no pictures",
        ),
        "missing frame": (remove(f"{frame}/00003.jpg"), "JPEGImages/480p/a/00003.jpg is missing"),
        "missing annotation": (remove(f"{label}/00003.png"), "Annotations/480p/a/00003.png is missing"),
        "frame twice": (
            copy(f"{frame}/00003.jpg", f"{frame}/00003.png"),
            "are two frames of one name",
        ),
        "mask size": (mask(4, draw(4)[:20]), "a/00004.png has 32x20 pixels, .* have 32x24"),
        "no object": (mask(0, draw(0) * 0), "Annotations/480p/a/00000.png marks no object"),
        "only void": (mask(0, draw(0) * 255), "marks no object: .*255 means no label here .--year 2016"),
        "damaged mask": (
            truncate(f"{label}/00003.png"),
            "Annotations/480p/a/00003.png can't be read as a mask",
        ),
        "not a mask": (write(f"{label}/00002.png", "text"), "Annotations/480p/a/00002.png can't be read"),
        "not a frame": (write(f"{frame}/00002.jpg", "text"), "JPEGImages/480p/a/00002.jpg can't be read"),
        "colours": (lambda root: save_gray(root / label / "00005.png", colours), "00005.png has colours"),
        "short": (
            lambda root: [remove(f"{f}/0000{i}.{s}")(root) for f, s in PARTS for i in (2, 3, 4, 5)],
            "JPEGImages/480p/a has 2 frames: at least three",
        ),
    }


PARTS = (("JPEGImages/480p/a", "jpg"), ("Annotations/480p/a", "png"))


@pytest.mark.parametrize("name", breaks())
def test_what_is_wrong_is_said_in_one_sentence(make_set, name):
    spoil, message = breaks()[name]
    root = make_set(2017, {"a": 1})
    DavisSet.find(root, 2017, "val")
    spoil(root)
    with pytest.raises(InputError, match=message):
        DavisSet.find(root, 2017, "val")


def test_unknown_year_and_root(make_set, tmp_path):
    with pytest.raises(InputError, match="no DAVIS protocol of 2015"):
        DavisSet.find(make_set(2017, {"a": 1}), 2015, "val")
    with pytest.raises(InputError, match="nowhere is missing"):
        DavisSet.find(tmp_path / "nowhere", 2017, "val")


def test_real_layouts(data):
    davis = DavisSet.find(data / "eval/DAVIS-2016-dev", 2016, "dev")
    assert (len(davis.sequences), sum(len(s.frames) for s in davis.sequences)) == (8, 494)
    (schoolgirls,) = DavisSet.find(data / "eval/DAVIS-2017-240p", 2017, "dev").sequences
    assert (schoolgirls.objects, schoolgirls.size) == (tuple(range(1, 8)), (240, 432))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGB", "RGBA"])
def test_read_ids(tmp_path, mode):
    ids = draw(2, 3)
    path = tmp_path / "mask.png"
    if mode == "P":
        save_palette(path, ids)
    else:
        Image.fromarray(ids).convert(mode).save(path)
    got = read_ids(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, ids)


def test_read_ids_of_one_bit(tmp_path):
    Image.fromarray(draw(2) > 0).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "mask.png"), draw(2))


def test_read_ids_refuses_what_has_none(tmp_path):
    Image.fromarray(draw(2).astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep.png has pixels of type I"):
        read_ids(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"none.png is missing"):
        read_ids(tmp_path / "none.png")


def test_names_with_spaces_and_lists_that_are_no_text(make_set):
    root = make_set(2017, {"my bear": 1, "two": 1})
    assert names(DavisSet.find(root, 2017, "val")) == ["my bear", "two"]
    (root / "ImageSets/2017/val.txt").write_bytes(b"\xff\xfe\x00b")
    with pytest.raises(InputError, match=r"val\.txt can't be read: it is a text"):
        DavisSet.find(root, 2017, "val")
