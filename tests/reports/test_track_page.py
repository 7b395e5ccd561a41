"""The page of a run of `vidtrack train`: validations, curves, colours, walks; self-contained and escaped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.errors import InputError
from pretrain.pictures import Picture
from vidtrack.colorize import to_lab
from vidtrack.learn.cycle_accuracy import Walks
from vidtrack.learn.held_out import ClipSet, HeldOut, choose_clips
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.reports.track_page import render_page, write_page
from vidtrack.reports.track_pictures import copy_colours, draw_walks, track_pictures

from .test_benchmark_page import NASTY, Page
from .test_browser import browser, verdict
from .test_pretrain_page import decoded

__all__ = ["browser"]  # a fixture
SIZE = 32


@pytest.fixture(scope="module")
def model() -> VideoColorizer:
    torch.manual_seed(0)
    return VideoColorizer(Model(head=(8, 4))).requires_grad_(False)  # as the average of a run


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 255, (6, 40, 56, 3)).astype(np.uint8) for _ in range(3)]
    chosen = choose_clips(videos, ["a.mp4", "b.mp4", "c.mp4"], HeldOut(clips=5, frames=3, gap=1), SIZE)
    assert chosen is not None
    return chosen


def log(*losses: float) -> list[dict[str, float]]:
    shared = {"steps": 30, "learning_rate": 1e-3, "samples_per_second": 5.0}
    return [
        {"step": 10 * n, "minutes": 0.5 * n, "loss": loss, "anchors/agreement": 0.1 * n, **shared}
        for n, loss in enumerate(losses, start=1)
    ]


def validation(*scores: float) -> list[dict[str, float]]:
    return [
        {
            "step": 10 * n,
            "cycle_accuracy": score,
            "cycle_accuracy_1": score + 0.1,
            "cycle_accuracy_2": score - 0.1,
            "chance": 0.03,
            "J&F-Mean": 0.5 + score / 10,
            "seconds": 8.0,
        }
        for n, score in enumerate(scores)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: VideoColorizer, clips: ClipSet) -> Path:
    """A folder of a run with its page."""
    out = tmp_path_factory.mktemp("run")
    record = {
        "config": {"objectives": {"anchors": 1.0, "lab": 0.3}},
        "versions": {"torch": "2"},
        "commit": "abc",
    }
    (out / "config.json").write_text(json.dumps(record))
    for name, records in (("log", log(3.0, 2.0, 1.0)), ("validation", validation(0.2, 0.5, 0.4))):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_page(out, model.train(), clips)
    return out


def test_a_run_has_it_all(run: Path, model: VideoColorizer) -> None:
    page = Page((run / "report.html").read_text())
    assert page.of("h1") == ["Learning to track by anchors and lab"]
    assert page.of("h2") == ["Validation", "What it sees in unseen videos", "Curves", "The run"]
    assert page.of("h3") == ["Copied colours", "Walks forth and back", "Versions"]
    lead = page.of("p")[1]
    assert "30 of 30 steps in 2 minutes; loss 3 → 1;" in lead
    assert page.of("strong") == ["cycle accuracy 0.200 → 0.400"]
    assert "the best 0.500 at step 10." in "".join(text for _, text in page.texts)
    charts = [title for title in page.of("title") if " from " in title]
    names = [
        "cycle accuracy",
        "J&F-Mean",
        "loss",
        "anchors/agreement",
        "learning rate, 10⁻³",
        "clips per second",
    ]
    assert [title.split(":")[0] for title in charts] == names
    assert charts[0] == "cycle accuracy: at 3 validations, from 0.2 to 0.4"
    spans = [text.strip() for text in page.of("span")]
    assert spans == ["mean", "over 1 frame and back", "over 2 frames and back", "chance"]
    assert [pixels.std() > 5 for _, pixels in decoded(page)] == [True, True]
    assert {"3 videos held out", "a.mp4", "All settings"} <= {text for _, text in page.texts}
    parameters = sum(p.numel() for p in model.parameters())
    assert {f"{parameters:,}", "8 x 8 pixels", "layer3", "abc"} <= set(page.of("dd"))
    assert model.training  # as it was


def test_it_needs_nothing_from_elsewhere(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert not {"script", "link", "iframe", "object", "base"} & {name for name, _ in page.elements}
    assert not any({"href", "onload", "srcset"} & attributes.keys() for _, attributes in page.elements)


def test_the_same_run_gives_the_same_page(run: Path, model: VideoColorizer, clips: ClipSet) -> None:
    before = (run / "report.html").read_bytes()
    write_page(run, model, clips)
    assert (run / "report.html").read_bytes() == before


def test_whatever_comes_from_data_is_escaped() -> None:
    record = {"config": {"objectives": {NASTY: 1.0}}, "versions": {NASTY: NASTY}, "commit": NASTY}
    records = [{**one, NASTY: 0.5, f"cycle_accuracy_{NASTY}": 0.1} for one in validation(0.1, 0.2)]
    pictures = [Picture(NASTY, np.zeros((8, 8, 3), np.uint8), NASTY)]
    source = render_page(record, [{**log(1.0)[0], NASTY: 1.0}], records, pictures, {NASTY: NASTY}, [NASTY])
    source.encode("utf-8")
    page = Page(source)
    assert not page.all("script") and len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)


def test_what_is_missing_is_left_out(tmp_path: Path, model: VideoColorizer) -> None:
    (tmp_path / "config.json").write_text('{"config": {}}')
    write_page(tmp_path, model, None)
    page = Page((tmp_path / "report.html").read_text())
    assert page.of("h2") == ["The run"] and page.of("p")[1] == "No step is done yet."
    assert page.of("h1") == ["Learning to track by watching"] and not page.all("img")
    one = Page(render_page({"config": {}}, log(2.0), validation(0.0), [], {}, []))
    assert one.of("h2") == ["Validation", "Curves", "The run"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"config": 3}'])
def test_no_run_is_one_sentence(tmp_path: Path, model: VideoColorizer, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="holds no run of vidtrack train"):
        write_page(tmp_path, model, None)


class Brightness(nn.Module):
    """Points to where it is as bright: a stand-in for a model."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def embed(self, images: Tensor) -> Tensor:
        angle = F.avg_pool2d(images, 8)[:, :1] * torch.pi
        return torch.cat([angle.cos(), angle.sin()], dim=1)


