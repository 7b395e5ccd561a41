"""Each objective of `vidtrack train` alone, for an equal short budget: what it gives to tracking.

    python tests/benchmarks/objectives.py --data DATA --out OUT

DATA has `train/` (videos) and `eval/DAVIS-2016-dev`. Each row is made by the commands that a user types:
`vidtrack train --config track/laptop 'objectives={NAME: 1}'` with fewer steps, then `vidtrack benchmark
davis`. The network is that of `track/laptop`. An equal budget means equally many frames forward and backward
(a frame without gradient counts a third); the minutes that it took stand beside it. "random" is the same
network before training; of `quantized` there is one that sees lightness alone, as in its paper, and one that
sees gray pictures while it learns, and colours when it tracks.

Finished work in OUT is not done again. Several processes may work on different `--seeds` and `--rows` in one
OUT; each prints the table of all that is there, and writes it to OUT/objectives.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

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
    "quantized": ["model.input=l", "clips.permute=false"],
    "quantized-rgb": ["clips.permute=false"],
    "lab": ["clips.permute=false"],
}
ROWS = ["random", *PASSES]


def steps(row: str, budget: int) -> int:
    """Steps that cost as much as `budget` steps of `anchors`."""
    if row == "random":
        return 1
    cost = {name: graded + free / 3 for name, (graded, free) in PASSES.items()}
    return round(budget * cost["anchors"] / cost[row])


def call(words: list[str], log: Path) -> None:
    """Run a command of vidtrack; its output goes to a log."""
    with log.open("a") as file:
        file.write(f"$ vidtrack {' '.join(words)}\n")
        file.flush()
        done = subprocess.run([sys.executable, "-m", "vidtrack.cli", *words], stdout=file, stderr=file)
    if done.returncode:
        raise SystemExit(f"vidtrack {' '.join(words)} failed: see {log}")


def measure(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one row with one seed, where that was not done yet."""
    run = options.out / f"{row}-{seed}"
    log = options.out / f"{row}-{seed}.log"
    count = steps(row, options.steps)
    if not (run / "tracker.safetensors").is_file():
        name = row.removesuffix("-rgb") if row != "random" else "anchors"
        words = [
            "train",
            "--data",
            str(options.data / "train"),
            "--config",
            "track/laptop",
            "--out",
            str(run),
        ]
        words += [
            f"objectives={{{name}: 1}}",
            f"seed={seed}",
            f"optimizer.steps={count}",
            *EXTRA.get(row, []),
        ]
        words += [f"optimizer.warmup_steps={count // 10}"]
        if row == "random":
            words += ["optimizer.learning_rate=1e-12"]  # the weights stay where they began
        if options.cache:
            words += [f"data.cache={options.cache}"]
        call(words, log)
    if not (run / "davis" / "results.json").is_file():
        davis = ["--data", str(options.data / "eval" / "DAVIS-2016-dev"), "--year", "2016", "--split", "dev"]
        found = ["--tracker", str(run / "tracker.safetensors"), "--out", str(run / "davis"), "--quiet"]
        call(["benchmark", "davis", *davis, *found], log)
    results = json.loads((run / "davis" / "results.json").read_text())
    steps_log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    checks = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    return {
        "steps": count,
        "minutes": steps_log[-1]["minutes"] if steps_log else 0.0,
        "cycle": checks[-1]["cycle_accuracy"],
        "J&F": results["J&F-Mean"],
        "J": results["J-Mean"],
        "F": results["F-Mean"],
    }


def spread(values: list[float], digits: int = 3) -> str:
    """The mean of several seeds and, in brackets, their standard deviation."""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown of everything that was measured: `{row: {seed: numbers}}`."""
    lines = ["| objective | steps | seeds | minutes | J&F | J | F | cycle accuracy |", "|" + "---|" * 8]
    for row in ROWS:
        seeds = list(found.get(row, {}).values())
        if seeds:
            cells = [row, str(seeds[0]["steps"]), str(len(seeds))]
            cells.append(spread([one["minutes"] for one in seeds], 1))
            cells += [spread([one[key] for one in seeds]) for key in ("J&F", "J", "F", "cycle")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=200, help="of the objective anchors; others accordingly")
    parser.add_argument("--cache", type=Path, help="folder for decoded frames")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in (int(word) for word in options.seeds.split(",")):
        for row in options.rows.split(","):
            numbers = measure(row, seed, options)
            (options.out / f"{row}-{seed}" / "row.json").write_text(json.dumps(numbers))
            print(row, seed, numbers, flush=True)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(options.out.glob("*/row.json")):
        row, seed = path.parent.name.rsplit("-", 1)
        found.setdefault(row, {})[seed] = json.loads(path.read_text())
    made = table(found)
    (options.out / "objectives.md").write_text(made + "\n")
    print(made)


if __name__ == "__main__":
    main()
