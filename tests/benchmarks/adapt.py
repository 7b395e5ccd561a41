"""What `vidtrack adapt` gives: each sequence scored by the tracker as it is, and adapted to that very video.

    python tests/benchmarks/adapt.py --data $VIDTRACK_DATA/eval --out OUT
    python tests/benchmarks/adapt.py --data $VIDTRACK_DATA/eval --out OUT --sequences bear steps=200

DAVIS-2016-dev is what the default tracker is tuned to in part; the mouse, the street, the people and the bag
are other domains. Adaptation sees the frames of the video and no label. Each sequence is adapted with the
config `track/adapt`, changed by the given `key=value`, and scored as `vidtrack benchmark` does it. Where the
adaptation is refused, the score is that of the tracker as it is.

Finished work in OUT is not done again: give other settings another OUT.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from commands import markdown

import vidtrack
from pretrain.config import load_config
from vidtrack.benchmark.boxes_task import find_boxes
from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.davis_task import davis_task
from vidtrack.benchmark.parts import find_parts
from vidtrack.benchmark.pose_task import find_pose
from vidtrack.benchmark.rows import Row
from vidtrack.benchmark.runner import run
from vidtrack.benchmark.task import Item, Task
from vidtrack.files import bundled_configs
from vidtrack.learn.adapt import Adapt, adapt

Found = dict[str, Any]
COLUMNS = ["score", "as it is", "adapted", "cycle accuracy", "kept", "minutes"]
TASKS: dict[str, Callable[[Path], Task]] = {
    "DAVIS-2016-dev": lambda path: davis_task(DavisSet.find(path, 2016, "dev")),
    "DLC-openfield": find_pose,
    "PoseTrack-bonn": find_pose,
    "CamVid-0016E5": find_parts,
    "VOT-bag": find_boxes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder eval of the project's data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--sequences", nargs="+", help="all of the sets by default")
    parser.add_argument("--tracker", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of the config track/adapt")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = {}
    for name in options.sets:
        task = TASKS[name](options.data / name)
        for item in task.items:
            if not options.sequences or item.name in options.sequences:
                rows[f"{name} {item.name}"] = measure(task, item, options)
    print(table(rows))


def measure(task: Task, item: Item, options: argparse.Namespace) -> Found:
    """Adapt to one sequence and score both trackers on it, where that was not done yet."""
    record = options.out / f"{item.name}.json"
    if record.is_file():
        known: Found = json.loads(record.read_text())
        return known
    adapted = options.out / f"{item.name}.safetensors"
    settings = load_config(Adapt, "track/adapt", options.changes, bundled_configs())
    begun = time.perf_counter()
    with item.video() as video:
        found = adapt(video, adapted, options.tracker, settings, overwrite=True)
    minutes = (time.perf_counter() - begun) / 60
    trackers = {"before": options.tracker, **({"after": str(adapted)} if found.accepted else {})}
    rows = [Row(key, vidtrack.load(name, threads=options.threads)) for key, name in trackers.items()]
    result = run(replace(task, items=(item,)), rows, options.out / item.name, overwrite=True)  # type: ignore[type-var]
    scores = {row["name"]: row["scores"][task.keys[0]] for row in result["rows"]}
    numbers = {"key": task.keys[0], "after": scores["before"], **scores, "minutes": minutes}
    numbers["cycle"] = {"before": found.before, "after": found.after, "step": found.step}
    record.write_text(json.dumps(numbers))
    print(item.name, numbers, flush=True)
    return numbers


def table(rows: dict[str, Found]) -> str:
    """Markdown of all sequences, and the mean of each set that has several."""
    cells = {name: line(one) for name, one in rows.items()}
    for name in dict.fromkeys(row.split()[0] for row in rows):
        among = [one for row, one in rows.items() if row.split()[0] == name]
        if len(among) > 1:
            before, after = (f"{mean(one[key] for one in among):.3f}" for key in ("before", "after"))
            cells[f"{name}, mean of {len(among)}"] = [among[0]["key"], before, after, "", "", ""]
    return markdown("sequence", cells, COLUMNS)


def line(one: Found) -> list[str]:
    """The cells of one sequence."""
    cycle = one["cycle"]
    told = f"{cycle['before']:.3f} -> {cycle['after']:.3f}" if cycle["step"] else f"{cycle['before']:.3f}"
    kept = f"step {cycle['step']}" if cycle["step"] else "no"
    return [one["key"], f"{one['before']:.3f}", f"{one['after']:.3f}", told, kept, f"{one['minutes']:.1f}"]


if __name__ == "__main__":
    main()
