"""Run trackers over a task, keep their predictions and scores; an interrupted run goes on where it stopped.

    OUT/results.json, results.csv   scores, settings, versions, speed, see `vidtrack.benchmark.results`
    OUT/masks/<sequence>/           what the tracker said; or keypoints/, boxes/
    OUT/made/<sequence>.json        what it was made with, so that it can be used again

Of several trackers, each has all this in a folder of its own, and OUT has table.json and table.csv.

Until everything is there, work lies in `OUT.partial/`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.interrupts import leave_to_parent
from vidtrack.benchmark.environment import peak_memory_mb, reset_peak_memory, versions
from vidtrack.benchmark.layout import OfFolder
from vidtrack.benchmark.predictions import KINDS, Writer
from vidtrack.benchmark.results import TABLE, write
from vidtrack.benchmark.rows import Row
from vidtrack.benchmark.task import Item, Record, Task
from vidtrack.files import complete, drop, require_free, require_outside, sha256, work_folder, write_json

MADE = "made"  # folder of the records
Progress = Callable[[str, int, int], None]
Finish = Callable[[Path, dict[str, Any]], None]


@dataclass
class _Done:
    """What is known of a tracker's predictions of one sequence."""

    folder: Path
    seconds: float | None = None
    peak_memory_mb: float | None = None
    reused: bool = False


def run(
    task: Task,
    rows: Sequence[Row],
    out: Path | str,
    *,
    overwrite: bool = False,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    cache_bytes: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    finish: Finish | None = None,
) -> dict[str, Any]:
    """Run trackers over a task and score them.

    Args:
        task: what is measured.
        rows: trackers, or masks that are there already; see `rows_of`.
        out: folder for results and predictions.
        overwrite: replace `out` if it exists. Predictions in it that were made with the same data, weights,
            settings and versions are used again, which `reused` tells.
        sweep: the settings that were varied, by name; for the record.
        cache_bytes: of embeddings on disk, used where a video is embedded more than once: by a sweep, or by
            a task with several runs in a sequence.
        workers: processes that score.
        progress: called after each frame with the sequence's name, the frames done and all frames.
        finish: called with the folder and the results before the folder gets its name: writes reports.

    Returns:
        What `table.json` holds: `schema`, `benchmark`, `title`, `keys` (of the scores, main one first),
        `lower` (those that are better when lower), `data` and its hash `data_sha256`, `protocol`,
        `versions`, `sweep`, and `rows`, one per tracker:
        `name`, `scores` over all sequences, `settings`, `weights`, `swept`, `folder` of its predictions,
        `propagation_seconds` and `frames_per_second` (decoding included), `peak_memory_mb` (of the process
        while the row ran), `reused` (names of sequences), `sequences` by name with `frames`, `scores`,
        `detail`, `series` and `frames_per_second`.

    Raises:
        InputError: `out` exists without `overwrite` or holds the data, frames or masks, `OUT.partial` is
            another run's or holds something else, or masks are at fault; before any work.
        ValueError: a tracker's results don't fit the frames.
    """
    out = require_free(out, overwrite, folder=True).absolute()
    partial = out.with_name(f"{out.name}.partial")
    frames = (item.folder.path for item in task.items if isinstance(item, OfFolder))
    require_outside(out, (task.data, *frames, *(row.masks for row in rows if row.masks is not None)))
    with work_folder(out, overwrite):
        try:
            results = _worked(task, rows, out, partial, sweep, cache_bytes, workers, progress, finish)
            complete(partial, out)
        except BaseException:
            if not any(partial.rglob(f"{MADE}/*.json")):  # nothing that would save the next run work
                drop(partial)
            raise
    return results


