"""The HTML report of a benchmark: complete, self-contained, escaped, of reasonable size."""

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.reports.benchmark_page import render_page, write_page
from vidtrack.reports.benchmark_pictures import Picture

Make = Callable[..., dict[str, Any]]


class Page(HTMLParser):
    """Elements, text by element, and whether every element is closed."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [data for where, data in self.texts if where == tag]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(row: str = "default", kind: Any = "best", **changes: Any) -> Picture:
    image = np.full((48, 64, 3), 128, np.uint8)
    image[10:20, 10:30] = (250, 10, 20)
    values = {"sequence": "bear", "frame": 7, "row": row, "score": 0.75, "kind": kind}
    return Picture(**{**values, "predicted": image, "truth": image[..., ::-1].copy(), **changes})


def test_everything_is_there(make_results: Make) -> None:
    results = make_results()
    results["rows"][1]["reused"] = ["bear"]
    results["rows"][1]["frames_per_second"] = None
    page = Page(render_page(results, [picture(), picture(kind="worst"), picture("lab")]))
    assert page.of("title")[0] == "DAVIS-2016 dev" and page.of("h1") == ["DAVIS-2016 dev"]
    heads = [h for h in page.of("th") if h not in ("default", "lab")]
    assert heads == ["tracker", "J&F-Mean", "J-Mean", "F-Mean", "frames/s", "memory, MB"]
    best = f"{results['rows'][0]['scores']['J&F-Mean']:.3f}"
    assert page.of("strong")[0] == f"J&F-Mean {best}" and page.of("strong")[1] == best
    assert len(page.of("strong")) == 1 + 3  # one in each column of scores
    assert {"9.2", "1104", "–"} <= set(page.of("td"))
    sections = [
        "Scores",
        "J&F-Mean by sequence",
        "Score over time",
        "Best and worst frames",
        "What was measured",
    ]
    assert page.of("h2") == sections
    assert "bear, frame 7: 0.750" in page.of("figcaption") and page.of("h4") == ["best", "worst", "best"]
    assert {"/data/DAVIS-2016-dev", "cd" * 32, "2016", "dev", "null", "2.9.0", "bear"} <= set(page.of("dd"))
    assert page.of("summary") == ["default", "lab"] and '"radius": 12' in page.of("pre")[0]
    assert len(page.all("svg")) == 2 * 2 + 3 + 3  # two legends of two, bars and lines of three sequences


def test_it_needs_nothing_from_elsewhere(make_results: Make) -> None:
    results = make_results(sweep={"topk": [1, 2]})
    source = render_page(results, [picture("run0")])
    page = Page(source)
    assert not {"script", "link", "iframe", "object", "base"} & {name for name, _ in page.elements}
    for _, attributes in page.elements:
        assert not {"href", "onload", "onclick", "onerror"} & attributes.keys()
    assert all((i["src"] or "").startswith("data:image/jpeg;base64,") for i in page.all("img"))
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", source)
    policy = next(m["content"] or "" for m in page.all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_pictures_are_embedded_small(make_results: Make) -> None:
    large = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(200, 0).repeat(200, 1)
    page = Page(render_page(make_results(), [picture(), picture(predicted=large)]))
    images = page.all("img")
    decoded = [
        Image.open(io.BytesIO(base64.b64decode((i["src"] or "").split(",", 1)[1]))).convert("RGB")
        for i in images
    ]
    assert [d.size for d in decoded] == [(64, 48), (64, 48), (640, 480), (64, 48)]
    assert [(i["width"], i["height"]) for i in images] == [(str(d.width), str(d.height)) for d in decoded]
    assert np.abs(np.array(decoded[0], int)[15, 20] - (250, 10, 20)).max() < 40  # RGB, not BGR
    assert np.abs(np.array(decoded[1], int)[15, 20] - (20, 10, 250)).max() < 40
    assert [i["alt"] for i in images[:2]] == ["bear, frame 7: default", "bear, frame 7: truth"]


NASTY = "<script>alert('1')</script><img src=x onerror=\"x\">&amp;\x00\x1b\ud800"


def test_whatever_comes_from_data_is_escaped(make_results: Make) -> None:
    results = make_results({NASTY: 0.8, "b": 0.7}, {NASTY: 20, "c": 20}, {NASTY: [NASTY, "x"]})
    names = ("title", "benchmark", "data")
    results |= dict.fromkeys(names, NASTY) | {"protocol": {NASTY: [NASTY]}, "versions": {NASTY: NASTY}}
    results["keys"] = [NASTY, "J-Mean"]
    for row in results["rows"]:
        row["name"], row["settings"], row["reused"] = NASTY, {NASTY: NASTY}, [NASTY]
        row["scores"][NASTY] = 0.5
        for sequence in row["sequences"].values():
            sequence["scores"][NASTY] = 0.5
    source = render_page(results, [picture(sequence=NASTY, row=NASTY)])
    source.encode("utf-8")
    page = Page(source)
    assert not page.all("script") and len(page.all("img")) == 2
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "\x00" not in source and "\x1b" not in source


def test_what_is_missing_is_left_out(make_results: Make) -> None:
    results = make_results({"default": 0.8})
    page = Page(render_page(results))
    assert "Best and worst frames" not in page.of("h2") and "Sweep" not in page.of("h2")
    assert len(page.of("strong")) == 1  # a single row isn't the best of anything
    for row in results["rows"]:
        row["scores"] = dict.fromkeys(row["scores"])
        for record in row["sequences"].values():
            record["scores"] = dict.fromkeys(record["scores"])
            record["series"] = {}
    page = Page(render_page(results))
    assert page.of("h2") == ["Scores", "What was measured"] and page.of("strong") == ["J&F-Mean not scored"]


def test_sequences_that_a_row_lacks(make_results: Make) -> None:
    results = make_results()
    del results["rows"][1]["sequences"]["dog"]
    titles = Page(render_page(results)).of("title")
    assert "dog, lab: not scored" in titles and any(t.startswith("dog, default: 0.") for t in titles)


def test_a_sweep_has_its_own_section(make_results: Make) -> None:
    sweep = {"topk": [1, 2, 3], "temperature": [0.1, 0.2, 0.3]}
    page = Page(render_page(make_results(sweep=sweep)))
    assert page.of("h2")[:2] == ["Scores", "Sweep"] and page.of("th")[1:3] == ["topk", "temperature"]
    assert sum("share embeddings" in part for part in page.of("p")) == 1
    note = "the first row and the best others; 3 more are in the table"
    assert page.of("span").count(note) == 2
    assert len(page.of("summary")) == 9


def test_lower_scores_are_marked(make_results: Make) -> None:
    results = make_results()
    results["lower"] = ["J&F-Mean"]
    page = Page(render_page(results))
    assert len(page.all("abbr")) == 1
    assert page.of("strong")[0] == f"J&F-Mean {results['rows'][1]['scores']['J&F-Mean']:.3f}"


def test_a_large_page_stays_small(make_results: Make) -> None:
    results = make_results({f"row {n}": 0.9 - n / 10 for n in range(4)}, {f"s{n}": 1500 for n in range(30)})
    assert len(render_page(results)) < 3_000_000
    assert "means of neighbouring" in render_page(results)


def test_the_file_is_written_at_once(make_results: Make, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(path, make_results())
    assert path.read_text(encoding="utf-8") == render_page(make_results())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="--overwrite"):
        write_page(path, make_results(), overwrite=False)
