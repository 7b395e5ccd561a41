"""A picture of a sweep: how the main score depends on the swept parameters."""

from __future__ import annotations

from typing import Any

from vidtrack.benchmark.ranking import is_lower, number, setting
from vidtrack.reports.charts import WIDTH, color, polyline, svg, swatch, text, write

_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 210, 48, 18, 30, 46  # units of a panel with lines
_CELL, _ROW, _SIDE = 64, 30, 96  # units of a cell of a heat map, and of the names at its left

Cells = dict[tuple[int, ...], float | None]  # places of the values of each parameter -> score


def sweep_plot(results: dict[str, Any]) -> str:
    """The main score over the swept parameters; the best is ringed.

    One parameter: a line. Two: a heat map. More: a panel for each parameter with a dot for each run and a
    line through the best at each value, whatever the other parameters are. Values stand at equal distances in
    the order in which they were swept. Rows with the same values (several trackers) have a line or map each.

    Args:
        results: schema 2.

    Returns:
        `<svg>...</svg>`; "" without a sweep or without any score.
    """
    sweep: dict[str, list[Any]] = results.get("sweep") or {}
    trackers = _trackers(results, sweep)
    scores = [value for cells in trackers.values() for value in cells.values() if value is not None]
    if not sweep or not scores:
        return ""
    key = results["keys"][0]
    lower = is_lower(results, key)
    best = min(scores) if lower else max(scores)
    title = f"{key} by {', '.join(sweep)}" + (" (lower is better)" if lower else "")
    names = list(sweep)
    if len(names) == 2:
        panels = [
            _heat_map(f"{key}{_of(name, trackers)}", sweep, cells, best, (min(scores), max(scores)), lower)
            for name, cells in trackers.items()
        ]
        width = max(width for _, width, _ in panels)
    else:
        panels = [_lines(key, place, sweep, trackers, best, lower) for place in range(len(names))]
        width = WIDTH
    parts, y = [], 0.0
    for content, _, height in panels:
        parts.append(f'<g transform="translate(0 {y:g})">{content}</g>')
        y += height
    return svg(title, width, y, parts, "wide" if len(names) == 2 else "chart")


def sweep_legend(results: dict[str, Any]) -> str:
    """HTML that names the lines of `sweep_plot`; "" for a single one or for heat maps."""
    sweep = results.get("sweep") or {}
    trackers = _trackers(results, sweep)
    if len(trackers) < 2 or len(sweep) == 2:
        return ""
    items = [f"<span>{swatch(style)} {text(name)}</span>" for style, name in enumerate(trackers)]
    return f'<p class="legend">{"".join(items)}</p>'


def _trackers(results: dict[str, Any], sweep: dict[str, list[Any]]) -> dict[str, Cells]:
    """Scores by the places of their parameters' values, for each tracker that was swept."""
    key = results["keys"][0]
    found: dict[str, Cells] = {}
    for row in results["rows"]:
        swept = row.get("swept") or {}
        if any(name not in swept or swept[name] not in values for name, values in sweep.items()):
            continue  # a row beside the sweep, such as a baseline
        place = tuple(values.index(swept[name]) for name, values in sweep.items())
        tracker = setting((row.get("settings") or {}).get("tracker", ""))
        while place in found.get(tracker, {}):  # as if it were another tracker: no row may hide another
            tracker += "'"
        found.setdefault(tracker, {})[place] = row["scores"].get(key)
    return found


def _of(name: str, trackers: dict[str, Cells]) -> str:
    return f", {name}" if len(trackers) > 1 else ""


