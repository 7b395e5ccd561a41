"""Run a tracker over a data set, keep its masks and scores; an interrupted run goes on where it stopped.

    OUT/results.json                  scores, settings, versions, speed (keys: see `run_davis`)
    OUT/results.csv                   the official keys of each sequence
    OUT/masks/<sequence>/<frame>.png  the tracker's masks

Until everything is there, work lies in `OUT.partial/`, with one record per finished sequence.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.benchmark.environment import peak_memory_mb, versions
from vidtrack.benchmark.scores import KEYS, Ids, ObjectScores, score_sequence, summarize
from vidtrack.files import replace, require_free, sha256, write_json

Progress = Callable[[str, int, int], None]


class Tracker(Protocol):
    """What can be benchmarked: `vidtrack.tracker.Tracker`, or anything else with these two methods."""

    def propagate(self, source: Path, *, annotations: Mapping[int, Any], start: int) -> Iterator[Any]:
        """Yield one result per frame of the folder `source`, in order, with `.index` and `.labels.ids`."""

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values; `tracker` its name, `weights` the hash of its weights or None."""


def run_davis(
    data: Path | str,
    year: int,
    split: str,
    out: Path | str,
    tracker: Tracker | Callable[[], Tracker] | None = None,
    *,
    overwrite: bool = False,
    resolution: str | None = None,
    masks: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Semi-supervised DAVIS benchmark: the first annotation is given, the tracker says all other masks.

    Args:
        data: folder in DAVIS layout, see `DavisSet.find`.
        year: 2016 (any non-zero value is the object) or 2017 (several objects, 255 is void).
        split: name of the split.
        out: folder for results and masks.
        tracker: the tracker, or a function that makes it, called only after all input has been checked.
        overwrite: replace `out` if it exists.
        resolution: folder under `JPEGImages`, needed only if there are several.
        masks: score these masks `masks/<sequence>/<frame>.png` instead of running a tracker. Nothing is
            copied: `out` then has no masks.
        progress: called after each frame with the sequence's name, the frames done and all frames.

    Returns:
        What `results.json` holds: `schema`, the official keys over all objects (0..1), `sequences` by name
        (the official keys, `frames`, `frames_per_second`, `objects` by id with their keys and the scores `J`
        and `F` per frame, null where not scored), the data's place and hash, `settings` (what the tracker
        describes), `weights` (hash), `versions`, `seconds` (propagation and scoring), `propagation_seconds`
        and `frames_per_second` (propagation alone, decoding included), `peak_memory_mb`, and `reused`: the
        sequences that an interrupted run had finished with the same data, settings, weights and versions.

    Raises:
        InputError: `out` exists without `overwrite` or holds the data or masks, or these are at fault;
            before any work.
        ValueError: Neither `tracker` nor `masks` is given, or the tracker's results don't fit the frames.
    """
    if (tracker is None) == (masks is None):
        raise ValueError("give either a tracker or masks")
    out = require_free(out, overwrite, folder=True).absolute()
    partial = out.with_name(f"{out.name}.partial")
    for source in (data, masks):
        if source is not None and {out, partial} & {(p := Path(source).absolute()), *p.parents}:
            raise InputError(f"{source} lies in the output {out}, which is replaced: choose another output.")
    davis = DavisSet.find(data, year, split, resolution)
    if masks is not None:
        davis.check_results(masks)
        settings: dict[str, Any] = {"masks": str(masks)}
    else:
        made: Any = tracker if _is_tracker(tracker) else tracker()  # type: ignore[operator,misc]
        settings = made.describe()

    partial.mkdir(parents=True, exist_ok=True)
    total = sum(len(sequence.frames) for sequence in davis.sequences)
    done, records, reused = 0, {}, []
    for sequence in davis.sequences:
        report = _reporter(progress, sequence.name, done, total)
        if masks is not None:
            record = _score_masks(sequence, Path(masks), report)
        else:
            manifest = _manifest(sequence, settings)
            kept = _finished(partial, sequence, manifest)
            if kept is not None:
                reused.append(sequence.name)
            record = kept or _propagate(sequence, made, manifest, partial, report)
        records[sequence.name] = record
        done += len(sequence.frames)
        report(len(sequence.frames))

    results = _results(davis, records)
    results |= {"settings": settings, "weights": settings.get("weights"), "reused": reused}
    _finish(partial, out, set() if masks is not None else set(records), results)
    return results


def _is_tracker(value: object) -> bool:
    """A tracker, not a function or class that makes one."""
    return hasattr(value, "propagate") and not isinstance(value, type)


def _reporter(progress: Progress | None, name: str, done: int, total: int) -> Callable[[int], None]:
    """Turn the number of frames done in one sequence into a call of `progress`."""
    return lambda frames: progress(name, done + frames, total) if progress else None


def _data_hash(sequence: DavisSequence) -> str:
    folders = sequence.frame_folder, sequence.annotations[0].parent
    return hashlib.sha256("".join(sha256(folder) for folder in folders).encode()).hexdigest()


def _manifest(sequence: DavisSequence, settings: dict[str, Any]) -> dict[str, Any]:
    """All that decides a sequence's result: only an equal manifest lets a finished sequence be reused."""
    manifest = {
        "data": _data_hash(sequence),
        "year": sequence.year,
        "settings": settings,
        "versions": versions(),
    }
    # As it looks after reading it from disk (tuples are lists, keys are strings), so that it compares equal.
    loaded: dict[str, Any] = json.loads(json.dumps(manifest))
    return loaded


