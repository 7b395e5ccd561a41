"""Validation of a run of `vidtrack train`: how well it tracks so far, and the best weights until now.

It needs no labels: see `vidtrack.learn.cycle_accuracy`. Where a folder in DAVIS layout is given, masks are
carried through it, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from pretrain.config import Config
from pretrain.log import append
from vidtrack.learn.cycle_accuracy import CycleAccuracy, cycle_accuracy
from vidtrack.learn.held_out import ClipSet, HeldOut
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.tracker import SO_FAR, load

LOG = "validation.jsonl"
BEST, LAST = SO_FAR
PRODUCTS = (LOG, BEST, LAST)
SCORE = "cycle_accuracy"
_TEMPORARY = ".davis-"  # folders


class Davis(Config):
    """Masks that are carried at each validation: those of a `split` of `data`, a folder in DAVIS layout.

    `size` is the short side in pixels at which embeddings are computed; None: as the run's tracker has it.
    Never train on these videos, nor choose settings by them if you report their score.
    """

    data: str | None = None
    year: Literal[2016, 2017] = 2017
    split: str = "val"
    size: int | None = Field(default=240, ge=16)


class Validation(Config):
    """When and how a run is validated: before the first step, after the last, and now and then between.

    It takes about eight seconds on one core with 32 clips of 4 frames of 128 pixels; `davis` takes a third of
    a second more for each of its frames.

    Attributes:
        every_minutes: between two validations; None: never by time.
        every_steps: the same in steps.
        clips: see `HeldOut`.
        temperature, tolerance: see `vidtrack.learn.cycle_accuracy.cycle_accuracy`. Walks are followed at a
            low temperature, so that it matters little how far apart a model's embeddings are.
        davis: see `Davis`.
    """

    every_minutes: float | None = Field(default=15.0, gt=0)
    every_steps: int | None = Field(default=None, ge=1)
    clips: HeldOut = HeldOut()
    temperature: float = Field(default=0.02, gt=0)
    tolerance: int = Field(default=1, ge=0)
    davis: Davis = Davis()


@torch.no_grad()
def score(model: VideoColorizer, clips: ClipSet, temperature: float, tolerance: int = 1) -> CycleAccuracy:
    """The cycle accuracy of what the tracker compares, see `cycle_accuracy`.

    Args:
        model: on the device where to compute; it is put into evaluation mode.
        clips: see `vidtrack.learn.held_out`.
        temperature, tolerance: see `cycle_accuracy`.
    """
    model.eval()
    where = next(model.parameters()).device

    def embed(images: Tensor) -> Tensor:
        return model.embed(images.contiguous(memory_format=torch.channels_last))

    return cycle_accuracy(embed, clips.frames.to(where), clips.windows.to(where), temperature, tolerance)


class Validator:
    """Scores a model during its training and keeps its best weights; a `pretrain.check.Check`.

    The folder of the run gets `validation.jsonl`, a record for each validation; `best.safetensors`, the
    tracker file of the highest cycle accuracy; and `last.safetensors`, that of the last validation.

    Args:
        out: folder of the run. What an earlier stretch of it left there counts.
        settings: see `Validation`.
        model: that is scored: the one that is trained, or its moving average.
        clips: held out, see `vidtrack.learn.held_out.choose_clips`.
        save: writes a tracker file of the model: called with its path and the step.
        report: called with each record.

    Raises:
        InputError: `settings.davis` names no usable folder.
    """

    def __init__(
        self,
        out: Path,
        settings: Validation,
        model: VideoColorizer,
        clips: ClipSet,
        save: Callable[[Path, int], None],
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.out, self.settings, self.model, self.clips = out, settings, model, clips
        self.save, self.report = save, report
        records = read_validation(out)
        self.known = {record["step"] for record in records}
        self.best = max((record[SCORE] for record in records), default=-1.0)
        if not (out / BEST).is_file():
            self.best = -1.0
        self.task = find_davis(settings.davis)
        for left in out.glob(f"{_TEMPORARY}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)

    def due(self, step: int, steps: int, minutes: float) -> bool:
        """See `pretrain.check.Check`; never for a step that is on record."""
        settings = self.settings
        if step in self.known:
            return False
        if step in (0, steps) or (settings.every_steps and step % settings.every_steps == 0):
            return True
        return settings.every_minutes is not None and minutes >= settings.every_minutes

    def __call__(self, step: int) -> None:
        """Score the model as it is after `step` steps."""
        began = time.monotonic()
        found = self.score()
        record = {"step": step, SCORE: found.mean, "chance": found.chance}
        record |= {f"{SCORE}_{k}": value for k, value in enumerate(found.steps, start=1)}
        self.save(self.out / LAST, step)
        if self.task is not None:
            record |= _davis_scores(self.task, self.out, self._device(), self.settings.davis.size)
        if found.mean > self.best:
            self.best = found.mean
            self.save(self.out / BEST, step)
        self.known.add(step)
        record["seconds"] = time.monotonic() - began
        append(self.out, record, LOG)
        if self.report is not None:
            self.report(record)

    def score(self) -> CycleAccuracy:
        """The cycle accuracy of the model as it is; it is put into evaluation mode."""
        return score(self.model, self.clips, self.settings.temperature, self.settings.tolerance)

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


def read_validation(run: Path) -> list[dict[str, float]]:
    """The records of a run's `validation.jsonl` by step; of a step that was made twice, the later one."""
    path = run / LOG
    records: dict[int, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found = json.loads(line)
            records[int(found["step"])] = {**found, SCORE: float(found[SCORE])}
        except (ValueError, KeyError, TypeError):  # cut off when the run was killed
            continue
    return [records[step] for step in sorted(records)]


def find_davis(settings: Davis) -> Any:
    """The masks that are carried at each validation; None: there are none.

    Raises:
        InputError: `settings` name no usable folder.
    """
    if settings.data is None:
        return None
    from vidtrack.benchmark.davis import DavisSet  # heavy, and only wanted with a folder
    from vidtrack.benchmark.davis_task import davis_task

    return davis_task(DavisSet.find(str(settings.data), settings.year, settings.split))


def _davis_scores(task: Any, out: Path, device: torch.device, size: int | None) -> dict[str, float]:
    """The official scores of the tracker file of this validation."""
    from vidtrack.benchmark.rows import Row
    from vidtrack.benchmark.runner import run

    tracker = load(out / LAST, device=device.type)
    if size is not None:
        tracker = tracker.changed(size=size)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=out) as folder:
        results = run(task, [Row("now", tracker)], Path(folder) / "results")
    return {key: value for key, value in results["rows"][0]["scores"].items() if value is not None}
