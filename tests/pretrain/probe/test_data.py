"""Where the training and the test images come from."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from pretrain.probe.data import Labelled, labelled

COLOURS = {"cat": (250, 10, 20), "dog": (10, 200, 30), "owl": (5, 15, 240)}


def fill(root: Path, split: str, count: int, names: tuple[str, ...] = tuple(COLOURS), side: int = 40) -> Path:
    for name in names:
        for n in range(count):
            path = root / split / name / f"{n:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side + 6, side), COLOURS[name]).save(path)
    return root


def check_labels(found: Labelled) -> None:
    for images in (found.train, found.test):
        assert images.labels is not None
        for image, label, name in zip(images.images, images.labels, images.names, strict=True):
            assert tuple(image[0, 0]) == COLOURS[images.classes[label]]
            assert images.classes[label] in name
    assert found.train.classes == found.test.classes
    assert not set(found.train.names) & set(found.test.names)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("split", ["test", "val"])
def test_folders_of_the_two_sets(tmp_path: Path, packed: bool, split: str) -> None:
    data = fill(fill(tmp_path / "root", "train", 4), split, 2)
    if packed:
        with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
            tar.add(data, ".")
        data = tmp_path / "x.tar.gz"
    found = labelled(data)
    check_labels(found)
    assert (len(found.train), len(found.test), found.size) == (12, 6, 40)  # the images' own short side
    assert found.notes == [f"6 images of {split}/ are the test set."]


@pytest.mark.parametrize("top", ["", "train"])
def test_without_a_test_set_a_fifth_is_held_out(tmp_path: Path, top: str) -> None:
    data = fill(tmp_path, top, 10)
    found = labelled(data, 32, seed=3)
    check_labels(found)
    assert np.bincount(found.test.labels).tolist() == [2, 2, 2] and len(found.train) == 24
    assert found.notes == ["There is no test set: a fifth of the images, chosen by seed 3, is (6 images)."]
    assert labelled(data, 32, seed=3).test.names == found.test.names != labelled(data, 32, seed=4).test.names


@pytest.mark.parametrize("split", [True, False])
def test_limits_are_spread_over_the_classes(tmp_path: Path, split: bool) -> None:
    data = fill(tmp_path, "train" if split else "", 10)
    if split:
        fill(data, "test", 5)
    found = labelled(data, 32, limit=9, test_limit=3)
    check_labels(found)
    assert np.bincount(found.train.labels).tolist() == [3, 3, 3]
    assert np.bincount(found.test.labels).tolist() == [1, 1, 1]


def test_classes_that_a_set_lacks_keep_their_numbers(tmp_path: Path) -> None:
    data = fill(fill(tmp_path, "train", 4, ("cat", "owl")), "test", 2, ("dog", "owl"))
    found = labelled(data)
    check_labels(found)
    assert found.train.classes == ("cat", "dog", "owl")
    assert found.notes == [
        "4 images of test/ are the test set.",
        "1 class has images from train/, but none from test/: cat.",
        "1 class has images from test/, but none from train/: dog.",
    ]


def test_of_many_classes_without_a_counterpart_some_are_named(tmp_path: Path) -> None:
    fill(fill(tmp_path, "train", 1), "val", 1, ("dog",))
    for n in range(6):
        fill(tmp_path, "train", 1, ("cat",))
        (tmp_path / "train" / "cat").rename(tmp_path / "train" / f"bird{n}")
    found = labelled(tmp_path)
    assert found.notes[1:] == [
        "7 classes have images from train/, but none from val/: bird0, bird1, bird2, bird3, bird4, ..."
    ]
    assert len(found.train.classes) == 8


def test_a_test_set_without_labels_is_passed_over(tmp_path: Path) -> None:
    data = fill(fill(tmp_path, "train", 4), "valid", 2)
    for folder in ("test", "test/images"):
        (data / folder).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(data / folder / "1.png")
        found = labelled(data)
        assert len(found.test) == 2 * len(found.test.classes)
        assert found.notes[:2] == [
            "test/ has no images of train/'s classes.",
            f"{len(found.test)} images of valid/ are the test set.",
        ]
        (data / "test" / "1.png").unlink(missing_ok=True)
    (data / "valid").rename(data / ".valid")
    with pytest.raises(InputError, match="no images of train/'s classes in test/"):
        labelled(data)


@pytest.mark.parametrize("split", ["", "train", "test"])
def test_images_beside_the_classes_are_named(tmp_path: Path, split: str) -> None:
    data = fill(tmp_path, "train" if split else "", 3)
    if split:
        fill(data, "test", 2)
    Image.new("RGB", (8, 8)).save(data / split / "stray.png")
    name = f"{split}/stray.png".lstrip("/")
    with pytest.raises(InputError, match=f"but 1 beside these, such as {name}: move each"):
        labelled(data)


@pytest.mark.parametrize(("side", "size"), [(8, 32), (100, 100), (300, 224)])
def test_the_size_is_sensible(tmp_path: Path, side: int, size: int) -> None:
    assert labelled(fill(tmp_path, "", 5, side=side)).size == size


def test_digits() -> None:
    found = labelled("digits")
    assert found.train.images.shape == (1797 - len(found.test), 32, 32, 3) and found.size == 32
    assert 350 < len(found.test) < 370 and found.train.classes == tuple("0123456789")
    assert "There is no test set" in found.notes[0]
    some = labelled("digits", 16, limit=50, test_limit=20)
    assert np.bincount(some.train.labels).tolist() == [5] * 10 and some.test.images.shape == (20, 16, 16, 3)
    assert (
        np.ptp(found.train.images) > 250 and (found.train.images[..., 0] == found.train.images[..., 2]).all()
    )


def test_bad_data(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for n in range(3):
        Image.new("RGB", (40, 40)).save(flat / f"{n}.png")
    with pytest.raises(InputError, match="flat has no labels: put the images of each class into a folder"):
        labelled(flat)
    with pytest.raises(InputError, match="missing"):
        labelled(tmp_path / "nothing")
    with pytest.raises(InputError, match="one image of each class"):
        labelled(fill(tmp_path / "ones", "", 1))
    with pytest.raises(InputError, match="no split 'train'"):
        labelled(fill(tmp_path / "tests", "test", 2))
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no tar")
    with pytest.raises(InputError, match="can't be read as a tar"):
        labelled(broken)
