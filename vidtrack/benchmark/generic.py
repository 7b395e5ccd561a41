"""Video object segmentation where objects may appear later and not all frames are annotated.

    ROOT/JPEGImages/[<resolution>/]<sequence>/00000.jpg ...
    ROOT/Annotations/[<resolution>/]<sequence>/00000.png ...      of some or all frames
    ROOT/ImageSets/[<year>/]<split>.txt                           optional
    ROOT/meta.json                                                YouTube-VOS

YouTube-VOS (Xu et al. 2018, arXiv 1809.03327) has a folder of this layout for each split, `ROOT/<split>`, and
`meta.json`: `{"videos": {<sequence>: {"objects": {"1": {"category": ..., "frames": [<stem>, ...]}}}}}`.

Each object is given in one frame, and scored in all annotated frames after it. A tracker's annotation says
all about its frame, so objects that appear in different frames are carried by separate runs, see `merge.py`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.davis import VOID, read_ids
from vidtrack.benchmark.davis_task import details, objects_of
from vidtrack.benchmark.folders import SequenceFolder, find_sequences
from vidtrack.benchmark.mask_items import Ids, MaskItem, MaskTask, require_scored
from vidtrack.benchmark.merge import has_runs, merge_runs
from vidtrack.benchmark.scores import MEAN_KEYS, ObjectScores, mean_scores, score_object
from vidtrack.benchmark.task import Record, Run

MAX_ID = 254

# Of one sequence: the frames that meta.json lists for each object, ascending.
Listed = dict[int, list[int]]


def find_generic(root: Path | str, split: str | None = None, resolution: str | None = None) -> MaskTask:
    """Find and check a data set in the layout above.

    - Given: each object in the first annotated frame that has it; with `meta.json`, in its first listed
      frame.
    - Scored: each object in every annotated frame after that, the last frame of the video too, and also
      where the truth has lost it: an empty mask is then right. Not scored is a frame that `meta.json` lists
      for an object but whose annotation lacks it: there the truth isn't public, as in YouTube-VOS's val.
    - J, F and their mean are means over frames, then over the objects of all sequences. (YouTube-VOS's own
      server averages over seen and unseen categories apart.)
    - 255 is void and not scored, except in sequences whose annotations have no values but 0 and 255: there it
      is the object 1.

    Args:
        root: the folder, or, if it has no `JPEGImages`, one that has `<split>` with it.
        split: name of a list under `ImageSets`, or of a folder; None: all sequences.
        resolution: folder under `JPEGImages`, needed only if there are several.

    Raises:
        InputError: The layout is wrong, a file is missing, can't be read, or has another size than its
            frame, an annotation lacks an object that it should give, or there is nothing to score.
    """
    root = Path(root)
    inside = root / split if split else root
    data, names = (root, split) if (root / "JPEGImages").is_dir() or split is None else (inside, None)
    found, folders = find_sequences(data, names, resolution)
    meta = data / "meta.json"
    listed = _read_meta(meta, folders) if meta.is_file() else None
    items = tuple(_item(folder, meta, listed[folder.name] if listed else None) for folder in folders)
    require_scored(
        items,
        f"{data / 'Annotations'} has no object that is annotated again after its first frame: nothing can be "
        "scored (the truth of YouTube-VOS's val isn't public).",
    )
    return MaskTask(
        benchmark="davis",
        title=f"{root.absolute().name} {split or 'all'}",
        keys=MEAN_KEYS,
        data=root,
        protocol={
            "name": "generic" if listed is None else "youtube-vos",
            "split": split,
            "resolution": found,
            "given": "each object in its first annotated frame"
            if listed is None
            else "each object in its first frame of meta.json",
            "scored": "each object in all annotated frames after that, with the last and where it is lost",
            "objects": "ids; 255 is void, or the object where there are only 0 and 255",
            "merge": "objects that appear in different frames are tracked apart; the largest soft value wins",
            "mean": "over the objects of all sequences",
        },
        items=items,
        total=_total,
    )


@dataclass(eq=False)
class GenericItem(MaskItem):
    """A sequence.

    Attributes:
        given: the frame in which each object is given, by id.
        judged: the frames in which each object is scored, by id, ascending.
    """

    given: dict[int, int]
    judged: dict[int, tuple[int, ...]]
    _runs: Sequence[Run] | None = field(default=None, init=False, repr=False)

    def about(self) -> dict[str, Any]:
        """Where each object is given and scored."""
        return {
            "given": {str(id_): frame for id_, frame in self.given.items()},
            "scored": {str(id_): list(frames) for id_, frames in self.judged.items()},
            "binary": self.binary,
        }

    def runs(self) -> Sequence[Run]:
        """One run for the objects of each frame in which objects are given."""
        starts = sorted(set(self.given.values()))
        several = len(starts) > 1
        return [
            Run(
                name=f"from-{start:05d}" if several else "",
                annotations={start: self.masks(start, [i for i in self.objects if self.given[i] == start])},
                start=start,
                soft=several,
            )
            for start in starts
        ]

    def scored(self) -> Sequence[int]:
        """The frames in which any object is scored."""
        return sorted({frame for frames in self.judged.values() for frame in frames})

    def missing(self, index: int) -> Collection[int]:
        """Objects that aren't scored in the frame, as those before they appear."""
        return [id_ for id_ in self.objects if index not in self.judged[id_]]

    def has_result(self, folder: Path, index: int) -> bool:
        """Whether there are masks of a frame, from our runs or put together by another tool."""
        merged = super().has_result(folder, index)
        return merged or has_runs(folder, self._starts(), index, self.files[index].stem)

    def result(self, folder: Path, index: int) -> Ids:
        """Ids of a frame: the runs put together by `merge_runs`, or the masks of another tool."""
        stem = self.files[index].stem
        if any((folder / run.name).is_dir() for run in self._starts() if run.name):
            return merge_runs(folder, self._starts(), index, stem, self.size)
        return super().result(folder, index)

    def score(self, folder: Path) -> Record:
        """J and F of each object; see `find_generic` for what is scored."""
        scores: dict[int, tuple[list[float | None], list[float | None]]] = {
            id_: ([None] * self.frames, [None] * self.frames) for id_ in self.objects
        }
        for index in self.scored():
            truth, result = self.annotation(index), self.result(folder, index)
            for id_ in self.objects:
                if index in self.judged[id_]:
                    j, f = score_object(truth, result, id_, self.void)
                    scores[id_][0][index], scores[id_][1][index] = j, f
        objects = {id_: ObjectScores(tuple(j), tuple(f)) for id_, (j, f) in scores.items()}
        return {"scores": mean_scores(objects.values()), **details(objects)}

    def _starts(self) -> Sequence[Run]:
        if self._runs is None:
            self._runs = self.runs()
        return self._runs


