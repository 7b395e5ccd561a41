"""`report.html` of a probe: one page that needs nothing else, on any screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidtrack.files import atomic_file
from vidtrack.labels.masks import Masks
from vidtrack.labels.palette import color
from vidtrack.probing.columns import Column, best, columns, layers, main_column
from vidtrack.probing.frames import PixelPicture
from vidtrack.probing.table import fine_tuned
from vidtrack.reports.charts import Series, swatch, text
from vidtrack.reports.overlay import draw_masks
from vidtrack.reports.page import embedded, facts, whole_page
from vidtrack.reports.probe_charts import (
    MOST_CLASSES,
    class_mark,
    confused,
    confusion_chart,
    layer_chart,
    plane_chart,
)

_QUALITY = 85  # of the JPEGs
_SIDE = 640  # pixels of the longer side of a picture
_LEGEND = 40  # classes that a legend names
_OWN = """
:root{--good:#23834d;--bad:#c0392b}
@media (prefers-color-scheme:dark){:root{--good:#5cc98d;--bad:#ef7d70}}
.square{display:block;width:100%;max-width:620px;height:auto}
.block{display:inline-block;width:12px;height:12px;border-radius:2px;vertical-align:-1px}
"""


def write_page(
    path: Path | str,
    results: dict[str, Any],
    pictures: Sequence[PixelPicture] = (),
    *,
    overwrite: bool = True,
) -> None:
    """Write the results of a probe as one HTML file: table, layers, confusion, plane, pictures.

    It loads nothing from elsewhere and runs no script; it is light or dark as the reader's system is.

    Args:
        path: of the file; written atomically.
        results: see `vidtrack.probing.run`.
        pictures: of a pixel probe, grouped by row.
        overwrite: replace an existing file.

    Raises:
        InputError: the file exists without `overwrite`, or can't be written.
    """
    page = render_page(results, pictures)
    with atomic_file(path, overwrite) as partial:
        partial.write_text(page, encoding="utf-8")


def render_page(results: dict[str, Any], pictures: Sequence[PixelPicture] = ()) -> str:
    """The HTML that `write_page` writes."""
    title = text(results["title"])
    body = [
        f"<header><p class='kind'>vidtrack probe</p><h1>{title}</h1>{_summary(results)}</header>",
        _scores(results),
        _layers(results),
        _pictures(results, pictures),
        _classes(results),
        _confusion(results),
        _plane(results),
        _measured(results),
    ]
    return whole_page(results["title"], body, _OWN)


def _summary(results: dict[str, Any]) -> str:
    """One sentence: which backbone is best, and how good that is."""
    column, rows = main_column(results), results["rows"]
    row = max(rows, key=lambda one: column.value(one, one["layer"]) or 0.0)
    unit = "frames" if results["kind"] == "pixels" else "images"
    among = f", the best of {len(rows)} backbones" if len(rows) > 1 else ""
    chance = f"; always saying the commonest class gives {row['chance']:.3f}" if "chance" in row else ""
    return (
        f"<p class='lead'>{text(row['name'])}: <strong>{text(column.title)} "
        f"{_number(column.value(row, row['layer']))}</strong> on {text(row['layer'])}{among}; "
        f"{results['train']} {unit} train, {results['test']} test{chance}.</p>"
    )


def _scores(results: dict[str, Any]) -> str:
    """A row per backbone, at its chosen layer."""
    found = columns(results)
    rows = [(row["name"], row["layer"], row) for row in results["rows"]]
    body = _table("backbone", rows, found, [best(results, column) for column in found])
    what = "pixels" if results["kind"] == "pixels" else "labels"
    notes = [f"The layer was chosen on training {what} held out for it, without a look at the test set."]
    if results["kind"] == "pixels":
        notes.append("mIoU is the mean over the classes of the test frames.")
    else:
        notes.append("All scores are shares of test images that are right, 0 to 1; 1 %: of the labels.")
    notes += [*fine_tuned(results), *results["notes"]]
    return f"<section><h2>Scores</h2><p class='note'>{text(' '.join(notes))}</p>{body}</section>"


def _table(
    head: str,
    rows: Sequence[tuple[str, str, dict[str, Any]]],
    found: Sequence[Column],
    highest: Sequence[float | None],
) -> str:
    """Scores of `(name, layer, row)`; the best of each column is bold."""
    heads = [f"<th scope='col'>{head}</th>"] + ["<th scope='col'>layer</th>"] * (head != "layer")
    heads += [f"<th scope='col' class='n'>{text(column.title)}</th>" for column in found]
    lines = []
    for name, layer, row in rows:
        cells = [f"<th scope='row'>{text(name)}</th>"] + [f"<td>{text(layer)}</td>"] * (head != "layer")
        for column, top in zip(found, highest, strict=True):
            value = column.value(row, layer)
            shown = _number(value)
            strong = value is not None and round(value, 3) == top
            cells.append(f"<td class='n'>{f'<strong>{shown}</strong>' if strong else shown}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<div class='scroll'><table><thead><tr>{''.join(heads)}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _layers(results: dict[str, Any]) -> str:
    """For each backbone its scores by layer, as curves and as a table."""
    found = [column for column in columns(results) if column.name != "fine-tuned"]
    parts = []
    for row in results["rows"]:
        names = layers(row)
        charts = []
        for head, group in groupby(found if len(names) > 1 else (), key=lambda column: column.name):
            of_head = list(group)
            series = [
                Series(column.title, [column.value(row, name) for name in names], style)
                for style, column in enumerate(of_head)
            ]
            legend = "".join(f"<span>{swatch(one.style)} {text(one.name)}</span>" for one in series)
            charts.append(f"<div>{layer_chart(head, names, series)}<p class='legend'>{legend}</p></div>")
        tops = [_top(column, row, names) for column in found]
        parts.append(
            f"<h3>{text(row['name'])}</h3><div class='grid'>{''.join(charts)}</div>"
            + _table("layer", [(name, name, row) for name in names], found, tops)
        )
    return f"<section><h2>Layers</h2>{''.join(parts)}</section>"


def _top(column: Column, row: dict[str, Any], names: Sequence[str]) -> float | None:
    values = [column.value(row, name) for name in names]
    known = [round(value, 3) for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def _classes(results: dict[str, Any]) -> str:
    """IoU of each class of pixels, at the chosen layer."""
    if results["kind"] != "pixels":
        return ""
    heads = "".join(f"<th scope='col' class='n'>{text(row['name'])}</th>" for row in results["rows"])
    chosen = [next(s for s in row["scores"] if s["layer"] == row["layer"]) for row in results["rows"]]
    lines = []
    for class_, name in zip(results["ids"], results["classes"], strict=True):
        values = [score["IoU"].get(str(class_)) for score in chosen]
        cells = "".join(f"<td class='n'>{_number(value)}</td>" for value in values)
        lines.append(f"<tr><th scope='row'>{_block(class_)} {text(name)}</th>{cells}</tr>")
    return (
        "<section><h2>IoU by class</h2><div class='scroll'><table><thead><tr><th scope='col'>class</th>"
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _confusion(results: dict[str, Any]) -> str:
    classes, parts = results["classes"], []
    for row in results["rows"]:
        of = row["confusion_of"]
        title = f"{row['name']}: {of['head']} on {of['layer']}"
        parts.append(f"<h3>{text(title)}</h3>")
        if len(classes) <= MOST_CLASSES:
            parts.append(confusion_chart(f"confusion of {title}", row["confusion"], classes))
        worst = [
            f"{classes[true]} for {classes[taken]} ({count})"
            for true, taken, count in confused(row["confusion"])
        ]
        if worst:
            parts.append(f"<p class='note'>Most frequent: {text(', '.join(worst))}.</p>")
    note = "Rows are true classes, columns what they were taken for; shades are shares of a row."
    return f"<section><h2>Confusion</h2><p class='note'>{note}</p>{''.join(parts)}</section>"


def _plane(results: dict[str, Any]) -> str:
    classes, parts = results["classes"], []
    for number, row in enumerate(results["rows"]):
        about = row.get("embedding")
        if about and about["images"]:
            title = f"{row['name']}, {row['layer']}"
            chart = plane_chart(f"test images of {title}", about["places"], about["labels"], classes, number)
            parts.append(f"<h3>{text(title)}</h3>{chart}")
    if not parts:
        return ""
    marks = [f"<span>{class_mark(i, len(classes))} {text(name)}</span>" for i, name in enumerate(classes)]
    more = f"<span>and {len(marks) - _LEGEND} more</span>" if len(marks) > _LEGEND else ""
    note = (
        "Test images by t-SNE of their features: close ones have like features; "
        "sizes and distances of groups say nothing."
    )
    return (
        f"<section><h2>Test images in the plane</h2><p class='note'>{note}</p>"
        f"<p class='legend'>{''.join(marks[:_LEGEND])}{more}</p>{''.join(parts)}</section>"
    )


def _pictures(results: dict[str, Any], pictures: Sequence[PixelPicture]) -> str:
    if not pictures:
        return ""
    parts = []
    for row, group in groupby(pictures, key=lambda picture: picture.row):
        parts.append(f"<h3>{text(row)}</h3><div class='pairs'>{''.join(map(_figure, group))}</div>")
    legend = "".join(
        f"<span>{_block(class_)} {text(name)}</span>"
        for class_, name in zip(results["ids"], results["classes"], strict=True)
    )
    return f"<section><h2>Test frames</h2><p class='legend'>{legend}</p>{''.join(parts)}</section>"


def _figure(picture: PixelPicture) -> str:
    name = text(picture.name)
    truth = picture.truth
    if picture.void is not None:
        truth = np.where(truth == picture.void, 0, truth)
    sides = [("predicted", picture.predicted), ("truth", truth)]
    shown = "".join(
        f"<div><img alt='{name}: {side}' {_embedded(_drawn(picture.image, ids))}><span>{side}</span></div>"
        for side, ids in sides
    )
    return f"<figure><div class='pair'>{shown}</div><figcaption>{name}</figcaption></figure>"


def _drawn(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return draw_masks(image, Masks(ids.astype(np.uint8)), alpha=0.6, outline=False, ids=False)


def _embedded(image: np.ndarray) -> str:
    """Attributes of an `<img>` with the picture as a JPEG inside."""
    scale = _SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return embedded(image, quality=_QUALITY)


def _block(class_: int) -> str:
    """A small square in the colour that pictures have for a class."""
    red, green, blue = color(class_)
    return f"<span class='block' style='background:rgb({red},{green},{blue})'></span>"


def _measured(results: dict[str, Any]) -> str:
    shown = {"data": results["data"], "side of the images": results["size"] or "their own"}
    shown |= {"device": results.get("device", "")}
    rows = "".join(
        f"<h3>{text(row['name'])}</h3>"
        + facts({"SHA-256 of the weights": row["weights"], "seconds": f"{row['seconds']:.1f}"})
        for row in results["rows"]
    )
    settings = json.dumps(results["settings"], indent=2, ensure_ascii=False)
    return (
        f"<section><h2>What was measured</h2>{facts(shown)}<h3>Versions</h3>{facts(results['versions'])}"
        f"<details><summary>Settings</summary><pre>{text(settings)}</pre></details>{rows}</section>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
