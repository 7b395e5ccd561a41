"""`vidtrack pretrain`: images or raw videos in, a backbone file and a page about it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pretrain.errors import InputError
from pretrain.methods import METHODS, require_method
from vidtrack.commands.shared import GO_ON, Device, Overwrite, Quiet, Threads, told, warn

if TYPE_CHECKING:
    from pretrain.images import ImageSet
    from pretrain.settings import Data, PretrainConfig

ENLARGED = 0.75  # images this much smaller than what is learned from are worth a word
SMALLEST = 16  # pixels; of fewer nobody is told to learn
TRACKING = {"objectives", "clips", "model", "anchors", "propagation"}  # keys of configs of `vidtrack train`


def pretrain(
    method: Annotated[str, typer.Argument(help=f"Pretext task: {', '.join(METHODS)}.")],
    data: Annotated[Path, typer.Option(help="Folder or tar file of images, a video or a folder of videos.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value overrides of the config.")] = None,
    config: Annotated[
        str | None, typer.Option(help="Bundled name or a path. [pretrain/METHOD]", show_default=False)
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; resumable.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Learn a backbone from images without labels; the same command continues a stopped run."""
    with told(GO_ON):
        require_method(method)
        settings = _settings(method, config, overrides or [])  # mistakes first: what follows is heavy
        import torch

        from pretrain.engine import all_warm_up
        from pretrain.run import pretrain as run
        from vidtrack.learn.stills import read_data
        from vidtrack.progress import training_progress
        from vidtrack.reports.pretrain_page import write_page

        first = int(os.environ.get("RANK", "0")) == 0  # of the processes that torchrun starts, one talks
        if threads is not None:
            torch.set_num_threads(threads)
        if first:
            warn(all_warm_up(settings.optimizer))
        kept: list[ImageSet] = []

        def read(wanted: Data) -> ImageSet:
            cache = Path(wanted.cache) if wanted.cache else None
            options = wanted.split, wanted.limit, wanted.rate, cache
            kept.append(read_data(data, wanted.side(), *options, decoding))
            if first:
                warn(_enlarged(kept[-1].side, wanted.size))
            return kept[-1]

        with training_progress(quiet or not first, "images", "files") as (decoding, report):
            result = run(read, settings, out, device, max_minutes, overwrite, report)
        if first:
            warn([f"{name} was skipped: {why}" for name, why in result.skipped])
        if result.interrupted:
            raise KeyboardInterrupt
        if first and result.done:
            write_page(out, kept[0])
        if quiet or not first:
            return
        if not result.done:
            print(f"{out}: stopped at step {result.steps}; run the same command again to go on")
            return
        backbone = out / "backbone.safetensors"
        print(f"{backbone}: {result.steps} steps done; {out / 'report.html'} shows what was learned")
        print("to see what its features are good for:")
        print(f"  vidtrack probe {out} --data IMAGES --out OUT")
        print(f"  vidtrack benchmark davis --data DAVIS --tracker {backbone} --out OUT")


def _settings(method: str, config: str | None, overrides: list[str]) -> PretrainConfig:
    """The config of a method.

    Raises:
        InputError: no such method or config, one of something else, or a mistake in it.
    """
    from pretrain.config import find_config, load_config
    from pretrain.settings import schema
    from vidtrack.files import bundled_configs

    kind, name, bundled = schema(method), config or f"pretrain/{method}", bundled_configs()
    other = _made_for(find_config(name, bundled))
    if other == "vidtrack train":
        raise InputError(f"config {name} is one of vidtrack train: leave --config out.")
    if other not in (None, method):
        raise InputError(
            f"config {name} is for the method {other}, not {method}: write vidtrack pretrain {other}, or "
            "leave --config out."
        )
    settings = load_config(kind, name, overrides, bundled)
    if settings.method != method:
        raise InputError(f"method={settings.method} and {method} are two methods: give the one only.")
    return settings


def _enlarged(side: int | None, size: int) -> list[str]:
    """What is to be said of images with a short side of `side` pixels that are learned from at `size`."""
    from pretrain.catalogue import SMALL

    if side is None or side > ENLARGED * size:
        return []
    step = 4 if side <= SMALL else 16  # whole patches of the ViTs for images of this size
    small = side // step * step
    hint = (
        f": with data.size={small} they are learned from as they are, and faster" if small >= SMALLEST else ""
    )
    return [f"half of the images have {side} pixels or fewer, and are enlarged to {size}{hint}."]


def _made_for(path: Path) -> str | None:
    """The method that a config is for, or "vidtrack train"; None if that can't be told."""
    from pretrain.config import read_yaml

    values = read_yaml(path)
    if not isinstance(values, dict):
        return None
    if "method" in values:
        return str(values["method"])
    if TRACKING & values.keys():
        return "vidtrack train"
    return next((name for name in METHODS if name in values or name == path.stem), None)
