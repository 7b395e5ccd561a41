"""`vidtrack benchmark`: a tracker measured on data with ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidtrack.commands.shared import (
    GO_ON,
    Context,
    Device,
    Overwrite,
    Precision,
    Preset,
    Quality,
    Quiet,
    Radius,
    Reach,
    Refine,
    Size,
    Temperature,
    Threads,
    Topk,
    TrackerName,
    told,
    working_side,
)


def davis(
    data: Annotated[Path, typer.Option(help="Folder in DAVIS layout.")],
    out: Annotated[Path, typer.Option(help="Folder for results and masks.")],
    year: Annotated[int, typer.Option(help="2016 (one object) or 2017 (several).")] = 2017,
    split: Annotated[str, typer.Option(help="Name of the list under ImageSets.")] = "val",
    resolution: Annotated[str | None, typer.Option(help="Folder under JPEGImages, if several.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Score these masks, run nothing.")] = None,
    tracker: TrackerName = "default",
    quality: Quality = None,
    preset: Preset = None,
    size: Size = None,
    context: Context = None,
    radius: Radius = None,
    reach: Reach = None,
    topk: Topk = None,
    temperature: Temperature = None,
    refine: Refine = None,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """J and F as the official DAVIS tool defines them, with the masks and the settings on record."""
    with told(GO_ON):
        from vidtrack.benchmark.runner import run_davis
        from vidtrack.benchmark.table import table
        from vidtrack.progress import sequence_progress
        from vidtrack.tracker import load

        def make() -> Any:
            return load(
                tracker,
                device=device,
                threads=threads,
                precision=precision,  # type: ignore[arg-type]
                quality=quality,
                preset=preset,
                size=working_side(size),
                context=context,
                radius=radius,
                reach=reach,
                topk=topk,
                temperature=temperature,
                refine=refine,
            )

        with sequence_progress(quiet) as progress:
            results = run_davis(
                data,
                year,
                split,
                out,
                None if masks else make,
                overwrite=overwrite,
                resolution=resolution,
                masks=masks,
                progress=progress,
            )
        if not quiet:
            from rich.console import Console

            Console().print(table(results))
            print(f"{out}: results.json, results.csv{'' if masks else ', masks/'}")
