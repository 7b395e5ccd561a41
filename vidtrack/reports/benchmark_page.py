"""`report.html`: the results of a benchmark as one page that needs nothing else, on any screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtrack.benchmark.ranking import (
    best_rows,
    drawn_rows,
    is_lower,
    number,
    setting,
    swept_order,
)
from vidtrack.benchmark.results import notes
from vidtrack.files import atomic_file
from vidtrack.reports.benchmark_pictures import Picture, frame_scores, shrink
from vidtrack.reports.charts import (
    POINTS,
    Series,
    bar_chart,
    line_chart,
    swatch,
    text,
    value_range,
)
from vidtrack.reports.page import embedded, facts, whole_page
from vidtrack.reports.sweep import sweep_legend, sweep_plot

_GROUPS = 6  # sequences in one chart of bars, at most; few are spread over three columns
_QUALITY = 80  # of the JPEGs


def write_page(
    path: Path | str, results: dict[str, Any], pictures: Sequence[Picture] = (), *, overwrite: bool = True
) -> None:
    """Write results as one HTML file: table, sweep, bars by sequence, scores over time, pictures.

    It loads nothing from elsewhere and runs no script; it is light or dark as the reader's system is. Of more
    than six rows the charts show the first and the best five, the tables all.

    Args:
        path: of the file; written atomically.
        results: schema 2, see `vidtrack.benchmark.runner`.
        pictures: see `make_pictures`.
        overwrite: replace an existing file.

    Raises:
        InputError: the file exists without `overwrite`, or can't be written.
    """
    page = render_page(results, pictures)
    with atomic_file(path, overwrite) as partial:
        partial.write_text(page, encoding="utf-8")


def render_page(results: dict[str, Any], pictures: Sequence[Picture] = ()) -> str:
    """The HTML that `write_page` writes."""
    drawn = drawn_rows(results)
    title = text(results["title"])
    body = [
        f"<header><p class='kind'>vidtrack benchmark {text(results['benchmark'])}</p><h1>{title}</h1>"
        f"{_summary(results)}</header>",
        _table(results),
        _sweep(results),
        _bars(results, drawn),
        _times(results, drawn),
        _pictures(pictures, results),
        _measured(results),
    ]
    return whole_page(results["title"], body)


def _summary(results: dict[str, Any]) -> str:
    """One sentence: what is best."""
    key, rows = results["keys"][0], results["rows"]
    names = {name for row in rows for name in row["sequences"]}
    count = f"{len(names)} sequence{'s' if len(names) != 1 else ''}"
    best = sorted(best_rows(results, key)) or [0]
    value = number(rows[best[0]]["scores"].get(key), "not scored")
    which = f"{text(rows[best[0]]['name'])}: " if rows else ""
    among = f", the best of {len(rows)} rows" if len(rows) > 1 else ""
    return f"<p class='lead'>{which}<strong>{text(key)} {value}</strong>{among}, {count}.</p>"


def _table(results: dict[str, Any]) -> str:
    keys, rows = results["keys"], results["rows"]
    best = {key: best_rows(results, key) for key in keys}
    sweep = list(results.get("sweep") or {})
    heads = ["<th scope='col'>tracker</th>", *(f"<th scope='col'>{text(name)}</th>" for name in sweep)]
    for key in keys:
        lower = " <abbr title='lower is better'>\N{DOWNWARDS ARROW}</abbr>" if is_lower(results, key) else ""
        heads.append(f"<th scope='col' class='n'>{text(key)}{lower}</th>")
    heads += ["<th scope='col' class='n'>frames/s</th>", "<th scope='col' class='n'>memory, MB</th>"]
    lines = []
    for index in swept_order(results):
        row = rows[index]
        swept = row.get("swept") or {}
        cells = [f"<th scope='row'>{text(row['name'])}</th>"]
        cells += [f"<td>{text(setting(swept[name])) if name in swept else '–'}</td>" for name in sweep]
        for key in keys:
            value = number(row["scores"].get(key), "–")
            cells.append(f"<td class='n'>{f'<strong>{value}</strong>' if index in best[key] else value}</td>")
        for value, digits in ((row.get("frames_per_second"), 1), (row.get("peak_memory_mb"), 0)):
            cells.append(f"<td class='n'>{'–' if value is None else f'{value:.{digits}f}'}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    below = "".join(f"<p class='note'>{text(note)}</p>" for note in notes(results))
    return (
        "<section><h2>Scores</h2><div class='scroll'><table><thead><tr>"
        f"{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>{below}</section>"
    )


def _sweep(results: dict[str, Any]) -> str:
    plot = sweep_plot(results)
    if not plot:
        return ""
    return (
        f"<section><h2>Sweep</h2>{sweep_legend(results)}"
        f"<div class='scroll'><div class='sweep'>{plot}</div></div></section>"
    )


def _bars(results: dict[str, Any], drawn: list[int]) -> str:
    key = results["keys"][0]
    names = _sequences(results, drawn)
    values = [[_score(results["rows"][i], name, key) for name in names] for i in drawn]
    if not any(value is not None for row in values for value in row):
        return ""
    bounds = value_range([value for row in values for value in row if value is not None])
    charts = []
    groups = min(_GROUPS, -(-len(names) // 3))
    for start in range(0, len(names), groups):
        part = slice(start, start + groups)
        series = [
            Series(results["rows"][i]["name"], row[part], style)
            for style, (i, row) in enumerate(zip(drawn, values, strict=True))
        ]
        title = f"{key} of {', '.join(names[part])}"
        charts.append(f"<div>{bar_chart(title, names[part], series, bounds=bounds)}</div>")
    return (
        f"<section><h2>{text(key)} by sequence</h2>{_legend(results, drawn)}"
        f"<div class='grid'>{''.join(charts)}</div></section>"
    )


def _times(results: dict[str, Any], drawn: list[int]) -> str:
    names = _sequences(results, drawn)
    charts, longest = [], 0
    for name in names:
        series = []
        for style, index in enumerate(drawn):
            row = results["rows"][index]
            if (record := row["sequences"].get(name)) is not None and record.get("series"):
                series.append(Series(row["name"], frame_scores(record), style))
        if any(value is not None for one in series for value in one.values):
            longest = max(longest, *(len(one.values) for one in series))
            charts.append(f"<div>{line_chart(name, series)}</div>")
    if not charts:
        return ""
    note = "The main score of each frame, mean over its objects; nothing where a frame isn't scored."
    if longest > POINTS:
        note += f" Of more than {POINTS} frames, means of neighbouring ones are drawn."
    return (
        f"<section><h2>Score over time</h2><p class='note'>{note}</p>{_legend(results, drawn)}"
        f"<div class='grid'>{''.join(charts)}</div></section>"
    )


def _pictures(pictures: Sequence[Picture], results: dict[str, Any]) -> str:
    if not pictures:
        return ""
    parts = ["<section><h2>Best and worst frames</h2>"]
    several = len(results["rows"]) > 1
    for row, of_row in groupby(pictures, key=lambda picture: picture.row):
        parts.append(f"<h3>{text(row)}</h3>" if several else "")
        for kind, group in groupby(of_row, key=lambda picture: picture.kind):
            figures = "".join(_figure(picture) for picture in group)
            parts.append(f"<h4>{kind}</h4><div class='pairs'>{figures}</div>")
    return "".join(parts) + "</section>"


def _figure(picture: Picture) -> str:
    where = text(f"{picture.sequence}, frame {picture.frame}")
    who = text(picture.row)
    return (
        "<figure><div class='pair'>"
        f"<div><img alt='{where}: {who}' {_embedded(picture.predicted)}><span>tracked</span></div>"
        f"<div><img alt='{where}: truth' {_embedded(picture.truth)}><span>truth</span></div></div>"
        f"<figcaption>{where}: {number(picture.score)}</figcaption></figure>"
    )


def _embedded(image: NDArray[np.uint8]) -> str:
    """Attributes of an `<img>` with the picture inside, small."""
    return embedded(shrink(image), quality=_QUALITY)


def _measured(results: dict[str, Any]) -> str:
    shown = {"data": results.get("data"), "SHA-256 of the data": results.get("data_sha256")}
    shown |= results.get("protocol") or {}
    versions = results.get("versions") or {}
    rows = "".join(_row_details(row) for row in results["rows"])
    return (
        f"<section><h2>What was measured</h2>{facts(shown)}<h3>Versions</h3>{facts(versions)}"
        f"<h3>Settings</h3>{rows}</section>"
    )


def _row_details(row: dict[str, Any]) -> str:
    shown = {
        "SHA-256 of the weights": row.get("weights"),
        "seconds of propagation": row.get("propagation_seconds"),
        "taken over from an interrupted run": ", ".join(row.get("reused") or []) or None,
    }
    shown = {name: value for name, value in shown.items() if value is not None}
    settings = json.dumps(row.get("settings") or {}, indent=2, ensure_ascii=False)
    return (
        f"<details><summary>{text(row['name'])}</summary>{facts(shown)}<pre>{text(settings)}</pre></details>"
    )


def _legend(results: dict[str, Any], drawn: list[int]) -> str:
    """Names of the rows beside their colours, and which rows are left out."""
    items = [
        f"<span>{swatch(style)} {text(results['rows'][index]['name'])}</span>"
        for style, index in enumerate(drawn)
    ]
    left = len(results["rows"]) - len(drawn)
    if left:
        items.append(f"<span>the first row and the best others; {left} more are in the table</span>")
    return f"<p class='legend'>{''.join(items)}</p>"


def _sequences(results: dict[str, Any], drawn: list[int]) -> list[str]:
    return list(dict.fromkeys(name for i in drawn for name in results["rows"][i]["sequences"]))


def _score(row: dict[str, Any], sequence: str, key: str) -> float | None:
    value: float | None = row["sequences"].get(sequence, {}).get("scores", {}).get(key)
    return value
