"""The command line: parse, call one library function, print. Heavy modules are imported inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pretrain.errors import InputError
from vidtrack import __version__

# Waiting threads must sleep: on shared cores two spinning OpenMP threads are several times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="vidtrack",
    help="Learn to track from raw, unlabelled video; carry labels through videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
benchmark_app = typer.Typer(
    help="Measure a tracker on a data set with ground truth.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(benchmark_app, name="benchmark")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; the default is torch's choice.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and warnings.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
TrackerName = Annotated[str, typer.Option(help="default, PATH, random:resnet18, lab or copy.")]
Size = Annotated[str | None, typer.Option(help="Short side for the embeddings in pixels, or native. [480]")]
Context = Annotated[int | None, typer.Option(help="Previous frames that a frame attends to. [7]")]
Radius = Annotated[int | None, typer.Option(help="Half side of the search window in cells of 8 pixels. [12]")]
Topk = Annotated[int | None, typer.Option(help="Pointers per cell. [5]")]
Temperature = Annotated[float | None, typer.Option(help="Temperature of the softmax over them. [0.05]")]

Refine = Annotated[bool | None, typer.Option(help="Snap masks to the frame's edges. [on]")]


def main() -> None:
    """Entry point of the `vidtrack` command."""
    app()


@contextmanager
def _told(resume: str = "run the same command again to start over.") -> Iterator[None]:
    """Turn exceptions into one sentence on stderr and the right exit code."""
    try:
        yield
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail(f"interrupted: {resume}", 130)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if os.environ.get("VIDTRACK_DEBUG"):
            raise
        text = " ".join(str(error).split()) or "no message"
        _fail(f"vidtrack failed: {type(error).__name__}: {text} (set VIDTRACK_DEBUG=1 for the traceback).", 1)


def _fail(sentence: str, code: int) -> None:
    print(f"Error: {sentence}" if code != 130 else sentence, file=sys.stderr)
    raise typer.Exit(code)


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        print(f"Warning: {sentence}", file=sys.stderr)


def _size(text: str | None) -> int | str | None:
    if text is None or text == "native":
        return text
    if not text.isdecimal():
        raise InputError(f"--size {text}: give a number of pixels or native.")
    return int(text)


def _version(asked: bool) -> None:
    if asked:
        print(f"vidtrack {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def propagate(
    video: Annotated[Path, typer.Argument(help="Video file or folder of frames.")],
    mask: Annotated[Path, typer.Option(help="Mask of the first frame: PNG, labelme or COCO JSON.")],
    out: Annotated[Path | None, typer.Option(help="Output folder. [<video>_vidtrack]")] = None,
    start: Annotated[int, typer.Option(min=0, help="First frame; the mask belongs to it.")] = 0,
    end: Annotated[int | None, typer.Option(help="Frame after the last. [all]")] = None,
    void: Annotated[int | None, typer.Option(min=0, max=255, help="Mask value without a label.")] = None,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.")] = True,
    tracker: TrackerName = "default",
    size: Size = None,
    context: Context = None,
    radius: Radius = None,
    topk: Topk = None,
    temperature: Temperature = None,
    refine: Refine = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Carry a mask through a video: masks/00000.png..., overlay.mp4 and report.json."""
    with _told():
        from vidtrack.files import require_free
        from vidtrack.job import default_out, propagate_video
        from vidtrack.progress import frame_progress
        from vidtrack.tracker import load

        target = require_free(out or default_out(video), overwrite, folder=True)
        loaded = load(
            tracker,
            device=device,
            threads=threads,
            size=_size(size),
            context=context,
            radius=radius,
            topk=topk,
            temperature=temperature,
            refine=refine,
        )
        with frame_progress("propagating", quiet) as progress:
            report = propagate_video(
                video,
                mask,
                loaded,
                target,
                start=start,
                end=end,
                void=void,
                overlay=overlay,
                overwrite=overwrite,
                progress=progress,
            )
        _warn(report["warnings"])
        if not quiet:
            objects = len(report["objects"])
            print(
                f"{target}: {report['frame_count']} frames, {objects} object{'s' if objects > 1 else ''}, "
                f"{report['frames_per_second']:.1f} frames/s, masks/ "
                f"{'overlay.mp4 ' if overlay else ''}report.json"
            )


