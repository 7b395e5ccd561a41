"""`log.jsonl` of a run: a record of loss and speed every few steps, one JSON object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path

LOG = "log.jsonl"


def append(run: Path, record: dict[str, float], name: str = LOG) -> None:
    """Add a record to a file of a run; a line that was cut off by a kill or a full disk stays by itself."""
    with (run / name).open("ab+") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


def trim(run: Path, step: int) -> None:
    """Drop what a killed run logged after the checkpoint that it goes on from: those steps are made again.

    Lines that are cut off go, too.

    Args:
        run: folder of the run.
        step: of the checkpoint.
    """
    path = run / LOG
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    if kept != lines:
        partial = path.with_name(f".{LOG}.partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(path)


def _step(line: str) -> float:
    """The step of a record; infinity for what is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def duration(minutes: float) -> str:
    """A time as one says it."""
    if minutes >= 120:
        return f"{minutes / 60:.1f} hours"
    number, unit = (round(60 * minutes), "second") if minutes < 1 else (round(minutes), "minute")
    return f"{number} {unit}{'' if number == 1 else 's'}"
