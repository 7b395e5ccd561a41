"""Data sets in DAVIS layout: which sequences a split has, their frames, annotations and objects.

    ROOT/ImageSets/<year>/<split>.txt            one name of a sequence per line
    ROOT/JPEGImages/<resolution>/<sequence>/00000.jpg ...
    ROOT/Annotations/<resolution>/<sequence>/00000.png ...

Everything is checked when a set is found, before any work is done with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from pretrain.limits import open_picture
from vidtrack.video.folder import list_images
from vidtrack.video.images import image_size

YEARS = (2016, 2017)
VOID = 255
LONGEST = 200  # bytes of the name of a sequence: file systems take 255, and `.json` is added


@dataclass(frozen=True)
class DavisSequence:
    """One sequence, every frame of which has an annotation.

    Attributes:
        name: the name of its folders.
        year: 2016: any non-zero value of an annotation is the object 1. 2017: the values are ids of objects,
            255 is void, which carries no label and is not scored.
        frame_folder: folder that holds exactly the frames.
        frames: their paths in order of time.
        annotations: path of the annotation of each frame.
        size: `(height, width)` in pixels of all frames and annotations.
        objects: ids of the first frame's annotation, ascending. Ids that appear later are not objects of the
            semi-supervised task and not scored, as in the official tool.
    """

    name: str
    year: int
    frame_folder: Path
    frames: tuple[Path, ...]
    annotations: tuple[Path, ...]
    size: tuple[int, int]
    objects: tuple[int, ...]

    @property
    def void(self) -> int | None:
        """The value of void pixels in `annotation`, None if there is no such value."""
        return VOID if self.year == 2017 else None

    def annotation(self, index: int) -> NDArray[np.uint8]:
        """Ids of the annotation of frame `index`, uint8 `[H, W]`."""
        return self.read(self.annotations[index])

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Ids of a mask file under the rules of this year, uint8 `[H, W]`."""
        ids = read_ids(path)
        return (ids != 0).astype(np.uint8) if self.year == 2016 else ids


@dataclass(frozen=True)
class DavisSet:
    """The sequences of one split.

    Attributes:
        root: the data set's folder.
        year: 2016 (one object per sequence) or 2017 (several).
        split: name of the split.
        resolution: name of the folder under `JPEGImages` and `Annotations`.
        sequences: in the order of the split's file, or by name if there is none.
    """

    root: Path
    year: int
    split: str
    resolution: str
    sequences: tuple[DavisSequence, ...]

    @classmethod
    def find(cls, root: Path | str, year: int, split: str, resolution: str | None = None) -> DavisSet:
        """Find and check the sequences of a split.

        The names come from `ImageSets/<year>/<split>.txt`, else `ImageSets/<split>.txt`, else
        `ImageSets/<resolution>/<split>.txt` (the lists of paths of the DAVIS-2016 archive); without any such
        list, all folders of frames are the split. The resolution is the only folder under `JPEGImages`
        unless it is given.

        Raises:
            InputError: The layout is wrong, a sequence, frame or annotation is missing, or an annotation
                can't be read, has another size than its frame, or marks no object in the first frame.
        """
        root = Path(root)
        if year not in YEARS:
            raise InputError(f"There is no DAVIS protocol of {year}: choose the year 2016 or 2017.")
        for folder in (root, root / "JPEGImages", root / "Annotations"):
            if not folder.is_dir():
                raise InputError(f"{folder} is missing: a DAVIS layout has JPEGImages and Annotations.")
        resolution = _resolution(root / "JPEGImages", resolution)
        names = _names(root, year, split, resolution)
        sequences = tuple(_sequence(root, year, resolution, name) for name in names)
        return cls(root, year, split, resolution, sequences)


def read_ids(path: Path | str) -> NDArray[np.uint8]:
    """Read the ids of a mask file, uint8 `[H, W]`.

    Palette images give their indices, gray ones their values, colour images whose channels are equal the
    value of their channels; an alpha channel is ignored.

    Raises:
        InputError: The file is missing or can't be read, has 16 bits, or has real colours.
    """
    try:
        with open_picture(Path(path), path) as image:
            mode, values = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing.") from error
    except InputError:
        raise
    except Exception as error:  # broken pictures make Pillow raise nearly anything
        raise InputError(f"{path} can't be read as a mask: {error}") from error
    if mode in ("RGB", "RGBA") and not (values[..., :3] == values[..., :1]).all():
        raise InputError(f"{path} has colours instead of ids: save it as a palette or gray PNG.")
    if mode not in ("P", "L", "1", "LA", "RGB", "RGBA"):
        raise InputError(f"{path} has pixels of type {mode}: save it as a palette or 8-bit gray PNG.")
    return (values if values.ndim == 2 else values[..., 0]).astype(np.uint8)


