"""Charts as SVG: what stands where, gaps, escaping."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidtrack.reports.charts import (
    Series,
    bar_chart,
    color,
    downsample,
    line_chart,
    polyline,
    style_variables,
    swatch,
    text,
    value_range,
)

NS = {"s": "http://www.w3.org/2000/svg"}


def parsed(chart: str) -> ET.Element:
    return ET.fromstring(chart)


def paths(chart: str, style: int) -> list[str]:
    """`d` of the paths of a style."""
    found = parsed(chart).iterfind(".//s:path", NS)
    return [path.get("d") or "" for path in found if f"--s{style}," in (path.get("style") or "")]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_a_line_stands_at_its_values() -> None:
    chart = line_chart("bear", [Series("a", [0.0, 0.5, 1.0]), Series("b", [1.0, 1.0], 1)])
    (line,) = paths(chart, 0)
    (x0, y0), (x1, y1), (x2, y2) = points(line)
    assert x1 - x0 == pytest.approx(x2 - x1) and y0 - y1 == pytest.approx(y1 - y2) and y0 > y2
    grid = [
        p.get("d") or "" for p in parsed(chart).iterfind(".//s:path", NS) if "--line" in p.get("style", "")
    ]
    assert [float(d.split()[1].split("H")[0]) for d in grid] == [y0, y1, y2]  # lines at 0, 0.5 and 1
    assert points(paths(chart, 1)[0]) == [(x0, y2), (x1, y2)]  # shorter, over the same frames
    labels = [t.text for t in parsed(chart).iterfind(".//s:text", NS)]
    assert labels == ["bear", "0", "0.5", "1", "0", "1", "2"]


def test_values_stand_at_their_places() -> None:
    chart = line_chart("loss", [Series("a", [1.0, 0.0, 1.0])], places=[10, 20, 50], said="over 50 steps")
    (line,) = paths(chart, 0)
    (x0, _), (x1, _), (x2, _) = points(line)
    assert x2 - x1 == pytest.approx(3 * (x1 - x0), abs=0.2)
    labels = list(parsed(chart).iterfind(".//s:text", NS))[4:]
    assert [t.text for t in labels] == ["10", "20", "50"]
    assert [float(t.get("x") or 0) for t in labels] == pytest.approx([x0, x1, x2])
    assert parsed(chart).findtext("s:title", "", NS) == "loss: over 50 steps"
    long = line_chart("x", [Series("a", [0.5] * 600)], places=[10 * n for n in range(600)])
    found = [x for x, _ in points(paths(long, 0)[0])]  # means of two stand between their places
    assert found == pytest.approx([40 + 370 * (5 + 20 * n) / 5990 for n in range(300)], abs=0.06)
    same = line_chart("x", [Series("a", [0.5])], places=[7])
    assert "nan" not in same and len(paths(same, 0)) == 1
    with pytest.raises(ValueError, match="3 places"):
        line_chart("x", [Series("a", [0.1, 0.2, 0.3])], places=[0, 1])


def test_gaps_and_single_values() -> None:
    chart = line_chart("x", [Series("a", [None, 0.1, 0.2, None, 0.3, None, 0.4, 0.5, 0.6])])
    line, dots = paths(chart, 0)
    assert [len(points(part)) for part in line.replace("M", "|M").split("|")[1:]] == [2, 3]
    assert len(points(dots)) == 1 and dots.endswith("h0")
    empty = line_chart("x", [Series("a", [None, None])])
    assert paths(empty, 0) == [] and "not scored" in empty
    assert parsed(line_chart("nothing", [])).tag.endswith("svg")
    assert len(paths(line_chart("one frame", [Series("a", [0.5])]), 0)) == 1


def test_titles_say_what_is_shown() -> None:
    chart = parsed(line_chart("bear", [Series("a", [0.25, None, 0.75])]))
    titles = [t.text for t in chart.iterfind(".//s:title", NS)]
    assert titles == ["bear: score over 3 frames", "a: mean 0.500"] and chart.get("role") == "img"
    assert chart[0].tag.endswith("title")


@given(st.lists(st.none() | st.floats(0, 1), max_size=120), st.integers(1, 40))
def test_downsampling_keeps_known_means(values: list[float | None], most: int) -> None:
    result, step = downsample(values, most)
    assert len(result) <= most and len(result) == -(-len(values) // step)
    for place, value in enumerate(result):
        known = [v for v in values[place * step : (place + 1) * step] if v is not None]
        assert value == (pytest.approx(sum(known) / len(known)) if known else None)


def test_long_lines_are_short_text() -> None:
    chart = line_chart("x", [Series("a", [0.5] * 100_000)])
    assert len(chart) < 8_000
    (line,) = paths(chart, 0)
    places = [x for x, _ in points(line)]
    assert places == sorted(places) and 40 <= places[0] < 42 and 408 < places[-1] <= 410


def test_ranges() -> None:
    assert value_range([0.2, 0.7]) == (0, 1) and value_range([]) == (0, 1)
    assert value_range([3.0, 40.0]) == (0, 40) and value_range([-0.5, 0.25]) == (-0.5, 0.25)
    (line,) = paths(line_chart("x", [Series("a", [0.0, 50.0])]), 0)
    (inside,) = paths(line_chart("x", [Series("a", [0.0, 1.0])], bounds=(0, 1)), 0)
    assert points(line) == points(inside)


def test_bars_are_as_long_as_their_values() -> None:
    groups, values = ["bear", "dog"], [Series("a", [0.8, 0.2]), Series("b", [0.4, None], 1)]
    chart = parsed(bar_chart("J", groups, values))
    bars = list(chart.iterfind(".//s:rect", NS))
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths == pytest.approx([0.8 * 376, 0.4 * 376, 0.2 * 376], abs=0.1)  # 44 are left for the values
    tops = [float(bar.get("y", 0)) for bar in bars]
    assert tops == sorted(tops)
    titles = [t.text for t in chart.iterfind(".//s:g/s:title", NS)]
    assert titles == ["bear, a: 0.800", "bear, b: 0.400", "dog, a: 0.200", "dog, b: not scored"]
    halved = parsed(bar_chart("J", groups, values, bounds=(0, 2)))
    assert float(halved.findall(".//s:rect", NS)[0].get("width", 0)) == pytest.approx(0.4 * 376, abs=0.1)
    with pytest.raises(ValueError, match="2 values"):
        bar_chart("J", groups, [Series("a", [0.1])])


def test_negative_bars_begin_where_zero_is() -> None:
    chart = parsed(bar_chart("decay", ["x", "y"], [Series("a", [-0.5, 0.5])]))
    left, right = chart.findall(".//s:rect", NS)
    end = float(left.get("x", 0)) + float(left.get("width", 0))
    assert float(left.get("x", 0)) == 0 and end == pytest.approx(float(right.get("x", 0)), abs=0.11)


def test_polylines_have_gaps() -> None:
    drawn = polyline([(0, 0), (1, 1), None, (3, 3)], 2)
    assert drawn.count("<path") == 1 and drawn.count("<circle") == 3


NASTY = "<script>alert(1)</script>\"'&\x00\x1b\ud800\uffff"


def test_names_are_escaped() -> None:
    for chart in (
        line_chart(NASTY, [Series(NASTY, [0.5, 0.6])]),
        bar_chart(NASTY, [NASTY], [Series(NASTY, [0.5])]),
    ):
        assert "<script" not in chart and parsed(chart) is not None
        chart.encode("utf-8")


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_is_valid_xml(value: str) -> None:
    escaped = text(value)
    escaped.encode("utf-8")
    clean = ET.fromstring(f'<a b="{escaped}">{escaped}</a>').text or ""
    assert len(clean.replace("\n", "")) <= len(value.replace("\n", "").replace("\r", "")) + value.count("\r")


def test_styles() -> None:
    assert color(0) == color(6) != color(1)
    assert style_variables(["red", "blue"]) == "--s0:red;--s1:blue;" and style_variables().count(";") == 6
    ET.fromstring(swatch(3))


def test_long_names_lose_their_middle() -> None:
    chart = line_chart("a" * 50 + "z" * 50, [])
    shown = next(t.text for t in parsed(chart).iterfind(".//s:text", NS))
    assert shown is not None and len(shown) == 60 and re.fullmatch("a+…z+", shown)
