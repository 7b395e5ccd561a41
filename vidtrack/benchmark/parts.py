"""Classes and parts carried through videos: VIP, and folders of classes such as CamVid.

VIP (Zhou et al., "Adaptive Temporal Encoding Network for Video Instance-level Human Parsing", ACM MM 2018,
arXiv 1808.00661), its archive `VIP_Fine`:

    ROOT/Images/<video>/<frame>.jpg
    ROOT/Annotations/Category_ids/<video>/<frame>.png      classes 0..19, 0 background
    ROOT/Annotations/Instance_ids/<video>/<frame>.png      ids of instances of parts
    ROOT/Annotations/Instance_ids/<video>/<frame>.txt      a line "id class" for each of them
    ROOT/lists/<split>_videos.txt

Folders of classes, such as CamVid (Brostow et al., "Semantic Object Classes in Video", 2009):

    ROOT/JPEGImages/[<resolution>/]<sequence>/00000.jpg ...
    ROOT/Annotations/[<resolution>/]<sequence>/00000.png ...      classes, 255 void; of some or all frames
    ROOT/ImageSets/<split>.txt                                    optional
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from vidtrack.benchmark.davis import VOID, read_ids
from vidtrack.benchmark.folders import SequenceFolder, find_sequences, no_split, read_names, subfolders
from vidtrack.benchmark.mask_files import read_result
from vidtrack.benchmark.mask_items import Ids, MaskItem, MaskTask, require_scored
from vidtrack.benchmark.part_metrics import (
    IOU_THRESHOLDS,
    best_overlaps,
    confusion,
    instance_ap,
    mean_iou,
)
from vidtrack.benchmark.task import Record, Run
from vidtrack.labels.masks import Masks

VIP_CLASSES = 20
KEYS = ("mIoU",)
INSTANCE_KEYS = ("AP-Mean", *(f"AP-{round(100 * threshold)}" for threshold in IOU_THRESHOLDS))


def find_parts(root: Path | str, split: str = "val", instances: bool = False) -> MaskTask:
    """Find and check VIP or a folder of classes, by what is there.

    In all of them the first annotated frame is given and carried forward.

    - VIP, classes (`mIoU`): the confusion matrix over all pixels of all annotated frames of all videos, the
      given ones too, as the tools of ATEN, TimeCycle, UVC and VFS have it; the mean is over those of the 20
      classes that truth or result have, background included. Values of 20 and more are void.
    - VIP, instances (`AP-Mean`, `AP-10` ... `AP-90`): the part instances of the given frame are carried with
      their classes; average precision over all annotated frames, the given ones too, averaged over classes,
      and over the thresholds 0.1 ... 0.9 of IoU, as ATEN's `test_inst_part_ap.py`. Propagation has no
      confidence in an instance: see `average_precision` for what that means.
    - Folders of classes (`mIoU`): the confusion matrix over all annotated frames but the given ones; the mean
      is over the classes that the truth has. Class 0 counts if the truth has it (CamVid's hasn't: its classes
      are 1..11); a result's 0 where the truth has another class is wrong.

    `detail` of a sequence has the matrix under `confusion` (rows are true classes), or `counts` and
    `overlaps` of `best_overlaps` by class. `series` is the same score of each frame alone.

    Args:
        root: the folder, or one that has it as `VIP_Fine`.
        split: name of the list of sequences.
        instances: score instances; of VIP only.

    Raises:
        InputError: The layout is wrong, a file is missing, can't be read, or has another size than its
            frame, or there is nothing to score.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is missing: give a folder in the layout of VIP, or with JPEGImages.")
    inside = root / "VIP_Fine" if (root / "VIP_Fine").is_dir() else root
    if (inside / "Images").is_dir():
        return _vip(root, inside, split, instances)
    if instances:
        raise InputError(f"{root} is no VIP data (it has no Images): only that has instances.")
    return _classes(root, split)


