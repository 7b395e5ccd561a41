"""Each objective of `vidtrack train` alone, for an equal short budget: what it gives to tracking.

    python tests/benchmarks/objectives.py --data DATA --out OUT

DATA has `train/` (videos) and `eval/DAVIS-2016-dev`. Each row is made by the commands that a user types:
`vidtrack train --config track/laptop 'objectives={NAME: 1}'` with fewer steps, then `vidtrack benchmark
davis`. The network is that of `track/laptop`. An equal budget means equally many frames forward and
backward (a frame without gradient counts a third); the minutes that it took stand beside it. "random" is the
same network before training; of `quantized` there is one that sees lightness alone, as in its paper, and
one that sees gray pictures while it learns, and colours when it tracks.

Finished work in OUT is not done again. Several processes may work on different `--seeds` and `--rows` in one
OUT; each prints the table of all that is there, and writes it to OUT/objectives.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import Found, Numbers, learned, markdown, measure_all, spread

FRAMES = 4  # of a clip
# Frames of a clip with gradient, and without: what each objective asks for (see `vidtrack/learn/objectives`).
PASSES = {
    "anchors": (FRAMES + 1, FRAMES - 1),
    "quantized": (FRAMES, 0),
    "quantized-rgb": (FRAMES, 0),
    "lab": (FRAMES, 0),
    "cycle": (FRAMES + FRAMES - 1, 0),
}
EXTRA = {
    "random": ["optimizer.learning_rate=1e-12"],  # the weights stay where they began
    "quantized": ["model.input=l", "clips.permute=false"],
    "quantized-rgb": ["clips.permute=false"],
    "lab": ["clips.permute=false"],
}
ROWS = ["random", *PASSES]
COLUMNS = ["steps", "seeds", "minutes", "J&F", "J", "F", "cycle accuracy"]


def steps(row: str, budget: int) -> int:
    """Steps that cost as much as `budget` steps of `anchors`."""
    if row == "random":
        return 1
    cost = {name: graded + free / 3 for name, (graded, free) in PASSES.items()}
    return round(budget * cost["anchors"] / cost[row])


def measure(row: str, seed: int, options: argparse.Namespace) -> Numbers:
    """Train and score one row with one seed, where that was not done yet."""
    name = row.removesuffix("-rgb") if row != "random" else "anchors"
    changes = [f"objectives={{{name}: 1}}", f"seed={seed}", *EXTRA.get(row, [])]
    run = options.out / f"{row}-{seed}"
    return learned(run, "track/laptop", steps(row, options.steps), changes, options)


def table(found: Found) -> str:
    """Markdown of everything that was measured: `{row: {seed: numbers}}`."""
    rows = {}
    for row in ROWS:
        if seeds := list(found.get(row, {}).values()):
            scores = [spread([one[key] for one in seeds], 3) for key in ("J&F", "J", "F", "cycle")]
            minutes = spread([one["minutes"] for one in seeds], 1)
            rows[row] = [str(seeds[0]["steps"]), str(len(seeds)), minutes, *scores]
    return markdown("objective", rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=200, help="of the objective anchors; others accordingly")
    parser.add_argument("--cache", type=Path, help="folder for decoded frames")
    options = parser.parse_args()
    rows = {int(seed): options.rows.split(",") for seed in options.seeds.split(",")}
    measure_all(rows, measure, table, options, "objectives")


if __name__ == "__main__":
    main()
