"""Which rows of results are best, and which are shown where there is no room for all."""

from __future__ import annotations

from typing import Any

DIGITS = 3  # decimals of a score wherever it is printed


def is_lower(results: dict[str, Any], key: str) -> bool:
    """Whether lower values of a score are better."""
    return key in results.get("lower", ())


def best_rows(results: dict[str, Any], key: str) -> set[int]:
    """Indices of the rows with the best value of `key`: none of a single row, all that are printed alike.

    Args:
        results: schema 2.
        key: one of `results["keys"]`.
    """
    values = {i: row["scores"].get(key) for i, row in enumerate(results["rows"])}
    known = {i: round(value, DIGITS) for i, value in values.items() if value is not None}
    if len(results["rows"]) < 2 or not known:
        return set()
    best = (min if is_lower(results, key) else max)(known.values())
    return {i for i, value in known.items() if value == best}


def swept_order(results: dict[str, Any]) -> list[int]:
    """Indices of the rows in the order of a sweep: the first parameter changes slowest.

    Rows that lack a parameter come first; without a sweep the order is that of the rows.
    """
    sweep = results.get("sweep") or {}

    def place(index: int) -> list[int]:
        swept = results["rows"][index].get("swept", {})
        return [
            values.index(swept[name]) if name in swept and swept[name] in values else -1
            for name, values in sweep.items()
        ]

    return sorted(range(len(results["rows"])), key=place)


def drawn_rows(results: dict[str, Any], most: int = 6) -> list[int]:
    """Indices of the rows to draw, ascending: the first one and the best others by the main score."""
    key = results["keys"][0]
    sign = 1 if is_lower(results, key) else -1

    def rank(index: int) -> tuple[bool, float]:
        value = results["rows"][index]["scores"].get(key)
        return (value is None, 0.0 if value is None else sign * value)

    others = sorted(range(1, len(results["rows"])), key=rank)
    return sorted([0, *others[: most - 1]]) if results["rows"] else []


def number(value: float | None, missing: str = "-") -> str:
    """A score as it is printed."""
    return missing if value is None else f"{value:.{DIGITS}f}"


def setting(value: object) -> str:
    """A swept value or any other setting as it is printed."""
    if value is None or isinstance(value, bool):  # as it is typed
        return "none" if value is None else "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(setting, value)) if isinstance(value, list | tuple) else str(value)
