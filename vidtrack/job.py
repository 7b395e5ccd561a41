"""`vidtrack propagate` as one function: a video and a mask in, a folder of results out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.benchmark.environment import peak_memory_mb, versions
from vidtrack.files import replace, require_free, sha256, write_json
from vidtrack.labels.masks import Masks
from vidtrack.reports.overlay import draw_masks
from vidtrack.tracker import Result, Tracker
from vidtrack.video import VideoReader, VideoWriter
from vidtrack.video.background import Behind

QUEUE = 8  # results that may wait for the writing thread


class ResultWriter:
    """Writes masks and the overlay of each result in a thread, while the next frame is computed.

    Args:
        folder: receives `masks/<name>.png` and `overlay.mp4`.
        reader: the video that is read, for size, rate and sound.
        overlay: False writes no overlay.
    """

    def __init__(self, folder: Path, reader: VideoReader, overlay: bool) -> None:
        self.folder = folder
        (folder / "masks").mkdir(parents=True)
        info = reader.info
        self.video = None
        if overlay:
            sound = info.path if info.has_audio else None
            self.video = VideoWriter(
                folder / "overlay.mp4", info.width, info.height, info.rate, audio_from=sound
            )
        self.frames: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._thread = Behind(self._write, QUEUE)

    def put(self, result: Result) -> None:
        """Hand over a result; waits while the thread is `QUEUE` results behind."""
        self._thread.put(result)

    def _write(self, result: Result) -> None:
        began = time.perf_counter()
        masks = result.labels
        masks.save(self.folder / "masks" / f"{result.name}.png")
        if self.video:
            self.video.write(draw_masks(result.image, masks), result.time)
        areas = np.bincount(masks.ids.ravel(), minlength=256)
        self.frames.append(
            {
                "index": result.index,
                "name": result.name,
                "time": round(float(result.time), 6),
                "damaged": result.damaged,
                "objects": {
                    str(number): {"area": int(areas[number]), "confidence": round(confidence, 4)}
                    for number, confidence in result.confidence.items()
                },
            }
        )
        self.seconds += time.perf_counter() - began

    def close(self) -> list[str]:
        """Finish the files; returns the writer's warnings."""
        self._thread.finish()
        if self.video is None:
            return []
        self.video.close()
        return self.video.warnings

    def lost(self, first: Masks) -> list[str]:
        """A sentence for each object that the last frame does not show."""
        sentences = []
        for number in map(str, first.objects):
            seen = [frame["index"] for frame in self.frames if number in frame["objects"]]
            if seen[-1] < self.frames[-1]["index"]:
                sentences.append(
                    f"object {number} is not seen from frame {seen[-1] + 1} on: it left, is hidden, is too "
                    "small, or was lost."
                )
        return sentences

    def abort(self) -> None:
        """Stop at once and leave nothing open."""
        self._thread.abort()
        if self.video:
            self.video.__exit__(KeyboardInterrupt, None, None)


def default_out(video: Path) -> Path:
    """`<stem>_vidtrack` in the current folder."""
    return Path(f"{video.absolute().stem if video.suffix else video.absolute().name}_vidtrack")


def propagate_video(
    video: Path,
    mask: Path,
    tracker: Tracker,
    out: Path,
    *,
    start: int = 0,
    end: int | None = None,
    void: int | None = None,
    overlay: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Carry the mask of frame `start` through a video and write masks, overlay and report.

    Work happens in `OUT.partial/`, which becomes `out` when everything is written and is removed when
    anything fails: `out` is absent or complete.

    Args:
        video: video file or folder of frames.
        mask: mask file, see `Masks.load`.
        tracker: see `vidtrack.load`.
        out: folder of the results.
        start, end: first frame, and the one after the last.
        void: value of mask pixels that carry no label.
        overlay: write `overlay.mp4`.
        overwrite: replace an existing `out`.
        progress: called with the number of frames done and of all (None if unknown).

    Returns:
        The content of `report.json`.

    Raises:
        InputError: anything about video, mask or output that the user has to change.
    """
    out = require_free(out, overwrite, folder=True).absolute()
    with VideoReader(video, start, end) as reader:
        info = reader.info
        first = Masks.load(mask, void=void, size=(info.height, info.width))
        total = None if info.frames is None else min(info.frames, end or info.frames) - start
        partial = out.with_name(f"{out.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{partial} can't be made: {error.strerror}; choose another --out.") from error
        began = time.perf_counter()
        try:
            session = tracker.session()
            writer = ResultWriter(partial, reader, overlay)
            waiting = 0.0
            try:
                for result in tracker.run(reader, {start: first}, start=start, session=session):
                    handed = time.perf_counter()
                    writer.put(result)
                    waiting += time.perf_counter() - handed
                    if progress:
                        progress(result.index - start + 1, total)
                handed = time.perf_counter()
                warnings = [*first.warnings, *reader.warnings, *writer.close(), *writer.lost(first)]
                waiting += time.perf_counter() - handed
            except BaseException:
                writer.abort()
                raise
            seconds = time.perf_counter() - began
            report = {
                "schema": 1,
                "input": {
                    "video": str(video),
                    "mask": str(mask),
                    "mask_sha256": sha256(mask),
                    "start": start,
                    "end": start + len(writer.frames),
                },
                "frame_count": len(writer.frames),
                "width": info.width,
                "height": info.height,
                "rate": f"{info.rate.numerator}/{info.rate.denominator}",
                "objects": {
                    str(number): {
                        "name": first.names.get(number),
                        "color": list(first.colors[number]) if number in first.colors else None,
                    }
                    for number in first.objects
                },
                "options": tracker.describe(),
                "weights": tracker.weights,
                "versions": versions(),
                "seconds": {
                    **{stage: round(value, 3) for stage, value in session.seconds.items()},
                    "writing": round(writer.seconds, 3),
                    "waiting_for_writing": round(waiting, 3),
                    "total": round(seconds, 3),
                },
                "frames_per_second": round(len(writer.frames) / seconds, 2),
                "peak_memory_mb": peak_memory_mb(),
                "warnings": warnings,
                "frames": writer.frames,
            }
            write_json(partial / "report.json", report)
            replace(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return report
