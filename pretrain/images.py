"""Images to learn from: folders and tar files, decoded once into one array.

    DATA/<class>/<image>            labels are the names of the folders
    DATA/<image>                    no labels
    DATA/<split>/<class>/<image>    where `split` is asked for and the folders are splits, see `splits_among`

A tar file (`.tar`, `.tar.gz`, `.tgz`, `.tar.bz2`, `.tar.xz`) has the same layout; it is read, never unpacked.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from pretrain.errors import InputError
from pretrain.limits import TooLarge, max_pixels, open_picture
from pretrain.walk import files_below

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SPLITS = {  # what each is called elsewhere
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
MEANT = {name: split for split, names in SPLITS.items() for name in names}
UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)
BATCH, BATCH_BYTES = 256, 1 << 28  # images, and bytes of their files, that are decoded side by side
LONGEST = 16  # the long side in short sides, of which more is not looked at
NO_IMAGE = "it is no image that can be read"


@dataclass(eq=False)
class ImageSet:
    """Images of one size.

    Attributes:
        images: uint8 `[N, size, size, 3]` RGB.
        labels: int64 `[N]`, indices into `classes`; None without classes.
        classes: names, sorted.
        names: of the files, sorted, in the order of `images`.
        skipped: name and reason of each file that can't be read.
        side: short side of the files in pixels, the median; None where it is not known.
    """

    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    side: int | None = None

    def __len__(self) -> int:
        return len(self.images)


def read_images(
    data: Path | str,
    size: int,
    split: str | None = "train",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Read all images of a folder or tar file.

    An image is resized so that its short side is `size`, and its middle is kept. Gray images become RGB,
    alpha is dropped, and 16 bits become 8. Files that can't be read, or are larger than is allowed, are
    skipped and listed.

    Args:
        data: folder or tar file.
        size: side in pixels.
        split: name of a folder at the top, or of `SPLITS`; ignored where there is no split folder at all.
        limit: at most so many images, spread evenly over all.
        progress: called with the number of images done and of all.

    Raises:
        InputError: no such folder or file, no such split, no images, or none that can be read.
    """
    data = Path(data)
    if size < 1:
        raise InputError(f"size={size}: give a number of pixels above 0.")
    if data.is_dir():
        names = [p.relative_to(data).as_posix() for p in files_below(data)]
    elif data.is_file() and data.name.lower().endswith(TARS):
        names = _tar_names(data)
    elif data.exists():
        raise InputError(f"{data} is neither a folder nor a tar file: give images in one of these.")
    else:
        raise InputError(f"{data} is missing: give a folder or a tar file of images.")
    chosen, classes_of = images_of_split(data, names, split)
    if limit is not None and len(chosen) > limit:
        places = np.linspace(0, len(chosen) - 1, limit).round().astype(int)
        chosen = [chosen[place] for place in places]
    images = np.empty((len(chosen), size, size, 3), np.uint8)
    kept: list[str] = []
    skipped: list[tuple[str, str]] = []
    sides: list[int] = []
    contents = _folder_contents(data, chosen) if data.is_dir() else _tar_contents(data, chosen)
    with ThreadPoolExecutor() as pool:  # OpenCV decodes without holding Python's lock
        for batch in _batches(contents):
            decoded = pool.map(lambda content: _decode(content, size), [content for _, content in batch])
            for (name, _), image in zip(batch, decoded, strict=True):
                if isinstance(image, str):
                    skipped.append((name, image))
                else:
                    images[len(kept)], side = image
                    sides.append(side)
                    kept.append(name)
            if progress is not None:
                progress(len(kept) + len(skipped), len(chosen))
    if not kept:
        raise InputError(f"{data} has no image that can be read: {skipped[0][0]} is the first of them.")
    order = np.argsort(kept)
    names_ = tuple(kept[place] for place in order)
    classes = tuple(sorted({classes_of[name] for name in names_} - {""}))
    labels = None
    if classes:
        number = {name: index for index, name in enumerate(classes)}
        labels = np.array([number[classes_of[name]] for name in names_], np.int64)
    read = images[: len(kept)]
    if (order[1:] < order[:-1]).any():  # not of a folder: its names come sorted, and no second copy is made
        read = read[order]
    return ImageSet(read, labels, classes, names_, sorted(skipped), int(np.median(sides)))