def _lines(
    key: str, place: int, sweep: dict[str, list[Any]], trackers: dict[str, Cells], best: float, lower: bool
) -> tuple[str, float, float]:
    """The panel of one parameter: content, width and height."""
    name, values = list(sweep.items())[place]
    scores = [value for cells in trackers.values() for value in cells.values() if value is not None]
    low, high = _padded(min(scores), max(scores))

    def x(index: int) -> float:
        space = WIDTH - _LEFT - _RIGHT
        return _LEFT + space * ((index + 0.5) / len(values))

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    alone = len(sweep) == 1
    title = f"{key} by {name}" + ("" if alone else ", with the best of the others")
    parts = [write(title, 0, 14, "start", "group", 60)]
    for tick in (low, (low + high) / 2, high):
        line = f"M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}"
        parts.append(f'<path d="{line}" style="stroke:var(--line,#d5d9de);stroke-width:1"/>')
        parts.append(write(number(tick), _LEFT - 6, y(tick) + 4, "end", "axis"))
    room = max(1, (WIDTH - _LEFT - _RIGHT) // 52)  # names of values that fit beside each other
    for index in range(0, len(values), -(-len(values) // room)):
        parts.append(write(setting(values[index]), x(index), _HEIGHT - _BOTTOM + 18, "middle", "axis", 9))
    for style, (tracker, cells) in enumerate(trackers.items()):
        at: list[list[float]] = [[] for _ in values]
        for position, value in cells.items():
            if value is not None:
                at[position[place]].append(value)
        if not alone:
            parts += [_dot(x(index), y(v), style) for index, found in enumerate(at) for v in found]
        top = [(min(found) if lower else max(found)) if found else None for found in at]
        points = [None if value is None else (x(index), y(value)) for index, value in enumerate(top)]
        line_of = ", ".join(f"{setting(v)}: {number(s)}" for v, s in zip(values, top, strict=True))
        told = f"{tracker or key}: {line_of}"
        parts.append(f"<g><title>{text(told)}</title>{polyline(points, style)}</g>")
        for point, value in zip(points, top, strict=True):
            if point is not None and value == best:
                ring = f'cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="7"'
                parts.append(f'<circle {ring} style="fill:none;stroke:var(--ink,#1d2329);stroke-width:1.5"/>')
                parts.append(write(number(best), point[0], point[1] - 11, "middle", "value"))
    return "".join(parts), WIDTH, _HEIGHT


def _heat_map(
    title: str,
    sweep: dict[str, list[Any]],
    cells: Cells,
    best: float,
    bounds: tuple[float, float],
    lower: bool,
) -> tuple[str, float, float]:
    """The map of two parameters, the first downwards: content, width and height."""
    (down, rows), (across, columns) = sweep.items()
    width = max(_SIDE + len(columns) * _CELL + 8, 240)
    parts = [write(title, 0, 14, "start", "group", 60)]
    parts.append(write(f"{across} \N{RIGHTWARDS ARROW}", _SIDE, 34, "start", "axis", width // 8))
    parts.append(write(f"{down} \N{DOWNWARDS ARROW}", 0, 52, "start", "axis", 14))
    for index, value in enumerate(columns):
        parts.append(write(setting(value), _SIDE + (index + 0.5) * _CELL, 52, "middle", "axis", 9))
    top = 60
    for i, first in enumerate(rows):
        y = top + i * _ROW
        parts.append(write(setting(first), _SIDE - 8, y + 20, "end", "axis", 13))
        for j, second in enumerate(columns):
            x, value = _SIDE + j * _CELL, cells.get((i, j))
            where = f"{down} {setting(first)}, {across} {setting(second)}: {number(value, 'no score')}"
            share = 0.0 if value is None else (value - bounds[0]) / ((bounds[1] - bounds[0]) or 1)
            strength = 0.06 + 0.94 * ((1 - share) if lower else share)
            fill = "none" if value is None else "var(--heat,#77b2e8)"
            border = "var(--ink,#1d2329);stroke-width:2" if value == best else "var(--line,#d5d9de)"
            parts.append(
                f"<g><title>{text(where)}</title>"
                f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_ROW - 2}" rx="3" '
                f'style="fill:{fill};fill-opacity:{strength:.2f};stroke:{border}"/>'
                + write(number(value), x + _CELL / 2, y + 20, "middle", "group")
                + "</g>"
            )
    return "".join(parts), width, top + len(rows) * _ROW + 14


def _dot(x: float, y: float, style: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" style="fill:{color(style)};fill-opacity:.35"/>'


def _padded(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis around scores that may be all the same."""
    pad = max(0.08 * (high - low), 0.005 * max(abs(low), abs(high)), 1e-4)
    return low - pad, high + pad
