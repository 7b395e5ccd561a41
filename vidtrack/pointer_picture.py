"""`vidtrack pointers`: reads the frames that a frame attends to, and draws where points' labels come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pretrain.errors import InputError
from vidtrack.reports.pointers import PointerWeights, draw_pointers, point_weights
from vidtrack.session import checked_frame
from vidtrack.tracker import Tracker
from vidtrack.video import VideoIndex, probe, read_frame


def pointer_picture(
    video: Path, frame: int, points: Sequence[tuple[float, float]], tracker: Tracker, reference: int = 0
) -> tuple[np.ndarray, list[PointerWeights]]:
    """Where the labels of points come from, as a picture and as numbers.

    The memory is that of a pass from the reference to the frame: the reference, and the frames at the
    tracker's context distances from the frame as far as they lie between the two. A reference after the
    frame stands for a backward pass.

    Args:
        video: video file or folder of frames.
        frame: number of the frame that the points belong to.
        points: `(x, y)` pixels, at least one.
        tracker: see `vidtrack.load`.
        reference: number of the annotated frame.

    Returns:
        The picture uint8 `[H, W, 3]` of `draw_pointers`, and the weights of each point: see `PointerWeights`.

    Raises:
        InputError: no such video, frame or point, or a tracker without pointers.
    """
    if tracker.embedder is None:
        raise InputError("the tracker copy has no pointers: it copies the first labels.")
    if frame < 0 or reference < 0:
        raise InputError(f"frames {frame} and {reference}: frames count from 0.")
    if frame == reference:
        raise InputError(
            f"frame {frame} is the reference, whose labels are given: choose another --frame, or another "
            "--reference."
        )
    info = probe(video)
    for x, y in points:
        if not (-0.5 <= x < info.width - 0.5 and -0.5 <= y < info.height - 0.5):
            raise InputError(
                f"--point {x:g},{y:g} lies outside of the frames, which have {info.width} x {info.height} "
                "pixels."
            )
    memory = memory_of(frame, reference, tracker.settings.context)
    index = VideoIndex(video)
    read = {number: read_frame(video, number, index=index) for number in (frame, *memory)}
    for number in (frame, reference):
        if read[number].damaged:
            raise InputError(f"frame {number} of {video} can't be decoded: choose another.")
    images = {number: checked_frame(one.image) for number, one in read.items()}
    settings, embedder = tracker.settings, tracker.embedder
    embeddings = {number: embedder(image, settings.size) for number, image in images.items()}
    weights = [
        point_weights(
            embeddings,
            (info.height, info.width),
            frame,
            point,
            memory,
            size=settings.size,
            stride=embedder.stride,
            radius=settings.radius,
            k=settings.topk,
            temperature=settings.temperature,
        )
        for point in points
    ]
    return draw_pointers(images, weights), weights


def memory_of(frame: int, reference: int, gaps: Sequence[int]) -> tuple[int, ...]:
    """Numbers of the frames that a frame attends to, as `vidtrack.propagate.memory.Memory` orders them.

    Args:
        frame: number of the frame.
        reference: of the annotated frame that the pass came from, before or after it.
        gaps: distances in frames, see `Propagation.context`.
    """
    step = 1 if reference < frame else -1
    recent = [frame - step * gap for gap in gaps if gap <= abs(frame - reference)]
    return (reference, *(number for number in recent if number != reference))


def parse_point(text: str) -> tuple[float, float]:
    """`"310,200"` to `(310.0, 200.0)`.

    Raises:
        InputError: not two numbers.
    """
    parts = text.split(",")
    try:
        x, y = (float(part) for part in parts)
    except ValueError as error:
        raise InputError(f"--point {text}: give x and y in pixels, like 310,200.") from error
    return x, y
