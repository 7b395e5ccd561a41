"""`vidtrack train`: from a folder of raw videos to a tracker file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pretrain.catalogue import OF_TRAIN as TRACKER
from pretrain.device import choose_device
from pretrain.distributed import begin, first_alone, rank, world_size
from pretrain.engine import Report, RunCallback, fit
from pretrain.errors import InputError
from pretrain.folder import begin_run, look_or_begin, run_folder
from pretrain.interrupts import held_back
from pretrain.log import duration
from pretrain.origin import versions
from vidtrack.files import write_json
from vidtrack.learn.clips import ClipDataset, collate
from vidtrack.learn.estimate import seconds_per_step
from vidtrack.learn.frames import list_videos
from vidtrack.learn.held_out import ClipSet
from vidtrack.learn.index.build import Progress, name_in
from vidtrack.learn.module import ColorizerTraining
from vidtrack.learn.same_videos import require_listed, require_same
from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.training_set import TrainingSet, read_training_set
from vidtrack.learn.validate import PRODUCTS, Validator, find_davis
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.tracker_file import save_tracker

REPORT = "report.html"
FRAMES = "frames"  # decoded, where data.cache names no other folder
Finish = Callable[[VideoColorizer, ClipSet | None], None]


@dataclass
class TrainResult:
    """How a call of `train` ended: `done`, or stopped early by `interrupted` or the time limit.

    Attributes:
        skipped: name and reason of what was not learned from.
    """

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
    report: Report | None = None,
    validated: Report | None = None,
    decoding: Progress | None = None,
    indexing: Progress | None = None,
    announce: Callable[[str], None] | None = None,
    finish: Finish | None = None,
) -> TrainResult:
    """Train a tracker from the videos of a folder; the same call goes on where an earlier one stopped.

    Writes `out/config.json`, `log.jsonl`, `last.ckpt`, what `vidtrack.learn.validate` says and, when the last
    step is done and last of all, `tracker.safetensors`; the decoded frames stay in `out/frames` until then.
    Started by `torchrun`, the processes share each step, which is that of one process with all their clips.

    Args:
        data: folder of video files (or of folders of frames), or one video.
        config: the run's config.
        out: folder of the run.
        device: "auto", "cpu", "cuda" or "mps".
        max_minutes: stop after so long, with a checkpoint.
        overwrite: begin anew where `out` holds another run.
        report: called with the loss and throughput every few steps.
        validated: called with the record of each validation.
        decoding, indexing, announce: see `vidtrack.learn.frames.build_cache`.
        finish: called with the model and the clips that it was validated on, if any, at the end of a call
            that no signal ended: writes the report.

    Raises:
        InputError: no usable video, sizes that don't fit together, an `out` that holds something else, was
            begun with other videos, or that another run is writing.
    """
    began = time.monotonic()
    where = choose_device(device)
    begin(where)
    files = list_videos(data, config.data.split, config.data.licences)  # before anything is written
    listed = [name_in(data, path) for path in files]
    torch.manual_seed(config.seed)
    module = ColorizerTraining(config)
    _check(config, module.model.stride)
    find_davis(config.validation.davis)  # before hours of footage are read
    with run_folder(out):
        settings = config.optimizer
        products = (TRACKER, REPORT, *PRODUCTS)
        first = first_alone(lambda: look_or_begin(out, config, overwrite, products))
        frames = Path(config.data.cache) if config.data.cache else out / FRAMES
        finished = first >= settings.steps and (out / TRACKER).is_file()
        if first:
            first_alone(lambda: require_listed(out, listed, finished))
        if finished:
            _clear(out, frames, config)
            if announce is not None and rank() == 0:
                announce(f"{out} was finished before: nothing more is learned (--overwrite begins anew)")
            return TrainResult(out, first, done=True, interrupted=False, skipped=[])
        footage = first_alone(lambda: read_training_set(data, config, frames, decoding, indexing, announce))
        first_alone(lambda: begin_run(out, config, first, products))
        first_alone(lambda: require_same(out, listed, footage, resumed=first > 0))
        if rank() == 0:
            write_json(out / "skipped.json", [{"file": name, "why": why} for name, why in footage.skipped])
        if not first:
            module.prepare(footage.videos)
        left = settings.steps - first
        if left and (announce is not None or world_size() > 1):  # batch norms wait for all processes
            minutes = left * seconds_per_step(module, where) / 60
            if announce is not None:
                announce(f"about {duration(minutes)} for {left} steps on this machine")
        save = _saver(module, config, footage)
        check = None
        if footage.clips is not None:
            check = Validator(out, config.validation, module.best(), footage.clips, save, validated)
        rest = None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - began) / 60)
        callback = RunCallback(out, config.engine, settings.batch, rest, report, check)
        data_set = ClipDataset(footage.videos, config.clips, footage.shots)
        first = fit(module, data_set, collate, settings, config.engine, config.seed, callback, where, first)
        interrupted = callback.interrupted.is_set()
        done = first >= settings.steps and not interrupted
        if rank() == 0 and not interrupted:
            if done and check is not None and check.due(first, settings.steps, 0.0):  # it was killed there
                module.to(where)
                check(first)
            if finish is not None:
                finish(module.best().cpu().eval(), footage.clips)
        if rank() == 0 and done:
            with held_back():
                save(out / TRACKER, first)
                _clear(out, frames, config)
    return TrainResult(out, first, done, interrupted, footage.skipped)


def _clear(out: Path, frames: Path, config: TrackConfig) -> None:
    """Remove the decoded frames in the folder of a run, unless the user keeps them just there."""
    own = out / FRAMES
    if not config.data.cache or own.resolve() not in (frames.resolve(), *frames.resolve().parents):
        shutil.rmtree(own, ignore_errors=True)


def _saver(
    module: ColorizerTraining, config: TrackConfig, footage: TrainingSet
) -> Callable[[Path, int], None]:
    """What writes a tracker file of the model as it is: called with its path and the step."""

    def save(path: Path, step: int) -> None:
        record = {
            "config": config.model_dump(mode="json", exclude={"data": {"cache"}, "tracker": True}),
            "videos": len(set(footage.names)),
            "frames": sum(len(video) for video in footage.videos),
            "steps": step,
            "versions": versions(),
        }
        if module.began_from is not None:
            record["began_from"] = module.began_from
        save_tracker(path, module.best(), config.propagation.model_dump(mode="json"), record)

    return save


def _check(config: TrackConfig, stride: int) -> None:
    if config.clips.crop % stride:
        raise InputError(f"clips.crop={config.clips.crop} must be a multiple of {stride}.")
    if config.clips.crop > config.data.short_side:
        raise InputError(
            f"clips.crop={config.clips.crop} is larger than data.short_side={config.data.short_side}: "
            "lower the one or raise the other."
        )
    if "lab" in config.objectives and stride % config.lab.detail:
        raise InputError(
            f"lab.detail={config.lab.detail} must divide the {stride} pixels of a cell: set lab.detail=1."
        )
