"""What it gains to annotate the proposed frame, against the middle one and random ones, as one table.

    python tests/benchmarks/proposals.py --data $VIDTRACK_DATA/eval/DAVIS-2016-dev

Each sequence is carried forward from its first frame. Then one more frame is annotated: the one that
`vidtrack.trust.proposals` wants most (it sees confidences only), the middle one, or one of five random ones;
and the sequence is carried again, with `--direction forward` and `both`. A gain is the J&F that is won on
average over all frames but the first. Intervals hold 95 % of the differences of means over sequences drawn
with replacement, each with both its values.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

import vidtrack
from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.benchmark.metrics import contour_accuracy, region_similarity
from vidtrack.labels import Masks
from vidtrack.trust import proposals

DIRECTIONS = ("forward", "both")
RANDOM = 5
DRAWS = 20_000

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a set in the layout of DAVIS")
    parser.add_argument("--year", type=int, default=2016)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--tracker", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--store", type=Path, help="JSON file of what was measured; goes on from there")
    options = parser.parse_args()
    store: dict[str, Any] = {}
    if options.store is not None and options.store.is_file():
        store = json.loads(options.store.read_text())
    tracker = vidtrack.load(options.tracker, threads=options.threads)
    for sequence in DavisSet.find(options.data, options.year, options.split).sequences:
        if sequence.name not in store:
            store[sequence.name] = measure(tracker, sequence)
            print(sequence.name, json.dumps(store[sequence.name]), flush=True)
            if options.store is not None:
                options.store.write_text(json.dumps(store))
    console = Console(width=110)
    for direction in DIRECTIONS:
        console.print(report(store, direction))


def measure(tracker: vidtrack.Tracker, sequence: DavisSequence) -> dict[str, Any]:
    """Frames and gains by direction: proposed, middle and a list of random ones."""
    embeddings: dict[int, Tensor] = {}

    def embed(index: int, image: np.ndarray, region: Tensor | None = None) -> Tensor:
        if index not in embeddings:
            assert tracker.embedder is not None
            embeddings[index] = tracker.embedder(image, tracker.settings.size, None)
        return embeddings[index]

    truth = [sequence.annotation(n) for n in range(len(sequence.frames))]
    length = len(truth)
    scores, series = run(tracker, sequence, truth, [0], "forward", embed)
    middle = length // 2
    random = np.random.default_rng(length).choice(np.arange(1, length), RANDOM, replace=False).tolist()
    gains: dict[str, Any] = {"frames": length, "J&F": scores}
    wanted = proposals(series, [0], 1)
    proposed = wanted[0].frame if wanted else middle
    for direction in DIRECTIONS:
        known: dict[int, float] = {}
        for frame in (proposed, middle, *random):
            if frame not in known:
                again, _ = run(tracker, sequence, truth, [0, frame], direction, embed)
                known[frame] = again - scores
        gains[direction] = {
            "proposed": [proposed, known[proposed]],
            "middle": [middle, known[middle]],
            "random": [[frame, known[frame]] for frame in random],
        }
    return gains


def run(
    tracker: vidtrack.Tracker,
    sequence: DavisSequence,
    truth: list[NDArray[np.uint8]],
    annotated: list[int],
    direction: str,
    embed: Any,
) -> tuple[float, dict[str, Array]]:
    """Mean J&F over objects and all frames but the first, and the confidence of each object by frame."""
    given = {
        n: Masks(np.where(np.isin(truth[n], sequence.objects), truth[n], 0).astype(np.uint8))
        for n in annotated
    }
    scores: list[float] = []
    series = {str(n): np.zeros(len(truth)) for n in sequence.objects}
    with tracker.passes(sequence.frame_folder, given, direction, embed=embed) as passes:  # type: ignore[arg-type]
        for result in passes:
            for number, value in result.confidence.items():
                series[str(number)][result.index] = value
            if result.index:
                scores += [score(truth[result.index], result.labels.ids, n) for n in sequence.objects]
    return float(np.mean(scores)), series


def score(truth: NDArray[np.uint8], found: NDArray[np.uint8], number: int) -> float:
    """J&F of one object in one frame."""
    void = truth == 255
    one, other = truth == number, found == number
    return float(region_similarity(one, other, void) + contour_accuracy(one, other, void)) / 2


def report(store: Mapping[str, Any], direction: str) -> Table:
    """Gains by sequence, and the differences of the means with their intervals."""
    out = Table(title=f"J&F gained by one more annotation, {direction}, in percent (at the frame)")
    for column in ("sequence", "frames", "before", "proposed", "middle", f"mean of {RANDOM} random"):
        out.add_column(column, justify="left" if column == "sequence" else "right")
    rows = []
    for name, found in store.items():
        (proposed, a), (middle, b) = found[direction]["proposed"], found[direction]["middle"]
        c = float(np.mean([gain for _, gain in found[direction]["random"]]))
        rows.append((a, b, c))
        texts = (f"{100 * a:.1f} ({proposed})", f"{100 * b:.1f} ({middle})", f"{100 * c:.1f}")
        out.add_row(name, str(found["frames"]), f"{100 * found['J&F']:.1f}", *texts)
    gains = 100 * np.array(rows)
    out.add_section()
    out.add_row("mean", "", "", *(f"{value:.1f}" for value in gains.mean(axis=0)))
    for column, name in ((1, "middle"), (2, "random")):
        difference = gains[:, 0] - gains[:, column]
        low, high = interval(difference)
        out.add_row(
            f"proposed - {name}", "", "", f"{difference.mean():+.1f}", f"{low:+.1f} to {high:+.1f}", ""
        )
    return out


def interval(differences: Array) -> tuple[float, float]:
    """95 % interval of the mean by the bootstrap."""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
