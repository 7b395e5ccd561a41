"""`vidtrack train`: raw videos in, a tracker file out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidtrack.commands.shared import GO_ON, Device, Overwrite, Quiet, Threads, say, told, warn

if TYPE_CHECKING:
    from vidtrack.learn.held_out import ClipSet
    from vidtrack.model.colorizer import VideoColorizer

SHOWN = 10  # warnings of what was skipped: there is one for each shot


def train(
    data: Annotated[Path, typer.Option(help="Folder of raw videos, or one video.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value overrides of the config.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Pretrained backbone: run or file of vidtrack pretrain, checkpoint, or timm:NAME."),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(help="Tracker to go on from: default, small, free, a file, or a finished run."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Bundled name or path. [track/small; --tracker: track/default; --backbone: track/wide]"
        ),
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; resumable.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Learn a tracker from raw, unlabelled video; the same command continues a stopped run."""
    with told(GO_ON):
        import torch

        from pretrain.config import load_config
        from vidtrack.files import bundled_configs
        from vidtrack.learn.settings import TrackConfig, without_effect
        from vidtrack.learn.train import train as run
        from vidtrack.progress import print_indexing, print_validation, training_progress
        from vidtrack.reports.track_page import write_page

        def page(model: VideoColorizer, clips: ClipSet | None) -> None:
            write_page(out, model, clips, settings.validation)

        def announce(text: str) -> None:
            for line in text.splitlines():
                say(line)

        # Of the processes that torchrun starts, one talks.
        first = int(os.environ.get("RANK", "0")) == 0
        quiet = quiet or not first
        if threads is not None:
            torch.set_num_threads(threads)
        changes = [
            *([] if backbone is None else [f"model.backbone={json.dumps(backbone)}"]),
            *([] if tracker is None else [f"tracker={json.dumps(tracker)}"]),
            *(overrides or []),
        ]
        settings = load_config(TrackConfig, config or _recipe(changes), changes, bundled_configs())
        if first:
            warn(without_effect(settings))
        with training_progress(quiet, sources="parts of videos") as (decoding, report):
            result = run(
                data,
                settings,
                out,
                device=device,
                max_minutes=max_minutes,
                overwrite=overwrite,
                report=report,
                validated=None if quiet else print_validation,
                decoding=decoding,
                indexing=None if quiet else print_indexing(),
                announce=None if quiet else announce,
                finish=page,
            )
        shown = result.skipped[:SHOWN] if first else []
        warn([f"{shot} was skipped: {why}" for shot, why in shown])
        if first and len(result.skipped) > len(shown):
            warn([f"{len(result.skipped) - len(shown)} more were skipped: see {out / 'skipped.json'}"])
        if result.interrupted:
            raise KeyboardInterrupt
        if not quiet and result.done:
            say(f"{out / 'tracker.safetensors'}: use it with --tracker, {result.steps} steps done")
            say(f"{out / 'report.html'} shows what was learned")
        elif not quiet:
            say(f"{out}: stopped at step {result.steps}; run the same command again to go on")


def _recipe(changes: list[str]) -> str:
    """The config of a run that names none: it must fit what the run begins with."""
    begins = {"tracker": "track/default", "model.backbone": "track/wide"}
    return next(
        (name for key, name in begins.items() if any(c.startswith(f"{key}=") for c in changes)), "track/small"
    )