def _worked(
    task: Task,
    rows: Sequence[Row],
    out: Path,
    partial: Path,
    sweep: Mapping[str, Sequence[Any]] | None,
    cache_bytes: int,
    workers: int,
    progress: Progress | None,
    finish: Finish | None,
) -> dict[str, Any]:
    """Everything that `run` puts into `partial`; returns what it returns."""
    hashes = {item.name: item.fingerprint() for item in task.items}
    found: dict[tuple[str, str], _Done] = {}
    total = sum(item.frames for item in task.items) * sum(row.tracker is not None for row in rows)
    done = 0
    own = {row.name: row.folder if len(rows) > 1 else "" for row in rows}
    kind = KINDS[type(next(iter(task.items[0].runs()[0].annotations.values())))]
    for item in task.items:
        for row in rows:
            if row.tracker is None:
                assert row.masks is not None
                found[row.name, item.name] = _Done(row.masks / item.name)
                continue
            manifest = _manifest(task, row, hashes[item.name])
            place = _Place(partial / own[row.name], kind, item.name)
            report = _reporter(progress, item.name, done, total)
            kept = _kept(place, manifest) or _taken_over((partial, out), row.folder, place, manifest)
            cache = cache_bytes if row.swept or len(item.runs()) > 1 else 0
            found[row.name, item.name] = kept or _track(item, row, manifest, place, cache, report)
            done += item.frames
            report(item.frames)
    records = _scored(task, rows, found, workers)
    results = {
        "schema": TABLE,
        "benchmark": task.benchmark,
        "title": task.title,
        "keys": list(task.keys),
        "lower": list(task.lower),
        "data": str(task.data),
        "data_sha256": hashlib.sha256("".join(hashes.values()).encode()).hexdigest(),
        "protocol": task.protocol,
        "versions": versions(),
        "sweep": None if not sweep else {name: list(values) for name, values in sweep.items()},
        "rows": [_row(task, row, Path(own[row.name], kind).as_posix(), found, records) for row in rows],
    }
    results = json.loads(json.dumps(results))  # as it looks when it is read again
    _clean(partial, [partial / own[row.name] for row in rows if row.tracker is not None], kind, task)
    write(partial, results, own.values())
    if finish is not None:
        finish(partial, results)
    return results


def _manifest(task: Task, row: Row, fingerprint: str) -> dict[str, Any]:
    """All that decides predictions: only an equal manifest lets them be used again."""
    manifest = {
        "benchmark": task.benchmark,
        "data": fingerprint,
        "protocol": task.protocol,
        "settings": row.settings,
        "versions": versions(),
    }
    loaded: dict[str, Any] = json.loads(json.dumps(manifest))  # as it compares equal after reading it
    return loaded


@dataclass(frozen=True)
class _Place:
    """Where the predictions of a sequence are, and the record of what they were made with."""

    row: Path
    kind: str
    sequence: str

    @property
    def folder(self) -> Path:
        return self.row / self.kind / self.sequence

    @property
    def record(self) -> Path:
        return self.row / MADE / f"{self.sequence}.json"


