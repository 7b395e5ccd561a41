"""Charts as inline SVG: they follow the page's light or dark colours, and say what they show in a title."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH = 420  # units of a chart's width; a page shows it as wide as a column
POINTS = 300  # of a line: more can't be told apart
_COLORS = ("#1c6fb5", "#d4660f", "#23834d", "#b0368f", "#6a4bbc", "#84690f")
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "12 4")  # colours alone aren't seen by everyone
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 24, 22  # units around the area of a line chart
_BAR, _GAP, _HEAD = 11, 10, 17  # units: height of a bar, space between groups, line of a group's name
_VALUES = 44  # units at the right of bars for their values


@dataclass(frozen=True)
class Series:
    """Values of one row.

    Attributes:
        name: shown when a mouse rests on it.
        values: None is a gap.
        style: number from 0 of its colour and dashes.
    """

    name: str
    values: Sequence[float | None]
    style: int = 0


def text(value: object) -> str:
    """`value` for HTML or SVG, in text or between quotes: escaped, and without what XML forbids."""
    clean = "".join(c if _allowed(c) else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return html.escape(clean, quote=True)


def color(style: int) -> str:
    """CSS colour of a style; a page may set `--s0`, `--s1`... for its dark side."""
    return f"var(--s{style % len(_COLORS)},{_COLORS[style % len(_COLORS)]})"


def style_variables(dark: Sequence[str] | None = None) -> str:
    """CSS that sets the colours of all styles."""
    return "".join(f"--s{i}:{value};" for i, value in enumerate(dark or _COLORS))


def swatch(style: int) -> str:
    """A short piece of the line of a style, for legends."""
    return (
        '<svg class="swatch" width="26" height="12" viewBox="0 0 26 12" aria-hidden="true">'
        f'<rect width="26" height="12" rx="2" style="fill:{color(style)};opacity:.22"/>'
        f'<path d="M1 6H25" style="{_stroke(style)}"/></svg>'
    )


def downsample(values: Sequence[float | None], most: int = POINTS) -> tuple[list[float | None], int]:
    """Means of stretches of equal length, so that at most `most` remain.

    Returns:
        The means (of the known values; None for a stretch without any) and the length of a stretch.
    """
    step = max(1, -(-len(values) // most))
    result: list[float | None] = []
    for start in range(0, len(values), step):
        known = [value for value in values[start : start + step] if value is not None]
        result.append(sum(known) / len(known) if known else None)
    return result, step


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis: 0..1 for shares, else from 0, or from below it, to the largest value."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    bounds: tuple[float, float] | None = None,
    height: int = 168,
    places: Sequence[float] | None = None,
    said: str | None = None,
) -> str:
    """Values over frames, a line for each row; a value between gaps is a dot.

    Args:
        title: above the lines, shortened if need be, and in full for screen readers.
        series: of equal or different length; frame 0 is at the left edge.
        bounds: of the vertical axis; None: see `value_range`.
        height: units; the width is 420.
        places: of the values along the horizontal axis, ascending, as many as the longest line has; None:
            numbers of frames.
        said: for screen readers, after the title; None: how many frames have a score.

    Returns:
        `<svg>...</svg>`. Lines of more than 300 frames show means of neighbouring frames.
    """
    frames = max((len(one.values) for one in series), default=0)
    known = [value for one in series for value in one.values if value is not None]
    low, high = bounds or value_range(known)
    places = range(frames) if places is None else places
    if len(places) != frames:
        raise ValueError(f"give {frames} places, one for each value of the longest line")
    left, right = (places[0], places[-1]) if frames else (0, 1)
    area = _Area(left, right if right > left else left + 1, low, high, height)
    parts = [_heading(title, WIDTH), *_scale(area, low, high)]
    for position in sorted({0, (frames - 1) // 2, frames - 1} if frames else set()):
        anchor = "start" if position == 0 else "end" if position == frames - 1 else "middle"
        parts.append(write(f"{places[position]:.10g}", area.x(places[position]), height - 8, anchor, "axis"))
    parts += [_curve(one, places, area) for one in series]
    said = f"score over {frames} frames" if said is None else said
    return svg(f"{title}: {said}", WIDTH, height, parts)


def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Sequence[Series],
    *,
    bounds: tuple[float, float] | None = None,
) -> str:
    """A group of bars for each name, a bar for each row, with their values.

    Args:
        title: for screen readers.
        groups: names of the groups.
        series: one value for each group; None has no bar.
        bounds: of the axis, so that several charts have the same; None: see `value_range`.

    Returns:
        `<svg>...</svg>`.
    """
    if any(len(one.values) != len(groups) for one in series):
        raise ValueError(f"give each series {len(groups)} values, one for each group")
    low, high = bounds or value_range([v for one in series for v in one.values if v is not None])
    scale = (WIDTH - _VALUES) / (high - low or 1)
    parts, y = [], 0
    for index, name in enumerate(groups):
        parts.append(write(name, 0, y + 12, "start", "group", most=60))
        y += _HEAD
        for one in series:
            value = one.values[index]
            shown = "not scored" if value is None else f"{value:.3f}"
            length = 0 if value is None else abs(value) * scale
            left = (min(value or 0, 0) - low) * scale
            bar = (
                f'<rect x="{left:.1f}" y="{y}" width="{max(length, 0.5):.1f}" height="{_BAR - 2}" '
                f'style="fill:{color(one.style)}"/>'
            )
            parts.append(
                f"<g><title>{text(f'{name}, {one.name}: {shown}')}</title>{'' if value is None else bar}"
                + write("-" if value is None else shown, left + length + 4, y + _BAR - 3, "start", "value")
                + "</g>"
            )
            y += _BAR
        y += _GAP
    return svg(title, WIDTH, max(1, y - _GAP), parts)


def svg(title: str, width: float, height: float, parts: Sequence[str], css: str = "chart") -> str:
    """An `<svg>` element with an accessible title around `parts`; its own colours where no page sets any."""
    return (
        f'<svg class="{css}" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" xmlns="http://www.w3.org/2000/svg" font-family="system-ui,sans-serif">'
        f"<title>{text(title)}</title>{''.join(parts)}</svg>"
    )


def polyline(points: Sequence[tuple[float, float] | None], style: int) -> str:
    """Straight lines between points with a dot at each; None is a gap."""
    parts = []
    for start, end in pairwise(points):
        if start is not None and end is not None:
            path = f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"
            parts.append(f'<path d="{path}" style="{_stroke(style)}"/>')
    for point in points:
        if point is not None:
            circle = f'cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="3.2"'
            parts.append(f'<circle {circle} style="fill:{color(style)}"/>')
    return "".join(parts)


def write(value: str, x: float, y: float, anchor: str, kind: str, most: int | None = None) -> str:
    """A line of text at its baseline; what is longer than `most` letters loses its middle.

    Args:
        value: the text.
        x, y: units of its baseline's start, middle or end, as `anchor` says.
        anchor: start, middle or end.
        kind: group (a name), value (beside a mark) or axis.
        most: letters.
    """
    if most is not None and len(value) > most:
        value = value[: most // 2] + "\N{HORIZONTAL ELLIPSIS}" + value[-(most - most // 2 - 1) :]
    size, fill = {
        "group": (13, "var(--ink,#1d2329)"),
        "value": (10, "var(--ink,#1d2329)"),
        "axis": (11, "var(--dim,#5c6670)"),
    }[kind]
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="font-size:{size}px;fill:{fill}">'
        f"{text(value)}</text>"
    )


class _Area:
    """The rectangle of a line chart, from values to units."""

    def __init__(self, left: float, right: float, low: float, high: float, height: int) -> None:
        self._left, self._right, self._low, self._high = left, right, low, high
        self._height = height

    def x(self, position: float) -> float:
        share = (position - self._left) / (self._right - self._left)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low or 1)
        return self._height - _BOTTOM - min(max(share, 0.0), 1.0) * (self._height - _TOP - _BOTTOM)


def _scale(area: _Area, low: float, high: float) -> list[str]:
    """Lines across the area with their values."""
    parts = []
    for value in (low, (low + high) / 2, high):
        y = area.y(value)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" style="stroke:var(--line,#d5d9de);stroke-width:1"/>'
        )
        parts.append(write(f"{value:.3g}", _LEFT - 5, y + 4, "end", "axis"))
    return parts


def _curve(one: Series, places: Sequence[float], area: _Area) -> str:
    values, step = downsample(one.values)
    last = len(one.values) - 1
    middles = [_between(places, min(i * step + (step - 1) / 2, last)) for i in range(len(values))]
    lines, dots, run = [], [], []
    for place, value in [*zip(middles, values, strict=True), (math.nan, None)]:
        if value is not None:
            run.append(f"{area.x(place):.1f} {area.y(value):.1f}")
            continue
        if len(run) == 1:
            dots.append(f"M{run[0]}h0")  # a stroke without length, which round ends make a dot
        elif run:
            lines.append("M" + "L".join(run))
        run = []
    known = [value for value in one.values if value is not None]
    mean = f"mean {sum(known) / len(known):.3f}" if known else "not scored"
    parts = [f"<g><title>{text(f'{one.name}: {mean}')}</title>"]
    if lines:
        parts.append(f'<path d="{"".join(lines)}" style="{_stroke(one.style)}"/>')
    if dots:
        dot = f"fill:none;stroke:{color(one.style)};stroke-width:4;stroke-linecap:round"
        parts.append(f'<path d="{"".join(dots)}" style="{dot}"/>')
    return "".join(parts) + "</g>"


def _between(places: Sequence[float], position: float) -> float:
    """The place at a position that may lie between two."""
    lower = int(position)
    if position == lower:
        return places[lower]
    return places[lower] + (position - lower) * (places[lower + 1] - places[lower])


def _stroke(style: int) -> str:
    dash = _DASHES[style % len(_DASHES)]
    dashes = f";stroke-dasharray:{dash}" if dash else ""
    return f"fill:none;stroke:{color(style)};stroke-width:1.8;stroke-linejoin:round{dashes}"


def _heading(title: str, width: float) -> str:
    return write(title, 0, 13, "start", "group", most=round(width / 7))


def _allowed(letter: str) -> bool:
    """Whether XML 1.0 has this character, and UTF-8 can hold it."""
    code = ord(letter)
    ordinary = 0x20 <= code < 0x7F or 0xA0 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF
    return ordinary or letter in "\t\n\r"
