"""Which scores are shown side by side: one backbone by layer, or several by the layer that was chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEADS = {"knn": "kNN", "linear": "linear", "mlp": "mlp", "finetune": "fine-tuned"}


@dataclass(frozen=True)
class Column:
    """A kind of score.

    Attributes:
        name: its head, such as "linear".
        share: of the labels, as text; "" where that says nothing.
        value: the score of a row of results at a layer, 0..1; None if there is none.
    """

    name: str
    share: str
    value: Callable[[dict[str, Any], str], float | None]

    @property
    def title(self) -> str:
        """Both in one line."""
        return f"{self.name} {self.share}".strip()


def columns(results: dict[str, Any]) -> list[Column]:
    """The kinds of scores that there are, in order: of pixels mIoU and accuracy, else by head and share."""
    if results["kind"] == "pixels":
        return [Column(key, "", _pixel_value(key)) for key in ("mIoU", "accuracy")]
    kinds = {(score["head"], score["share"]): None for row in results["rows"] for score in row["scores"]}
    ordered = sorted(kinds, key=lambda kind: (list(HEADS).index(kind[0]), kind[1]))
    return [Column(HEADS[head], percent(share), _value(head, share)) for head, share in ordered]


def main_column(results: dict[str, Any]) -> Column:
    """The kind that decides which backbone is best: linear with most labels, else the neighbours; mIoU."""
    found = columns(results)
    wanted = [column for column in found if column.name in ("linear", "mIoU")]
    return wanted[0 if results["kind"] == "pixels" else -1] if wanted else found[0]


def layers(row: dict[str, Any]) -> list[str]:
    """The layers of a row, from shallow to deep."""
    return list(dict.fromkeys(score["layer"] for score in row["scores"] if score["layer"] is not None))


def best(results: dict[str, Any], column: Column) -> float | None:
    """The highest score of a column over all rows, as printed; None where fewer than two are known."""
    values = [column.value(row, row["layer"]) for row in results["rows"]]
    known = [round(value, 3) for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def percent(share: float) -> str:
    """A share of the labels."""
    return f"{100 * share:g} %"


def _pixel_value(key: str) -> Callable[[dict[str, Any], str], float | None]:
    def value(row: dict[str, Any], layer: str) -> float | None:
        return next((score[key] for score in row["scores"] if score["layer"] == layer), None)

    return value


def _value(head: str, share: float) -> Callable[[dict[str, Any], str], float | None]:
    def value(row: dict[str, Any], layer: str) -> float | None:
        wanted = None if head == "finetune" else layer
        for score in row["scores"]:
            if (score["head"], score["share"], score["layer"]) == (head, share, wanted):
                accuracy: float = score["accuracy"]
                return accuracy
        return None

    return value