def _kept(place: _Place, manifest: dict[str, Any]) -> _Done | None:
    """Predictions that are there already; None if anything about them differs."""
    try:
        about = json.loads(place.record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not place.folder.is_dir() or not isinstance(about, dict):
        return None
    if about.get("manifest") != manifest or sha256(place.folder) != about.get("predictions"):
        return None
    return _Done(place.folder, about["seconds"], about["peak_memory_mb"], reused=True)


def _taken_over(roots: Iterable[Path], row: str, place: _Place, manifest: dict[str, Any]) -> _Done | None:
    """The same of another run, interrupted or about to be replaced, of one or several trackers: copied."""
    for root, folder in itertools.product(roots, ("", row)):
        earlier = _Place(root / folder, place.kind, place.sequence)
        if earlier != place and _kept(earlier, manifest) is not None:
            shutil.rmtree(place.folder, ignore_errors=True)
            shutil.copytree(earlier.folder, place.folder)
            place.record.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(earlier.record, place.record)
            return _kept(place, manifest)
    return None


def _track(
    item: Item,
    row: Row,
    manifest: dict[str, Any],
    place: _Place,
    cache_bytes: int,
    report: Callable[[int], None],
) -> _Done:
    """Run a tracker over one sequence, and note what its predictions were made with."""
    folder = place.folder
    place.record.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seconds, runs = 0.0, item.runs()
    reset_peak_memory()
    with item.video() as video:
        for number, one in enumerate(runs):
            writer = Writer(folder, one)
            began = time.perf_counter()
            results = iter(row.results(video, one, cache_bytes))
            expected = range(one.start, item.frames if one.end is None else one.end)
            for index in expected:
                result = next(results, None)
                if result is None or result.index != index:
                    got = "nothing" if result is None else f"frame {result.index}"
                    raise ValueError(f"{item.name}: want frame {index}, got {got}")
                seconds += time.perf_counter() - began
                writer.put(result)
                report(round((number + (index - one.start + 1) / len(expected)) / len(runs) * item.frames))
                began = time.perf_counter()
            if next(results, None) is not None:
                raise ValueError(f"{item.name}: more results than its frames")
            seconds += time.perf_counter() - began
            writer.close()
    found = _Done(folder, seconds, peak_memory_mb())
    about = {"manifest": manifest, "predictions": sha256(folder)}
    place.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(place.record, {**about, "seconds": seconds, "peak_memory_mb": found.peak_memory_mb})
    return found


def _scored(
    task: Task, rows: Sequence[Row], found: Mapping[tuple[str, str], _Done], workers: int
) -> dict[tuple[str, str], Record]:
    """The records of all rows and sequences."""
    jobs = [(row.name, item) for row in rows for item in task.items]
    keys = [(name, item.name) for name, item in jobs]
    folders = [found[key].folder for key in keys]
    if workers <= 1 or len(jobs) == 1:
        return {key: item.score(f) for key, (_, item), f in zip(keys, jobs, folders, strict=True)}
    # Not forked: torch's threads don't survive a fork.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=leave_to_parent)
    try:
        records = pool.map(_score, [item for _, item in jobs], folders)
        return dict(zip(keys, records, strict=True))
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a process that scores died, as it does when memory is short: run the same command again to go "
            "on, with --workers 1"
        ) from error
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # nobody waits for its score
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _score(item: Item, folder: Path) -> Record:
    return item.score(folder)


def _row(
    task: Task,
    row: Row,
    folder: str,
    found: Mapping[tuple[str, str], _Done],
    records: Mapping[tuple[str, str], Record],
) -> dict[str, Any]:
    sequences, reused = {}, []
    for item in task.items:
        done, record = found[row.name, item.name], records[row.name, item.name]
        speed = item.frames / done.seconds if done.seconds else None
        sequences[item.name] = {"frames": item.frames, **record, "frames_per_second": speed}
        if done.reused:
            reused.append(item.name)
    all_done = [found[row.name, item.name] for item in task.items]
    seconds = [done.seconds for done in all_done if done.seconds is not None]
    peaks = [done.peak_memory_mb for done in all_done if done.peak_memory_mb is not None]
    frames = sum(item.frames for item in task.items)
    return {
        "name": row.name,
        "scores": task.summarize({item.name: records[row.name, item.name] for item in task.items}),
        "settings": row.settings,
        "weights": row.settings.get("weights"),
        "swept": row.swept,
        "folder": None if row.tracker is None else folder,
        "propagation_seconds": sum(seconds) if seconds else None,
        "frames_per_second": frames / sum(seconds) if seconds and sum(seconds) else None,
        "peak_memory_mb": max(peaks) if peaks else None,
        "reused": reused,
        "sequences": sequences,
    }


def _reporter(progress: Progress | None, name: str, done: int, total: int) -> Callable[[int], None]:
    """Turn the number of frames done in one sequence into a call of `progress`."""
    return lambda frames: progress(name, done + frames, total) if progress else None


def _clean(partial: Path, rows: Iterable[Path], kind: str, task: Task) -> None:
    """What an earlier, interrupted run left that asked for something else goes."""
    wanted: set[Path] = set()
    for item in task.items:
        for row in rows:
            place = _Place(row, kind, item.name)
            wanted |= {place.folder, place.record}
    above = {path for place in wanted for path in place.parents}
    for entry in sorted(partial.rglob("*")):
        if entry in wanted or entry in above or wanted & set(entry.parents) or not entry.exists():
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
