"""`vidtrack export`: a trained backbone for torchvision or timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.shared import Overwrite, Quiet, told


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or backbone file.")],
    to: Annotated[str, typer.Option(help="torchvision or timm.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File, .pth or .safetensors.")],
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a backbone so that it loads strictly into torchvision's or timm's model without a classifier."""
    with told():
        from pretrain.catalogue import FILE, build_any
        from pretrain.errors import InputError
        from pretrain.export import export as exported
        from pretrain.export import require_suffix, write
        from vidtrack.files import atomic_file, require_free
        from vidtrack.model.tracker_file import is_tracker_file

        require_suffix(out)
        require_free(out, overwrite)
        tracker = run / "tracker.safetensors" if run.is_dir() and not (run / FILE).exists() else run
        if tracker.is_file() and is_tracker_file(tracker):
            raise InputError(
                f"{tracker} is a tracker, whose network ends at layer3: it can't fill a whole model of {to} "
                "strictly; export a backbone of vidtrack pretrain."
            )
        result = exported(build_any(str(run)), to, str(run))
        with atomic_file(out, overwrite) as partial:
            write(partial, result)
        if not quiet:
            mean, std = (", ".join(f"{value:.6g}" for value in part) for part in (result.mean, result.std))
            print(
                f"{out}: {len(result.state)} tensors; RGB in 0..1 is normalised by mean {mean} and std {std}"
            )
            print(f"load it with: {result.load(out)}")