@dataclass(eq=False)
class PartItem(MaskItem):
    """A sequence; `objects` are the classes that a result may have.

    Attributes:
        classes: K of the confusion matrix.
        given_scored: the given frame counts, too.
        among: see `mean_iou`.
    """

    classes: int
    given_scored: bool
    among: str

    @property
    def first(self) -> int:
        """The frame that is given."""
        return next(iter(self.annotations))

    def about(self) -> dict[str, Any]:
        """What is scored."""
        return {"classes": self.classes, "given_scored": self.given_scored, "frames": list(self.annotations)}

    def runs(self) -> Sequence[Run]:
        """One forward pass from the first annotated frame."""
        return [Run(name="", annotations={self.first: self.given()}, start=self.first)]

    def scored(self) -> Sequence[int]:
        """The annotated frames, without the given one if that doesn't count."""
        return list(self.annotations)[0 if self.given_scored else 1 :]

    def score(self, folder: Path) -> Record:
        """Mean IoU of the classes in this sequence."""
        total = np.zeros((self.classes, self.classes), np.int64)
        series: list[float | None] = [None] * self.frames
        for index in self.scored():
            result = self.result(folder, index)
            matrix = confusion(self.annotation(index), result, self.classes, self.void)
            series[index] = _mean(matrix, self.among)
            total += matrix
        return {
            "scores": {"mIoU": _mean(total, self.among)},
            "detail": {"confusion": total.tolist()},
            "series": {"all": series},
        }

    def result(self, folder: Path, index: int) -> Ids:
        """Classes of the result of a frame; where it says void, it has no class and counts as 0."""
        path = folder / self.files[index].stem
        return read_result(path, self.size, self.objects, self.void, optional=self.objects)

    def given(self) -> Masks:
        """The classes of the first annotation, as a tracker gets them."""
        masks = self.masks(self.first, self.objects)
        if masks.void is not None and self.classes < VOID:
            masks.void |= self.annotation(self.first) >= self.classes
        return masks


@dataclass(eq=False)
class InstanceItem(PartItem):
    """A sequence of VIP with instances; `objects` are the instances of the given frame.

    Attributes:
        kinds: class of each instance, by frame.
    """

    kinds: dict[int, dict[int, int]] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """The classes of the instances."""
        return {"kinds": {str(index): sorted(kinds.items()) for index, kinds in self.kinds.items()}}

    def truth(self, index: int) -> Masks | None:
        """All true instances of a frame; VIP's ids don't last over a video."""
        return self.masks(index, self.kinds[index]) if index in self.annotations else None

    def score(self, folder: Path) -> Record:
        """Average precision of the instances in this sequence."""
        counts: dict[int, int] = {}
        overlaps: dict[int, list[float]] = {}
        series: list[float | None] = [None] * self.frames
        for index in self.scored():
            result = self.result(folder, index)
            here = best_overlaps(self.annotation(index), self.kinds[index], result, self.kinds[self.first])
            series[index] = _precision(*here)["AP-Mean"]
            _add(*here, counts, overlaps)
        return {
            "scores": _precision(counts, overlaps),
            "detail": {
                "counts": {str(class_): count for class_, count in sorted(counts.items())},
                "overlaps": {str(class_): values for class_, values in sorted(overlaps.items())},
            },
            "series": {"all": series},
        }


def _vip(root: Path, inside: Path, split: str, instances: bool) -> MaskTask:
    labels = inside / "Annotations" if (inside / "Annotations").is_dir() else inside
    part = labels / ("Instance_ids" if instances else "Category_ids")
    if not part.is_dir():
        raise InputError(f"{part} is missing: the layout of VIP has it beside or under Annotations.")
    names = _vip_names(inside, split, part)
    folders = [SequenceFolder.find(name, inside / "Images" / name, part / name) for name in names]
    items: tuple[MaskItem, ...]
    if instances:
        items = tuple(_instances(folder) for folder in folders)
    else:
        items = tuple(
            _part_item(folder, VIP_CLASSES, range(1, VIP_CLASSES), True, "any") for folder in folders
        )
    return MaskTask(
        benchmark="parts",
        title=f"VIP {split}" + (" instances" if instances else ""),
        keys=INSTANCE_KEYS if instances else KEYS,
        data=root,
        protocol={
            "name": "vip-instances" if instances else "vip",
            "split": split,
            "given": "the annotation of the first frame",
            "scored": "all annotated frames, the given ones too",
            **(
                {
                    "classes": "1..19 that the truth has",
                    "match": "the best IoU with a true instance of the class in the frame, not exclusive",
                    "thresholds": list(IOU_THRESHOLDS),
                    "confidence": "equal for all instances",
                }
                if instances
                else {
                    "classes": "0..19 that truth or result have, one confusion matrix",
                    "void": "20 and more",
                }
            ),
        },
        items=items,
        total=_total_precision if instances else partial(_total_iou, among="any"),
    )


def _vip_names(inside: Path, split: str, part: Path) -> list[str]:
    lists = inside / "lists"
    path = lists / f"{split}_videos.txt"
    if path.is_file():
        return read_names(path)
    others = [other.stem.removesuffix("_videos") for other in lists.glob("*_videos.txt")]
    if others:
        raise no_split(lists, split, others)
    names = [folder.name for folder in subfolders(part)]
    if not names:
        raise InputError(f"{part} is empty: it has a folder of annotations for each video.")
    return names


