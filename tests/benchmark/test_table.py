"""Tables of results for the terminal, and the order and the choice of their rows."""

import re
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vidtrack.benchmark.ranking import best_rows, drawn_rows, number, setting, swept_order
from vidtrack.benchmark.results import notes
from vidtrack.benchmark.table import sequence_table, table


def make(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    result = {"title": "set [x]", "keys": ["J", "error"], "lower": ["error"], "sweep": None, "rows": rows}
    return {**result, **changes}


def row(name: str, main: float | None, error: float | None = None, **changes: Any) -> dict[str, Any]:
    scores = {"J": main, "error": error}
    made = {
        "name": name,
        "scores": scores,
        "swept": {},
        "frames_per_second": 10.04,
        "peak_memory_mb": 812.6,
        "sequences": {"bear": {"scores": scores}},
    }
    return {**made, **changes}


def cells(shown: Table) -> list[list[str]]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown)
    lines = console.export_text().splitlines()
    return [re.split(r"\s*[│┃]\s*", line.strip())[1:-1] for line in lines if re.match(r"\s*[│┃]", line)]


def bold(shown: Table) -> list[str]:
    """Text of the bold cells."""
    found = [cell for column in shown.columns for cell in column.cells]
    return [str(cell) for cell in found if isinstance(cell, Text) and cell.style == "bold"]


def test_a_row_per_tracker_with_the_best_in_bold() -> None:
    shown = table(make([row("default", 0.75, 3.0), row("timm:[vit]", 0.5, 2.0), row("copy", None)]))
    assert cells(shown)[:2] == [["", "", "error", "", ""], ["tracker", "J", "lower", "frames/s", "MB"]]
    assert ["default", "0.750", "3.000", "10.0", "813"] in cells(shown)
    assert ["timm:[vit]", "0.500", "2.000", "10.0", "813"] in cells(shown)
    assert ["copy", "-", "-", "10.0", "813"] in cells(shown)
    assert bold(shown) == ["0.750", "2.000"]
    assert str(shown.title) == "set [x]"
    unknown = row("masks", 0.5, frames_per_second=None, peak_memory_mb=None)
    assert ["masks", "0.500", "-", "-", "-"] in cells(table(make([unknown])))


def test_seven_scores_fit_into_eighty_columns() -> None:
    keys = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    one = row("default", None, scores=dict.fromkeys(keys, 0.123))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(make([one], keys=keys)))
    text = console.export_text()
    assert text.count("0.123") == 7 and "10.0" in text and "813" in text and "default" in text
    assert "Recall" in text and "…" not in text


@pytest.mark.parametrize(
    ("whole", "each"), [(["AJ", "delta-avg", "OA"], ["J-{}", "delta-{}"]), (["AP-Mean"], ["AP-{}", "x-{}"])]
)
def test_more_scores_leave_thresholds_to_the_files(whole: list[str], each: list[str]) -> None:
    keys = [*whole, *(name.format(t) for name in each for t in (1, 2, 4, 8, 16))]
    one = row("default", None, scores=dict.fromkeys(keys, 0.123))
    one["sequences"]["bear"]["scores"] = one["scores"]
    for shown in (table(make([one], keys=keys)), sequence_table(make([one], keys=keys))):
        heads = [str(column.header) for column in shown.columns]
        assert [head for head in heads if head in keys] == whole
        console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(shown)
        assert "…" not in console.export_text()


def test_a_row_beside_a_sweep_over_nothing_comes_first() -> None:
    rows = [row("native", 0.3, swept={"size": None}), row("copy", 0.1), row("120", 0.2, swept={"size": 120})]
    assert swept_order(make(rows, sweep={"size": [120, None]})) == [1, 2, 0]


