"""What the benchmarks that type vidtrack's commands have in common."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pretrain.config import load_config
from pretrain.settings import schema
from vidtrack.files import bundled_configs

Numbers = dict[str, Any]
Found = dict[str, dict[int, Numbers]]  # of each row and seed


def call(words: list[str], log: Path) -> None:
    """Run a command of vidtrack; its output goes to a log."""
    with log.open("a") as file:
        file.write(f"$ vidtrack {' '.join(words)}\n")
        file.flush()
        done = subprocess.run([sys.executable, "-m", "vidtrack.cli", *words], stdout=file, stderr=file)
    if done.returncode:
        raise SystemExit(f"vidtrack {' '.join(words)} failed: see {log}")


def shortened(method: str, share: float) -> list[str]:
    """Overrides that give `vidtrack pretrain METHOD` a share of the steps of its config."""
    config = load_config(schema(method), f"pretrain/{method}", [], bundled_configs()).optimizer
    warmup = round(config.warmup_steps * share)
    return [f"optimizer.steps={round(config.steps * share)}", f"optimizer.warmup_steps={warmup}"]


def tracking(tracker: Path, out: Path, data: Path, log: Path) -> dict[str, float]:
    """J&F, J and F of a tracker or frozen backbone on DAVIS-2016-dev; what OUT has is not done again.

    Pointers are the plain ones of the literature, and numbers are float32 on every machine: what is compared
    is features.
    """
    if not (out / "results.json").is_file():
        words = ["benchmark", "davis", "--data", str(data / "DAVIS-2016-dev"), "--year", "2016"]
        words += ["--split", "dev", "--bijective", "0", "--annotated", "0", "--no-drop-entering"]
        words += ["--precision", "float32"]
        call([*words, "--tracker", str(tracker), "--out", str(out), "--quiet"], log)
    results = json.loads((out / "results.json").read_text())
    return {name: results[f"{name}-Mean"] for name in ("J&F", "J", "F")}


def learned(run: Path, config: str, steps: int, changes: list[str], options: argparse.Namespace) -> Numbers:
    """`vidtrack train` for so many steps, then `vidtrack benchmark davis`; what RUN has is not done again.

    Returns:
        What the run says of itself (steps, minutes, cycle accuracy at the end), and J&F, J and F.
    """
    log, tracker = run.with_suffix(".log"), run / "tracker.safetensors"
    if not tracker.is_file():
        words = ["train", "--data", str(options.data / "train"), "--config", config, "--out", str(run)]
        words += [f"optimizer.steps={steps}", f"optimizer.warmup_steps={steps // 10}", *changes]
        call([*words, *([f"data.cache={options.cache}"] if options.cache else [])], log)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    check = json.loads((run / "validation.jsonl").read_text().splitlines()[-1])
    own = {"steps": last["step"], "minutes": last["minutes"], "cycle": check["cycle_accuracy"]}
    return {**own, **tracking(tracker, run / "davis", options.data / "eval", log)}


def measure_all(
    rows: dict[int, list[str]],
    measure: Callable[[str, int, argparse.Namespace], Numbers],
    table: Callable[[Found], str],
    options: argparse.Namespace,
    name: str,
) -> None:
    """Measure the rows of each seed, and print and keep the table of all that OUT has."""
    options.out.mkdir(parents=True, exist_ok=True)
    for seed, names in rows.items():
        for row in names:
            numbers = measure(row, seed, options)
            (options.out / f"{row}-{seed}" / "row.json").write_text(json.dumps(numbers))
            print(row, seed, numbers, flush=True)
    made = table(gather(options.out))
    (options.out / f"{name}.md").write_text(made + "\n")
    print(made)


def spread(values: list[float], digits: int) -> str:
    """The mean and, of several values, their standard deviation."""
    text = f"{mean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def gather(out: Path) -> Found:
    """The numbers of each row and seed, from `OUT/ROW-SEED/row.json`."""
    found: Found = {}
    for path in sorted(out.glob("*/row.json")):
        row, seed = path.parent.name.rsplit("-", 1)
        found.setdefault(row, {})[int(seed)] = json.loads(path.read_text())
    return found


def markdown(title: str, rows: dict[str, list[str]], columns: list[str]) -> str:
    """A table with the name of each row in front."""
    lines = [f"| {' | '.join([title, *columns])} |", "|" + "---|" * (len(columns) + 1)]
    return "\n".join([*lines, *(f"| {' | '.join([row, *cells])} |" for row, cells in rows.items())])
