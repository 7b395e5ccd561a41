"""What the benchmarks that type vidtrack's commands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any


def call(words: list[str], log: Path) -> None:
    """Run a command of vidtrack; its output goes to a log."""
    with log.open("a") as file:
        file.write(f"$ vidtrack {' '.join(words)}\n")
        file.flush()
        done = subprocess.run([sys.executable, "-m", "vidtrack.cli", *words], stdout=file, stderr=file)
    if done.returncode:
        raise SystemExit(f"vidtrack {' '.join(words)} failed: see {log}")


def tracking(tracker: Path, out: Path, data: Path, log: Path) -> dict[str, float]:
    """J&F, J and F of a tracker or frozen backbone on DAVIS-2016-dev; what OUT has is not done again."""
    if not (out / "results.json").is_file():
        words = ["benchmark", "davis", "--data", str(data / "DAVIS-2016-dev"), "--year", "2016"]
        call([*words, "--split", "dev", "--tracker", str(tracker), "--out", str(out), "--quiet"], log)
    results = json.loads((out / "results.json").read_text())
    return {name: results[f"{name}-Mean"] for name in ("J&F", "J", "F")}


def trained(run: Path) -> dict[str, float]:
    """What a finished run of `vidtrack train` says of itself: steps, minutes, cycle accuracy at the end."""
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    check = json.loads((run / "validation.jsonl").read_text().splitlines()[-1])
    return {"steps": last["step"], "minutes": last["minutes"], "cycle": check["cycle_accuracy"]}


def spread(values: list[float], digits: int) -> str:
    """The mean and, of several values, their standard deviation."""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def gather(out: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The numbers of each row and seed, from `OUT/ROW-SEED/row.json`."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(out.glob("*/row.json")):
        row, seed = path.parent.name.rsplit("-", 1)
        found.setdefault(row, {})[int(seed)] = json.loads(path.read_text())
    return found


def markdown(title: str, rows: dict[str, list[str]], columns: list[str]) -> str:
    """A table with the name of each row in front."""
    lines = [f"| {' | '.join([title, *columns])} |", "|" + "---|" * (len(columns) + 1)]
    return "\n".join([*lines, *(f"| {' | '.join([row, *cells])} |" for row, cells in rows.items())])
