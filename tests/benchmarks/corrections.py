"""What a second annotation gives: both ways joined, against single passes, as one table over real sequences.

    python tests/benchmarks/corrections.py --data $VIDTRACK_DATA/eval

The first and the last annotated frame are given; the frames between them are scored. `forward` and `backward`
are single passes, whose frames attend to both annotations; `switch` takes the first half of the one and the
second half of the other; `both` is `--direction both`. Then the first and a middle frame are given, and the
frames between them are carried forward, attending to the frame ahead (`ahead`) or not (`behind only`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

import vidtrack
from pretrain.errors import InputError
from vidtrack.benchmark import boxes, pose
from vidtrack.benchmark.boxes import BoxSet
from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.benchmark.pose import PoseSet
from vidtrack.benchmark.scores import score_sequence, summarize
from vidtrack.labels import Masks

TUNED = ("bear", "dance-jump", "drift-turn", "mallard-fly")  # rules of joining were chosen on these
TOLERANCE = 0.01  # `both` may be worse than `switch` by this much in a set
WAYS = ("forward", "backward", "switch", "both", "behind only", "ahead")

Labels = Mapping[int, Any]  # by frame number


@dataclass(frozen=True)
class Case:
    """One sequence with truth.

    Attributes:
        measure: what `score` gives.
        folder: of the frames.
        given: labels of every frame that could be annotated, made when they are asked for.
        numbers: these frames, ascending.
        score: of predictions, 0..1, over the frames strictly between the first and the last of these.
    """

    measure: str
    folder: Path
    given: Callable[[int], Any]
    numbers: tuple[int, ...]
    score: Callable[[Labels, int, int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder eval of the project's data")
    parser.add_argument("--tracker", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", help="names of sequences")
    options = parser.parse_args()
    tracker = vidtrack.load(options.tracker, threads=options.threads)
    rows = {}
    for name, case in load_cases(options.data).items():
        if not options.only or name in options.only:
            rows[name] = measure(tracker, case)
            print(name, *(f"{way} {value:.3f}" for way, value in rows[name].items()), file=sys.stderr)
    Console(width=110).print(table(rows))


def load_cases(data: Path) -> dict[str, Case]:
    """All sequences by their names in the table."""
    sequences = [
        *DavisSet.find(data / "DAVIS-2016-dev", 2016, "dev").sequences,
        *DavisSet.find(data / "DAVIS-2017-240p", 2017, "dev").sequences,
        *DavisSet.find(data / "PUMaVOS-chair", 2017, "val").sequences,
    ]
    cases = {sequence.name: masks_case(sequence) for sequence in sequences}
    (camvid,) = DavisSet.find(data / "CamVid-0016E5", 2017, "val").sequences
    cases["CamVid"] = replace(masks_case(camvid), measure="mIoU", score=class_iou(camvid))
    badja, davis = data / "BADJA/Keypoints", data / "DAVIS-2016-dev/JPEGImages/480p"
    points = {
        f"BADJA {n}": PoseSet.load(badja / f"{n}.csv", "badja", frames=davis / n)
        for n in ("bear", "horsejump-low")
    }
    points["PoseTrack"] = PoseSet.load(data / "PoseTrack-bonn/Keypoints/060470979.csv", "posetrack")
    points["mouse"] = PoseSet.load(data / "DLC-openfield/Keypoints/m4s1.csv", "frame-diagonal")
    cases |= {name: points_case(found) for name, found in points.items()}
    cases["VOT bag"] = boxes_case(BoxSet.load(data / "VOT-bag/Boxes/bag.csv"))
    return cases


def measure(tracker: vidtrack.Tracker, case: Case) -> dict[str, float]:
    """The scores of all `WAYS`."""
    first, last = case.numbers[0], case.numbers[-1]
    embed = remember(tracker)

    def run(annotated: tuple[int, ...], end: int, direction: Any) -> Labels:
        given = {number: case.given(number) for number in annotated}
        with tracker.passes(case.folder, given, direction, first, end, embed=embed) as passes:
            return {result.index: result.labels for result in passes}

    found = {way: run((first, last), last + 1, way) for way in ("forward", "backward", "both")}
    half = (first + last) / 2
    found["switch"] = {n: found["forward" if n <= half else "backward"][n] for n in found["both"]}
    scores = {way: case.score(labels, first, last) for way, labels in found.items()}
    middle = min(case.numbers, key=lambda n: abs(n - half))
    scores["behind only"] = case.score(run((first,), middle + 1, "forward"), first, middle)
    scores["ahead"] = case.score(run((first, middle), middle + 1, "forward"), first, middle)
    return {way: scores[way] for way in WAYS}


def remember(tracker: vidtrack.Tracker) -> Callable[[int, np.ndarray, Tensor | None], Tensor]:
    """The tracker's embedder, which embeds each frame of one sequence once."""
    known: dict[int, Tensor] = {}

    def embed(index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
        if index not in known:
            assert tracker.embedder is not None
            known[index] = tracker.embedder(image, tracker.settings.size)
        return known[index]

    return embed


def masks_case(sequence: DavisSequence) -> Case:
    """J&F; as in the semi-supervised task, the objects are those of the first frame."""

    def given(number: int) -> Masks:
        ids = sequence.annotation(number)
        void = None if sequence.void is None else ids == sequence.void
        return Masks(np.where(np.isin(ids, sequence.objects), ids, 0).astype(np.uint8), void=void)

    def score(found: Labels, first: int, last: int) -> float:
        truth = [sequence.annotation(number) for number in range(first, last + 1)]
        ids = [found[number].ids for number in range(first, last + 1)]
        return summarize(score_sequence(truth, ids, sequence.objects, sequence.void).values())["J&F-Mean"]

    return Case("J&F", sequence.frame_folder, given, tuple(range(len(sequence.frames))), score)


def class_iou(sequence: DavisSequence) -> Callable[[Labels, int, int], float]:
    """Mean over classes of the intersection over union of all pixels of the scored frames."""

    def score(found: Labels, first: int, last: int) -> float:
        numbers = range(first + 1, last)
        truth = np.stack([sequence.annotation(number) for number in numbers])
        ids = np.where(truth == sequence.void, truth, np.stack([found[number].ids for number in numbers]))
        both = [
            ((truth == k) & (ids == k)).sum() / ((truth == k) | (ids == k)).sum() for k in sequence.objects
        ]
        return float(np.mean(both))

    return score


def points_case(sequence: PoseSet) -> Case:
    """PCK under the sequence's protocol."""

    def score(found: Labels, first: int, last: int) -> float:
        inside = [first < number < last for number in sequence.numbers]
        among = np.zeros_like(sequence.scored)
        among[inside] = True
        return float(pose.score(sequence, found, among)["PCK"])

    return Case("PCK", sequence.frames.path, sequence.truth.__getitem__, sequence.numbers, score)


def boxes_case(sequence: BoxSet) -> Case:
    """Mean IoU."""

    def score(found: Labels, first: int, last: int) -> float:
        count = sequence.numbers.index(last)
        part = replace(sequence, numbers=sequence.numbers[:count], xyxy=sequence.xyxy[:count])
        return float(boxes.score(part, found)["IoU-Mean"])

    return Case("IoU", sequence.frames.path, sequence.truth.__getitem__, sequence.numbers, score)


def table(rows: dict[str, dict[str, float]]) -> Table:
    """A row per sequence, the mean, and whether `both` keeps what it promises."""
    means = {way: float(np.mean([row[way] for row in rows.values()])) for way in WAYS}
    worst = min(rows, key=lambda name: rows[name]["both"] - rows[name]["switch"])
    lead = rows[worst]["both"] - rows[worst]["switch"]
    kept = means["both"] > means["switch"] and lead >= -TOLERANCE
    caption = f"both - switch: mean {means['both'] - means['switch']:+.3f}, least {lead:+.3f} ({worst})"
    out = Table(title="Two annotated frames", caption=f"{caption}: {'kept' if kept else 'NOT kept'}")
    out.add_column("sequence (* chosen on)")
    for way in WAYS:
        out.add_column(way, justify="right")
    for name, row in rows.items():
        last = name == list(rows)[-1]
        title = f"{name} *" if name in TUNED else name
        out.add_row(title, *(f"{row[way]:.3f}" for way in WAYS), end_section=last)
    out.add_row("mean", *(f"{means[way]:.3f}" for way in WAYS))
    return out


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
