"""Tiny inputs for the commands that are killed, interrupted and run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pretrain.backbones import ResNet, save_backbone
from vidtrack.labels import Masks
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import save_tracker
from vidtrack.video import VideoWriter

HEIGHT, WIDTH, FRAMES = 40, 64, 14
SHARE = 1 / 8  # of the channels of a ResNet; with less, torch 2.14 writes beyond its memory
MODEL = (f"model.share={SHARE}", "model.head=[8,8]")
CLIPS = ("data.short_side=32", "clips.crop=32", "clips.frames=2", "anchors.grid=2", "anchors.cross_grid=2")
STEPS = ("optimizer.batch=2", "optimizer.warmup_steps=1", "engine.log_every=1", "engine.precision=32")
ALWAYS = "engine.checkpoint_minutes=0.0001"  # a checkpoint after each step


@dataclass(frozen=True)
class Command:
    """A command on the inputs of `make`.

    Attributes:
        argv: of `vidtrack`.
        out: what it writes.
        whole: `out` is absent or complete at every moment; else it is the folder of a run.
    """

    argv: Sequence[str]
    out: str
    whole: bool = True


COMMANDS = {
    "propagate": Command(
        [
            *("propagate", "made/video.mp4", "--mask", "made/masks", "--direction", "both", "--out", "out"),
            *("--tracker", "made/tracker.safetensors", "--save", "rle,npz", "--quiet"),
        ],
        "out",
    ),
    "benchmark": Command(
        [
            *("benchmark", "davis", "--data", "made/davis", "--tracker", "lab", "--tracker", "copy"),
            *("--out", "scores", "--workers", "1", "--quiet"),
        ],
        "scores",
    ),
    "adapt": Command(
        [
            *("adapt", "made/video.mp4", "--tracker", "made/tracker.safetensors", "--quiet"),
            *("--out", "own.safetensors", *CLIPS, "data.rate=24", "steps=4", "checks=2", "batch=2"),
            *("scored.clips=2", "scored.frames=3", "margin=0"),
        ],
        "own.safetensors",
    ),
    "train": Command(
        [
            *("train", "--data", "made/videos", "--out", "run", *CLIPS, *MODEL, *STEPS, ALWAYS, "--quiet"),
            *("optimizer.steps=8", "validation.every_steps=3", "validation.clips.clips=2"),
            *("validation.clips.frames=3", "validation.clips.gap=1"),
        ],
        "run",
        whole=False,
    ),
    "pretrain": Command(
        [
            *("pretrain", "rotation", "--data", "made/images", "--out", "pretext", "data.size=16", *STEPS),
            *("backbone.arch=made/backbone.safetensors", "optimizer.steps=8", "snapshots=2", ALWAYS),
            "--quiet",
        ],
        "pretext",
        whole=False,
    ),
    "colorize": Command(
        [
            *("colorize", "made/video.mp4", "--reference", "made/images/0.png", "--out", "coloured"),
            *("--tracker", "lab", "--quiet"),
        ],
        "coloured",
    ),
    "probe": Command(
        [
            *("probe", "made/backbone.safetensors", "--data", "made/classes", "--out", "probed"),
            *("--size", "16", "--layers", "last", "--heads", "linear", "--shares", "1", "--quiet"),
        ],
        "probed",
    ),
}


def frame(t: int, seed: int = 0) -> np.ndarray:
    """Frame `t`, uint8 `[H, W, 3]`: a bright square moves over a textured background."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 160, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    back[ids(t) > 0] = (240, 200, 30)
    return back


def ids(t: int) -> np.ndarray:
    """The labels of frame `t`, uint8 `[H, W]`: 1 is the square."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[12:28, 4 + 2 * t : 20 + 2 * t] = 1
    return found


def write_video(path: Path, frames: int = FRAMES, seed: int = 0) -> None:
    """A video of `frame`s, 12 per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(12)) as writer:
        for t in range(frames):
            writer.write(frame(t % FRAMES, seed))


def make(folder: Path) -> None:
    """Make the inputs of `COMMANDS`."""
    folder.mkdir()
    write_video(folder / "video.mp4")
    (folder / "masks").mkdir()
    for t in (0, 5, 10):
        Masks(ids(t)).save(folder / "masks" / f"{t:05d}.png")
    for seed in range(10):
        write_video(folder / "videos" / f"{seed}.mp4", 8, seed)
    (folder / "images").mkdir()
    for number in range(6):
        Image.fromarray(frame(number, number)).save(folder / "images" / f"{number}.png")
    for number in range(24):
        place = folder / "classes" / ("train", "test")[number % 2] / ("left", "right")[number % 3 % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame(number % 3 % 2 * 12, number)).save(place / f"{number}.png")
    (folder / "davis/ImageSets/2017").mkdir(parents=True)
    (folder / "davis/ImageSets/2017/val.txt").write_text("a\nb\n")
    for name, seed in (("a", 1), ("b", 2)):
        for kind in ("JPEGImages", "Annotations"):
            (folder / "davis" / kind / "480p" / name).mkdir(parents=True)
        for t in range(6):
            Image.fromarray(frame(t, seed)).save(folder / f"davis/JPEGImages/480p/{name}/{t:05d}.jpg")
            Masks(ids(t)).save(folder / f"davis/Annotations/480p/{name}/{t:05d}.png")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        save_backbone(ResNet("resnet18", share=SHARE, stem_kind="small"), folder / "backbone.safetensors")
        model = VideoColorizer(Model(share=SHARE, head=(8, 8)))
        save_tracker(folder / "tracker.safetensors", model, {}, {})
