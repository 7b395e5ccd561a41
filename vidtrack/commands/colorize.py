"""`vidtrack colorize`: colours of one frame in, colours of all frames out; or gray photos in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pretrain.errors import InputError
from vidtrack.commands.options import TrackerOptions, with_options
from vidtrack.commands.shared import MaxPixels, OnError, Overwrite, Quiet, TrackerName, say, told, warn

PHOTO_OPTIONS = {"inputs", "backbone", "out", "device", "threads", "max_pixels", "overwrite", "quiet"}


@with_options(
    TrackerOptions, leave_out=("preset", "reach", "topk", "bijective", "annotated", "drop_entering", "refine")
)
def colorize(
    call: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="VIDEO", help="Video file or folder of frames, gray or not; or photos."),
    ],
    reference: Annotated[
        list[str] | None, typer.Option(help="PATH or FRAME=PATH: a frame in colour; may be repeated.")
    ] = None,
    backbone: Annotated[
        Path | None,
        typer.Option(help="Folder of a run of vidtrack pretrain colorization or split_brain: colour photos."),
    ] = None,
    direction: Annotated[str, typer.Option(help="forward, backward or both, joined.")] = "forward",
    start: Annotated[
        int, typer.Option(min=0, help="First frame; a reference without a frame number belongs to it.")
    ] = 0,
    end: Annotated[int | None, typer.Option(min=1, help="Frame after the last. [all]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Output folder. [<video or first photo>_colorized]")
    ] = None,
    tracker: TrackerName = "default",
    topk: Annotated[int, typer.Option(help="Pointers per cell: few of them keep colours vivid.")] = 2,
    refine: Annotated[
        bool, typer.Option(help="Snap colours to the gray frame's edges: rarely better. [off]")
    ] = False,
    on_error: OnError = "repeat",
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    options: TrackerOptions,
) -> None:
    """Colour a gray video by pointing into a frame that has colours: colorized.mp4 and report.json.

    A video with colours is turned gray first, and its colours score the result. With --backbone, photos
    are coloured by what a network has learned of colours: a PNG of each and report.json.
    """
    with told():
        from pretrain.limits import set_max_pixels
        from vidtrack.files import require_free
        from vidtrack.job import default_out
        from vidtrack.progress import frame_progress

        if max_pixels is not None:
            set_max_pixels(max_pixels)
        target = out or default_out(inputs[0], "colorized")
        if backbone is not None:
            _no_video_options(call)
            from vidtrack.photo import colour_photos, summary

            with frame_progress("colouring", quiet) as progress:
                photos = colour_photos(
                    inputs,
                    backbone,
                    target,
                    device=options.device,
                    threads=options.threads,
                    overwrite=overwrite,
                    progress=progress,
                )
            if not quiet:
                say(f"{target}: {summary(photos)}")
            return

        from vidtrack.colorize import colorize_video, parse_references

        video = _one_video(inputs)
        references = parse_references(reference or [], start)
        require_free(target, overwrite, folder=True)
        loaded = options.load(tracker, topk=topk, refine=refine)
        with frame_progress("colouring", quiet) as progress:
            report = colorize_video(
                video,
                references,
                loaded,
                target,
                direction=direction,  # type: ignore[arg-type]
                start=start,
                end=end,
                on_error=on_error,  # type: ignore[arg-type]
                overwrite=overwrite,
                progress=progress,
            )
        warn(report["warnings"])
        if not quiet:
            say(
                f"{target}: {report['frame_count']} frames, {report['frames_per_second']:.1f} frames/s, "
                "colorized.mp4 report.json"
            )
            if scores := report["psnr_ab"]:
                say(
                    "colours against the video's own (PSNR of a and b): "
                    + ", ".join(f"{name} {value:.1f} dB" for name, value in scores.items())
                )


def _no_video_options(call: typer.Context) -> None:
    """Refuse what was given on the command line and means nothing for photos."""
    given = [name for name in call.params if _given(call, name) and name not in PHOTO_OPTIONS]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"--backbone colours photos: leave out {names} (for videos only).")


def _given(call: typer.Context, name: str) -> bool:
    source = call.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _one_video(inputs: list[Path]) -> Path:
    from vidtrack.video.images import SUFFIXES

    for path in inputs:
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            raise InputError(
                f"{path} is a photo: add --backbone RUN, the folder of a run of vidtrack pretrain "
                "colorization, to colour it."
            )
    if len(inputs) > 1:
        raise InputError("only one video is coloured at a time: give one, or photos and --backbone RUN.")
    return inputs[0]
