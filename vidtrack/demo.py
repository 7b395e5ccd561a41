"""`vidtrack demo`: a clip with exact ground truth, tracked by the default weights and two baselines."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidtrack.benchmark.scores import score_sequence, summarize
from vidtrack.demo_scene import FRAMES, NAMES, render
from vidtrack.files import complete, require_free, work_folder, write_json
from vidtrack.labels.masks import Masks
from vidtrack.reports.overlay import contact_sheet, draw_masks
from vidtrack.tracker import Tracker, load
from vidtrack.video import VideoWriter

RATE = Fraction(25)
BASELINES = ("lab", "copy")
OBJECTS = (1, 2, 3)
SHOWN = (0.0, 0.35, 0.7, 1.0)  # frames of the picture, as shares of the clip


def run_demo(
    out: Path,
    tracker: str = "default",
    *,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[dict[str, Any]]:
    """Render the clip, propagate its first mask, score against the truth and write the results.

    Writes `clip.mp4` and `first_mask.png` (to try `vidtrack propagate` on), `overlay.mp4`, `picture.jpg`
    (frames before and after) and `results.json`.

    Args:
        out: output folder.
        tracker: compared with the baselines "lab" and "copy".
        device, threads: see `vidtrack.load`.
        overwrite: replace an existing folder.
        progress: called with the frames done and all frames.

    Returns:
        A row per tracker: `tracker`, the official DAVIS keys, `frames_per_second`.

    Raises:
        InputError: the output exists or can't be written, or the tracker is unknown.
    """
    out = require_free(out, overwrite, folder=True).absolute()
    trackers = [load(name, device=device, threads=threads) for name in (tracker, *BASELINES)]
    with work_folder(out, overwrite, fresh=True) as partial:
        truth = _write_clip(partial)
        rows = []
        for number, loaded in enumerate(trackers):
            done = number * FRAMES
            step = (lambda k, done=done: progress(done + k, FRAMES * len(trackers))) if progress else None
            rows.append(_run(partial, loaded, truth, write=number == 0, progress=step))
        write_json(partial / "results.json", {"schema": 1, "frames": FRAMES, "trackers": rows})
        complete(partial, out)
    return rows


def _write_clip(folder: Path) -> list[np.ndarray]:
    """Write `clip.mp4` and `first_mask.png`; returns the true ids of all frames."""
    truth: list[np.ndarray] = []
    writer: VideoWriter | None = None
    for image, ids in render():
        if writer is None:
            writer = VideoWriter(folder / "clip.mp4", image.shape[1], image.shape[0], RATE)
            Masks(ids, names=dict(zip(OBJECTS, NAMES, strict=True))).save(folder / "first_mask.png")
        writer.write(image)
        truth.append(ids)
    assert writer is not None
    writer.close()
    return truth


def _run(
    folder: Path,
    tracker: Tracker,
    truth: list[np.ndarray],
    write: bool,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    first = Masks(truth[0], names=dict(zip(OBJECTS, NAMES, strict=True)))
    overlay = None
    if write:
        overlay = VideoWriter(folder / "overlay.mp4", truth[0].shape[1], truth[0].shape[0], RATE)
    chosen = {round(share * (len(truth) - 1)) for share in SHOWN}
    pictures: list[np.ndarray] = []
    began = time.perf_counter()
    found: list[np.ndarray] = []
    for result in tracker.propagate(folder / "clip.mp4", {0: first}):
        found.append(result.labels.ids)
        if overlay is not None:
            drawn = draw_masks(result.image, result.labels)
            overlay.write(drawn)
            if result.index in chosen:
                pictures.append(drawn)
        if progress:
            progress(len(found))
    seconds = time.perf_counter() - began
    if overlay is not None:
        overlay.close()
        sheet = contact_sheet(
            pictures, 2, [f"frame {n}" + (" (given)" if n == 0 else "") for n in sorted(chosen)]
        )
        cv2.imwrite(
            str(folder / "picture.jpg"),
            cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, 88],
        )
    scores = score_sequence(truth, found, OBJECTS)
    return {
        "tracker": tracker.name,
        **summarize(scores.values()),
        "objects": {NAMES[number - 1]: score.summary() for number, score in scores.items()},
        "frames_per_second": len(truth) / seconds,
        "settings": tracker.describe(),
    }
