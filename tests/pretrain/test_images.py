"""Images from folders and tar files: what is read, in which order, with which labels."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from pretrain.images import read_images

COLOURS = {"cat": (250, 10, 20), "dog": (10, 200, 30), "owl": (5, 15, 240)}


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, colour)


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def fill(root: Path) -> None:
    """`train/` with three classes of two images, `test/` with one of each."""
    for split, count in (("train", 2), ("test", 1)):
        for name, colour in COLOURS.items():
            for n in range(count):
                save(root / split / name / f"{n}.png", picture(colour))


def packed(root: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for file in sorted(root.rglob("*"), reverse=True):  # in another order than by name
            tar.add(file, file.relative_to(root).as_posix(), recursive=False)
    return path


@pytest.mark.parametrize("kind", ["folder", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize(("split", "count"), [("train", 2), ("test", 1)])
def test_a_split_with_classes(tmp_path: Path, kind: str, split: str, count: int) -> None:
    fill(tmp_path / "root")
    data = tmp_path / "root" if kind == "folder" else packed(tmp_path / "root", tmp_path / kind)
    found = read_images(data, 8, split)
    assert found.classes == ("cat", "dog", "owl") and len(found) == 3 * count
    assert found.images.shape == (3 * count, 8, 8, 3) and found.images.dtype == np.uint8
    assert list(found.names) == sorted(found.names) and found.names[0] == f"{split}/cat/0.png"
    assert found.labels is not None and found.labels.tolist() == sorted([0, 1, 2] * count)
    for image, label in zip(found.images, found.labels, strict=True):
        assert (image == COLOURS[found.classes[label]]).all()


def test_flat_folders_and_mixed_ones_have_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture((1, 2, 3)))
    save(tmp_path / "b.jpg", picture((100, 100, 100)))
    found = read_images(tmp_path, 8)
    assert found.labels is None and found.classes == () and found.names == ("a.png", "b.jpg")
    save(tmp_path / "cat" / "c.png", picture((1, 2, 3)))
    assert read_images(tmp_path, 8).labels is None
    assert read_images(tmp_path / "cat", 8, split=None).names == ("c.png",)


@pytest.mark.parametrize(
    ("train", "test"), [("train", "valid"), ("training", "testing"), ("Train", "Test"), ("train", "dev")]
)
def test_splits_by_other_names(tmp_path: Path, train: str, test: str) -> None:
    for name in (f"{train}/cat/1.png", f"{train}/dog/1.png", f"{test}/cat/2.png"):
        save(tmp_path / name, picture(COLOURS["cat"]))
    images = read_images(tmp_path, 4)
    assert images.names == (f"{train}/cat/1.png", f"{train}/dog/1.png") and images.classes == ("cat", "dog")
    assert len(read_images(tmp_path, 4, "val" if test in ("valid", "dev") else "test")) == 1
    assert len(read_images(tmp_path, 4, test)) == 1
    with pytest.raises(InputError, match=f"no split 'other', but {min(train, test)}"):
        read_images(tmp_path, 4, "other")


@pytest.mark.parametrize("tar", [False, True])
def test_a_folder_around_everything_does_not_count(tmp_path: Path, tar: bool) -> None:
    data = tmp_path / "all"
    for name in ("train/cat/1.png", "train/dog/2.png", "test/dog/3.png"):
        save(data / "made" / "set" / name, picture(COLOURS["cat"]))
    if tar:
        data = packed(data, tmp_path / "a.tgz")
    images = read_images(data, 4)
    assert len(images) == 2 and images.classes == ("cat", "dog")
    assert read_images(data, 4, None).classes == ("test", "train")


def test_hard_links_in_a_tar_file(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a" / "1.png", picture(COLOURS["cat"]))
    (tmp_path / "data" / "b").mkdir()
    os.link(tmp_path / "data" / "a" / "1.png", tmp_path / "data" / "b" / "1.png")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "data", "")
    images = read_images(tmp_path / "a.tar.gz", 4)
    assert images.names == ("a/1.png", "b/1.png") and not images.skipped
    assert (images.images[0] == images.images[1]).all() and images.images.any()


def test_no_second_copy_of_a_folder_is_made(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        save(tmp_path / name, picture(COLOURS["cat"]))
    assert read_images(tmp_path, 4).images.base is not None


def test_classes_without_splits(tmp_path: Path) -> None:
    fill(tmp_path)
    found = read_images(tmp_path / "train", 8)
    assert found.classes == ("cat", "dog", "owl") and len(found) == 6
    assert read_images(tmp_path, 8, split=None).classes == ("test", "train")


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "there")
    (tmp_path / "here" / "cat").mkdir(parents=True)
    save(tmp_path / "here" / "cat" / "0.png", picture((1, 2, 3)))
    (tmp_path / "here" / "dog").symlink_to(tmp_path / "there" / "train" / "dog")
    assert read_images(tmp_path / "here", 8).classes == ("cat", "dog")


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "test").rename(tmp_path / "cars")
    found = read_images(tmp_path, 8)
    assert found.classes == ("cars", "train") and len(found) == 9
    (tmp_path / "cars").rename(tmp_path / "test")
    (tmp_path / "train" / "cat").rename(tmp_path / "unlabelled")  # beside two splits
    assert len(read_images(tmp_path, 8)) == 4
    assert read_images(tmp_path, 8, "unlabelled").names == ("unlabelled/0.png", "unlabelled/1.png")


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (4, 8), (21, 20)])
def test_the_middle_is_kept(tmp_path: Path, width: int, height: int) -> None:
    values = np.zeros((height, width, 3), np.uint8)
    cut = (max(width, height) - min(width, height)) // 2
    axis = 1 if width > height else 0
    edge = [slice(None)] * 2
    edge[axis] = slice(0, cut)
    values[tuple(edge)] = 255  # all that is cut away on one side
    save(tmp_path / "x.png", Image.fromarray(values))
    (image,) = read_images(tmp_path, 10).images
    assert image.shape == (10, 10, 3)
    assert image[2:-2, 2:-2].max() < 30


def test_the_usual_size_is_known(tmp_path: Path) -> None:
    for number, size in enumerate([(8, 9), (30, 12), (12, 12), (40, 50), (11, 90)]):
        save(tmp_path / f"{number}.png", picture(COLOURS["cat"], size))
    (tmp_path / "bad.png").write_bytes(b"no")
    assert read_images(tmp_path, 16).side == 12


def test_all_kinds_of_pixels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.new("L", (8, 8), 77))
    save(tmp_path / "b.png", Image.new("RGBA", (8, 8), (9, 8, 7, 100)))
    save(tmp_path / "c.png", Image.fromarray(np.full((8, 8), 77 * 257, np.uint16)))
    save(tmp_path / "d.png", picture((9, 8, 7)).quantize(4))
    save(tmp_path / "e.bmp", picture((9, 8, 7)))
    means = read_images(tmp_path, 8).images.mean(axis=(1, 2))
    np.testing.assert_allclose(means, [[77] * 3, [9, 8, 7], [77] * 3, [9, 8, 7], [9, 8, 7]], atol=1)


@pytest.mark.parametrize(
    ("most", "value", "gray"), [(255, 77, 77), (4095, 2048, 128), (65535, 257, 1), (15, 5, 85)]
)
def test_gray_levels_of_pgm_are_of_its_brightest(tmp_path: Path, most: int, value: int, gray: int) -> None:
    values = np.full((8, 8), value, ">u2" if most > 255 else np.uint8)
    (tmp_path / "a.pgm").write_bytes(f"P5 8 8 {most}\n".encode() + values.tobytes())
    assert (read_images(tmp_path, 8).images == gray).all()


def test_the_colours_of_ppm(tmp_path: Path) -> None:
    save(tmp_path / "a.ppm", picture((9, 80, 200)))
    assert (read_images(tmp_path, 8).images == (9, 80, 200)).all()


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1)])
def test_a_thread_is_no_giant(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    resize = cv2.resize

    def watched(image: np.ndarray, target: tuple[int, int], **rest: int) -> np.ndarray:
        seen.append(target[0] * target[1])
        return resize(image, target, **rest)

    monkeypatch.setattr(cv2, "resize", watched)
    save(tmp_path / "a.png", picture((1, 2, 3), size))
    save(tmp_path / "b.png", picture((1, 2, 3), (30, 20)))
    found = read_images(tmp_path, 32)
    assert len(found) == 2 and (found.images == (1, 2, 3)).all() and max(seen) <= 16 * 32 * 32


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    save(tmp_path / "good.png", picture((1, 2, 3)))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    content = io.BytesIO()
    picture((9, 9, 9), (64, 64)).save(content, "png")
    (tmp_path / "short.png").write_bytes(content.getvalue()[:40])
    (tmp_path / "notes.txt").write_text("left alone")
    save(tmp_path / ".hidden.png", picture((1, 2, 3)))
    found = read_images(tmp_path, 8)
    assert found.names == ("good.png",)
    assert [name for name, _ in found.skipped] == ["empty.jpg", "short.png", "text.png"]
    (tmp_path / "good.png").unlink()
    with pytest.raises(InputError, match="has no image that can be read"):
        read_images(tmp_path, 8)


def test_a_limit_is_spread_over_all(tmp_path: Path) -> None:
    fill(tmp_path)
    seen: list[tuple[int, int]] = []
    found = read_images(tmp_path, 8, "train", limit=3, progress=lambda *state: seen.append(state))
    assert len(found) == 3 and found.labels is not None and set(found.labels) == {0, 1, 2}
    assert seen[-1] == (3, 3)
    assert len(read_images(tmp_path, 8, "train", limit=100)) == 6


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda r: r / "none", "is missing: give a folder"),
        (lambda r: (r / "a.txt", (r / "a.txt").write_text("x"))[0], "neither a folder nor a tar file"),
        (lambda r: (r / "a.tar", (r / "a.tar").write_text("x"))[0], "can't be read as a tar file"),
        (lambda r: (r / "e", (r / "e").mkdir())[0], "holds no images"),
        (lambda r: (fill(r / "f"), os.rename(r / "f/test", r / "f/val"), r / "f")[2], "has no split 'test'"),
    ],
)
def test_wrong_data_is_one_sentence(tmp_path: Path, make, sentence: str) -> None:
    data = make(tmp_path)
    with pytest.raises(InputError, match=sentence) as refused:
        read_images(data, 8, "test")
    assert "\n" not in str(refused.value) and str(data) in str(refused.value)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 900), st.binary(min_size=1, max_size=6))
def test_a_damaged_tar_is_read_or_refused(tmp_path: Path, place: int, inserted: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    if not (tmp_path / "whole").exists():
        fill(tmp_path / "root")
        (tmp_path / "whole").write_bytes(packed(tmp_path / "root", path).read_bytes())
    content = (tmp_path / "whole").read_bytes()
    path.write_bytes(content[:place] + inserted + content[place + len(inserted) :])
    try:
        found = read_images(path, 8)
    except InputError:
        return
    assert len(found) + len(found.skipped) <= 6


def test_cifar(data: Path) -> None:
    found = read_images(data / "images/cifar10.tar.gz", 32, "test", limit=500)
    assert len(found) == 500 and len(found.classes) == 10 and not found.skipped
    assert found.labels is not None and np.bincount(found.labels).tolist() == [50] * 10
    assert 60 < found.images.mean() < 180
