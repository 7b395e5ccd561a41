"""`vidtrack adapt` and `propagate --adapt` as a user types them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vidtrack.cli import app
from vidtrack.learn import adapt as module
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.video import VideoWriter

SMALL = [
    "steps=2",
    "checks=1",
    "batch=2",
    "data.short_side=48",
    "clips.crop=32",
    "clips.frames=3",
    "scored.clips=2",
]
SMALL += ["scored.frames=3", "anchors.grid=2", "anchors.cross_grid=2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    back = rng.integers(0, 256, (12, 40, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    with VideoWriter(tmp_path / "own.mp4", 64, 48, Fraction(24)) as writer:
        for t in range(12):
            writer.write(back[:, 2 * t : 2 * t + 64])
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 1
    Image.fromarray(mask).save(tmp_path / "first.png")
    torch.manual_seed(0)
    save_tracker(tmp_path / "old.safetensors", VideoColorizer(Model(head=(16, 8))), {}, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_adapt(folder: Path) -> None:
    done = run(
        "adapt",
        "own.mp4",
        "--out",
        "new.safetensors",
        "--tracker",
        "old.safetensors",
        "--device",
        "cpu",
        *SMALL,
    )
    assert done.exit_code == 0, done.output
    assert "step 2/2  cycle accuracy" in done.stdout and "new.safetensors: " in done.stdout
    assert load_tracker("new.safetensors").training["adapted"]["video"] == "own.mp4"
    again = run("adapt", "own.mp4", "--out", "new.safetensors", *SMALL)
    assert again.exit_code == 2 and "exists already" in again.stderr
    for words, sentence in (
        (("own.mp4", "--out", "new.pth"), "ends in .safetensors"),
        (("nothing.mp4", "--out", "x.safetensors"), "there is no folder or video nothing.mp4"),
        (("own.mp4", "--out", "x.safetensors", "--tracker", "lab"), "can't learn"),
        (("own.mp4", "--out", "x.safetensors", "step=3"), "steps"),
    ):
        failed = run("adapt", *words)
        assert failed.exit_code == 2 and sentence in failed.stderr, failed.output
    assert not (folder / "x.safetensors").exists()


def test_propagate_adapts_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = module.Adapt.model_validate(
        {
            "steps": 2,
            "checks": 1,
            "batch": 2,
            "data": {"short_side": 48, "rate": 24, "split": None},
            "clips": {"frames": 3, "crop": 32},
            "scored": {"clips": 2, "frames": 3},
            "anchors": {"grid": 2, "cross_grid": 2},
        }
    )
    monkeypatch.setattr(module, "Adapt", lambda: small)
    words = ["propagate", "own.mp4", "--mask", "first.png", "--tracker", "old.safetensors", "--device", "cpu"]
    words += ["--adapt", "--no-overlay"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "12 frames" in done.stdout and ("adapted to" in done.stdout or "no clear gain" in done.stdout)
    report = json.loads((folder / "own_vidtrack" / "report.json").read_text())
    assert "old.safetensors, adapted" in json.dumps(report)
    again = run(*words, "--overwrite")
    assert again.exit_code == 0 and "step 2/2" in done.stdout and "step 2/2" not in again.stdout  # known
    live = run("propagate", "--live", "0", "--mask", "first.png", "--adapt")
    assert live.exit_code == 2 and "can't go with --live" in live.stderr


@pytest.mark.parametrize(("frames", "why"), [(3, "only 3 frames"), (12, "nothing moves in it")])
def test_propagate_goes_on_where_there_is_nothing_to_adapt_to(frames: int, why: str, folder: Path) -> None:
    picture = (
        np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    )
    with VideoWriter(folder / "still.mp4", 64, 48, Fraction(24)) as writer:
        for _ in range(frames):
            writer.write(picture)
    words = ["--tracker", "old.safetensors", "--device", "cpu", "--adapt", "--no-overlay"]
    done = run("propagate", "still.mp4", "--mask", "first.png", *words)
    assert done.exit_code == 0, done.output
    assert (
        f"Warning: --adapt: still.mp4 holds no video that can be learned from (still.mp4: {why}"
        in done.stderr
    )
    assert len(list((folder / "still_vidtrack" / "masks").iterdir())) == frames


def test_adapt_keeps_frames_where_it_is_told(folder: Path) -> None:
    words = ["--tracker", "old.safetensors", "--device", "cpu", *SMALL]
    done = run("adapt", "own.mp4", "--out", "new.safetensors", *words, "data.cache=kept")
    assert done.exit_code == 0, done.output
    assert list((folder / "kept").glob("frames-*.raw"))