def _resolution(folder: Path, wanted: str | None) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not _hidden(path))
    if wanted is not None and wanted not in found:
        raise InputError(f"{folder / wanted} is missing: there is {', '.join(found) or 'nothing'}.")
    if wanted is None and len(found) != 1:
        if not found:
            raise InputError(f"{folder} is empty: a DAVIS layout has a folder like 480p there.")
        raise InputError(
            f"{folder} has several folders ({', '.join(found)}): choose one with --resolution, or, "
            "if they are sequences, --year generic."
        )
    return wanted or found[0]


def _names(root: Path, year: int, split: str, resolution: str) -> list[str]:
    lists = root / "ImageSets"
    for folder in (lists / str(year), lists, lists / resolution):
        path = folder / f"{split}.txt"
        if path.is_file():
            return require_names(list(dict.fromkeys(_name(line) for line in list_lines(path))), path)
    # A misspelt split must not silently become "everything".
    others = sorted(p.relative_to(lists).with_suffix("").as_posix() for p in lists.rglob("*.txt"))
    if others:
        raise InputError(f"{lists} has no split {split} of {year}: there is {', '.join(others)}.")
    folder = root / "JPEGImages" / resolution
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not _hidden(path))
    if not names:
        raise InputError(f"{folder} has no folder of frames.")
    return names


def _name(line: str) -> str:
    """The sequence of a line: its name, or the folder of paths like `/JPEGImages/480p/<name>/00000.jpg`."""
    first = line.split()[0]
    return PurePosixPath(first).parent.name if "/" in first else line.strip()


def require_names(names: list[str], path: Path) -> list[str]:
    """Names of sequences as they are, if each is one of a folder: results go into folders of these names.

    Raises:
        InputError: There is none, or one would lead to another folder.
    """
    if not names:
        raise InputError(f"{path} names no sequence.")
    for name in names:
        if (
            not name.strip(". ")
            or len(name.encode(errors="replace")) > LONGEST
            or re.search(r"[/\\\x00-\x1f]", name)
        ):
            raise InputError(f"{path} names the sequence {name[:50]!r}, which can't be the name of a folder.")
    return names


def list_lines(path: Path) -> list[str]:
    """The lines of a list of sequences, without empty ones.

    Raises:
        InputError: It can't be read.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: it is a text with a sequence in each line.") from error


def _sequence(root: Path, year: int, resolution: str, name: str) -> DavisSequence:
    frame_folder = root / "JPEGImages" / resolution / name
    annotation_folder = root / "Annotations" / resolution / name
    for folder in (frame_folder, annotation_folder):
        if not folder.is_dir():
            raise InputError(f"{folder} is missing: each sequence needs its frames and annotations.")
    frames, annotations = _images(frame_folder), _images(annotation_folder)
    if len(frames) < 3:
        raise InputError(f"{frame_folder} has {len(frames)} frames: at least three are needed for a score.")
    for stem in annotations:
        if stem not in frames:
            raise InputError(f"{frame_folder / stem}.jpg is missing: {annotations[stem]} annotates it.")
    for stem in frames:
        if stem not in annotations:
            raise InputError(f"{annotation_folder / stem}.png is missing: each frame needs its annotation.")

    size = frame_size(next(iter(frames.values())))
    for stem, frame in frames.items():
        require_size(frame, frame_size(frame), size)
        require_size(annotations[stem], mask_size(annotations[stem]), size)
    paths = tuple(annotations[stem] for stem in frames)
    first = DavisSequence(name, year, frame_folder, tuple(frames.values()), paths, size, ()).annotation(0)
    ignored = {0} if year == 2016 else {0, VOID}
    objects = tuple(int(value) for value in np.unique(first) if value not in ignored)
    if not objects:
        void = ", 255 means no label here (--year 2016: every other value is the object)"
        raise InputError(
            f"{paths[0]} marks no object: the first annotation says what is tracked"
            f"{void if year != 2016 and (first == VOID).any() else ''}."
        )
    return DavisSequence(name, year, frame_folder, tuple(frames.values()), paths, size, objects)


def _images(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem, in the order in which a tracker reads them."""
    return {path.stem: path for path in list_images(folder)}


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def frame_size(path: Path) -> tuple[int, int]:
    """`(height, width)` of an image, upright, from its header."""
    size = image_size(path)
    if size is None:
        raise InputError(f"{path} can't be read as an image: replace it.")
    return size[1], size[0]


def mask_size(path: Path) -> tuple[int, int]:
    """`(height, width)` of a mask whose file is whole and may hold ids."""
    try:
        with open_picture(path, path) as image:
            size, mode = (image.height, image.width), image.mode
            image.verify()
    except InputError:
        raise
    except Exception as error:  # broken pictures make Pillow raise nearly anything
        raise InputError(f"{path} can't be read as a mask: {error}") from error
    if mode not in ("P", "L", "1", "LA"):
        read_ids(path)  # colours are fine if they are gray, which only their pixels tell
    return size


def require_size(path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise `InputError` if an image's `(height, width)` isn't that of its sequence's frames."""
    if size != expected:
        raise InputError(
            f"{path} has {size[1]}x{size[0]} pixels, but the frames of its sequence have "
            f"{expected[1]}x{expected[0]}."
        )
