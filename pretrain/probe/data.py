"""Images with classes to judge a backbone on: from folders and tar files, or scikit-learn's digits."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from pretrain.errors import InputError
from pretrain.images import UNREADABLE, ImageSet, are_images, images_of_split, read_images, splits_among
from pretrain.probe.few import held_out
from pretrain.walk import files_below

DIGITS = "digits"
TESTS = ("test", "val")
LARGEST, SMALLEST = 224, 32  # sides that are chosen without being asked
_LOOKED_AT = 16  # images whose size decides
_FIFTH = 0.2
_SPARE = 64  # images: a fifth is rounded for each class
_NAMED = 5  # classes or files in a sentence


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images to train classifiers on, and to test them on.

    Attributes:
        train, test: with labels, of the same classes.
        size: side in pixels.
        notes: sentences on what was chosen without being asked.
    """

    train: ImageSet
    test: ImageSet
    size: int
    notes: list[str] = field(default_factory=list)


def labelled(
    data: Path | str,
    size: int | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Read a training and a test set.

    A folder `test` (else `val`; see `pretrain.images.SPLITS`) at the top is the test set, and then `train`
    the training set: the first with images of the same classes, as published test sets may have no labels.
    Without such folders a fifth of each class is the test set, chosen by the seed.

    Args:
        data: folder or tar file, see `pretrain.images`; or the word "digits": scikit-learn's 1,797 pictures
            of digits, 8 x 8 pixels, enlarged.
        size: side in pixels; None: that of the images, within 32..224.
        limit, test_limit: at most so many images of each, spread evenly over the classes.
        seed: of the choice of the test set, where there is none.
        progress: called with the number of images done and of all.

    Raises:
        InputError: see `pretrain.images.read_images`; or no labels.
    """
    if str(data) == DIGITS and not Path(data).exists():
        size = size or SMALLEST
        return _split(_digits(size), size, limit, test_limit, seed)
    data = Path(data)
    names, own = _look(data)
    _, splits = splits_among(names)
    size = size or min(LARGEST, max(SMALLEST, own))
    split, notes = _test_split(data, names, splits)
    if split is None:
        name = "train" if "train" in splits else None
        enough = None if limit is None else limit + limit // 4 + _SPARE  # a fifth of it is the test set
        images = read_images(data, size, name, enough, progress)
        return _split(_require(images, data, name), size, limit, test_limit, seed)
    train = _require(read_images(data, size, "train", limit, progress), data, "train")
    test = _require(read_images(data, size, split, test_limit, progress), data, split)
    notes.append(f"{len(test)} images of {splits[split]}/ are the test set.")
    notes += _one_sided(train, test, splits["train"], splits[split])
    return Labelled(*_same_classes(train, test), size, notes)


def _test_split(data: Path, names: list[str], splits: dict[str, str]) -> tuple[str | None, list[str]]:
    """The split to test on, if there are any to choose from, and sentences on those that are passed over."""
    candidates = [name for name in TESTS if name in splits]
    if "train" not in splits or not candidates:
        return next(iter(candidates), None), []
    known = {*images_of_split(data, names, "train")[1].values()} - {""}
    passed: list[str] = []
    for name in candidates:
        images = images_of_split(data, names, name)[0]
        if not known or any(known & {*PurePosixPath(image).parts[:-1]} for image in images):
            return name, [f"{folder}/ has no images of {splits['train']}/'s classes." for folder in passed]
        passed.append(splits[name])
    raise InputError(
        f"{data} has no images of {splits['train']}/'s classes in {'/ or '.join(passed)}/: put those of each "
        "class into a folder named like it there, too, or move the folder away."
    )


def _require(images: ImageSet, data: Path, split: str | None) -> ImageSet:
    if images.labels is not None:
        return images
    deep = 2 if split is None else 3  # parts of the name of an image in the folder of a class
    loose = [name for name in images.names if len(PurePosixPath(name).parts) < deep]
    if 0 < len(loose) < len(images):
        raise InputError(
            f"{data} has images in the folders of classes, but {len(loose)} beside these, such as "
            f"{loose[0]}: move each into the folder of its class, or away."
        )
    raise InputError(
        f"{data} has no labels: put the images of each class into a folder of its own, named like it."
    )


def _look(data: Path) -> tuple[list[str], int]:
    """The names of all images, and the median short side of some."""
    names: list[str] = []
    sides: list[int | None] = []
    try:
        if data.is_dir():
            files = [path.relative_to(data).as_posix() for path in files_below(data)]
            names = are_images(files)
            places = np.linspace(0, len(names) - 1, min(len(names), _LOOKED_AT)).round().astype(int)
            sides = [_short_side((data / names[place]).read_bytes()) for place in places]
        elif data.is_file() and tarfile.is_tarfile(data):
            with tarfile.open(data) as tar:
                for member in tar:
                    if not (member.isfile() or member.islnk()) or not are_images([member.name]):
                        continue
                    names.append(member.name)
                    if len(sides) < _LOOKED_AT and (file := tar.extractfile(member)) is not None:
                        sides.append(_short_side(file.read()))
    except UNREADABLE:
        pass  # read_images says what is wrong
    known = [side for side in sides if side is not None]
    return names, int(np.median(known)) if known else LARGEST


def _short_side(content: bytes) -> int | None:
    """From the header alone."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return min(image.size)
    except Exception:  # broken pictures make Pillow raise nearly anything
        return None


def _digits(size: int) -> ImageSet:
    from sklearn.datasets import load_digits  # heavy: only who asks for it

    bundle = load_digits()
    levels = (bundle.images * (255 / 16)).round().astype(np.uint8)  # [N, 8, 8]
    grown = [cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in levels]
    return ImageSet(
        images=np.repeat(np.stack(grown)[..., None], 3, axis=3),
        labels=bundle.target.astype(np.int64),
        classes=tuple(str(name) for name in bundle.target_names),
        names=tuple(f"digits#{number}" for number in range(len(levels))),
    )


def _split(images: ImageSet, size: int, limit: int | None, test_limit: int | None, seed: int) -> Labelled:
    """Hold out a fifth of each class as the test set."""
    assert images.labels is not None
    mask = held_out(images.labels, seed, _FIFTH)
    if not mask.any():
        raise InputError(
            "there is one image of each class and no test set: give more images, or folders train and test."
        )
    train = _take(images, _limited(np.flatnonzero(~mask), images.labels, limit))
    test = _take(images, _limited(np.flatnonzero(mask), images.labels, test_limit))
    note = f"There is no test set: a fifth of the images, chosen by seed {seed}, is ({len(test)} images)."
    return Labelled(train, test, size, [note])


def _limited(places: np.ndarray, labels: np.ndarray, limit: int | None) -> np.ndarray:
    """At most `limit` of the images, spread evenly over the classes."""
    if limit is None or len(places) <= limit:
        return places
    ordered = places[np.argsort(labels[places], kind="stable")]
    return np.sort(ordered[np.linspace(0, len(ordered) - 1, limit).round().astype(int)])


def _take(images: ImageSet, places: np.ndarray) -> ImageSet:
    assert images.labels is not None
    names = tuple(images.names[place] for place in places)
    return ImageSet(images.images[places], images.labels[places], images.classes, names, images.skipped)


def _one_sided(train: ImageSet, test: ImageSet, own: str, split: str) -> list[str]:
    """Sentences on the classes of which only one set has images; a limit may have left out the others."""
    notes = []
    pairs = ((train, test, own, split), (test, train, split, own))
    for has, lacks, where, elsewhere in pairs:
        if names := sorted({*has.classes} - {*lacks.classes}):
            listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else ".")
            kind = "class has" if len(names) == 1 else "classes have"
            notes.append(f"{len(names)} {kind} images from {where}/, but none from {elsewhere}/: {listed}")
    return notes


def _same_classes(train: ImageSet, test: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Both with the classes that either has."""
    classes = tuple(sorted({*train.classes, *test.classes}))
    number = {name: index for index, name in enumerate(classes)}

    def renamed(images: ImageSet) -> ImageSet:
        assert images.labels is not None
        table = np.array([number[name] for name in images.classes], np.int64)
        return ImageSet(images.images, table[images.labels], classes, images.names, images.skipped)

    return renamed(train), renamed(test)
