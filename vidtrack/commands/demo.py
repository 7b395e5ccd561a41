"""`vidtrack demo`: a rendered clip, tracked and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.shared import Device, Overwrite, Quiet, Threads, TrackerName, told


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("vidtrack_demo"),
    tracker: TrackerName = "default",
    device: Device = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Render a clip with exact ground truth, track it, and compare with two baselines; needs no network."""
    with told():
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
