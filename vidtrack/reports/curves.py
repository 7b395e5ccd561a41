"""The curves of a training run: what its log holds, and a chart for each value in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidtrack.reports.charts import POINTS, Series, line_chart

COUNTS = {"step", "steps", "minutes", "minutes_left"}  # in a log, but no curves
LAST = ("learning_rate", "samples_per_second", "waiting")  # of the curves
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def read_log(path: Path) -> list[dict[str, float]]:
    """The records of `log.jsonl` by step.

    A run that was killed begins again at its checkpoint and writes some steps twice: the later ones count.
    """
    records: dict[int, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found = json.loads(line)
            records[int(found["step"])] = {**found, "minutes": float(found["minutes"])}
        except (ValueError, KeyError, TypeError):  # cut off when the run was killed
            continue
    return [records[step] for step in sorted(records)]


def curves(log: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> str:
    """The section of all curves of a log; nothing where it has none.

    Args:
        log: see `read_log`.
        names: what keys of the log are called; others are called as they are.
    """
    charts = curve_charts(log, names)
    if not charts:
        return ""
    note = "Values of single steps; the horizontal axis counts steps."
    if len(log) > POINTS:
        note = "The horizontal axis counts steps; means of neighbouring steps are drawn."
    grid = "".join(charts)
    return f"<section><h2>Curves</h2><p class='note'>{note}</p><div class='grid'>{grid}</div></section>"


def curve_charts(log: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> list[str]:
    """A chart for each value of a log over its steps, see `curves`."""
    keys = list(dict.fromkeys(name for record in log for name in record if name not in COUNTS))
    keys = [*(n for n in keys if n not in LAST), *(n for n in LAST if n in keys)]
    steps = [record["step"] for record in log]
    charts = []
    for name in keys:
        values = [known_value(record.get(name)) for record in log]
        known = [value for value in values if value is not None]
        if known:
            label = names.get(name, name.replace("_", " "))
            said = f"over {steps[-1]:.0f} steps, from {known[0]:.4g} to {known[-1]:.4g}"
            power = _power(known)
            values = [None if value is None else value / 10.0**power for value in values]
            label += f", 10{str(power).translate(RAISED)}" if power else ""
            low, high = (value / 10.0**power for value in curve_range(known))
            chart = line_chart(label, [Series(label, values)], bounds=(low, high), places=steps, said=said)
            charts.append(f"<div>{chart}</div>")
    return charts


def curve_range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a curve's axis: from 0 if values come near it from above, else around them with a margin."""
    low, high = min(values), max(values)
    if 0 <= low <= 0.5 * high > 0:
        return 0.0, high
    if low == high == 0:
        return 0.0, 1.0
    margin = 0.05 * (high - low) or 0.05 * abs(high)
    return low - margin, high + margin


def _power(values: Sequence[float]) -> int:
    """The power of ten, in thousands, in which values are written with few digits."""
    largest = max(abs(value) for value in values)
    if largest == 0 or 0.05 <= largest < 10_000:
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def known_value(value: Any) -> float | None:
    """A number of a log; None for what is none, or not finite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
