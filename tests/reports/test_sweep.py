"""The picture of a sweep."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from vidtrack.reports.sweep import sweep_legend, sweep_plot

NS = {"s": "http://www.w3.org/2000/svg"}


def make(
    sweep: dict[str, list[Any]], scores: dict[tuple[Any, ...], float | None], **changes: Any
) -> dict[str, Any]:
    rows = [
        {
            "name": str(n),
            "scores": {"J": score},
            "settings": {},
            "swept": dict(zip(sweep, values, strict=True)),
        }
        for n, (values, score) in enumerate(scores.items())
    ]
    return {"keys": ["J"], "lower": [], "sweep": sweep, "rows": rows, **changes}


def texts(root: ET.Element) -> list[str]:
    return [t.text or "" for t in root.iterfind(".//s:text", NS)]


def rings(root: ET.Element) -> list[tuple[float, float]]:
    found = [c for c in root.iterfind(".//s:circle", NS) if c.get("r") == "7"]
    return [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in found]


def dots(root: ET.Element, radius: str = "3.2") -> list[tuple[float, float]]:
    found = [c for c in root.iterfind(".//s:circle", NS) if c.get("r") == radius]
    return [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in found]


def test_one_parameter_is_a_line() -> None:
    root = ET.fromstring(sweep_plot(make({"topk": [5, 10, 1]}, {(10,): 0.5, (5,): 0.6, (1,): 0.3})))
    (x0, y0), (x1, y1), (x2, y2) = dots(root)
    assert x0 < x1 < x2 and y0 < y1 < y2  # as swept, better is higher
    assert (y1 - y0) / (y2 - y1) == pytest.approx(0.5, abs=0.02)
    assert rings(root) == [(x0, y0)]
    assert [t for t in texts(root) if t in ("5", "10", "1")] == ["5", "10", "1"]
    assert "J by topk" in (root.findtext("s:title", "", NS))
    assert not dots(root, "2.4")


def test_lower_is_better_rings_the_lowest() -> None:
    results = make({"topk": [5, 10]}, {(5,): 2.0, (10,): 3.0}, lower=["J"])
    root = ET.fromstring(sweep_plot(results))
    assert rings(root) == dots(root)[:1]


def test_two_parameters_are_a_heat_map() -> None:
    scores = {(a, b): 0.1 * a + b for a in (1, 2, 3) for b in (0.3, 0.1)} | {(3, 0.1): None}
    root = ET.fromstring(sweep_plot(make({"a": [1, 2, 3], "b": [0.3, 0.1]}, scores)))
    cells = {}
    for group in root.iterfind(".//s:g[s:rect]", NS):
        rect = group.find("s:rect", NS)
        assert rect is not None
        cells[group.findtext("s:title", "", NS)] = rect
    assert set(cells) == {
        "a 1, b 0.3: 0.400",
        "a 1, b 0.1: 0.200",
        "a 2, b 0.3: 0.500",
        "a 2, b 0.1: 0.300",
        "a 3, b 0.3: 0.600",
        "a 3, b 0.1: no score",
    }
    place = {name: (float(r.get("x", 0)), float(r.get("y", 0))) for name, r in cells.items()}
    assert place["a 1, b 0.3: 0.400"][0] < place["a 1, b 0.1: 0.200"][0]
    assert place["a 1, b 0.3: 0.400"][1] < place["a 2, b 0.3: 0.500"][1]
    strength = {
        n: float(r.get("style", "").split("fill-opacity:")[1].split(";")[0]) for n, r in cells.items()
    }
    assert strength["a 3, b 0.3: 0.600"] == 1 and strength["a 1, b 0.1: 0.200"] == pytest.approx(0.06)
    assert strength["a 1, b 0.3: 0.400"] == pytest.approx(0.53)
    assert [n for n, r in cells.items() if "stroke-width:2" in r.get("style", "")] == ["a 3, b 0.3: 0.600"]


def test_more_parameters_have_a_panel_each() -> None:
    sweep = {"a": [1, 2], "b": ["x", "y"], "c": [[1, 3], None]}
    scores = {
        (a, b, tuple(c) if c else None): 0.1 * a + (b == "y") * 0.3
        for a in (1, 2)
        for b in "xy"
        for c in ([1, 3], None)
    }
    results = make(sweep, scores)
    for row in results["rows"]:
        row["swept"]["c"] = list(row["swept"]["c"]) if row["swept"]["c"] else None
    root = ET.fromstring(sweep_plot(results))
    assert len(root.findall("s:g", NS)) == 3
    assert len(dots(root, "2.4")) == 3 * 8
    tops = dots(root)  # two values in each panel; the best over the others
    assert len(tops) == 6 and tops[0][1] > tops[1][1] and tops[2][1] > tops[3][1] and tops[4][1] == tops[5][1]
    for x, y in tops[:2]:
        assert y == min(v for u, v in dots(root, "2.4")[:8] if u == x)
    assert len(rings(root)) == 1 + 1 + 2  # the best score is reached with either value of c
    assert {"1,3", "none", "x", "y"} <= set(texts(root))


def test_several_trackers_are_told_apart() -> None:
    results = make({"a": [1, 2]}, {(1,): 0.1, (2,): 0.2})
    more = [
        {**row, "scores": {"J": row["scores"]["J"] + 0.5}, "settings": {"tracker": "<lab>"}}
        for row in results["rows"]
    ]
    results["rows"] += [*more, {"name": "copy", "scores": {"J": 0.9}, "settings": {}, "swept": {}}]
    root = ET.fromstring(sweep_plot(results))
    assert len(dots(root)) == 4 and len(rings(root)) == 1
    assert sweep_legend(results).count("<span>") == 2 and "&lt;lab&gt;" in sweep_legend(results)
    results["sweep"] = {"a": [1, 2], "b": [0]}
    for row in results["rows"]:
        row["swept"] = {**row["swept"], "b": 0}
    root = ET.fromstring(sweep_plot(results))
    assert len(root.findall("s:g", NS)) == 2 and sweep_legend(results) == ""
    same = make({"a": [1]}, {(1,): 0.1})
    same["rows"] += [{**same["rows"][0], "scores": {"J": 0.3}}]
    assert len(dots(ET.fromstring(sweep_plot(same)))) == 2  # no row hides another


NONE = {"keys": ["J"], "lower": [], "sweep": None, "rows": [{"name": "a", "scores": {"J": 1.0}, "swept": {}}]}


def test_nothing_to_draw() -> None:
    assert sweep_plot(NONE) == ""
    assert sweep_plot(make({"a": [1]}, {(1,): None})) == ""
    assert sweep_legend(NONE) == ""


def test_equal_scores_and_many_values() -> None:
    values = list(range(40))
    root = ET.fromstring(sweep_plot(make({"a": values}, {(v,): 0.5 for v in values})))
    assert len(dots(root)) == len(rings(root)) == 40
    assert len([t for t in texts(root) if t.isdecimal()]) <= 8
