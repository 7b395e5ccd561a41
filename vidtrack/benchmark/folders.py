"""Sequences in folders, some or all of whose frames are annotated, and the lists that name them.

ROOT/JPEGImages/[<resolution>/]<sequence>/00000.jpg ...
ROOT/Annotations/[<resolution>/]<sequence>/00000.png ...
ROOT/ImageSets/[<year>/]<split>.txt                        optional
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pretrain.errors import InputError
from vidtrack.benchmark.davis import frame_size, list_lines, mask_size, require_names, require_size
from vidtrack.video.folder import list_images
from vidtrack.video.images import SUFFIXES


@dataclass(frozen=True)
class SequenceFolder:
    """A sequence.

    Attributes:
        name: of its folders.
        files: the frames in order of time.
        annotations: the annotation of some or all frames, by frame number, ascending.
        size: `(height, width)` of all of them, in pixels.
    """

    name: str
    files: tuple[Path, ...]
    annotations: dict[int, Path]
    size: tuple[int, int]

    @classmethod
    def find(cls, name: str, frames: Path, annotations: Path) -> SequenceFolder:
        """Find and check the frames and annotations in two folders; these have the same stems.

        Raises:
            InputError: A folder or the frame of an annotation is missing, or a file can't be read or has
                another size than the first frame.
        """
        for folder in (frames, annotations):
            if not folder.is_dir():
                raise InputError(f"{folder} is missing: each sequence needs its frames and annotations.")
        files = list_images(frames)
        number = {file.stem: index for index, file in enumerate(files)}
        found: dict[int, Path] = {}
        for path in list_images(annotations):
            if path.stem not in number:
                raise InputError(f"{frames / path.stem}.jpg is missing: {path} annotates it.")
            found[number[path.stem]] = path
        size = frame_size(files[0])
        for file in files:
            require_size(file, frame_size(file), size)
        for path in found.values():
            require_size(path, mask_size(path), size)
        return cls(name, tuple(files), dict(sorted(found.items())), size)


def find_sequences(
    root: Path, split: str | None, resolution: str | None = None
) -> tuple[str | None, list[SequenceFolder]]:
    """Find the sequences of a folder with `JPEGImages` and `Annotations`.

    Args:
        root: the folder.
        split: name of a list under `ImageSets`; None: all sequences.
        resolution: folder under `JPEGImages` and `Annotations`, needed only if there are several.

    Returns:
        The resolution, None where sequences lie directly under `JPEGImages`; and the sequences, in the order
        of the list, else by name.

    Raises:
        InputError: A wrong layout, or see `SequenceFolder.find`.
    """
    for folder in (root, root / "JPEGImages", root / "Annotations"):
        if not folder.is_dir():
            raise InputError(f"{folder} is missing: the layout has JPEGImages and Annotations.")
    resolution = _resolution(root / "JPEGImages", resolution)
    images, labels = (root / part / (resolution or "") for part in ("JPEGImages", "Annotations"))
    if not labels.is_dir():
        raise InputError(f"{labels} is missing: {images} has frames.")
    names = _listed(root / "ImageSets", split) if split is not None else None
    if names is None:
        names = sorted({path.name for folder in (images, labels) for path in subfolders(folder)})
    return resolution, [SequenceFolder.find(name, images / name, labels / name) for name in names]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_names(path: Path) -> list[str]:
    """The sequences that a list names, each once: a line is a name, or begins with a path to its frames.

    Raises:
        InputError: See `list_lines` and `require_names`.
    """
    paths = [PurePosixPath(line.split()[0] if "/" in line else line.strip()) for line in list_lines(path)]
    names = list(dict.fromkeys(p.parent.name if p.suffix.lower() in SUFFIXES else p.name for p in paths))
    return require_names(names, path)


def no_split(folder: Path, split: str, others: Iterable[str]) -> InputError:
    """The error for a split that has no list: a misspelt one must not become everything."""
    return InputError(f"{folder} has no split {split}: there is {', '.join(sorted(others)) or 'nothing'}.")


def _resolution(folder: Path, wanted: str | None) -> str | None:
    """The folder between `JPEGImages` and the sequences, None if there is none."""
    found = subfolders(folder)
    if not found:
        raise InputError(f"{folder} is empty: it has a folder of frames for each sequence.")
    deeper = [path.name for path in found if subfolders(path)]
    if not deeper:
        if wanted is not None:
            raise InputError(f"{folder / wanted} is missing: {folder} has the sequences themselves.")
        return None
    if wanted is not None and wanted not in deeper:
        raise InputError(f"{folder / wanted} is missing: there is {', '.join(deeper)}.")
    if wanted is None and len(deeper) > 1:
        raise InputError(f"{folder} has several folders ({', '.join(deeper)}): choose one with --resolution.")
    if len(deeper) < len(found):
        other = next(path for path in found if path.name not in deeper)
        raise InputError(f"{folder} has both resolutions ({deeper[0]}) and sequences ({other.name}).")
    return wanted or deeper[0]


def _listed(lists: Path, split: str) -> list[str] | None:
    """The names of a split; None if there is no list at all."""
    found = sorted(lists.rglob("*.txt")) if lists.is_dir() else []
    if not found:
        return None
    mine = [path for path in found if path.stem == split]
    if not mine:
        raise no_split(lists, split, {path.stem for path in found})
    names = read_names(mine[0])
    if any(read_names(path) != names for path in mine[1:]):
        raise InputError(f"{lists} has several lists {split}.txt: keep one.")
    return names