def _total(records: Sequence[Any]) -> dict[str, float | None]:
    return mean_scores(objects_of(records))


def _item(folder: SequenceFolder, meta: Path, listed: Listed | None) -> GenericItem:
    """Decide where each object of a sequence is given and scored."""
    present: dict[int, set[int]] = {}
    for index, path in folder.annotations.items():
        counts = np.bincount(read_ids(path).ravel(), minlength=256)
        present[index] = set(np.flatnonzero(counts).tolist()) - {0}
    values = set().union(*present.values())
    binary = values == {VOID}
    if binary:
        present = {index: {1} if ids else set() for index, ids in present.items()}
    annotated = list(folder.annotations)
    if listed is None:
        ids = sorted({1} if binary else values - {VOID})
        given = {id_: next(index for index in annotated if id_ in present[index]) for id_ in ids}
    else:
        given = {id_: frames[0] for id_, frames in sorted(listed.items())}
        for id_, frame in given.items():
            stem = folder.files[frame].stem
            if id_ not in present.get(frame, ()):
                where = folder.annotations.get(frame)
                what = f"{where} lacks it" if where else f"{stem} has no annotation in {folder.name}"
                raise InputError(f"{meta} gives object {id_} of {folder.name} in {stem}, but {what}.")
    if not given:
        raise InputError(f"{next(iter(folder.annotations.values())).parent} marks no object.")
    judged = {
        id_: tuple(
            index
            for index in annotated
            if index > start and (listed is None or id_ in present[index] or index not in listed[id_])
        )
        for id_, start in given.items()
    }
    return GenericItem(
        name=folder.name,
        frames=len(folder.files),
        files=folder.files,
        annotations=folder.annotations,
        size=folder.size,
        objects=tuple(given),
        void=None if binary else VOID,
        binary=binary,
        given=given,
        judged=judged,
    )


def _read_meta(path: Path, folders: Iterable[SequenceFolder]) -> dict[str, Listed]:
    """The listed frames of each object of each sequence."""
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        known = {
            folder.name: {
                int(id_): [str(stem) for stem in entry["frames"]]
                for id_, entry in videos[folder.name]["objects"].items()
            }
            for folder in folders
            if folder.name in videos
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        form = '{"videos": {<sequence>: {"objects": {"1": {"frames": [<stem>, ...]}}}}}'
        raise InputError(f"{path} can't be read: it is JSON like {form}.") from error
    result: dict[str, Listed] = {}
    for folder in folders:
        if not known.get(folder.name):
            raise InputError(f"{path} has no objects of {folder.name}, which has frames.")
        number = {file.stem: index for index, file in enumerate(folder.files)}
        result[folder.name] = {}
        for id_, stems in known[folder.name].items():
            lost = [stem for stem in stems if stem not in number]
            if lost:
                missing = f"frame {lost[0]}, which {folder.name} doesn't have"
                raise InputError(f"{path} lists object {id_} in {missing}.")
            if not stems or not 1 <= id_ <= MAX_ID:
                raise InputError(f"{path}: object {id_} of {folder.name} needs frames and an id in 1..254.")
            result[folder.name][id_] = sorted(number[stem] for stem in stems)
    return result
