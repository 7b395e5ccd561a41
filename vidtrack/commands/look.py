"""`vidtrack frame` and `vidtrack info`: what to know of a video before labels are carried through it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.shared import Device, Overwrite, Quiet, Threads, TrackerName, told, warn


def frame(
    video: Annotated[Path, typer.Argument(help="Video file or folder of frames.")],
    number: Annotated[int, typer.Argument(help="Frame number, from 0.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="PNG file. [first_frame.png, or frame_00012.png and the like]"),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write one frame as PNG: the picture to paint the mask on."""
    with told():
        from vidtrack.files import require_free
        from vidtrack.video import frame_name, read_frame, save_png

        if out is None:
            out = Path(f"frame_{frame_name(number)}.png" if number else "first_frame.png")
        require_free(out, overwrite)
        read = read_frame(video, number)
        image = read.image
        save_png(out, image, overwrite)
        if read.damaged or read.doubtful:
            state = "can't be decoded, at least in part" if read.damaged else "may be spoilt by a damaged one"
            warn([f"frame {number} of {video} {state}: {out} may show another; annotate an intact one."])
        if not quiet:
            print(f"{out}: frame {number}, {image.shape[1]} x {image.shape[0]}")


def info(
    file: Annotated[Path | None, typer.Argument(help="Video file or folder of frames.")] = None,
    tracker: TrackerName = "default",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Versions and device; for a video its size, rate and the expected time and memory."""
    with told():
        from vidtrack.information import describe_machine, describe_video

        lines = describe_machine(device, threads)
        if file is not None:
            lines |= describe_video(file, tracker, device, threads)
        width = max(len(name) for name in lines)
        for name, value in lines.items():
            print(f"{name:<{width}}  {value}")
