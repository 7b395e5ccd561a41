"""Benchmark results as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

MEASURES = ("J&F-Mean", "J-Mean", "F-Mean")


def table(results: dict[str, Any] | Sequence[dict[str, Any]]) -> Table:
    """A row per sequence and a last row over all objects.

    One result has the columns J&F, J and F (means, 0..1). Several results of the same sequences have one
    column each, J&F, headed by `settings.tracker` or else their place in the list; a sequence that a result
    lacks is shown as "-".

    Args:
        results: what `run_davis` returns, one or several.
    """
    several = not isinstance(results, dict)
    runs: list[dict[str, Any]] = [results] if isinstance(results, dict) else list(results)
    if not runs:
        raise ValueError("there are no results to show")
    title = f"DAVIS-{runs[0]['year']} {runs[0]['split']}" + (": J&F-Mean" if several else "")
    out = Table(title=title, show_footer=False)
    out.add_column("sequence")
    if several:
        columns = [(run, "J&F-Mean") for run in runs]
        heads = [str(run["settings"].get("tracker", number)) for number, run in enumerate(runs, 1)]
    else:
        columns = [(runs[0], key) for key in MEASURES]
        heads = list(MEASURES)
    for head in heads:
        out.add_column(head, justify="right")

    names = list(dict.fromkeys(name for run in runs for name in run["sequences"]))
    for name in names:
        cells = [_cell(run["sequences"].get(name), key) for run, key in columns]
        out.add_row(name, *cells, end_section=name == names[-1])
    out.add_row("all objects", *(_cell(run, key) for run, key in columns), style="bold")
    return out


def _cell(scores: dict[str, Any] | None, key: str) -> str:
    return "-" if scores is None else f"{scores[key]:.3f}"
