"""What a pretrained backbone gives to tracking: frozen, and after video training of an equal budget.

    python tests/benchmarks/scoreboard.py --bed frames --data DATA --out RUNS
    python tests/benchmarks/handoff.py --data DATA --runs RUNS/frames --out OUT

RUNS/frames holds `METHOD-SEED/` with `backbone.safetensors` and the score of the frozen backbone. Each row is
made by the commands that a user types: `vidtrack train --backbone RUN --config track/default` with fewer
steps, then `vidtrack benchmark davis`. "scratch" begins with random weights, without `--backbone`. All rows
have the same steps, clips and rates: what differs is where they begin.

Finished work in OUT is not done again. Several processes may work on different `--rows` in one OUT; each
prints the table of all that is there, and writes it to OUT/handoff.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from commands import call, gather, markdown, spread, tracking, trained

SCRATCH = "scratch"
FILE = "backbone.safetensors"
COLUMNS = ["seeds", "frozen J&F", "after training: J&F", "J", "F", "cycle accuracy", "minutes"]


def measure(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one row with one seed, where that was not done yet."""
    run = options.out / f"{row}-{seed}"
    log = run.with_suffix(".log")
    begin = None if row == SCRATCH else options.runs / f"{row}-{seed}"
    if not (run / "tracker.safetensors").is_file():
        words = ["train", "--data", str(options.data / "train"), "--config", "track/default"]
        words += ["--out", str(run), f"seed={seed}", f"optimizer.steps={options.steps}"]
        words += [f"optimizer.warmup_steps={options.steps // 10}"]
        if begin is not None:
            words += ["--backbone", str(begin / FILE)]
        if options.cache:
            words += [f"data.cache={options.cache}"]
        call(words, log)
    scores = tracking(run / "tracker.safetensors", run / "davis", options.data / "eval", log)
    found = {**trained(run), **scores}
    if begin is not None:
        found["frozen"] = tracking(begin / FILE, begin / "davis", options.data / "eval", log)["J&F"]
    return found


def table(found: dict[str, dict[int, dict[str, Any]]], steps: int) -> str:
    """Markdown of everything that was measured, the best first: `{row: {seed: numbers}}`."""

    def cell(row: str, key: str, digits: int = 3) -> str:
        values = [one[key] for one in found[row].values() if key in one]
        return spread(values, digits) if values else ""

    order = sorted(found, key=lambda row: cell(row, "J&F"), reverse=True)
    keys = ("frozen", "J&F", "J", "F", "cycle")
    rows = {
        row: [str(len(found[row])), *(cell(row, key) for key in keys), cell(row, "minutes", 1)]
        for row in order
    }
    return markdown(f"begins with, {steps} steps", rows, COLUMNS)


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
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in (int(word) for word in options.seeds.split(",")):
        there = sorted(path.parent.name for path in options.runs.glob(f"*-{seed}/{FILE}"))
        rows = options.rows.split(",") if options.rows else [SCRATCH, *(n.rsplit("-", 1)[0] for n in there)]
        for row in rows:
            numbers = measure(row, seed, options)
            (options.out / f"{row}-{seed}" / "row.json").write_text(json.dumps(numbers))
            print(row, seed, numbers, flush=True)
    made = table(gather(options.out), options.steps)
    (options.out / "handoff.md").write_text(made + "\n")
    print(made)


if __name__ == "__main__":
    main()
