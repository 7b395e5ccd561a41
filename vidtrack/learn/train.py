"""`vidtrack train`: from a folder of raw videos to a tracker file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from pretrain.device import choose_device
from pretrain.engine import (
    CHECKPOINT,
    RunCallback,
    StepSampler,
    loader,
    make_optimizer,
    make_trainer,
    prepare_run,
    versions,
)
from pretrain.errors import InputError
from vidtrack.files import write_json
from vidtrack.learn.anchors import anchor_loss
from vidtrack.learn.clips import ClipDataset, collate, second_view, to_float
from vidtrack.learn.colorization import chroma, colorization_loss, fit_palette, quantise
from vidtrack.learn.frames import FrameCache, build_cache, list_videos
from vidtrack.learn.settings import TrackConfig
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.tracker_file import save_tracker


class ColorizerTraining(L.LightningModule):
    """One step of either objective on a batch of clips.

    Args:
        config: the run's config.
        palette: `[colors, 2]` of (a, b), for the colorization objective only.
    """

    palette: Tensor

    def __init__(self, config: TrackConfig, palette: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = VideoColorizer(config.model).to(memory_format=torch.channels_last)
        self.register_buffer("palette", torch.zeros(0, 2) if palette is None else palette, persistent=False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        frames, windows = batch
        frames = to_float(frames)  # [B, T, 3, H, W]
        step = self._anchors if self.config.objective == "anchors" else self._colorization
        losses = step(frames, windows)
        for name, value in losses.items():
            self.log(name, value, batch_size=len(frames))
        return losses["loss"]

    def _anchors(self, frames: Tensor, windows: Tensor) -> dict[str, Tensor]:
        batch, count = frames.shape[:2]
        second = second_view(frames, windows)
        # One pass for all frames with gradient: both sides of the cross-view term share batch statistics.
        graded = self._embed(torch.cat([frames.flatten(0, 1), second[:, 0]]))
        with torch.no_grad():
            others = self._embed(second[:, 1:].flatten(0, 1))
        rng = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step)
        offsets = torch.rand(batch, 2, generator=rng).to(frames.device)
        with torch.autocast(frames.device.type, enabled=False):
            return anchor_loss(
                graded[: batch * count].unflatten(0, (batch, count)),
                others.unflatten(0, (batch, count - 1)),
                graded[batch * count :],
                windows,
                offsets,
                self.config.anchors,
            )

    def _colorization(self, frames: Tensor, windows: Tensor) -> dict[str, Tensor]:
        embeddings = self._embed(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        with torch.autocast(frames.device.type, enabled=False):
            ab = chroma(frames.flatten(0, 1), self.model.stride)
            colors = quantise(ab, self.palette).unflatten(0, frames.shape[:2])
            return colorization_loss(embeddings, colors, len(self.palette), self.config.colorization)

    def _embed(self, images: Tensor) -> Tensor:
        return self.model(images.contiguous(memory_format=torch.channels_last))

    def configure_optimizers(self) -> Any:
        return make_optimizer(self, self.config.optimizer)


@dataclass
class TrainResult:
    """How a call of `train` ended: `done`, or stopped early by `interrupted` or the time limit."""

    out: Path
    steps: int
    done: bool
    interrupted: bool
    skipped: list[tuple[str, str]]


def train(
    data: Path,
    config: TrackConfig,
    out: Path,
    *,
    device: str = "auto",
    max_minutes: float | None = None,
    overwrite: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
    decoding: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train a tracker from the videos of a folder; the same call goes on where an earlier one stopped.

    Writes `out/config.json`, `log.jsonl`, `last.ckpt` and, when the last step is done,
    `tracker.safetensors`; the decoded frames stay in `out/frames` until then.

    Args:
        data: folder of video files (or of folders of frames).
        config: the run's config.
        out: folder of the run.
        device: "auto", "cpu", "cuda" or "mps".
        max_minutes: stop after so long, with a checkpoint.
        overwrite: begin anew where `out` holds another run.
        report: called with the loss and throughput every few steps.
        decoding: called with the number of videos decoded and of all.

    Raises:
        InputError: no usable video, sizes that don't fit together, an `out` that holds something else.
    """
    began = time.monotonic()
    _check(config)
    where = choose_device(device)
    list_videos(data, config.data.split)  # before anything is written
    first = prepare_run(out, config, overwrite, ("tracker.safetensors",))
    if first >= config.optimizer.steps and (out / "tracker.safetensors").is_file():
        return TrainResult(out, first, done=True, interrupted=False, skipped=[])
    frames = Path(config.data.cache) if config.data.cache else out / "frames"
    cache = build_cache(data, config.data, frames, config.clips.frames, decoding)
    write_json(out / "skipped.json", [{"file": name, "why": why} for name, why in cache.skipped])
    _require_same_videos(out / "videos.json", cache, resumed=first > 0)
    torch.manual_seed(config.seed)
    palette = None
    if config.objective == "colorization":
        palette = fit_palette(cache.videos, config.colorization, config.seed, VideoColorizer.stride)
    module = ColorizerTraining(config, palette)
    if config.objective == "colorization" and module.model.backbone.input != "l":
        raise InputError("objective=colorization needs model.input=l: with colour given, nothing is left.")
    settings = config.optimizer
    minutes = None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - began) / 60)
    callback = RunCallback(out, config.engine, settings.batch, minutes, report)
    if first < settings.steps:
        sampler = StepSampler(len(cache.videos), settings.batch, settings.steps, config.seed, first)
        batches = loader(ClipDataset(cache.videos, config.clips), sampler, config.engine.workers, collate)
        trainer = make_trainer(callback, settings, config.engine, where)
        trainer.fit(module, batches, ckpt_path=str(out / CHECKPOINT) if first else None)
        first = trainer.global_step
    else:
        state = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    done = first >= settings.steps
    if done:
        record = {
            "config": config.model_dump(mode="json", exclude={"data": {"cache"}}),
            "videos": len(set(cache.names)),
            "frames": sum(len(video) for video in cache.videos),
            "steps": first,
            "versions": versions(),
        }
        propagation = config.propagation.model_dump(mode="json")
        save_tracker(out / "tracker.safetensors", module.model, propagation, record)
        if not config.data.cache:
            shutil.rmtree(frames, ignore_errors=True)
    return TrainResult(out, first, done, callback.interrupted.is_set(), cache.skipped)


def _check(config: TrackConfig) -> None:
    if config.clips.crop % VideoColorizer.stride:
        raise InputError(f"clips.crop={config.clips.crop} must be a multiple of {VideoColorizer.stride}.")
    if config.clips.crop > config.data.short_side:
        raise InputError(
            f"clips.crop={config.clips.crop} is larger than data.short_side={config.data.short_side}: "
            "lower the one or raise the other."
        )
    if config.clips.frames < 2:
        raise InputError("clips.frames must be at least 2: learning compares frames of a clip.")


def _require_same_videos(record: Path, cache: FrameCache, resumed: bool) -> None:
    """Draws are indices of videos: a run may only go on with the videos that it began with."""
    videos = [[name, *video.shape] for name, video in zip(cache.names, cache.videos, strict=True)]
    if resumed and record.is_file() and json.loads(record.read_text()) != videos:
        raise InputError(
            f"{record.parent} was begun with other videos than --data holds now: restore them, choose "
            "another --out, or add --overwrite to begin anew."
        )
    write_json(record, videos)
