"""`vidtrack propagate`: labels of some frames in, labels of all frames out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pretrain.errors import InputError
from vidtrack.commands.options import TrackerOptions, with_options
from vidtrack.commands.shared import MaxPixels, OnError, Overwrite, Quiet, TrackerName, say, told, warn

if TYPE_CHECKING:
    from vidtrack.tracker import Tracker

Masks = Annotated[
    list[str] | None,
    typer.Option(help="PATH or FRAME=PATH of a mask (PNG, labelme or COCO JSON), or a folder of 00012.png."),
]
Keypoints = Annotated[Path | None, typer.Option(help="File of keypoints: CSV, COCO JSON or DeepLabCut.")]
Points = Annotated[list[str] | None, typer.Option(help="x,y or FRAME=x,y of a point; may be repeated.")]
Box = Annotated[
    list[str] | None, typer.Option(help="x1,y1,x2,y2 or FRAME=x1,y1,x2,y2 of a box; may be repeated.")
]
Boxes = Annotated[Path | None, typer.Option(help="File of boxes: CSV with a header, or of MOTChallenge.")]
Array = Annotated[list[str] | None, typer.Option(help="PATH or FRAME=PATH of a map, .npy or .npz.")]
Save = Annotated[
    str | None,
    typer.Option(
        help="More outputs, with commas: rle (masks.json, COCO), npz (soft/), cutout (cutout.webm), "
        "cutout-png (cutout/), h5 (deeplabcut.h5)."
    ),
]


@with_options(TrackerOptions)
def propagate(
    video: Annotated[
        Path | None, typer.Argument(help="Video file or folder of frames; not with --live.")
    ] = None,
    mask: Masks = None,
    keypoints: Keypoints = None,
    point: Points = None,
    box: Box = None,
    boxes: Boxes = None,
    array: Array = None,
    void: Annotated[int | None, typer.Option(min=0, max=255, help="Mask value without a label.")] = None,
    direction: Annotated[str, typer.Option(help="forward, backward or both, joined.")] = "forward",
    start: Annotated[
        int, typer.Option(min=0, help="First frame; labels without a frame number belong to it.")
    ] = 0,
    end: Annotated[int | None, typer.Option(min=1, help="Frame after the last. [all]")] = None,
    live: Annotated[
        str | None, typer.Option(help="Camera number or address instead of a video; Ctrl-C ends it.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Output folder. [<video>_vidtrack]")] = None,
    save: Save = None,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.")] = True,
    tracker: TrackerName = "default",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Let the tracker learn on this video first: see vidtrack adapt.")
    ] = False,
    cache: Annotated[
        float, typer.Option(min=0, max=1e6, help="GB of embeddings kept on disk for later runs; 0: none.")
    ] = 2,
    on_error: OnError = "repeat",
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    options: TrackerOptions,
) -> None:
    """Carry masks, keypoints, boxes or maps through a video: labels, overlay.mp4 and report.json.

    Give labels of more frames to correct the result: with --overwrite only the stretches beside them are
    computed again.
    """
    with told():
        from pretrain.limits import set_max_pixels
        from vidtrack.files import require_free
        from vidtrack.given import DIRECTIONS
        from vidtrack.job import (
            LabelOptions,
            LiveSource,
            Plan,
            default_out,
            propagate_live,
            propagate_video,
            read_annotations,
        )
        from vidtrack.job.outputs import check_saves
        from vidtrack.job.report import summary
        from vidtrack.progress import frame_progress
        from vidtrack.tolerance import ON_ERROR
        from vidtrack.video import probe

        if max_pixels is not None:
            set_max_pixels(max_pixels)
        if (video is None) == (live is None):
            raise InputError("give one video, or --live with a camera number or an address.")
        if adapt and live is not None:
            raise InputError("--adapt learns on a whole video: it can't go with --live.")
        if direction not in DIRECTIONS:
            raise InputError(f"--direction {direction} is unknown: choose forward, backward or both.")
        if on_error not in ON_ERROR:
            raise InputError(f"--on-error {on_error} is unknown: choose stop, skip or repeat.")
        lists = [tuple(value or ()) for value in (mask, point, box, array)]
        label_options = LabelOptions(
            mask=lists[0],
            keypoints=keypoints,
            point=lists[1],
            box=lists[2],
            boxes=boxes,
            array=lists[3],
            void=void,
        )
        saves = frozenset(name.strip() for name in (save or "").split(",") if name.strip())
        check_saves(label_options.kind(), saves)
        if out is None:
            out = Path("live_vidtrack") if video is None else default_out(video)
        target = require_free(out, overwrite, folder=True)

        plan = Plan(
            direction=direction,  # type: ignore[arg-type]
            start=start,
            end=end,
            saves=saves,
            overlay=overlay,
            overwrite=overwrite,
            on_error=on_error,  # type: ignore[arg-type]
            cache_bytes=round(cache * 1e9),
        )
        tell = None if quiet else say
        if video is not None:
            info = probe(video)
            given = read_annotations(label_options, (info.height, info.width), start, end, video)
            if adapt:
                loaded = _adapted(video, tracker, options, plan.cache_bytes > 0, quiet)
            else:
                loaded = options.load(tracker)
            with frame_progress("propagating", quiet) as progress:
                report = propagate_video(video, given, loaded, target, plan, progress=progress, tell=tell)
        else:
            assert live is not None
            loaded = options.load(tracker)  # first: what the camera sees meanwhile would be lost
            source = LiveSource(live, end)
            try:
                given = read_annotations(label_options, (source.info.height, source.info.width), start, end)
                with frame_progress("propagating", quiet) as progress:
                    report = propagate_live(source, given, loaded, target, plan, progress=progress, tell=tell)
            finally:
                source.close()
        warn(report["warnings"])
        if not quiet:
            for line in summary(report):
                say(line)
            say(f"{target}: {' '.join(report['files'])}")


def _adapted(video: Path, tracker: str, options: TrackerOptions, keep: bool, quiet: bool) -> Tracker:
    """The tracker after it has learned on the video, or as it was where that brings nothing, or can't be."""
    import torch

    from vidtrack.cache import default_folder
    from vidtrack.learn.adapt import Adapt
    from vidtrack.learn.adapted import adapted
    from vidtrack.learn.frames import NothingToLearn
    from vidtrack.progress import adapting_progress

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    folder = default_folder() if keep else None
    with adapting_progress(quiet) as (decoding, report):
        made = adapted(
            video, tracker, Adapt(), folder, device=options.device, report=report, decoding=decoding
        )
        try:
            with made as (path, found):
                if not quiet:
                    say(found.sentence())
                loaded = options.load(str(path))
        except NothingToLearn as error:
            warn([f"--adapt: {error} The tracker stays as it was."])
            return options.load(tracker)
    loaded.name = f"{tracker}, adapted"
    return loaded