@app.command()
def frame(
    video: Annotated[Path, typer.Argument(help="Video file or folder of frames.")],
    number: Annotated[int, typer.Argument(help="Frame number, from 0.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file.")] = Path("first_frame.png"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write one frame as PNG: the picture to paint the mask on."""
    with _told():
        from vidtrack.files import require_free
        from vidtrack.video import read_frame, save_png

        require_free(out, overwrite)
        image = read_frame(video, number).image
        save_png(out, image, overwrite)
        if not quiet:
            print(f"{out}: frame {number}, {image.shape[1]} x {image.shape[0]}")


@app.command()
def info(
    file: Annotated[Path | None, typer.Argument(help="Video file or folder of frames.")] = None,
    tracker: TrackerName = "default",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Versions and device; for a video its size, rate and the expected time and memory."""
    with _told():
        from vidtrack.information import describe_machine, describe_video

        lines = describe_machine(device, threads)
        if file is not None:
            lines |= describe_video(file, tracker, device, threads)
        width = max(len(name) for name in lines)
        for name, value in lines.items():
            print(f"{name:<{width}}  {value}")


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder of raw video files.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value overrides of the config.")] = None,
    config: Annotated[
        str, typer.Option(help="Bundled name such as track/laptop, or a path.")
    ] = "track/laptop",
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; resumable.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Learn a tracker from raw, unlabelled video; the same command continues a stopped run."""
    with _told("run the same command again to go on."):
        import torch

        from pretrain.config import load_config
        from vidtrack.files import bundled_configs
        from vidtrack.learn.settings import TrackConfig
        from vidtrack.learn.train import train as run
        from vidtrack.progress import training_progress

        if threads is not None:
            torch.set_num_threads(threads)
        settings = load_config(TrackConfig, config, overrides or [], bundled_configs())
        with training_progress(quiet) as (decoding, report):
            result = run(
                data,
                settings,
                out,
                device=device,
                max_minutes=max_minutes,
                overwrite=overwrite,
                report=report,
                decoding=decoding,
            )
        _warn([f"{name} was skipped: {why}" for name, why in result.skipped])
        if result.interrupted:
            raise KeyboardInterrupt
        if not quiet and result.done:
            print(f"{out / 'tracker.safetensors'}: use it with --tracker, {result.steps} steps done")
        elif not quiet:
            print(f"{out}: stopped at step {result.steps}; run the same command again to go on")


@benchmark_app.command()
def davis(
    data: Annotated[Path, typer.Option(help="Folder in DAVIS layout.")],
    out: Annotated[Path, typer.Option(help="Folder for results and masks.")],
    year: Annotated[int, typer.Option(help="2016 (one object) or 2017 (several).")] = 2017,
    split: Annotated[str, typer.Option(help="Name of the list under ImageSets.")] = "val",
    resolution: Annotated[str | None, typer.Option(help="Folder under JPEGImages, if several.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Score these masks, run nothing.")] = None,
    tracker: TrackerName = "default",
    size: Size = None,
    context: Context = None,
    radius: Radius = None,
    topk: Topk = None,
    temperature: Temperature = None,
    refine: Refine = None,
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """J and F as the official DAVIS tool defines them, with the masks and the settings on record."""
    with _told("run the same command again to go on."):
        from vidtrack.benchmark.runner import run_davis
        from vidtrack.benchmark.table import table
        from vidtrack.progress import sequence_progress
        from vidtrack.tracker import load

        def make() -> Any:
            return load(
                tracker,
                device=device,
                threads=threads,
                size=_size(size),
                context=context,
                radius=radius,
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


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("vidtrack_demo"),
    tracker: TrackerName = "default",
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Render a clip with exact ground truth, track it, and compare with two baselines; needs no network."""
    with _told():
        from vidtrack.demo import run_demo
        from vidtrack.progress import frame_progress

        with frame_progress("demo", quiet) as progress:
            rows = run_demo(
                out, tracker, device=device, threads=threads, overwrite=overwrite, progress=progress
            )
        if not quiet:
            print(f"{'tracker':<12} {'J&F':>6} {'J':>6} {'F':>6}  frames/s")
            for row in rows:
                print(
                    f"{row['tracker']:<12} {row['J&F-Mean']:6.3f} {row['J-Mean']:6.3f} {row['F-Mean']:6.3f}"
                    f"  {row['frames_per_second']:8.1f}"
                )
            print(f"{out}: clip.mp4, first_mask.png, overlay.mp4, picture.jpg, results.json")


if __name__ == "__main__":
    main()
