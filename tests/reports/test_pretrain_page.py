"""The page of a pretext task: every curve and picture, self-contained, escaped, from real runs."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.origin import versions
from pretrain.pictures import Picture
from pretrain.run import load_method, pretrain
from pretrain.settings import schema
from vidtrack.reports.curves import curve_range, read_log
from vidtrack.reports.pretrain_page import choose, described, render_page, write_page

from .test_benchmark_page import NASTY, Page
from .test_browser import browser, verdict

__all__ = ["browser"]  # a fixture

SIZE = 16

WAITING = "share of the time without data"


def images(count: int = 20, side: int = SIZE, names: tuple[str, ...] | None = None) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    names = names or tuple(f"{number:02}.png" for number in range(count))
    return ImageSet(pixels, None, (), names, [("bad.png", "it is no image")])


def config(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "data": {"size": SIZE, "stored": SIZE + 4},
        "backbone": {"arch": "vit_tiny", "patch": 8},
        "optimizer": {"steps": 3, "batch": 2, "warmup_steps": 1},
        "engine": {"log_every": 1},
    }
    return schema("rotation").model_validate(values | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its page."""
    out = tmp_path_factory.mktemp("runs") / "run"
    data = images(side=SIZE + 4)
    assert pretrain(lambda _: data, config(), out, device="cpu").done
    write_page(out, data)
    return out


def decoded(page: Page) -> list[tuple[str, np.ndarray]]:
    """Media type and pixels of the pictures."""
    found = []
    for image in page.all("img"):
        head, _, content = (image["src"] or "").partition(";base64,")
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        assert (image["width"], image["height"]) == (str(pixels.shape[1]), str(pixels.shape[0]))
        found.append((head, pixels))
    return found


def titles(page: Page) -> list[str]:
    """Of the charts, without those of their lines."""
    return [title for title in page.of("title") if " steps, from " in title]


