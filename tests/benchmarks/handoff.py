"""What a pretrained backbone gives to tracking: frozen, and after video training of an equal budget.

    python tests/benchmarks/scoreboard.py --bed frames --data DATA --out RUNS
    python tests/benchmarks/handoff.py --data DATA --runs RUNS/frames --out OUT

RUNS/frames holds `METHOD-SEED/` with `backbone.safetensors` and the score of the frozen backbone. Each row is
made by the commands that a user types: `vidtrack train --backbone RUN --config track/wide` with fewer
steps, then `vidtrack benchmark davis`. "scratch" begins with random weights, without `--backbone`. All rows
have the same steps, clips and rates: what differs is where they begin.

Finished work in OUT is not done again. Several processes may work on different `--rows` in one OUT; each
prints the table of all that is there, and writes it to OUT/handoff.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from commands import Found, Numbers, learned, markdown, measure_all, spread, tracking

SCRATCH = "scratch"
FILE = "backbone.safetensors"
COLUMNS = ["steps", "seeds", "frozen J&F", "after training: J&F", "J", "F", "cycle accuracy", "minutes"]


def measure(row: str, seed: int, options: argparse.Namespace) -> Numbers:
    """Train and score one row with one seed, where that was not done yet."""
    run, begin = options.out / f"{row}-{seed}", options.runs / f"{row}-{seed}"
    changes = [f"seed={seed}"]
    if row == SCRATCH:
        return learned(run, "track/wide", options.steps, changes, options)
    changes += ["--backbone", str(begin / FILE)]
    found = learned(run, "track/wide", options.steps, changes, options)
    frozen = tracking(begin / FILE, begin / "davis", options.data / "eval", run.with_suffix(".log"))
    return {**found, "frozen": frozen["J&F"]}


def table(found: Found) -> str:
    """Markdown of everything that was measured, the best first: `{row: {seed: numbers}}`."""

    def cell(row: str, key: str, digits: int = 3) -> str:
        values = [one[key] for one in found[row].values() if key in one]
        return spread(values, digits) if values else ""

    order = sorted(found, key=lambda row: cell(row, "J&F"), reverse=True)
    keys = ("frozen", "J&F", "J", "F", "cycle")
    rows = {
        row: [
            str(next(iter(found[row].values()))["steps"]),
            str(len(found[row])),
            *(cell(row, key) for key in keys),
            cell(row, "minutes", 1),
        ]
        for row in order
    }
    return markdown("begins with", rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder of backbones, METHOD-SEED each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", help="scratch and methods; all that RUNS has by default")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cache", type=Path, help="folder for decoded frames")
    options = parser.parse_args()
    rows = {}
    for seed in (int(word) for word in options.seeds.split(",")):
        there = sorted(path.parent.name for path in options.runs.glob(f"*-{seed}/{FILE}"))
        every = [SCRATCH, *(name.rsplit("-", 1)[0] for name in there)]
        rows[seed] = options.rows.split(",") if options.rows else every
    measure_all(rows, measure, table, options, "handoff")


if __name__ == "__main__":
    main()
