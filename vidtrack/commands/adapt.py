"""`vidtrack adapt`: one video in, a tracker that knows it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.shared import Device, Overwrite, Quiet, Threads, told


def adapt(
    video: Annotated[Path, typer.Argument(help="Video file, folder of frames, or folder of videos.")],
    out: Annotated[Path, typer.Option(help="Tracker file to write: NAME.safetensors.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value overrides of the config.")] = None,
    tracker: Annotated[
        str, typer.Option(help="default, small, free, or a file or run of vidtrack train.")
    ] = "default",
    config: Annotated[str, typer.Option(help="Bundled name, or a path.")] = "track/adapt",
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Let the tracker go on learning on your own video; kept only if it then follows it better.

    Without labels: better is measured by walks through time and back. Where it is not, the file holds the
    tracker as it was.
    """
    with told():
        import torch

        from pretrain.config import load_config
        from pretrain.errors import InputError
        from vidtrack.files import bundled_configs
        from vidtrack.learn.adapt import Adapt
        from vidtrack.learn.adapt import adapt as run
        from vidtrack.progress import adapting_progress

        if out.suffix != ".safetensors":
            raise InputError(f"--out {out}: give a file name that ends in .safetensors.")
        if threads is not None:
            torch.set_num_threads(threads)
        settings = load_config(Adapt, config, overrides or [], bundled_configs())

        with adapting_progress(quiet) as (decoding, report):
            found = run(
                video,
                out,
                tracker,
                settings,
                device=device,
                overwrite=overwrite,
                report=report,
                decoding=decoding,
            )
        if not quiet:
            print(f"{out}: {found.sentence()}")
