"""What pretraining gives to tracking: a backbone frozen, and after video training of an equal budget.

    python tests/benchmarks/handoff.py --data DATA --out OUT

Each row is made by the commands that a user types: `vidtrack pretrain METHOD` on frames of DATA/train, for
`--share` of its config's steps (1: twenty minutes of two cores); `vidtrack benchmark davis` with the frozen
backbone; `vidtrack train --backbone RUN --config track/wide` for `--steps`; `vidtrack benchmark davis` again.
ResNets have half their channels, as the default tracker. "scratch" begins with random weights. All rows have
the same clips, steps and rates in video training: what differs is where they begin.

Finished work in OUT is not done again. Several processes may work on different `--rows` in one OUT; each
prints the table of all that is there, and writes it to OUT/handoff.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from commands import Found, Numbers, call, learned, markdown, measure_all, shortened, spread, tracking

from pretrain.catalogue import FILE

SCRATCH = "scratch"
METHODS = ["colorization", "simclr", "rotation", "jigsaw", "split_brain"]
METHODS += ["moco", "inpainting", "relative_patch", "mae"]
COLUMNS = ["seeds", "minutes of pretraining", "frozen J&F", "minutes of training"]
COLUMNS += ["J&F after training", "J", "F", "cycle accuracy"]
WIDTH = 0.5  # share of the channels of a ResNet


def pretrained(method: str, seed: int, run: Path, options: argparse.Namespace) -> float:
    """`vidtrack pretrain`, unless RUN is finished; returns how many minutes it took."""
    if not (run / FILE).is_file():
        run.parent.mkdir(parents=True, exist_ok=True)
        changes = [f"seed={seed}", *shortened(method, options.share)]
        changes += ["data.limit=8000", f"data.cache={options.out / 'stills'}"]
        changes += [] if method == "mae" else [f"backbone.share={WIDTH}"]
        words = ["pretrain", method, "--data", str(options.data / "train"), "--out", str(run), "--quiet"]
        call([*words, *changes], run.with_suffix(".log"))
    return float(json.loads((run / "log.jsonl").read_text().splitlines()[-1])["minutes"])


def measure(row: str, seed: int, options: argparse.Namespace) -> Numbers:
    """Train and score one row with one seed, where that was not done yet."""
    run, start = options.out / f"{row}-{seed}", options.out / "pretrain" / f"{row}-{seed}"
    if row == SCRATCH:
        changes = [f"seed={seed}", f"model.share={WIDTH}", "model.padding=zeros"]  # as backbones have it
        return learned(run, "track/wide", options.steps, changes, options)
    minutes = pretrained(row, seed, start, options)
    frozen = tracking(start / FILE, start / "davis", options.data / "eval", start.with_suffix(".log"))
    changes = [f"seed={seed}", "--backbone", str(start / FILE)]
    found = learned(run, "track/wide", options.steps, changes, options)
    return {**found, "pretraining": minutes, "frozen": frozen["J&F"]}


def table(found: Found) -> str:
    """Markdown of everything that was measured, the best first: `{row: {seed: numbers}}`."""

    def cell(row: str, key: str, digits: int = 3) -> str:
        values = [one[key] for one in found[row].values() if key in one]
        return spread(values, digits) if values else ""

    order = sorted(found, key=lambda row: cell(row, "J&F"), reverse=True)
    rows = {
        row: [
            str(len(found[row])),
            cell(row, "pretraining", 1),
            cell(row, "frozen"),
            cell(row, "minutes", 1),
            *(cell(row, key) for key in ("J&F", "J", "F", "cycle")),
        ]
        for row in order
    }
    return markdown("begins with", rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join([SCRATCH, *METHODS]))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--share", type=float, default=0.2, help="of the steps of the configs of pretraining")
    parser.add_argument("--steps", type=int, default=100, help="of video training")
    parser.add_argument("--cache", type=Path, help="folder for decoded frames of video training")
    options = parser.parse_args()
    rows = {int(seed): options.rows.split(",") for seed in options.seeds.split(",")}
    measure_all(rows, measure, table, options, "handoff")


if __name__ == "__main__":
    main()
