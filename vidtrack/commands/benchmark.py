"""`vidtrack benchmark`: trackers measured on data with ground truth. One function per kind of data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pretrain.errors import InputError
from vidtrack.commands.options import TrackerOptions, with_options
from vidtrack.commands.shared import GO_ON, show, told

if TYPE_CHECKING:
    from vidtrack.benchmark.task import Task

FLOORS = ("lab", "copy", "random:resnet18")

Out = Annotated[Path, typer.Option(help="Folder for results, report.html and predictions.")]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker", help="default, PATH, timm:NAME, random:NAME, lab or copy; may be repeated. [default]"
    ),
]
MaskFolders = Annotated[
    list[Path] | None,
    typer.Option("--masks", help="Score these masks of any tool, a folder per sequence; may be repeated."),
]
Frames = Annotated[
    Path | None, typer.Option(help="Where the frames are, if not beside the labels: a folder per sequence.")
]


@dataclass
class BenchmarkOptions(TrackerOptions):
    """What all benchmarks have in common."""

    floors: Annotated[
        bool, typer.Option("--floors", help="Also run lab, copy and random:resnet18, which should be worse.")
    ] = False
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Setting and values, like topk=5,10: a row for each; may be repeated."),
    ] = None
    cache: Annotated[
        float, typer.Option(min=0, help="GB of embeddings on disk, which a sweep computes only once.")
    ] = 2
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that score. [number of cores]")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")] = False


@with_options(BenchmarkOptions)
def davis(
    data: Annotated[Path, typer.Option(help="Folder in DAVIS or YouTube-VOS layout.")],
    out: Out,
    year: Annotated[
        str, typer.Option(help="2016 (one object), 2017 (several), or generic: objects may appear later.")
    ] = "2017",
    split: Annotated[str | None, typer.Option(help="Name of the list under ImageSets. [val]")] = None,
    resolution: Annotated[str | None, typer.Option(help="Folder under JPEGImages, if several.")] = None,
    tracker: Trackers = None,
    masks: MaskFolders = None,
    *,
    options: BenchmarkOptions,
) -> None:
    """J and F of masks, as the official DAVIS tool defines them."""

    def find() -> Task:
        if year == "generic":
            from vidtrack.benchmark.generic import find_generic

            return find_generic(data, split, resolution)
        if year not in ("2016", "2017"):
            raise InputError(f"--year {year}: choose 2016, 2017 or generic.")
        from vidtrack.benchmark.davis import DavisSet
        from vidtrack.benchmark.davis_task import davis_task

        return davis_task(DavisSet.find(data, int(year), split or "val", resolution))

    _measure(find, out, tracker, options, masks or ())


@with_options(BenchmarkOptions)
def pose(
    data: Annotated[Path, typer.Option(help="Folder with Keypoints/, a file of keypoints, or JHMDB.")],
    out: Out,
    protocol: Annotated[
        str | None,
        typer.Option(help="badja, posetrack, frame-diagonal, jhmdb or jhmdb-videowalk. [by what is there]"),
    ] = None,
    frames: Frames = None,
    alpha: Annotated[float | None, typer.Option(help="How far counts as correct. [the protocol's]")] = None,
    tracker: Trackers = None,
    *,
    options: BenchmarkOptions,
) -> None:
    """PCK of keypoints: BADJA, PoseTrack (PCKh), DeepLabCut, JHMDB, or any file of keypoints."""

    def find() -> Task:
        from vidtrack.benchmark.pose_task import find_pose

        return find_pose(data, protocol, frames, alpha)

    _measure(find, out, tracker, options)


@with_options(BenchmarkOptions)
def parts(
    data: Annotated[Path, typer.Option(help="Folder in the layout of VIP, or with classes as CamVid.")],
    out: Out,
    split: Annotated[str, typer.Option(help="Name of the list of sequences.")] = "val",
    instances: Annotated[bool, typer.Option("--instances", help="VIP: AP of the people's parts.")] = False,
    tracker: Trackers = None,
    masks: MaskFolders = None,
    *,
    options: BenchmarkOptions,
) -> None:
    """Mean IoU of classes, or AP of instances: VIP, CamVid."""

    def find() -> Task:
        from vidtrack.benchmark.parts import find_parts

        return find_parts(data, split, instances)

    _measure(find, out, tracker, options, masks or ())


@with_options(BenchmarkOptions)
def points(
    data: Annotated[Path, typer.Option(help="TAP-Vid: a .pkl or .npz, or a folder of them.")],
    out: Out,
    queries: Annotated[str, typer.Option(help="first or strided.")] = "first",
    resize: Annotated[
        str, typer.Option(help="Side that videos are resized to, or native: 256 is TAP-Vid's.")
    ] = "256",
    tracker: Trackers = None,
    *,
    options: BenchmarkOptions,
) -> None:
    """Average Jaccard, accuracy of places and of occlusion: TAP-Vid."""

    def find() -> Task:
        from vidtrack.benchmark.tapvid import TapVidSet

        if resize != "native" and not (resize.isdecimal() and 16 <= int(resize) <= 4096):
            raise InputError(f"--resize {resize}: give a number of pixels from 16 to 4096, or native.")
        return TapVidSet.find(data, queries, None if resize == "native" else int(resize))

    _measure(find, out, tracker, options)


@with_options(BenchmarkOptions)
def boxes(
    data: Annotated[Path, typer.Option(help="Folder with Boxes/, or in the layout of OTB or VOT.")],
    out: Out,
    frames: Frames = None,
    tracker: Trackers = None,
    *,
    options: BenchmarkOptions,
) -> None:
    """Success and precision of boxes: OTB, VOT, or any file of boxes."""

    def find() -> Task:
        from vidtrack.benchmark.boxes_task import find_boxes

        return find_boxes(data, frames)

    _measure(find, out, tracker, options)


def _measure(
    find: Callable[[], Task],
    out: Path,
    trackers: Sequence[str] | None,
    options: BenchmarkOptions,
    masks: Sequence[Path] = (),
) -> None:
    with told(GO_ON):
        from vidtrack.benchmark.mask_files import check_results
        from vidtrack.benchmark.results import notes
        from vidtrack.benchmark.rows import parse_sweep, rows_of
        from vidtrack.benchmark.runner import run
        from vidtrack.benchmark.table import table
        from vidtrack.files import require_free
        from vidtrack.progress import sequence_progress
        from vidtrack.reports.benchmark_page import write_page
        from vidtrack.reports.benchmark_pictures import make_pictures

        target = require_free(out, options.overwrite, folder=True)
        names = list(trackers or ([] if masks else ["default"]))
        names += [name for name in FLOORS if options.floors and name not in names]
        if len(set(names)) < len(names):
            raise InputError("--tracker names one tracker twice: name each once.")
        sweep = parse_sweep(options.sweep or ())
        for name in sweep:
            if getattr(options, name, None) is not None:
                raise InputError(f"--{name} is given, and --sweep {name} too: give one of them.")
        if not options.cache < float("inf"):
            raise InputError(f"--cache {options.cache}: give a number of GB.")
        task = find()
        for folder in masks:
            check_results(task, folder)
        rows = rows_of(options.load, names, masks, sweep)

        def report(folder: Path, results: dict[str, Any]) -> None:
            write_page(folder / "report.html", results, make_pictures(task, results, folder))

        with sequence_progress(options.quiet) as progress:
            results = run(
                task,
                rows,
                target,
                overwrite=options.overwrite,
                sweep=sweep,
                cache_bytes=round(options.cache * 1e9),
                workers=options.workers or os.cpu_count() or 1,
                progress=progress,
                finish=report,
            )
        if not options.quiet:
            show(table(results))
            for note in notes(results):
                print(note)
            again = sorted({name for row in results["rows"] for name in row["reused"]})
            if again:
                print(f"from an earlier run with the same data, weights and settings: {', '.join(again)}")
            print(f"{out}: {' '.join(sorted(path.name + '/' * path.is_dir() for path in target.iterdir()))}")
