"""Which frame a file of labels is of: as the command line says it, or by its name in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.coco import images_by_frame, looks_like_coco
from vidtrack.labels.maskfiles import read_json
from vidtrack.video.folder import list_images


def by_frame(
    option: str, texts: Iterable[str], start: int, end: int | None, video: Path | None
) -> tuple[dict[int, Path], list[str]]:
    """Frame number -> path, and warnings.

    A folder, which only masks may have, stands for the masks in it. Those that are named like pictures of a
    video that is itself a folder of pictures are theirs, as results have these names; other names are frame
    numbers.

    Args:
        option: of the command line.
        texts: `PATH`, `FRAME=PATH`, or folders.
        start: the frame of a path without one.
        end: the frame after the last that is wanted, or None.
        video: what is labelled; None: a camera.

    Raises:
        InputError: two files for one frame, a folder without a mask that is wanted, a file in it that is of
            no frame, or one of the video's own pictures.
    """
    pictures = list_images(video) if video is not None and video.is_dir() else []
    frames = numbers_of_pictures(video)
    paths: dict[int, Path] = {}
    warnings: list[str] = []
    for text in texts:
        if option == "mask" and os.path.isdir(text):  # a Path raises for names that are too long
            more, told = _in_folder(Path(text), start, end, frames)
            warnings += told
        else:
            more = _named(option, text, start, frames)
            ((number, path),) = more.items()
            if number == start and path == Path(text) and frames.get(path.stem, start) != start:
                own = frames[path.stem]
                warnings.append(
                    f"{path} is named like the picture of frame {own}, and was taken for frame {start}: give "
                    f"--{option} {own}={path} if it is of that."
                )
            elif (said := _said(text, path)) != str(number) and (own := frames.get(said, number)) != number:
                warnings.append(
                    f"--{option} {text} was taken for frame {number}, and {said} is that of frame {own}: "
                    f"give --{option} {own}={path} if it is of that."
                )
        _merge(option, paths, more)
    _require_apart(option, paths, pictures)
    return paths, warnings


@dataclass(frozen=True)
class Film:
    """A COCO data set of several images of one video.

    Attributes:
        path: of the file.
        data: the parsed JSON.
        images: id of the image by frame number.
    """

    path: Path
    data: Any
    images: dict[int, Any]

    def masks(self, number: int, size: tuple[int, int]) -> Masks:
        """Those of a frame of `(height, width)`."""
        where = f"{self.path}, frame {number}"
        return Masks.from_coco(self.data, image=self.images[number], size=size, where=where)


def films_among(
    paths: Mapping[int, Path], texts: Collection[str], start: int, end: int | None, video: Path | None
) -> dict[Path, Film]:
    """Which of the paths are COCO data sets that say which frames they are of, as `--save rle` writes them.

    One that is given as `FRAME=PATH` stands for that frame, one without a frame for all that are wanted.

    Raises:
        InputError: see `images_by_frame`; or it has no image of a frame that is wanted.
    """
    found: dict[Path, Film] = {}
    for number, path in paths.items():
        if path.suffix.lower() != ".json" or not path.is_file():
            continue
        data = read_json(path)
        whole = any(Path(text) == path for text in texts)
        names = numbers_of_pictures(video)
        images = images_by_frame(data, str(path), names, alone=whole) if looks_like_coco(data) else {}
        if not images:
            continue
        first, last = (start, end) if whole else (number, number + 1)
        inside = {n: i for n, i in images.items() if n >= first and (last is None or n < last)}
        if not inside:
            wanted = "a frame that is wanted" if whole else f"frame {number}"
            raise InputError(
                f"{path} has no annotated image of {wanted}: its frames are {min(images)} to {max(images)}."
            )
        before = found[path].images if path in found else {}
        found[path] = Film(path, data, before | inside)
    return found


def numbers_of_pictures(video: Path | None) -> dict[str, int]:
    """Frame number by the name of each picture of a video that is a folder of pictures."""
    pictures = list_images(video) if video is not None and video.is_dir() else []
    return {file.stem: number for number, file in enumerate(pictures)}


def _in_folder(
    folder: Path, start: int, end: int | None, frames: Mapping[str, int]
) -> tuple[dict[int, Path], list[str]]:
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    named = [file for file in files if file.stem in frames]
    numbers: dict[int, Path] = {}
    for file in files:
        if file.is_dir() or (named and file not in named) or not (named or _is_number(file.stem)):
            like = f", such as {next(iter(frames))}.png" if frames else ""
            raise InputError(
                f"{file} is not named like a picture of the video{like}: rename it."
                if named
                else f"{file} is not named by a frame number: rename it, as 00012.png for frame 12."
            )
        _merge("mask", numbers, {frames[file.stem] if named else int(file.stem): file})
    inside = {n: file for n, file in sorted(numbers.items()) if n >= start and (end is None or n < end)}
    if not inside:
        raise InputError(f"{folder} holds no mask of a frame that is wanted: name masks by frame numbers.")
    other = next((n for n, file in inside.items() if named and not _is(file.stem, n)), None)
    if other is None or not _is_number(inside[other].stem):
        return inside, []
    return inside, [
        f"{folder} holds masks named like the pictures of the video: {inside[other].name} was taken for the "
        f"picture of that name, which is frame {other}."
    ]


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdecimal()


def _is(stem: str, number: int) -> bool:
    return _is_number(stem) and int(stem) == number


def _named(option: str, text: str, start: int, frames: Mapping[str, int]) -> dict[int, Path]:
    """Frame number -> path, from `FRAME=PATH` or `PATH`; a picture's name is a frame, if it is no number."""
    if "=" not in text or os.path.exists(text):
        return {start: Path(text)}
    parts = text.split("=")
    for count in range(1, len(parts)):  # names of pictures may hold one, too
        frame, path = ("=".join(part) for part in (parts[:count], parts[count:]))
        if path and re.fullmatch(r"[0-9]{1,9}", frame):
            return {int(frame): Path(path)}
        if path and (name := frame if frame in frames else Path(frame).stem) in frames:
            return {frames[name]: Path(path)}
    raise InputError(
        f"--{option} {text} is no file, and {parts[0] or 'nothing'} no frame: give the frame's number and "
        f"the path, as in --{option} 120={parts[-1] or 'FILE'}."
    )