def test_a_run_has_it_all(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert page.of("h1") == ["Rotation: which of four ways up is it?"]
    assert page.of("h2") == ["The task", "Curves", "What it learned", "The run"]
    assert page.of("h3") == [
        "Rotations",
        "Attention",
        "Principal components",
        "Nearest neighbours",
        "Versions",
    ]
    paragraphs = "|".join(page.of("p"))
    assert "arXiv 1803.07728" in paragraphs and "20 images of 16 x 16 pixels, 3 steps in " in paragraphs
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    curves = [title.split(",")[0].split(":")[0] for title in titles(page)]
    assert curves == ["loss", "accuracy", "learning rate", "images per second", WAITING]
    assert f"loss: over 3 steps, from {log[0]['loss']:.4g} to {log[2]['loss']:.4g}" in titles(page)
    pictures = decoded(page)
    assert len(pictures) == 4 and {media for media, _ in pictures} == {"data:image/png"}
    assert all(pixels.std() > 10 for _, pixels in pictures)
    assert {"bad.png", "All settings", "1 file skipped"} <= {text for _, text in page.texts}
    assert {"vit_tiny, patches of 8 pixels", "20 pixels", versions()["torch"]} <= set(page.of("dd"))
    assert json.loads(page.of("pre")[0]) == load_method(run)[1].model_dump(mode="json")


def test_it_needs_nothing_from_elsewhere(run: Path) -> None:
    source = (run / "report.html").read_text()
    page = Page(source)
    assert not {"script", "link", "iframe", "object", "base"} & {name for name, _ in page.elements}
    for _, attributes in page.elements:
        assert not {"href", "onload", "onclick", "onerror", "srcset"} & attributes.keys()
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", source)
    policy = next(m["content"] or "" for m in page.all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    write_page(run, images(side=SIZE + 4))
    assert (run / "report.html").read_bytes() == before


def test_whatever_comes_from_data_is_escaped() -> None:
    settings = config().model_copy(update={"method": NASTY})
    names = tuple(f"{NASTY}{number}" for number in range(4))
    data = ImageSet(images(4).images, None, (NASTY,), names, [(NASTY, NASTY)])
    log = [{"step": n, "steps": 2, "minutes": 0.1 * n, "loss": 1.0, NASTY: 0.5} for n in (1, 2)]
    pictures = [Picture(NASTY, np.zeros((8, 8, 3), np.uint8), NASTY)]
    record = {"versions": {NASTY: NASTY}, "commit": NASTY}
    source = render_page(
        f"{NASTY}\n\n`{NASTY}` {NASTY}", settings, log, pictures, record, {NASTY: NASTY}, data
    )
    source.encode("utf-8")
    page = Page(source)
    assert not page.all("script") and len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "\x00" not in source and "\x1b" not in source


def test_large_pictures_are_jpegs_and_small_ones_enlarged() -> None:
    large = np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    small = np.zeros((10, 20, 3), np.uint8)
    small[2:5] = (250, 10, 20)
    pictures = [Picture("large", large, ""), Picture("small", small, ""), Picture("wide", large[:1], "")]
    page = Page(render_page("A", config(), [], pictures, {}, {}, images()))
    (first, jpeg), (second, png), (third, _) = decoded(page)
    assert (first, second, third) == ("data:image/jpeg", "data:image/png", "data:image/png")
    assert np.array_equal(png, small)
    assert np.abs(jpeg[5::10, 5::10].astype(int) - large[5::10, 5::10]).mean() < 12
    styles = [image.get("style") for image in page.all("img")]
    assert styles == [None, "width:80px", None]
    assert page.all("img")[1]["class"] == "pixel"


def test_what_is_missing_is_left_out() -> None:
    data = ImageSet(images(2).images, None, (), ("a", "b"), [])
    page = Page(render_page("A task.", config(), [], [], {}, {}, data))
    assert page.of("h1") == ["A task"] and page.of("h2") == ["The run"]
    assert page.of("p")[1] == "2 images of 16 x 16 pixels, 3 steps."
    assert page.of("summary") == ["All settings"]


def test_curves_with_gaps_and_without_numbers() -> None:
    log: list[dict[str, Any]] = [
        {"step": 5, "steps": 15, "minutes": 100.0, "loss": 2.0, "learning_rate": 1e-3},
        {"step": 10, "steps": 15, "minutes": 200.0, "loss": float("nan"), "mood": "good", "late": 20_000.0},
        {"step": 15, "steps": 15, "minutes": 300.0, "loss": 1.0, "learning_rate": 1e-4, "none": None},
    ]
    source = render_page("A", config(), log, [], {}, {}, images())
    page = Page(source)
    assert "nan" not in source and "NaN" not in source
    labels = page.of("text")
    assert labels[:7] == ["loss", "0", "1", "2", "5", "10", "15"]  # values, then steps
    assert labels[-7:] == ["learning rate, 10⁻³", "0", "0.5", "1", "5", "10", "15"]
    assert [title.split(":")[0] for title in titles(page)] == ["loss", "late, 10³", "learning rate, 10⁻³"]
    assert titles(page)[2].endswith("from 0.001 to 0.0001")
    assert source.count("M40.0 24.0") == 2  # loss and rate begin at the top of their axes
    assert "3 steps in 5.0 hours" in page.of("p")[1] and page.of("strong") == ["loss 2 → 1"]


def test_the_log_of_a_stopped_and_killed_run(tmp_path: Path) -> None:
    written = [(1, 1.0, 9.0), (2, 2.0, 8.0), (3, 3.0, 7.0), (3, 3.5, 6.0), (4, 4.5, 5.0), (5, 4.7, 4.0)]
    lines = [json.dumps({"step": s, "minutes": m, "loss": loss}) for s, m, loss in written]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines[:3], "[1]", '{"minutes": 3}', *lines[3:], '{"st']))
    log = read_log(tmp_path / "log.jsonl")
    assert [record["step"] for record in log] == [1, 2, 3, 4, 5]
    assert [record["loss"] for record in log] == [9, 8, 6, 5, 4]  # step 3 was done again
    assert [record["minutes"] for record in log] == pytest.approx([1, 2, 3.5, 4.5, 4.7])
    assert read_log(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1, 0.8], (0, 0.8)),
        ([0.0, 1.0], (0, 1.0)),
        ([8.0, 9.0], (7.95, 9.05)),
        ([-1.0, 1.0], (-1.1, 1.1)),
        ([2.0, 2.0], (1.9, 2.1)),
        ([0.0, 0.0], (0, 1.0)),
    ],
)
def test_the_axis_of_a_curve(values: list[float], expected: tuple[float, float]) -> None:
    assert curve_range(values) == pytest.approx(expected)


def test_images_are_chosen_evenly() -> None:
    assert choose(images(5), 9) == [0, 1, 2, 3, 4]
    assert choose(images(20), 4) == [2, 7, 12, 17]
    lengths = {"a": 90, "b": 6, "c": 4}
    names = tuple(f"{clip}.mp4#{frame}" for clip, count in lengths.items() for frame in range(count))
    videos = images(100, names=names)
    clips = [names[number][0] for number in choose(videos, 12)]
    assert [clips.count(clip) for clip in "abc"] == [4, 4, 4]
    assert choose(videos, 3) == [45, 93, 98]  # the middle of each
    assert len(set(choose(videos, 50))) == 50
    one = images(100, names=tuple(f"a.mp4#{frame}" for frame in range(100)))
    assert choose(one, 4) == [12, 37, 62, 87]


def test_a_method_is_described_by_its_file(run: Path) -> None:
    assert described(load_method(run)[0]).startswith("Rotation: which of four")


def test_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        write_page(tmp_path, images())


def test_a_browser_draws_it(browser: str, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes((run / "report.html").read_bytes())
    widths = [pixels.shape[1] for _, pixels in decoded(Page(page.read_text()))]
    light = verdict(browser, page)
    assert light["images"] == widths and len(light["charts"]) == 5 and min(light["charts"]) > 1
    assert light["overflow"] == 0 and light["background"] == "rgb(246, 247, 249)"
    dark = verdict(browser, page, "--blink-settings=preferredColorScheme=0", width=500)
    assert dark["images"] == widths and min(dark["charts"]) > 1
    assert dark["overflow"] == 0 and dark["background"] == "rgb(20, 24, 28)"