def _finished(partial: Path, sequence: DavisSequence, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a sequence that an interrupted run finished; None if anything about it differs."""
    try:
        record: dict[str, Any] = json.loads(_record_path(partial, sequence.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    masks = partial / "masks" / sequence.name
    if record.get("manifest") != manifest or not masks.is_dir() or sha256(masks) != record.get("masks"):
        return None
    return record


def _record_path(partial: Path, name: str) -> Path:
    return partial / "finished" / f"{name}.json"


def _propagate(
    sequence: DavisSequence,
    tracker: Tracker,
    manifest: dict[str, Any],
    partial: Path,
    report: Callable[[int], None],
) -> dict[str, Any]:
    """Run the tracker over one sequence, save and score its masks, write the record that it is finished."""
    folder = partial / "masks" / sequence.name
    _record_path(partial, sequence.name).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)

    started = time.perf_counter()
    clock = _Clock()
    found = _tracked(sequence, tracker, folder, clock, report)
    annotations = (sequence.annotation(index) for index in range(len(sequence.frames)))
    objects = score_sequence(annotations, found, sequence.objects, sequence.void)
    record = {
        "manifest": manifest,
        "masks": sha256(folder),
        "data": manifest["data"],
        "seconds": time.perf_counter() - started,
        "propagation_seconds": clock.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "objects": {str(id_): scores.to_json() for id_, scores in objects.items()},
    }
    write_json(_record_path(partial, sequence.name), record)
    return record


class _Clock:
    """Adds up the time inside its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def _tracked(
    sequence: DavisSequence, tracker: Tracker, folder: Path, clock: _Clock, report: Callable[[int], None]
) -> Iterator[Ids]:
    """Yield the tracker's ids of each frame after saving them; only the tracker's own time is clocked."""
    from vidtrack.labels.masks import Masks

    first = sequence.annotation(0)
    void = None if sequence.void is None else first == sequence.void
    given = Masks(ids=np.where(np.isin(first, sequence.objects), first, 0).astype(np.uint8), void=void)
    with clock:
        results = iter(tracker.propagate(sequence.frame_folder, annotations={0: given}, start=0))
    for index, frame in enumerate(sequence.frames):
        with clock:
            result = next(results, None)
        if result is None or result.index != index or result.labels.ids.shape != sequence.size:
            got = "nothing" if result is None else f"{list(result.labels.ids.shape)} of frame {result.index}"
            raise ValueError(f"frame {index} of {sequence.name}: want ids {list(sequence.size)}, got {got}")
        Masks(ids=result.labels.ids, void=None).save(folder / f"{frame.stem}.png", overwrite=True)
        report(index + 1)
        yield result.labels.ids
    with clock:
        if next(results, None) is not None:
            raise ValueError(f"{sequence.name}: more results than its {len(sequence.frames)} frames")


def _score_masks(sequence: DavisSequence, masks: Path, report: Callable[[int], None]) -> dict[str, Any]:
    """Score the masks of another tool."""

    def found() -> Iterator[Ids]:
        last = len(sequence.frames) - 1
        for index, frame in enumerate(sequence.frames):
            scored = 0 < index < last  # the masks of the other two may be missing
            path = masks / sequence.name / f"{frame.stem}.png"
            yield sequence.read(path) if scored else np.zeros(sequence.size, np.uint8)
            report(index + 1)

    started = time.perf_counter()
    annotations = (sequence.annotation(index) for index in range(len(sequence.frames)))
    objects = score_sequence(annotations, found(), sequence.objects, sequence.void)
    return {
        "data": _data_hash(sequence),
        "seconds": time.perf_counter() - started,
        "propagation_seconds": None,
        "peak_memory_mb": peak_memory_mb(),
        "objects": {str(id_): scores.to_json() for id_, scores in objects.items()},
    }


def _results(davis: DavisSet, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put the records of all sequences together."""
    objects = {
        name: [ObjectScores.from_json(value) for value in record["objects"].values()]
        for name, record in records.items()
    }
    sequences = {}
    for sequence in davis.sequences:
        record = records[sequence.name]
        seconds = record["propagation_seconds"]
        sequences[sequence.name] = {
            **summarize(objects[sequence.name]),
            "frames_per_second": len(sequence.frames) / seconds if seconds else None,
            "frames": [frame.stem for frame in sequence.frames],
            "objects": record["objects"],
        }
    frames = sum(len(sequence.frames) for sequence in davis.sequences)
    times = [record["propagation_seconds"] for record in records.values()]
    propagation = None if None in times else sum(times)
    peaks = [record["peak_memory_mb"] for record in records.values()]
    return {
        "schema": 1,
        "benchmark": "davis",
        **summarize([scores for of_sequence in objects.values() for scores in of_sequence]),
        "year": davis.year,
        "split": davis.split,
        "resolution": davis.resolution,
        "data": str(davis.root),
        "data_sha256": hashlib.sha256("".join(r["data"] for r in records.values()).encode()).hexdigest(),
        "versions": versions(),
        "seconds": sum(record["seconds"] for record in records.values()),
        "propagation_seconds": propagation,
        "frames_per_second": frames / propagation if propagation else None,
        "peak_memory_mb": None if None in peaks else max(peaks),
        "sequences": sequences,
    }


def _finish(partial: Path, out: Path, with_masks: set[str], results: dict[str, Any]) -> None:
    """Write the results, remove what only served to go on, and give the folder its name.

    Masks of other sequences than `with_masks` are of an earlier run on another split: they go.
    """
    write_json(partial / "results.json", results)
    with (partial / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["Sequence", *KEYS])
        for name, scores in results["sequences"].items():
            writer.writerow([name, *(f"{scores[key]:.6f}" for key in KEYS)])
    shutil.rmtree(partial / "finished", ignore_errors=True)
    for folder in (partial / "masks").glob("*"):
        if folder.name not in with_masks:
            shutil.rmtree(folder)
    if not with_masks:
        shutil.rmtree(partial / "masks", ignore_errors=True)
    replace(partial, out)
