"""Charts of a probe as inline SVG: accuracy by layer, a confusion matrix, images in the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vidtrack.reports.charts import WIDTH, Series, polyline, svg, text, write

MOST_CLASSES = 60  # of a confusion matrix: the cells of more can't be told apart
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 40, 14, 24, 24, 210
_LABELS = 8  # layers whose names fit beside each other
_NUMBERS = 12  # classes whose cells have room for numbers
_NAMES = 30  # classes whose names have room beside their rows
_SIDE = 520  # units of a confusion matrix and of the plane
_SHAPES = (  # around (0, 0), about 7 units wide
    "M-3.2 0A3.2 3.2 0 1 0 3.2 0A3.2 3.2 0 1 0 -3.2 0Z",
    "M-2.9 -2.9H2.9V2.9H-2.9Z",
    "M0 -3.8L3.5 2.6H-3.5Z",
    "M0 -3.9L3.9 0L0 3.9L-3.9 0Z",
    "M0 3.8L3.5 -2.6H-3.5Z",
)


def layer_chart(title: str, layers: Sequence[str], series: Sequence[Series]) -> str:
    """Scores by layer, from shallow to deep, a line for each series.

    Args:
        title: above the lines.
        layers: names along the horizontal axis.
        series: a value for each layer; None is a gap.

    Returns:
        `<svg>...</svg>`; the vertical axis is cut to tenths around the values.
    """
    known = [value for one in series for value in one.values if value is not None]
    low = math.floor(10 * min(known, default=0.0)) / 10
    high = max(math.ceil(10 * max(known, default=1.0)) / 10, low + 0.1)

    def x(place: int) -> float:
        return _LEFT + (place + 0.5) / max(1, len(layers)) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [write(title, 0, 13, "start", "group", most=round(WIDTH / 7))]
    for value in (low, (low + high) / 2, high):
        line = f"M{_LEFT} {y(value):.1f}H{WIDTH - _RIGHT}"
        parts.append(f'<path d="{line}" style="stroke:var(--line,#d5d9de);stroke-width:1"/>')
        parts.append(write(f"{value:.3g}", _LEFT - 5, y(value) + 4, "end", "axis"))
    for place in range(0, len(layers), -(-len(layers) // _LABELS) or 1):
        parts.append(write(layers[place], x(place), _HEIGHT - 8, "middle", "axis", most=12))
    for one in series:
        points = [None if v is None else (x(place), y(v)) for place, v in enumerate(one.values)]
        values = ", ".join("-" if value is None else f"{value:.3f}" for value in one.values)
        parts.append(f"<g><title>{text(f'{one.name}: {values}')}</title>{polyline(points, one.style)}</g>")
    return svg(f"{title}, by layer", WIDTH, _HEIGHT, parts)


def confusion_chart(title: str, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """A confusion matrix as shades: the share of each true class (row) that was taken for each class.

    Args:
        title: for screen readers.
        matrix: counts `[K, K]`, rows are true classes; K up to 60.
        classes: K names.

    Returns:
        `<svg>...</svg>`.
    """
    counts = np.asarray(matrix)
    side = _SIDE / max(1, len(classes))
    named = len(classes) <= _NAMES
    left = min(130.0, 12 + 7 * max((len(name) for name in classes), default=0)) if named else 0.0
    top = left if named else 0.0
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = []
    for row, name in enumerate(classes):
        if named:
            middle = (row + 0.5) * side
            parts.append(write(name, left - 6, top + middle + 4, "end", "axis", most=17))
            place = f"rotate(-90 {left + middle + 4:.1f} {top - 6:.1f})"
            label = write(name, left + middle + 4, top - 6, "start", "axis", most=17)
            parts.append(f'<g transform="{place}">{label}</g>')
        for column, other in enumerate(classes):
            share, count = float(shares[row, column]), int(counts[row, column])
            if count == 0:
                continue
            said = text(f"{name} taken for {other}: {count} ({share:.0%})")
            x, y = left + column * side, top + row * side
            box = f'x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}"'
            fill = "var(--good,#23834d)" if row == column else "var(--bad,#c0392b)"
            cell = f'<rect {box} style="fill:{fill};fill-opacity:{0.08 + 0.72 * share:.2f}"/>'
            if len(classes) <= _NUMBERS:
                cell += write(f"{share:.0%}", x + side / 2, y + side / 2 + 4, "middle", "value")
            parts.append(f"<g><title>{said}</title>{cell}</g>")
    frame = f'x="{left:.1f}" y="{top:.1f}" width="{_SIDE}" height="{_SIDE}"'
    parts.append(f'<rect {frame} style="fill:none;stroke:var(--line,#d5d9de)"/>')
    return svg(title, left + _SIDE + 1, top + _SIDE + 1, parts, "square")


def confused(matrix: Sequence[Sequence[int]], most: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent mistakes: true class, predicted class, count; the most frequent first."""
    counts = np.array(matrix)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [(true, taken, int(counts[true, taken])) for true, taken in pairs if counts[true, taken]]


def plane_chart(
    title: str,
    places: Sequence[Sequence[float]],
    labels: Sequence[int],
    classes: Sequence[str],
    number: int = 0,
) -> str:
    """Images as marks in the plane, with a colour and a shape for each class.

    Args:
        title: for screen readers.
        places: (x, y) of each image, in any unit.
        labels: class of each.
        classes: names.
        number: of the chart in its page: each has marks of its own.

    Returns:
        `<svg>...</svg>`.
    """
    points = np.asarray(places, float).reshape(-1, 2)
    low = points.min(axis=0) if len(points) else np.zeros(2)
    extent = max(float(np.ptp(points, axis=0).max()), 1e-9) if len(points) else 1.0
    units = 8 + (points - low) / extent * (_SIDE - 16)
    parts = []
    for label in sorted(set(labels)):
        marks = [
            f'<use href="#mark{number}-{label % len(_SHAPES)}" x="{x:.1f}" y="{y:.1f}"/>'
            for (x, y), one in zip(units, labels, strict=True)
            if one == label
        ]
        style = f"fill:{class_color(label, len(classes))};fill-opacity:.75"
        parts.append(f'<g style="{style}"><title>{text(classes[label])}</title>{"".join(marks)}</g>')
    shapes = "".join(f'<path id="mark{number}-{i}" d="{shape}"/>' for i, shape in enumerate(_SHAPES))
    return svg(title, _SIDE, _SIDE, [f"<defs>{shapes}</defs>", *parts], "square")


def class_color(label: int, classes: int) -> str:
    """CSS colour of a class: hues all around the circle, neighbours of different lightness."""
    return f"hsl({round(360 * label / max(1, classes))} 65% {(42, 55)[label % 2]}%)"


def class_mark(label: int, classes: int) -> str:
    """The mark of a class, for legends."""
    return (
        '<svg class="swatch" width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">'
        f'<path d="{_SHAPES[label % len(_SHAPES)]}" style="fill:{class_color(label, classes)}"/></svg>'
    )
