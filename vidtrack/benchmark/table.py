"""Benchmark results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from vidtrack.benchmark.ranking import best_rows, drawn_rows, is_lower, number, setting, swept_order

_FEW = 4  # keys whose names fit beside each other
_MOST = 7  # keys that fit into 80 columns


def table(results: dict[str, Any]) -> Table:
    """A row per tracker, or per combination of a sweep in its order; the best of each score is bold.

    Columns: the name (of a sweep: the swept parameters, and the name if several rows share their values), all
    scores (0..1 unless the benchmark says otherwise; "lower" marks those where lower is better), frames per
    second and the peak memory in MB. What isn't known is "-".

    Of more than seven scores those at single thresholds, such as `J-4` beside `AJ`, are left to the files.

    Args:
        results: schema 2, see `vidtrack.benchmark.runner`.
    """
    rows, keys = results["rows"], _shown(results["keys"])
    sweep = list(results.get("sweep") or {})
    combinations = [str([row.get("swept", {}).get(name) for name in sweep]) for row in rows]
    named = not sweep or len(set(combinations)) < len(rows)
    out = _table(results["title"], keys)
    for head in [*(["tracker"] if named else []), *sweep]:
        out.add_column(Text(head), overflow="fold")
    _score_columns(out, results, keys)
    out.add_column("frames/s" if len(keys) <= _FEW else "frames\n/s", justify="right")
    out.add_column("MB", justify="right")
    best = {key: best_rows(results, key) for key in keys}
    for index in swept_order(results):
        row = rows[index]
        swept = row.get("swept", {})
        cells = [Text(_without(row["name"], swept))] if named else []
        cells += [Text(setting(swept[name]) if name in swept else "-") for name in sweep]
        cells += [
            Text(number(row["scores"].get(key)), style="bold" if index in best[key] else "") for key in keys
        ]
        speed, memory = row.get("frames_per_second"), row.get("peak_memory_mb")
        cells.append(Text("-" if speed is None else f"{speed:.1f}"))
        cells.append(Text("-" if memory is None else f"{memory:.0f}"))
        out.add_row(*cells)
    return out


def sequence_table(results: dict[str, Any]) -> Table:
    """A row per sequence, and a last one over all sequences in the benchmark's own aggregation.

    One tracker has a column for each score; several have one each, the main score, its best in bold. Of more
    than six trackers the first and the best five are shown.

    Args:
        results: schema 2.
    """
    main, rows = results["keys"][0], results["rows"]
    if len(rows) == 1:
        columns = [(0, key) for key in _shown(results["keys"])]
        out = _table(f"{results['title']}: {rows[0]['name']}", _shown(results["keys"]))
    else:
        columns = [(index, main) for index in drawn_rows(results)]
        out = _table(f"{results['title']}: {main}", [main])
    out.add_column("sequence", overflow="fold")
    if len(rows) == 1:
        _score_columns(out, results, _shown(results["keys"]))
    else:
        for index, _ in columns:
            out.add_column(Text(rows[index]["name"]), justify="right", overflow="fold")
    names = list(dict.fromkeys(name for row in rows for name in row["sequences"]))
    for name in names:
        found = [rows[index]["sequences"].get(name, {}).get("scores", {}).get(key) for index, key in columns]
        out.add_row(Text(name), *_cells(found, len(rows) > 1, main, results), end_section=name == names[-1])
    total = [rows[index]["scores"].get(key) for index, key in columns]
    out.add_row("all", *_cells(total, len(rows) > 1, main, results))
    return out


def _without(name: str, swept: dict[str, Any]) -> str:
    """The name of a row without its swept parameters, which have columns of their own."""
    return name.partition(f" {next(iter(swept))}=")[0] if swept else name


def _shown(keys: list[str]) -> list[str]:
    """The scores that have a column."""
    whole = [key for key in keys if not key.rpartition("-")[2].isdecimal()]
    return (whole or keys)[:_MOST] if len(keys) > _MOST else keys


def _table(title: str, keys: list[str]) -> Table:
    """An empty table: without lines between the columns if there are many."""
    if len(keys) <= _FEW:
        return Table(title=Text(title))
    return Table(title=Text(title), box=box.SIMPLE_HEAD, collapse_padding=True)


def _score_columns(out: Table, results: dict[str, Any], keys: Iterable[str]) -> None:
    keys = list(keys)
    for key in keys:
        # Seven official keys side by side must fit into 80 columns.
        head = key.replace("-", "\n", 1) if len(keys) > _FEW else key
        out.add_column(
            Text(head + ("\nlower" if is_lower(results, key) else "")), justify="right", no_wrap=True
        )


def _cells(values: list[float | None], marked: bool, key: str, results: dict[str, Any]) -> list[Text]:
    """Printed scores of a row; with `marked` the best is bold."""
    texts = [number(value) for value in values]
    known = [round(value, 3) for value in values if value is not None]
    best = number((min if is_lower(results, key) else max)(known)) if marked and known else None
    return [Text(text, style="bold" if text == best else "") for text in texts]
