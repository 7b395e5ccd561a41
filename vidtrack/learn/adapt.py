"""A tracker on the user's own video: it goes on learning there, and is kept only where that helps.

The objective is that of training (see `vidtrack.learn.objectives.anchors`), on clips of the one video. Batch
norms keep the statistics of training, and only the last stage and the head learn, so that a few frames can't
spoil what many have taught. Whether it helped is measured without labels, by cycle accuracy on fixed clips of
the video; after test-time adaptation of trackers in Azimi et al. 2022 (WACV), "Self-Supervised Test-Time
Adaptation on Video Data".
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from pretrain.config import Config
from pretrain.device import choose_device, fast_dtype
from pretrain.engine import Optimizer, Report, make_optimizer
from pretrain.errors import InputError
from pretrain.interrupts import held_back
from pretrain.sampler import StepSampler, loader
from vidtrack.files import atomic_file, locked_file
from vidtrack.learn.clips import ClipDataset, Clips, collate, to_float
from vidtrack.learn.frames import NothingToLearn, build_cache
from vidtrack.learn.held_out import HeldOut, choose_clips
from vidtrack.learn.index.build import Progress
from vidtrack.learn.objectives.anchors import AnchorAssignment, Anchors
from vidtrack.learn.objectives.base import Name, Objective, Views
from vidtrack.learn.objectives.passes import weighted_losses
from vidtrack.learn.settings import Data
from vidtrack.learn.start import tracker_file
from vidtrack.learn.validate import score
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.stages import stages
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.tracker import DEFAULT

LEAST = 0.1  # cycle accuracy: of fewer walks that come home, a small share is chance


class Adapt(Config):
    """The config of `vidtrack adapt`.

    Attributes:
        steps, batch, learning_rate: of AdamW, with a tenth of the steps as warm-up; `batch` clips a step,
            each of which is learned from by itself.
        stages: how many of the backbone's last stages learn.
        checks: times that the model is scored on the way; the best of them is what may be kept.
        margin: the share of itself by which cycle accuracy must grow, and of `LEAST` where it is less, or the
            tracker stays as it was. Smaller growth says nothing about masks (see the model card).
        seed: of the clips that are drawn.
        data, clips, anchors: as in `vidtrack train`, but for more frames a second: one video has few.
        scored: the clips that it is scored on, with `temperature` as in a training's validation.
    """

    steps: int = Field(default=100, ge=1)
    batch: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    stages: int = Field(default=1, ge=0)
    checks: int = Field(default=4, ge=1)
    margin: float = Field(default=0.05, ge=0)
    seed: int = 0
    data: Data = Data(short_side=256, rate=24, cache_gb=0.5, split=None)
    clips: Clips = Clips(gap=(1, 6))
    anchors: Anchors = Anchors()
    scored: HeldOut = HeldOut(clips=24, gap=3)
    temperature: float = Field(default=0.02, gt=0)


@dataclass(frozen=True)
class Adapted:
    """What came of an adaptation.

    Attributes:
        before, after: cycle accuracy 0..1 of the tracker as it was, and of the best one on the way.
        accepted: whether the latter is kept.
        step: at which it was found.
        frames: of the video, that were learned from.
    """

    before: float
    after: float
    accepted: bool
    step: int
    frames: int

    def sentence(self) -> str:
        """What came of it, for people."""
        if self.accepted:
            return f"adapted to {self.frames} frames: cycle accuracy {self.before:.3f} -> {self.after:.3f}"
        return f"learning on {self.frames} frames brought no clear gain: the tracker stays as it was"


def adapt(
    video: Path,
    out: Path,
    tracker: str = DEFAULT,
    settings: Adapt | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    report: Report | None = None,
    decoding: Progress | None = None,
) -> Adapted:
    """Let a tracker go on learning on a video, and write it to a tracker file.

    Where that brings nothing, `out` gets the tracker as it was.

    Args:
        video: a video file or a folder of frames; or a folder of videos of the same kind.
        out: the tracker file to write.
        tracker: "default", "small", "free", the path of a tracker file, or a run of `vidtrack train`.
        settings: see `Adapt`.
        device: "auto", "cpu", "cuda" or "mps".
        overwrite: replace an existing `out`.
        report: called with `step, steps, cycle_accuracy, before` at each check.
        decoding: called with the number of parts of the video decoded and of all.

    Raises:
        NothingToLearn: the video is too short, or nothing moves in it.
        InputError: the tracker can't learn, or `out` can't be written or
            is being written by another run.
    """
    settings = settings or Adapt()
    with locked_file(out, overwrite):
        return _adapt(video, out, tracker, settings, device, report, decoding)


def _adapt(
    video: Path,
    out: Path,
    tracker: str,
    settings: Adapt,
    device: str,
    report: Report | None,
    decoding: Progress | None,
) -> Adapted:
    file = load_tracker(tracker_file(tracker))
    where = choose_device(device)
    if settings.clips.crop % file.model.stride or settings.clips.crop > settings.data.short_side:
        raise InputError(
            f"clips.crop={settings.clips.crop} must be a multiple of {file.model.stride} and at most "
            f"data.short_side={settings.data.short_side}."
        )
    least = max(settings.clips.frames, settings.scored.frames)
    with tempfile.TemporaryDirectory(prefix="vidtrack-adapt-", ignore_cleanup_errors=True) as folder:
        frames = Path(settings.data.cache or folder)
        cache = build_cache(video, settings.data, frames, least, decoding)
        found = adapt_model(file.model, cache.videos, settings, where, report)
        del cache  # the frames are mapped from the folder
        told = {"video": video.name, "config": settings.model_dump(mode="json"), **vars(found)}
        made = Path(folder) / out.name  # there, and not beside `out`, a kill may leave half of it
        save_tracker(made, file.model, file.propagation, {**file.training, "adapted": told})
        with held_back(), atomic_file(out, overwrite=True) as partial:
            shutil.copyfile(made, partial)
    return found


def adapt_model(
    model: VideoColorizer,
    videos: Sequence[np.ndarray],
    settings: Adapt,
    device: torch.device,
    report: Report | None = None,
) -> Adapted:
    """Let a model go on learning on some videos; where that brings nothing, it stays as it is.

    Args:
        model: float32; changed in place, and left on the CPU in evaluation mode.
        videos: uint8 `[T, H, W, 3]` RGB, short side at least the side of clips.
        settings: see `Adapt`.
        device: where to compute.
        report: see `adapt`.
    """
    clips = choose_clips(videos, [""] * len(videos), settings.scored, settings.clips.crop)
    if clips is None:
        raise NothingToLearn(f"no stretch of the video has {settings.scored.frames} frames to be scored on.")
    model.eval().to(device).to(memory_format=torch.channels_last)  # batch norms keep their statistics
    before = best = score(model, clips, settings.temperature).mean
    kept, at = copy.deepcopy(model.state_dict()), 0
    checks = {round(settings.steps * (n + 1) / settings.checks) for n in range(settings.checks)}
    for step in _learn(model, list(videos), settings, device):
        if step not in checks:
            continue
        now = score(model, clips, settings.temperature).mean
        if report is not None:
            report({"step": step, "steps": settings.steps, "cycle_accuracy": now, "before": before})
        if now > best + (settings.margin * max(best, LEAST) if at == 0 else 0):
            best, kept, at = now, copy.deepcopy(model.state_dict()), step
    model.load_state_dict(kept)
    model.cpu().requires_grad_(False)
    return Adapted(before, best, at > 0, at, sum(len(video) for video in videos))


def _learn(
    model: VideoColorizer, videos: list[np.ndarray], settings: Adapt, device: torch.device
) -> Iterator[int]:
    """Take the steps; yields the number of each when it is done."""
    parts = stages(model.backbone)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for stage in parts[len(parts) - min(settings.stages, len(parts)) :]:
        for parameter in stage.parameters:
            parameter.requires_grad_(True)
    options = Optimizer(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.steps // 10,
    )
    made = make_optimizer(model, options)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    objectives: dict[Name, Objective] = {"anchors": AnchorAssignment(settings.anchors, model.stride)}
    half = fast_dtype(device) == torch.bfloat16
    sampler = StepSampler(len(videos), settings.batch, settings.steps, settings.seed)
    for step, batch in enumerate(loader(ClipDataset(videos, settings.clips), sampler, 0, collate)):
        frames, windows = (part.to(device) for part in batch)
        # One clip at a time: in clips of one video the same things come again, and must not compete.
        for part, (clip, window) in enumerate(zip(frames.split(1), windows.split(1), strict=True)):
            views = Views(to_float(clip), window, settings.seed, step, part, len(frames))
            with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
                loss = weighted_losses(model, model, objectives, {"anchors": 1.0}, views)["loss"]
            (loss / len(frames)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield step + 1
