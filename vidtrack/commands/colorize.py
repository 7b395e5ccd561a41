"""`vidtrack colorize`: colours of one frame in, colours of all frames out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.options import TrackerOptions, with_options
from vidtrack.commands.shared import Overwrite, Quiet, TrackerName, told, warn


@with_options(TrackerOptions, leave_out=("preset", "reach", "topk", "refine"))
def colorize(
    video: Annotated[Path, typer.Argument(help="Video file or folder of frames, gray or not.")],
    reference: Annotated[
        list[str], typer.Option(help="PATH or FRAME=PATH: a frame in colour; may be repeated.")
    ],
    direction: Annotated[str, typer.Option(help="forward, backward or both, joined.")] = "forward",
    start: Annotated[
        int, typer.Option(min=0, help="First frame; a reference without a frame number belongs to it.")
    ] = 0,
    end: Annotated[int | None, typer.Option(min=1, help="Frame after the last. [all]")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder. [<video>_vidtrack]")] = None,
    tracker: TrackerName = "default",
    topk: Annotated[int, typer.Option(help="Pointers per cell: few of them keep colours vivid.")] = 2,
    refine: Annotated[
        bool, typer.Option(help="Snap colours to the gray frame's edges: rarely better. [off]")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    options: TrackerOptions,
) -> None:
    """Colour a gray video by pointing into a frame that has colours: colorized.mp4 and report.json.

    A video with colours is turned gray first, and its colours score the result.
    """
    with told():
        from vidtrack.colorize import colorize_video, parse_references
        from vidtrack.files import require_free
        from vidtrack.job import default_out
        from vidtrack.progress import frame_progress

        references = parse_references(reference, start)
        target = require_free(out or default_out(video), overwrite, folder=True)
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
                overwrite=overwrite,
                progress=progress,
            )
        warn(report["warnings"])
        if not quiet:
            print(
                f"{target}: {report['frame_count']} frames, {report['frames_per_second']:.1f} frames/s, "
                "colorized.mp4 report.json"
            )
            if scores := report["psnr_ab"]:
                print(
                    "colours against the video's own (PSNR of a and b): "
                    + ", ".join(f"{name} {value:.1f} dB" for name, value in scores.items())
                )