def test_colours_are_copied_from_where_the_pointers_say() -> None:
    """Stripes of four colours, each with a brightness of its own, come back in another order."""
    paints = np.array([[120, 20, 20], [60, 120, 250], [90, 200, 90], [255, 240, 120]], np.uint8)
    stripes = [
        paints[order].repeat(8, axis=0)[None].repeat(SIZE, axis=0) for order in ([0, 1, 2, 3], [2, 0, 3, 1])
    ]
    reference, target = (np.ascontiguousarray(image) for image in stripes)
    model: Any = Brightness()
    with torch.no_grad():
        found = copy_colours(model, reference, target)
    truth = to_lab(target)[..., 1:]
    middles = np.abs(found - truth)[:, 4::8]
    assert middles.max() < 3 and np.abs(to_lab(reference)[..., 1:] - truth)[:, 4::8].min() > 3


def test_walks_are_tinted() -> None:
    right = torch.zeros(1, 1, 16, dtype=torch.bool)
    right[0, 0, 5] = True
    counts = torch.ones(1, 16, dtype=torch.bool)
    counts[0, 0] = False
    walks = Walks(
        torch.zeros(1, 1, 16, dtype=torch.long), torch.zeros(1, 16, dtype=torch.long), counts, right
    )
    drawn = draw_walks(np.full((32, 32, 3), 100, np.uint8), walks, 0, 0).astype(int)
    assert (drawn[:8, :8] == 100).all()  # not counted
    red, green, _ = drawn[8:16, 8:16].reshape(-1, 3).T
    assert (green > red + 30).all()
    red, green, _ = drawn[16:, 16:].reshape(-1, 3).T
    assert (red > green + 30).all()


def test_pictures_show_several_clips(model: VideoColorizer, clips: ClipSet) -> None:
    copied, walked = track_pictures(model.eval(), clips, 0.02, 1)
    assert copied.image.shape == (3 * 34 - 2, 8 * 34 - 2, 3)  # five clips of four pictures, two clips a row
    assert walked.image.shape == (3 * 34 - 2, 5 * 34 - 2, 3)
    single = ClipSet(clips.frames[:1], clips.windows[:1], clips.names[:1])
    copied, walked = track_pictures(model, single, 0.02, 1)
    assert copied.image.shape == (32, 4 * 34 - 2, 3) and walked.image.shape == (32, 5 * 34 - 2, 3)
    assert np.array_equal(copied.image[:, 102:], clips.frames[0, -1].permute(1, 2, 0).numpy())


def test_a_browser_draws_it(browser: str, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_bytes((run / "report.html").read_bytes())
    found = verdict(browser, page, width=500)
    assert min(found["images"]) > 0 and min(found["charts"]) > 1 and found["overflow"] == 0