def are_images(names: Iterable[str]) -> list[str]:
    """Those that are named like images and not hidden, sorted."""
    return sorted(name for name in names if _is_image(PurePosixPath(name)))


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def splits_among(images: Iterable[str], asked: str | None = None) -> tuple[int, dict[str, str]]:
    """Where splits stand in the names of images, and which there are.

    A folder around everything, as archives have it, does not count. Where folders of splits stand beside
    others, as a class called train does, there are none.

    Args:
        images: names with their folders.
        asked: for the split of that name.

    Returns:
        The depth of the outermost folders that count, and the folder of each split: by its own name, and by
        that of `SPLITS` which it means.
    """
    parts = [PurePosixPath(name).parts for name in images]
    depth = 0
    while True:
        tops = {part[depth] for part in parts if len(part) > depth + 1}
        known = {top for top in tops if top.lower() in MEANT or top == asked}
        around = len(tops) == 1 and not known and all(len(part) > depth + 2 for part in parts)
        if not around:
            break
        depth += 1
    whole = known == tops or len(known) > 1 or asked in {top for top in known if top.lower() not in MEANT}
    meant = {MEANT[top.lower()]: top for top in sorted(known, reverse=True) if top.lower() in MEANT}
    return depth, meant | {top: top for top in known} if whole else {}


def images_of_split(data: Path, names: Iterable[str], split: str | None) -> tuple[list[str], dict[str, str]]:
    """The images of a split, sorted, and the class of each ("" without classes).

    Args:
        data: what the user calls the folder or file, for messages.
        names: of all files in it.
        split: see `read_images`.

    Raises:
        InputError: no images, or no such split.
    """
    images = are_images(names)
    if not images:
        raise InputError(f"{data} holds no images ({', '.join(sorted(SUFFIXES))}).")
    paths = {name: PurePosixPath(name).parts for name in images}
    depth, splits = splits_among(images, split)
    if split is not None and splits:
        if split not in splits:
            raise InputError(f"{data} has no split {split!r}, but {', '.join(sorted({*splits.values()}))}.")
        images = [name for name in images if paths[name][depth] == splits[split]]
        depth += 1
    classes = {name: paths[name][depth] if len(paths[name]) > depth + 1 else "" for name in images}
    if "" in classes.values() and len(set(classes.values())) > 1:  # some in folders, some not
        classes = dict.fromkeys(images, "")
    return images, classes


def _tar_names(path: Path) -> list[str]:
    try:
        with tarfile.open(path) as tar:
            return [member.name for member in tar if member.isfile() or member.islnk()]
    except UNREADABLE as error:
        raise _no_tar(path, error) from error


def _no_tar(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(" :")
    return InputError(f"{path} can't be read as a tar file ({reason}): pack it again.")


def _batches(contents: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The files in parts that fit into memory."""
    batch: list[tuple[str, bytes]] = []
    held = 0
    for name, content in contents:
        batch.append((name, content))
        held += len(content)
        if len(batch) == BATCH or held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _most_bytes() -> int:
    """More than an image that is not too large takes as a file: 16 bits of four channels, and a header."""
    return 8 * max_pixels() + (1 << 20)


def _folder_contents(data: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = data / name
        try:
            yield name, path.read_bytes() if path.stat().st_size <= _most_bytes() else b""
        except OSError:
            yield name, b""


def _tar_contents(path: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """In the order of the file: a compressed one can't be read in another."""
    wanted = set(names)
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if (member.isfile() or member.islnk()) and member.name in wanted:
                    wanted.discard(member.name)  # a name may stand twice: the first counts
                    yield member.name, _content(tar, member)
    except UNREADABLE as error:
        raise _no_tar(path, error) from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """What a member, or the one that it is a hard link to, holds; nothing where that is too much."""
    try:
        file = tar.extractfile(member) if member.size <= _most_bytes() else None
    except KeyError:  # the other is not in the file
        file = None
    content = b"" if file is None else file.read(_most_bytes() + 1)
    return content if len(content) <= _most_bytes() else b""


def _decode(content: bytes, size: int) -> tuple[np.ndarray, int] | str:
    """The middle square, uint8 `[size, size, 3]` RGB, and the file's short side; or why it can't be read."""
    try:
        with open_picture(io.BytesIO(content), "it") as picture:  # OpenCV would take memory for any size
            image = _pnm(picture) if picture.format == "PPM" else None
        if image is None:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except TooLarge as error:
        return str(error).rstrip(".")
    except Exception:  # broken pictures make Pillow raise nearly anything
        return NO_IMAGE
    if image is None:
        return NO_IMAGE
    height, width = image.shape[:2]
    side = min(height, width)
    long = LONGEST * side  # what is longer would grow beyond all memory when it is enlarged
    top, left = max(0, height - long) // 2, max(0, width - long) // 2
    image = image[top : top + long, left : left + long]
    height, width = image.shape[:2]
    scale = size / side
    if scale != 1:
        target = (max(size, round(width * scale)), max(size, round(height * scale)))
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size, ::-1]), side


def _pnm(picture: Any) -> np.ndarray:
    """A PGM or PPM picture in BGR by its own brightest value, which OpenCV takes for that of the format."""
    values = np.asarray(picture)
    if values.dtype != np.uint8:  # Pillow scales to 16 bits
        values = (values / 257).round().clip(0, 255).astype(np.uint8)
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    return np.ascontiguousarray(values[..., 2::-1])
