"""Annotations as the command line names them: files and numbers become labels by frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.job.mask_paths import by_frame, films_among, numbered, numbers_of_pictures
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.labels.agree import agree, left_out
from vidtrack.labels.textfiles import LARGEST

SHOWN = 3  # names in a sentence
MOST, AROUND = 0.5, 0.9  # of the frame and its edges that are hardly ever one object's
KIND_OPTIONS = ("mask", "keypoints", "point", "box", "boxes", "array")


@dataclass(frozen=True)
class LabelOptions:
    """The options that say what is annotated; exactly one kind of them is given.

    Attributes:
        mask: `PATH` or `FRAME=PATH` of masks, or folders of masks named by frame numbers.
        keypoints: a file of keypoints.
        point: `x,y` or `FRAME=x,y` of points, in pixels.
        box: `x1,y1,x2,y2` or `FRAME=x1,y1,x2,y2` of boxes, in pixels; the k-th of each frame is one object.
        boxes: a file of boxes.
        array: `PATH` or `FRAME=PATH` of maps.
        void: value of mask pixels that carry no label.
    """

    mask: tuple[str, ...] = ()
    keypoints: Path | None = None
    point: tuple[str, ...] = ()
    box: tuple[str, ...] = ()
    boxes: Path | None = None
    array: tuple[str, ...] = ()
    void: int | None = None

    def kind(self) -> type[Any]:
        """`Masks`, `Keypoints`, `Boxes` or `Maps`.

        Raises:
            InputError: no option is given, several that don't go together, or void without masks.
        """
        given = [name for name in KIND_OPTIONS if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(f"--{name}" for name in given) or "none"
            listed = ", ".join(f"--{name}" for name in KIND_OPTIONS[:-1])
            raise InputError(f"give one of {listed} or --{KIND_OPTIONS[-1]}, not {found}.")
        if self.void is not None and not self.mask:
            raise InputError(f"--void goes with --mask, not with --{given[0]}: leave it out.")
        kinds = {"mask": Masks, "box": Boxes, "boxes": Boxes, "array": Maps}
        return kinds.get(given[0], Keypoints)


@dataclass
class Annotations:
    """What is annotated.

    Attributes:
        labels: by frame number, ascending, all of one kind.
        files: where they came from, as the user named it: by frame number.
        warnings: sentences for the user.
    """

    labels: dict[int, Any]
    files: dict[int, str]
    warnings: list[str] = field(default_factory=list)

    def add(self, path: Path, labels: Mapping[int, Any]) -> None:
        """What one file says of several frames.

        Raises:
            InputError: another file says it of one of them.
        """
        for number, value in labels.items():
            if number in self.labels:
                raise InputError(
                    f"{self.files[number]} and {path} both annotate frame {number}: give one of them."
                )
            self.labels[number], self.files[number] = value, str(path)
            self.warnings += value.warnings
        self.labels = dict(sorted(self.labels.items()))

    @property
    def kind(self) -> type[Any]:
        """The class of the labels."""
        return type(next(iter(self.labels.values())))


def read_annotations(
    options: LabelOptions,
    size: tuple[int, int],
    start: int = 0,
    end: int | None = None,
    video: Path | None = None,
) -> Annotations:
    """Load what the options name.

    Args:
        options: see `LabelOptions`.
        size: `(height, width)` of the video's frames.
        start: the frame to which paths without a frame, points and boxes belong.
        end: the frame after the last, or None.
        video: what is labelled, see `by_frame`.

    Raises:
        InputError: anything that can't be read, or doesn't fit the video.
    """
    options.kind()
    if options.mask:
        paths, told = by_frame("mask", options.mask, start, end, video)
        several = len(paths) > 1  # then one of them may say that nothing is there
        films = films_among(paths, options.mask, start, end, video)
        still = {number: path for number, path in paths.items() if path not in films}
        found = _read_files(still, lambda path: Masks.load(path, void=options.void, size=size, empty=several))
        for path, film in films.items():
            found.add(path, {n: film.masks(n, size) for n in film.images})
        if not any(masks.objects for masks in found.labels.values()):
            raise InputError("the masks have no object: mark at least one pixel in one of them.")
        found.labels = agree(found.labels)
        found.warnings += told + _inside_out(found) + left_out(found.labels)
        return found
    if options.array:
        paths, told = by_frame("array", options.array, start, end, video)
        found = _read_files(paths, lambda path: Maps.load(path, size=size))
        if len({value.values.shape[-1] for value in found.labels.values()}) > 1:
            raise InputError("the arrays have different numbers of channels: give arrays of one kind.")
        found.warnings += told
        return found
    if options.point:
        given = numbered(options.point, start)
        if len({len(texts) for texts in given.values()}) > 1:
            counts = ", ".join(f"{len(texts)} in frame {number}" for number, texts in given.items())
            raise InputError(f"--point names {counts}: give all points in each frame, in one order.")
        points = {n: Keypoints.from_points([_point(text, size) for text in given[n]]) for n in given}
        return Annotations(points, {n: " ".join(given[n]) for n in given})
    if options.box:
        given = numbered(options.box, start)
        boxes = {n: Boxes.from_xyxy([_box(text, size) for text in given[n]]) for n in given}
        return Annotations(boxes, {n: " ".join(given[n]) for n in given})
    if options.keypoints is not None:
        path = options.keypoints
        frames = dict[int, Any](Keypoints.load(path, numbers_of_pictures(video), size))
    else:
        assert options.boxes is not None
        path, frames = options.boxes, dict[int, Any](Boxes.load(options.boxes))
    found = _in_range(path, {n: labels for n, labels in frames.items() if labels.labelled.any()}, start, end)
    found.warnings += _outside(path, found.labels, size)
    if found.kind is Keypoints:
        found.warnings += _ending_points(path, found.labels)
    return found


def _read_files(paths: Mapping[int, Path], load: Callable[[Path], Any]) -> Annotations:
    labels = {number: load(path) for number, path in sorted(paths.items())}
    warnings = [sentence for value in labels.values() for sentence in value.warnings]
    return Annotations(labels, {number: str(paths[number]) for number in labels}, warnings)


def _inside_out(given: Annotations) -> list[str]:
    """A sentence about the first mask whose background looks as if it were an object."""
    for number, masks in given.labels.items():
        largest = int(np.bincount(masks.ids.ravel(), minlength=2)[1:].argmax()) + 1
        inside = masks.ids == largest
        edge = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
        if inside.mean() > MOST and edge.mean() > AROUND:
            what = "invert the mask if what is black is the object"
            if inside.all():
                what = "mark what is to be followed only"
            elif len(masks.objects) > 1:
                what = "make it black or transparent if it is the background"
            return [
                f"{given.files[number]}: object {largest} fills {inside.mean():.0%} of the frame and its "
                f"edges: {what}."
            ]
    return []


def _in_range(path: Path, labels: dict[int, Any], start: int, end: int | None) -> Annotations:
    """The annotations of a file that belong to the frames wanted: a file may be about the whole video."""
    if not labels:
        raise InputError(f"{path} has no frame with a label: annotate at least one.")
    inside = {n: value for n, value in labels.items() if n >= start and (end is None or n < end)}
    if not inside:
        raise InputError(
            f"{path} annotates frames {min(labels)} to {max(labels)}, none of which is wanted: "
            "choose others with --start and --end."
        )
    left = len(labels) - len(inside)
    warnings = (
        [f"{path}: {left} annotated frame{'s' * (left > 1)} outside of --start and --end left out."]
        if left
        else []
    )
    return Annotations(inside, dict.fromkeys(inside, str(path)), warnings)


def _outside(path: Path, labels: Mapping[int, Any], size: tuple[int, int]) -> list[str]:
    """A sentence about places that are not in the frames.

    Raises:
        InputError: none is, or all are in its first pixel, as shares of its sides would be.
    """
    height, width = size
    given = [
        np.tile(v.xy[v.labelled] + 0.5, 2) if isinstance(v, Keypoints) else v.xyxy[v.labelled]
        for v in labels.values()
    ]
    edges = np.concatenate(given)  # [places, left, top, right, bottom]; pixel i covers i to i + 1
    inside = (edges[:, 2:] >= 0).all(axis=1) & (edges[:, :2] <= (width, height)).all(axis=1)
    if not inside.any():
        raise InputError(f"{path} has no place inside of the video's {width} x {height} pixels: give pixels.")
    if len(edges) > 1 and edges.min() >= 0 and edges.max() <= 1.5:
        raise InputError(
            f"{path} has no place beyond the first pixel: give pixels, not shares of {width} x {height}."
        )
    count = int((~inside).sum())
    if not count:
        return []
    return [f"{path}: {count} of {len(edges)} places lie outside of the video's {width} x {height} pixels."]


def _ending_points(path: Path, labels: Mapping[int, Keypoints]) -> list[str]:
    """A sentence where annotated frames leave out points that earlier ones have: they end there."""
    endings: list[tuple[int, list[str]]] = []
    known: np.ndarray | None = None  # bool [I, P]: has had a place
    for number, points in sorted(labels.items()):
        if known is not None and (known & ~points.labelled).any():
            names = [
                points.names[p] + (f" of {points.instances[i]}" if len(points.instances) > 1 else "")
                for i, p in np.argwhere(known & ~points.labelled)
            ]
            endings.append((number, names))
        known = points.labelled if known is None else known | points.labelled
    if not endings:
        return []
    number, names = endings[0]
    which = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    others = " (later ones leave out points, too)" if len(endings) > 1 else ""
    return [
        f"{path}: frame {number} has no place for {which}{others}: an annotated frame says where all points "
        "are, so what it leaves out is not seen from there on; give its place to keep it."
    ]


def _numbers(option: str, text: str, names: str) -> list[float]:
    """The numbers of `x,y` and the like."""
    parts = text.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != len(names.split(",")) or not all(
        math.isfinite(value) and abs(value) < LARGEST for value in values
    ):
        raise InputError(
            f"--{option} {text} is not {names}: give numbers of pixels with commas between them."
        )
    return values


def _point(text: str, size: tuple[int, int]) -> tuple[float, float]:
    x, y = _numbers("point", text, "x,y")
    if not (-0.5 <= x <= size[1] - 0.5 and -0.5 <= y <= size[0] - 0.5):
        raise InputError(f"--point {text} lies outside of the frame, which has {size[1]} x {size[0]} pixels.")
    return x, y


def _box(text: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    left, top, right, bottom = _numbers("box", text, "x1,y1,x2,y2")
    if max(left, top, right, bottom) <= 1:
        raise InputError(
            f"--box {text} is no larger than a pixel: give pixels, not shares of the {size[1]} x {size[0]}."
        )
    if not (left < right and top < bottom):
        raise InputError(f"--box {text} is empty: give its left, top, right and bottom edge.")
    if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
        raise InputError(f"--box {text} lies outside of the frame, which has {size[1]} x {size[0]} pixels.")
    return left, top, right, bottom
