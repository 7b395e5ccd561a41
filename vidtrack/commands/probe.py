"""`vidtrack probe`: what the features of a backbone are worth for other tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pretrain.errors import InputError
from vidtrack.commands.shared import Device, Overwrite, Quiet, Threads, show, told

HEADS = ("linear", "mlp")


def probe(
    backbones: Annotated[
        list[str],
        typer.Argument(
            metavar="CKPT",
            help="Backbone file, folder of a run, checkpoint of a ResNet, timm:NAME, timm:NAME@FILE, or "
            "random:resnet18 (random:resnet18-small is the floor of runs at up to 64 pixels).",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(help="Folder or tar of images in class folders, digits, or a folder in DAVIS layout."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for results and report.html.")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=8, max=4096, help="Side of images, short side of frames. [theirs; 32 to 224]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Training images at most, evenly spread.")] = None,
    test_limit: Annotated[int | None, typer.Option(min=1, help="Test images at most.")] = None,
    layers: Annotated[str, typer.Option(help="all, last, or names such as layer3,layer4.")] = "all",
    shares: Annotated[str | None, typer.Option(help="Shares of the labels. [0.01,0.1,1]")] = None,
    heads: Annotated[str | None, typer.Option(help="Classifiers on frozen features. [linear,mlp]")] = None,
    k: Annotated[int | None, typer.Option(min=1, help="Nearest neighbours that vote. [200]")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of their weights. [0.07]")] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="Also train all weights.")] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of each fine-tuning, but 200 steps at least. [20]")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Of each fine-tuning, at most.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of subsets and classifiers.")] = 0,
    resolution: Annotated[str | None, typer.Option(help="Folder under JPEGImages, if several.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Judge backbones by their features: neighbours, classifiers, few labels, fine-tuning, pixels."""
    with told():
        # What is wrong with the options is said before anything heavy is imported.
        given: dict[str, Any] = {"seed": seed}
        if layers != "all":
            given["layers"] = layers if layers == "last" else _names(layers, "layers")
        if shares is not None:
            given["shares"] = _numbers(shares)
        if heads is not None:
            given["heads"] = _names(heads, "heads")
            if wrong := [name for name in given["heads"] if name not in HEADS]:
                raise InputError(f"--heads {wrong[0]}: choose linear, mlp or linear,mlp.")
        if k is not None:
            given["k"] = k
        if temperature is not None:
            given["temperature"] = _positive(temperature, "temperature")
        if finetune:
            given["finetune"] = True
        for option, value in (("epochs", epochs), ("max-minutes", max_minutes)):
            if value is not None and not finetune:
                raise InputError(f"--{option} is for each fine-tuning: add --finetune, or leave it out.")
        if epochs is not None:
            given["epochs"] = epochs
        if max_minutes is not None:
            given["max_minutes"] = _positive(max_minutes, "max-minutes")

        import torch

        from pretrain.probe.settings import ProbeSettings
        from vidtrack.probing.run import judge
        from vidtrack.probing.table import fine_tuned, table
        from vidtrack.reports.probe_page import write_page

        if threads is not None:
            torch.set_num_threads(threads)
        with _progress(quiet) as progress:
            results = judge(
                backbones,
                data,
                out,
                ProbeSettings(**given),
                size=size,
                limit=limit,
                test_limit=test_limit,
                resolution=resolution,
                device=device,
                overwrite=overwrite,
                progress=progress,
                finish=lambda folder, found, pictures: write_page(folder / "report.html", found, pictures),
            )
        if not quiet:
            show(table(results))
            for note in [*fine_tuned(results), *results["notes"]]:
                print(note)
            if out is not None:
                print(f"{out}: {' '.join(sorted(path.name for path in out.iterdir()))}")


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"--{option} is empty: give names with commas between them.")
    return names


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value <= 1 for value in values):
        raise InputError(f"--shares {text}: give numbers above 0, up to 1, such as 0.01,0.1,1.")
    return values


def _positive(value: float, option: str) -> float:
    if not 0 < value < float("inf"):
        raise InputError(f"--{option} {value:g}: give a number above 0.")
    return value


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar that says what is being done; yields `update(what, done, total)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not sys.stderr.isatty()) as bars:
        task = bars.add_task("probe", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