def test_a_sweep_is_in_its_order() -> None:
    sweep = {"topk": [10, 5], "temperature": [0.05, 0.1]}
    places = [(5, 0.1), (10, 0.1), (5, 0.05), (10, 0.05)]
    rows = [
        row(f"{topk} {heat}", score, swept={"topk": topk, "temperature": heat})
        for (topk, heat), score in zip(places, (0.1, 0.2, 0.4, 0.3), strict=True)
    ]
    results = make(rows, sweep=sweep)
    assert swept_order(results) == [3, 1, 2, 0]
    shown = table(results)
    assert [line[:3] for line in cells(shown)][1:] == [
        ["topk", "temperature", "J"],
        ["10", "0.05", "0.300"],
        ["10", "0.1", "0.200"],
        ["5", "0.05", "0.400"],
        ["5", "0.1", "0.100"],
    ]
    assert bold(shown) == ["0.400"]
    beside = make([*rows, row("copy", 0.05)], sweep={"topk": [10, 5]})
    assert cells(table(beside))[1][:2] == ["tracker", "topk"]  # rows share values: names tell them apart
    assert cells(table(beside))[2][:3] == ["copy", "-", "0.050"]


def test_a_sweep_shares_embeddings_and_says_so() -> None:
    swept = [row(str(n), 0.5, swept={"topk": n}) for n in (5, 10)]
    (note,) = notes(make(swept, sweep={"topk": [5, 10]}))
    assert "share embeddings" in note
    for rows in ([row("a", 0.5), row("b", 0.6)], [swept[0], row("copy", 0.1)]):
        assert notes(make(rows)) == []


def test_best_rows() -> None:
    assert best_rows(make([row("a", 0.5)]), "J") == set()
    assert best_rows(make([row("a", None), row("b", None)]), "J") == set()
    tied = make([row("a", 0.50004, 1.0), row("b", 0.49996, 2.0), row("c", 0.4, None)])
    assert best_rows(tied, "J") == {0, 1} and best_rows(tied, "error") == {0}


def test_drawn_rows() -> None:
    scores = [0.1, 0.5, None, 0.9, 0.3, 0.8, 0.7, 0.6]
    results = make([row(str(n), score) for n, score in enumerate(scores)])
    assert drawn_rows(results, 4) == [0, 3, 5, 6]
    assert drawn_rows({**results, "lower": ["J"]}, 4) == [0, 1, 4, 7]
    assert drawn_rows(results, 8) == list(range(8)) and drawn_rows(results, 1) == [0]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.05, "0.05"), (5, "5"), ([1, 0.5], "1,0.5"), ("1,3", "1,3"), (None, "none")]
)
def test_settings(value: object, shown: str) -> None:
    assert setting(value) == shown


def test_numbers() -> None:
    assert (number(0.12349), number(None), number(None, "?")) == ("0.123", "-", "?")


def test_sequences_of_one_tracker() -> None:
    sequences = {
        "bear": {"scores": {"J": 0.25, "error": 4.0}},
        "[dog]": {"scores": {"J": None, "error": 1.0}},
    }
    shown = sequence_table(make([row("default", 0.7, 2.5, sequences=sequences)]))
    assert cells(shown) == [
        ["", "", "error"],
        ["sequence", "J", "lower"],
        ["bear", "0.250", "4.000"],
        ["[dog]", "-", "1.000"],
        ["all", "0.700", "2.500"],
    ]
    assert bold(shown) == []


def test_sequences_of_several_trackers() -> None:
    def scored(**values: float) -> dict[str, Any]:
        return {name: {"scores": {"J": value}} for name, value in values.items()}

    first = row("a", 0.5, sequences=scored(bear=0.2, dog=0.9))
    second = row("b", 0.6, sequences=scored(bear=0.4))
    shown = sequence_table(make([first, second]))
    assert cells(shown) == [
        ["sequence", "a", "b"],
        ["bear", "0.200", "0.400"],
        ["dog", "0.900", "-"],
        ["all", "0.500", "0.600"],
    ]
    assert sorted(bold(shown)) == ["0.400", "0.600", "0.900"]


def test_a_sweep_of_several_trackers_names_each_parameter_once() -> None:
    sweep = {"topk": [5, 10], "temperature": [0.1]}
    rows = [
        row(f"{name} topk={topk} temperature=0.1", 0.5, swept={"topk": topk, "temperature": 0.1})
        for name in ("lab", "random:resnet18")
        for topk in (5, 10)
    ]
    found = [line[:3] for line in cells(table(make([*rows, row("theirs topk=5", 0.5)], sweep=sweep)))]
    assert ["lab", "10", "0.1"] in found and ["random:resnet18", "5", "0.1"] in found
    assert ["theirs topk=5", "-", "-"] in found
