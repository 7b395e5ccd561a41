"""The results of a benchmark as files: of one tracker, and the table of several.

results.json   of one tracker: the scores at the top, `sequences` with theirs (schema 1)
results.csv    its sequences in the official tool's columns
table.json     of several trackers: `rows` (schema 2)
table.csv      a line for each
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vidtrack.benchmark.rows import written
from vidtrack.files import write_json

ONE, TABLE = 1, 2  # schemas
RESULTS_JSON, TABLE_JSON = "results.json", "table.json"
_SHARED = ("benchmark", "title", "keys", "lower", "data", "data_sha256", "protocol", "versions")


def of_one(table: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a table as the results of one tracker: scores lie at the top, and so in each sequence."""
    rest = {key: value for key, value in row.items() if key not in ("scores", "sequences")}
    sequences = {
        name: {**found["scores"], **{key: value for key, value in found.items() if key != "scores"}}
        for name, found in row["sequences"].items()
    }
    shared = {key: table[key] for key in _SHARED}
    return {"schema": ONE, **row["scores"], **shared, **rest, "sequences": sequences}


def as_table(one: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `of_one`: a table of one row.

    Raises:
        KeyError, TypeError: it isn't what `of_one` makes.
    """
    keys = one["keys"]

    def split(found: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in found.items() if key not in keys}
        return {"scores": {key: found[key] for key in keys}, **rest}

    row = {key: value for key, value in split(one).items() if key not in (*_SHARED, "schema")}
    row["sequences"] = {name: split(found) for name, found in one["sequences"].items()}
    return {"schema": TABLE, **{key: one[key] for key in _SHARED}, "sweep": None, "rows": [row]}


def notes(table: Mapping[str, Any]) -> list[str]:
    """Sentences without which a table would be misread."""
    if sum(bool(row.get("swept")) for row in table["rows"]) < 2:
        return []
    shared = "Rows of a sweep share embeddings where they can"
    return [f"{shared}: their time is in frames/s of the row that made them."]


def write(folder: Path, table: Mapping[str, Any], folders: Iterable[str]) -> None:
    """Write the results of each row into its folder, and the table where there are several.

    Args:
        folder: of the whole.
        table: see `vidtrack.benchmark.runner.run`.
        folders: of each row, from `folder`; "" for a row that is alone.
    """
    keys = table["keys"]
    for row, own in zip(table["rows"], folders, strict=True):
        (folder / own).mkdir(parents=True, exist_ok=True)
        write_json(folder / own / RESULTS_JSON, of_one(table, row))
        _write_csv(folder / own / "results.csv", "Sequence", keys, row["sequences"])
    if len(table["rows"]) > 1:
        write_json(folder / TABLE_JSON, dict(table))
        swept = [name for name in table.get("sweep") or {} if name not in keys]
        rows = {row["name"]: row for row in table["rows"]}
        _write_csv(folder / "table.csv", "Tracker", keys, rows, swept)


def _write_csv(
    path: Path,
    head: str,
    keys: list[str],
    lines: Mapping[str, Mapping[str, Any]],
    swept: Sequence[str] = (),
) -> None:
    """Scores, after the swept settings of each line."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([head, *swept, *keys])
        for name, found in lines.items():
            own = found.get("swept") or {}
            settings = (written(own[key]) if key in own else "" for key in swept)
            values = (found["scores"].get(key) for key in keys)
            writer.writerow([name, *settings, *("" if value is None else f"{value:.6f}" for value in values)])
