"""The HTML report of a probe: complete, self-contained, escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from vidtrack.probing.frames import PixelPicture
from vidtrack.reports.charts import Series
from vidtrack.reports.probe_charts import class_color, confused, confusion_chart, layer_chart, plane_chart
from vidtrack.reports.probe_page import render_page, write_page

EVIL = "<script>alert('x')</script>\"&"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that every element is closed; text and attributes by element."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [data for where, data in self.text if where == tag]


def score(head: str, layer: str | None, share: float, accuracy: float) -> dict[str, Any]:
    found = {"head": head, "layer": layer, "share": share, "accuracy": accuracy, "stopped": False}
    return found | {"epochs": 12.5 if head == "finetune" else None}


def of_images(*names: str, classes: tuple[str, ...] = ("cat", "dog", "owl")) -> dict[str, Any]:
    rows = []
    for place, name in enumerate(names):
        scores = [
            score("knn", "layer1", 1.0, 0.4 + place / 100),
            score("linear", "layer1", 0.1, 0.5),
            score("linear", "layer1", 1.0, 0.6),
            score("knn", "layer2", 1.0, 0.45),
            score("linear", "layer2", 0.1, 0.55),
            score("linear", "layer2", 1.0, 0.7 + place / 100),
            score("finetune", None, 1.0, 0.9),
        ]
        rows.append(
            {
                "name": name,
                "weights": "ab" * 32,
                "layer": "layer2",
                "chance": 0.333,
                "seconds": 12.34,
                "scores": scores,
                "confusion": (np.eye(len(classes), dtype=int) * 7 + 1).tolist(),
                "confusion_of": {"head": "linear", "layer": "layer2", "share": 1.0},
                "embedding": {
                    "images": [0, 1, 2],
                    "places": [[0.0, 1.0], [5.0, -2.0], [3.0, 3.0]],
                    "labels": [0, 1, 1],
                },
            }
        )
    return {
        "schema": 1,
        "kind": "images",
        "title": "animals",
        "data": "animals.tar",
        "size": 32,
        "train": 100,
        "test": 24,
        "classes": list(classes),
        "notes": ["Something was left out."],
        "settings": {"seed": 0},
        "versions": {"torch": "2"},
        "device": "cpu",
        "rows": rows,
    }


def of_pixels(*names: str) -> dict[str, Any]:
    results = of_images(*names)
    for row in results["rows"]:
        row["scores"] = [
            {"layer": layer, "mIoU": 0.5, "accuracy": 0.75, "IoU": {"1": 0.25, "4": 0.75}}
            for layer in ("layer1", "layer2")
        ]
        del row["embedding"], row["chance"]
        row["confusion"] = [[3, 1], [1, 3]]
    return results | {"kind": "pixels", "classes": ["Sky", "Road"], "ids": [1, 4], "void": 255, "size": None}


def picture(row: str, name: str = "bear/00003") -> PixelPicture:
    truth = np.full((30, 40), 255, np.uint8)
    truth[:, 10:] = 1
    return PixelPicture(name, row, np.full((30, 40, 3), 90, np.uint8), truth, np.full((30, 40), 4, np.uint8))


def test_everything_of_images_is_there() -> None:
    page = Page(render_page(of_images("random:resnet18", "other")))
    assert page.of("h1") == ["animals"]
    assert page.of("h2") == ["Scores", "Layers", "Confusion", "Test images in the plane", "What was measured"]
    heads = page.of("th")
    assert heads[:6] == ["backbone", "layer", "kNN 100 %", "linear 10 %", "linear 100 %", "fine-tuned 100 %"]
    assert page.of("strong")[0] == "linear 100 % 0.710"  # other is better
    assert {"0.700", "0.900", "0.550"} <= {*page.of("td"), *page.of("strong")}
    titles = [title for title in page.of("title") if "by layer" in title]
    assert titles == ["kNN, by layer", "linear, by layer"] * 2
    assert "linear 100 %: 0.600, 0.700" in page.of("title")
    assert "cat taken for dog: 1 (10%)" in page.of("title")
    assert len(page.of("p")) >= 4 and any("Something was left out." in part for part in page.of("p"))
    assert any("100 %: 0.900 (12.5 epochs)." in part for part in page.of("p"))
    assert sum(tag == "use" for tag, _ in page.elements) == 2 * 3
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_everything_of_pixels_is_there(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", of_pixels("a", "b"), [picture("a"), picture("a", "x"), picture("b")])
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.of("h2") == [
        "Scores",
        "Layers",
        "Test frames",
        "IoU by class",
        "Confusion",
        "What was measured",
    ]
    assert page.of("figcaption") == ["bear/00003", "x", "bear/00003"]
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 6 and all(str(one["src"]).startswith("data:image/jpeg") for one in images)
    assert images[0]["width"] == "40" and {" Sky", " Road"} <= set(page.of("th"))
    assert "their own" in page.of("dd")


def test_names_of_any_kind_are_escaped_and_nothing_is_loaded() -> None:
    results = of_images(EVIL, classes=(EVIL, "dog", "owl"))
    results |= {"title": EVIL, "notes": [EVIL], "data": EVIL}
    for source in (render_page(results), render_page(of_pixels(EVIL), [picture(EVIL, EVIL)])):
        page = Page(source)
        assert not any(tag in ("script", "link", "iframe") for tag, _ in page.elements)
        assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
        assert not re.search(r"(src|href)=[\"'](?!data:|#)", source)
        assert "default-src 'none'" in source


def test_one_layer_has_no_curve() -> None:
    results = of_images("a")
    results["rows"][0]["scores"] = [s for s in results["rows"][0]["scores"] if s["layer"] != "layer1"]
    page = Page(render_page(results))
    assert not any("by layer" in title for title in page.of("title"))


def test_many_classes_have_their_mistakes_instead_of_cells() -> None:
    names = tuple(f"class{number}" for number in range(100))
    results = of_images("a", classes=names)
    source = render_page(results)
    assert "confusion of" not in source and "Most frequent: class0 for class1 (1)" in source
    assert "and 60 more" in source


def test_charts_are_valid_svg() -> None:
    matrix = [[5, 1], [0, 6]]
    curves = [Series("x", [0.25, None, 0.75])]
    for chart in (
        layer_chart("t", ["a", "b", EVIL], curves),
        layer_chart("t", [], []),
        confusion_chart("t", matrix, ["a", EVIL]),
        plane_chart("t", [[0.0, 0.0], [1.0, 1.0]], [0, 1], ["a", EVIL]),
        plane_chart("t", [], [], ["a"]),
        plane_chart("t", [[2.0, 2.0]], [0], ["a"]),
    ):
        ElementTree.fromstring(chart)


def test_the_places_of_a_curve() -> None:
    """Higher scores are higher up, deeper layers further right."""
    chart = layer_chart("t", ["a", "b", "c"], [Series("x", [0.22, 0.31, 0.28])])
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert x0 < x1 < x2 and y1 < y2 < y0
    assert re.findall(r">([\d.]+)</text>", chart) == ["0.2", "0.3", "0.4"]


def test_the_most_frequent_mistakes() -> None:
    assert confused([[9, 2, 0], [4, 9, 1], [0, 0, 9]]) == [(1, 0, 4), (0, 1, 2), (1, 2, 1)]
    assert confused([[9, 2, 0], [4, 9, 1], [0, 0, 9]], most=1) == [(1, 0, 4)]


@pytest.mark.parametrize("classes", [2, 10, 37])
def test_classes_have_colours_of_their_own(classes: int) -> None:
    assert len({class_color(label, classes) for label in range(classes)}) == classes
