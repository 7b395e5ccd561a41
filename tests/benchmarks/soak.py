"""Hours of damage: broken files, kills and fuzzing, with a time limit; the table of the README's reliability.

    python -m tests.benchmarks.soak --minutes 60 --out OUT

Three parts, which share the time; `--parts damage,kills` chooses.

- **damage**: each case of `tests.hostile.corpus` goes through `vidtrack propagate` under each `--on-error`,
  then new random damage, seed after seed, under one of them. A run must end with exit code 0 and a complete
  OUT, or with one sentence and no OUT.
- **kills**: commands are killed (SIGKILL) at random moments and run again until they are done; the result
  must be that of an undisturbed run.
- **fuzz**: the property tests of `tests/hostile`, with as many examples as the time allows.

A **crash** is an end by a signal or in a traceback, a **hang** a run of more than five minutes, a **silent
loss** a result that lacks frames and does not say so. Anything else that is wrong counts as another fault.
All are printed. With VIDTRACK_DATA the damaged clips are made of real ones. The exit code is 1 if anything
went wrong. OUT gets soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.hostile.corpus import Case, cases
from tests.hostile.faults import Job, Nursery, command_inputs, kill_rounds
from tests.hostile.verdict import arguments, faults
from vidtrack.tolerance import ON_ERROR

KILLED = ("propagate", "train", "pretrain", "benchmark", "adapt", "colorize", "probe")
SHARES = {"damage": 0.5, "kills": 0.3, "fuzz": 0.2}  # of the time
FLIPS, HOLES = 12, 4  # of each container and seed
SIDE_BY_SIDE = 2
EXAMPLES = (10, 1000)  # of each property test: the first try, to see how long they take, and at most
EXAMPLE = re.compile(r"(\d+) passing\D+(\d+) failing\D+(\d+) invalid")  # of hypothesis's statistics
MOST_TOLD = 1000  # characters of a fault
FUZZED = "tests/hostile/test_fuzz*.py"


@dataclass
class Tally:
    """What was tried, and what went wrong.

    Attributes:
        kinds: of damage, with the number of files of each.
        ended: exit codes of the runs on them.
        memory_mb: the most that such a run took.
        kills: by command: processes that a kill found at work.
        rounds: results that were complete after kills.
        examples: of property tests.
        faults: sentences.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    memory_mb: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    examples: int = 0
    crashes: int = 0
    hangs: int = 0
    losses: int = 0
    faults: list[str] = field(default_factory=list)

    def blame(self, told: str, found: list[str]) -> None:
        """Count and print what is wrong with a run."""
        for what in found:
            self.crashes += "crashes" in what or "Traceback" in what
            self.losses += "without a word" in what
            self.faults.append(f"{told}: {what}")
            print(f"FAULT {told}: {what[:MOST_TOLD]}", flush=True)

    def table(self) -> str:
        """Markdown."""
        runs = self.ended.total()
        rows = [
            ("kinds of damage", len(self.kinds)),
            ("damaged files", self.kinds.total()),
            ("runs on them", f"{runs} ({self.ended[0]} with a result, {runs - self.ended[0]} refused)"),
            ("most memory of such a run", f"{self.memory_mb:.0f} MB"),
            ("kills", f"{self.kills.total()} of {len(self.kills)} commands"),
            ("results after kills, equal to undisturbed ones", self.rounds),
            ("random inputs of parsers and commands", self.examples),
            ("crashes", self.crashes),
            ("hangs", self.hangs),
            ("silent losses", self.losses),
            ("other faults", len(self.faults) - self.crashes - self.hangs - self.losses),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def damage(tally: Tally, folder: Path, until: float, seed: int) -> None:
    """Cases of the corpus through the command, until the time is up."""
    folder.mkdir()
    command_inputs(folder / "made")
    tracker = folder / "made" / "tracker.safetensors"
    with Nursery(folder) as nursery:
        for number in count(seed):
            place = folder / f"cases-{number}"
            video = place / "whole" / "front.mp4"
            place.mkdir()
            made = cases(place, number, FLIPS, HOLES, fixed=number == seed)
            for index, batch in enumerate(batches(made, SIDE_BY_SIDE)):
                if time.monotonic() >= until:
                    return
                for on_error in ON_ERROR if number == seed else [ON_ERROR[index % len(ON_ERROR)]]:
                    try_batch(tally, nursery, batch, on_error, video, tracker, number)
                tally.kinds.update(case.kind for case in batch)
            shutil.rmtree(place)


def batches(made: Iterator[Case], size: int) -> Iterator[list[Case]]:
    """Cases, a few at a time."""
    batch: list[Case] = []
    for case in made:
        batch.append(case)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def try_batch(
    tally: Tally, nursery: Nursery, batch: list[Case], on_error: str, video: Path, tracker: Path, seed: int
) -> None:
    """Run cases side by side, and judge how they end."""
    outs = [nursery.folder / f"out-{number}" for number in range(len(batch))]
    before = set(nursery.folder.iterdir())
    jobs = [
        Job([*arguments(case, video), "--tracker", str(tracker), "--on-error", on_error, "--out", str(out)])
        for case, out in zip(batch, outs, strict=True)
    ]
    for case, out, ended in zip(batch, outs, nursery.run(*jobs), strict=True):
        told = f"seed {seed}, {case.name}, --on-error {on_error}"
        tally.ended[ended.code] += 1
        tally.memory_mb = max(tally.memory_mb, ended.memory_mb)
        if ended.hung:
            tally.hangs += 1
            tally.blame(told, ["hangs"])
        else:
            tally.blame(told, faults(case, ended.code, ended.said, out, on_error == "skip"))
        for path in (out, out.with_name(f"{out.name}.partial")):
            shutil.rmtree(path, ignore_errors=True)
    left = set(nursery.folder.iterdir()) - before - {nursery.folder / "cache"}
    tally.blame(f"seed {seed}, {[case.name for case in batch]}", [f"leaves {path.name}" for path in left])


def kills(tally: Tally, folder: Path, until: float, seed: int) -> None:
    """Rounds of kills, command after command."""
    folder.mkdir()
    command_inputs(folder / "made")
    with Nursery(folder) as nursery:
        for number in count(seed):
            for name in KILLED:
                if time.monotonic() >= until:
                    return
                counts = kill_rounds(name, folder, number, 3, until, nursery)
                tally.kills[name] += counts.kills
                tally.rounds += counts.rounds
                tally.hangs += counts.hangs
                tally.blame("kill -9", counts.faults)


def fuzz(tally: Tally, folder: Path, until: float, seed: int) -> None:
    """The property tests: a few examples first, then as many as fit."""
    folder.mkdir()
    wanted, took = EXAMPLES[0], 0.0
    for number in count(seed):
        left = until - time.monotonic()
        if number > seed:
            wanted = min(EXAMPLES[1], int(wanted * 0.8 * left / took))
            if wanted < EXAMPLES[0]:
                return
        began = time.monotonic()
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        words += ["--hypothesis-show-statistics", f"--hypothesis-seed={number}", "--basetemp", folder / "tmp"]
        files = sorted(map(str, Path.cwd().glob(FUZZED)))
        environment = {**os.environ, "VIDTRACK_EXAMPLES": str(wanted)}
        done = subprocess.run([*map(str, words), *files], env=environment, capture_output=True, text=True)
        took = time.monotonic() - began
        tried = sum(int(n) for found in EXAMPLE.findall(done.stdout) for n in found)
        tally.examples += tried
        if done.returncode or not tried:
            tally.blame(f"fuzz, --hypothesis-seed={number}, {wanted} examples", [done.stdout[-3000:]])


PARTS = {"damage": damage, "kills": kills, "fuzz": fuzz}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    parts = options.parts.split(",")
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak") as work:
        for name in parts:
            share = SHARES[name] / sum(SHARES[part] for part in parts)
            PARTS[name](
                tally, Path(work) / name, time.monotonic() + 60 * options.minutes * share, options.seed
            )
            print(f"{name}: {(time.monotonic() - began) / 60:.0f} minutes\n{tally.table()}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    found = {**vars(tally), "minutes": (time.monotonic() - began) / 60, "seed": options.seed}
    (options.out / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(bool(tally.faults or tally.hangs))


if __name__ == "__main__":
    main()