def _said(text: str, path: Path) -> str:
    """What is said of the frame in `FRAME=PATH`; nothing in `PATH`."""
    return text[: -len(str(path)) - 1] if text.endswith(f"={path}") else ""


def numbered(texts: Iterable[str], start: int) -> dict[int, list[str]]:
    """What follows `FRAME=` in some texts, by frame number, ascending; of texts without one `start`."""
    found: dict[int, list[str]] = {}
    for text in texts:
        named = re.fullmatch(r"([0-9]{1,9})=(.+)", text, re.DOTALL)
        found.setdefault(int(named[1]) if named else start, []).append(named[2] if named else text)
    return dict(sorted(found.items()))


def _merge(option: str, paths: dict[int, Path], more: Mapping[int, Path]) -> None:
    for number, path in more.items():
        if number in paths:
            for one in (paths[number], path):
                if not os.path.exists(one):
                    raise InputError(f"{one} doesn't exist: give the path of a mask or an array.")
            raise InputError(
                f"--{option} names {paths[number]} and {path} for frame {number}: say for which frame each "
                f"is, as in --{option} 120={path}."
            )
        paths[number] = path


def _require_apart(option: str, paths: Mapping[int, Path], pictures: Iterable[Path]) -> None:
    """Raises InputError if a file of labels is itself a frame: it lies in the video's folder."""
    known = {file.name: file for file in pictures}
    for path in paths.values():
        picture = known.get(path.name)
        if picture is not None and path.exists() and path.resolve() == picture.resolve():
            raise InputError(
                f"--{option} {path} is one of the pictures in {picture.parent}, all of which are frames of "
                "the video: move it to another folder."
            )