def _classes(root: Path, split: str) -> MaskTask:
    resolution, folders = find_sequences(root, split)
    used = sorted({value for folder in folders for value in _values(folder)} - {VOID})
    if not used:
        raise InputError(f"{root / 'Annotations'} has no class: all pixels are void.")
    classes = used[-1] + 1
    objects = [value for value in used if value]
    items = tuple(_part_item(folder, classes, objects, False, "true") for folder in folders)
    require_scored(
        items,
        f"{root / 'Annotations'} has one annotation per sequence: the first is given, others are scored.",
    )
    return MaskTask(
        benchmark="parts",
        title=f"{root.absolute().name} {split}",
        keys=KEYS,
        data=root,
        protocol={
            "name": "classes",
            "split": split,
            "resolution": resolution,
            "given": "the first annotation",
            "scored": "all annotated frames but the given ones",
            "classes": used,
            "mean": "over the classes that the truth has, one confusion matrix",
            "void": VOID,
        },
        items=items,
        total=partial(_total_iou, among="true"),
    )


def _values(folder: SequenceFolder) -> set[int]:
    """All values in the annotations of a sequence."""
    return {int(v) for path in folder.annotations.values() for v in np.unique(read_ids(path))}


def _part_item(
    folder: SequenceFolder, classes: int, objects: Sequence[int], given_scored: bool, among: str
) -> PartItem:
    item = PartItem(
        name=folder.name,
        frames=len(folder.files),
        files=folder.files,
        annotations=folder.annotations,
        size=folder.size,
        objects=tuple(objects),
        void=VOID,
        binary=False,
        classes=classes,
        given_scored=given_scored,
        among=among,
    )
    if not item.given().objects:
        raise InputError(f"{folder.annotations[item.first]} has no class: the first annotation is given.")
    return item


def _instances(folder: SequenceFolder) -> InstanceItem:
    kinds = {index: _read_kinds(path) for index, path in folder.annotations.items()}
    first, path = next(iter(folder.annotations.items()))
    present = np.unique(read_ids(path)).tolist()
    objects = tuple(id_ for id_ in sorted(kinds[first]) if id_ in present)
    if not objects:
        raise InputError(f"{path} has no instance: the first annotation says what is tracked.")
    return InstanceItem(
        name=folder.name,
        frames=len(folder.files),
        files=folder.files,
        annotations=folder.annotations,
        size=folder.size,
        objects=objects,
        void=None,
        binary=False,
        classes=VIP_CLASSES,
        given_scored=True,
        among="any",
        kinds=kinds,
    )


def _read_kinds(path: Path) -> dict[int, int]:
    """Class of each instance, from the text file beside an annotation."""
    text = path.with_suffix(".txt")
    try:
        rows = [line.split() for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{text} is missing: it has a line 'id class' for each instance.") from error
    except ValueError as error:
        raise InputError(f"{text} can't be read: it has a line 'id class' for each instance.") from error
    kinds: dict[int, int] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) < 2 or not all(value.isdecimal() for value in row[:2]):
            raise InputError(f"{text} line {number}: a line is 'id class', two whole numbers.")
        id_, class_ = int(row[0]), int(row[1])
        if not 1 <= id_ <= 254 or not 0 <= class_ < VIP_CLASSES:
            raise InputError(f"{text} line {number}: ids go from 1 to 254, classes from 0 to 19.")
        if class_:  # VIP's tool scores classes 1..19
            kinds[id_] = class_
    return kinds


def _mean(matrix: NDArray[np.int64], among: str) -> float | None:
    return mean_iou(matrix, among=among) if matrix.any() else None


def _precision(counts: dict[int, int], overlaps: dict[int, list[float]]) -> dict[str, float | None]:
    if not counts:
        return dict.fromkeys(INSTANCE_KEYS)
    values = instance_ap(counts, overlaps)
    return dict(zip(INSTANCE_KEYS, [float(values.mean()), *map(float, values)], strict=True))


def _add(
    counts: dict[int, int],
    overlaps: dict[int, list[float]],
    all_counts: dict[int, int],
    all_overlaps: dict[int, list[float]],
) -> None:
    """Add what one frame or sequence has to the sums, in place."""
    for class_, count in counts.items():
        all_counts[class_] = all_counts.get(class_, 0) + count
    for class_, values in overlaps.items():
        all_overlaps.setdefault(class_, []).extend(values)


def _total_iou(records: Sequence[Any], among: str) -> dict[str, float | None]:
    total = sum(np.array(detail["confusion"], np.int64) for detail in records)
    return {"mIoU": _mean(np.asarray(total), among)}


def _total_precision(records: Sequence[Any]) -> dict[str, float | None]:
    counts: dict[int, int] = {}
    overlaps: dict[int, list[float]] = {}
    for detail in records:
        here = (
            {int(class_): count for class_, count in detail["counts"].items()},
            {int(class_): values for class_, values in detail["overlaps"].items()},
        )
        _add(*here, counts, overlaps)
    return _precision(counts, overlaps)
