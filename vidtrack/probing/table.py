"""Results of a probe as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from vidtrack.probing.columns import HEADS, best, columns, layers, percent


def table(results: dict[str, Any]) -> Table:
    """One backbone has a row per layer, the chosen one bold; several have one each, at their chosen layer.

    All scores are 0..1, and of several backbones the best of each column is bold. What fine-tuning gave says
    `fine_tuned`.

    Args:
        results: see `vidtrack.probing.run`.
    """
    rows = results["rows"]
    single = len(rows) == 1
    title = f"{results['title']}: {rows[0]['name']}" if single else results["title"]
    out = Table(title=Text(title), box=box.SIMPLE_HEAD, collapse_padding=True)
    if not single:
        out.add_column("backbone", overflow="fold")
    out.add_column("layer")
    found = [column for column in columns(results) if column.name != HEADS["finetune"]]
    for column in found:
        out.add_column(Text(f"{column.name}\n{column.share}".strip()), justify="right", no_wrap=True)
    highest = [best(results, column) for column in found]
    for row in rows:
        for layer in layers(row) if single else [row["layer"]]:
            cells = [] if single else [Text(row["name"])]
            cells.append(Text(layer, style="bold" if single and layer == row["layer"] else ""))
            for column, top in zip(found, highest, strict=True):
                value = column.value(row, layer)
                strong = layer == row["layer"] if single else value is not None and round(value, 3) == top
                cells.append(Text("-" if value is None else f"{value:.3f}", style="bold" if strong else ""))
            out.add_row(*cells)
    return out


def fine_tuned(results: dict[str, Any]) -> list[str]:
    """A sentence on each backbone that was fine-tuned: accuracy and epochs at each share of the labels."""
    lines = []
    for row in results["rows"]:
        scores = [score for score in row["scores"] if score.get("head") == "finetune"]
        parts = [
            f"{percent(score['share'])}: {score['accuracy']:.3f} "
            f"({score['epochs']:.3g} epochs{', stopped early' * score['stopped']})"
            for score in scores
        ]
        if parts:
            lines.append(f"{row['name']} fine-tuned with a share of the labels, {', '.join(parts)}.")
    return lines
