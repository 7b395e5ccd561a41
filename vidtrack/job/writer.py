"""Writes results in a thread, while the next frame is computed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from vidtrack.job.outputs import Output
from vidtrack.job.records import Record, Records, RecordWriter
from vidtrack.session import Result
from vidtrack.video import VideoInfo, VideoWriter
from vidtrack.video.background import Behind

QUEUE = 8  # results that may wait for the thread


class ResultWriter:
    """Writes the files of each result, then its record, and the overlay.

    Args:
        folder: receives everything.
        output: of the kind of label.
        records: receives a record of each frame that is not on record in `folder`.
        info: of the video, for size, rate and sound.
        overlay: False writes no `overlay.mp4`.

    Attributes:
        frames: what the report tells of each frame.
        seconds: spent writing so far.
    """

    def __init__(
        self, folder: Path, output: Output[Any], records: RecordWriter, info: VideoInfo, overlay: bool
    ) -> None:
        self.folder, self.output, self.records = folder, output, records
        self.video = None
        if overlay:
            self.video = VideoWriter.like(folder / "overlay.mp4", info)
        self.frames: list[Record] = []
        self.seconds = 0.0
        self._thread = Behind(self._write, QUEUE)

    def put(self, result: Result, source: Path | None = None) -> None:
        """Hand over a result; waits while the thread is `QUEUE` results behind.

        Args:
            result: of the next frame.
            source: folder of an earlier run that its labels were read from, or None.
        """
        self._thread.put((result, source))

    def _write(self, item: tuple[Result, Path | None]) -> None:
        began = time.perf_counter()
        result, source = item
        about = {
            "index": result.index,
            "name": result.name,
            "time": round(float(result.time), 6),
            "damaged": result.damaged,
            "doubtful": result.doubtful,
            "skipped": result.labels is None,
            "objects": {},
        }
        values, picture = None, result.image
        if result.labels is None:
            self.output.skip(result)
        else:
            labels = self.output.complete(result.labels)
            values = self.output.put(result, labels, source)
            about["objects"] = self.output.objects(labels, result.confidence)
            if self.video:
                picture = self.output.draw(result.image, labels)
        if self.video:
            self.video.write(picture, result.time)
        if source != self.folder:
            self.records.append(about if values is None else {**about, "labels": values})
        self.frames.append(about)
        self.seconds += time.perf_counter() - began

    def close(self) -> list[str]:
        """Finish the files; returns the writers' warnings."""
        self._thread.finish()
        self.records.close()
        began = time.perf_counter()
        records = Records(self.folder)
        RecordWriter(self.folder, records.all()).close()  # in order, as if the run had never been stopped
        records.reload()
        self.output.finish(lambda: (record for record in records.all() if not record["skipped"]))
        self.seconds += time.perf_counter() - began
        if self.video is None:
            return []
        self.video.close()
        return self.video.warnings

    def abort(self) -> None:
        """Stop, and leave nothing open. What was handed over is written: a later run may go on from it."""
        with contextlib.suppress(Exception):  # the error that ends the run is known already
            self._thread.finish()
        self.records.close()
        self.output.abort()
        if self.video:
            self.video.__exit__(KeyboardInterrupt, None, None)
