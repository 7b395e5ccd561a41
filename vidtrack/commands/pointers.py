"""`vidtrack pointers`: a picture of where the labels of a point come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidtrack.commands.options import TrackerOptions, with_options
from vidtrack.commands.shared import Overwrite, Quiet, TrackerName, told


@with_options(
    TrackerOptions, leave_out=("preset", "reach", "bijective", "annotated", "drop_entering", "refine")
)
def pointers(
    video: Annotated[Path, typer.Argument(help="Video file or folder of frames.")],
    frame: Annotated[int, typer.Option(help="Number of the frame that the points are in.")],
    point: Annotated[list[str], typer.Option(help="x,y in pixels; repeat it for more rows.")],
    reference: Annotated[int, typer.Option(help="Number of the annotated frame.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file.")] = Path("pointers.png"),
    tracker: TrackerName = "default",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    options: TrackerOptions,
) -> None:
    """Draw where the labels of a point come from: the weight of every cell in its window, frame by frame.

    As if --bijective and --annotated were 0: matches as they are, before masks weigh them.
    """
    with told():
        from vidtrack.files import require_free
        from vidtrack.pointer_picture import parse_point, pointer_picture
        from vidtrack.video import save_png

        require_free(out, overwrite)
        points = [parse_point(text) for text in point]
        loaded = options.load(tracker)
        picture, weights = pointer_picture(video, frame, points, loaded, reference)
        save_png(out, picture, overwrite)
        if not quiet:
            for one in weights:
                shares = ", ".join(
                    f"{number} {one.weight[position].sum():.2f}" for position, number in enumerate(one.memory)
                )
                print(f"point {one.point[0]:g},{one.point[1]:g}: weight by frame {shares}")
            print(f"{out}: {picture.shape[1]} x {picture.shape[0]}")
