"""Frames that an earlier run has computed already, exactly as this one would."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidtrack.job.manifest import Manifest, reusable, span_of
from vidtrack.job.outputs import OUTPUTS, About
from vidtrack.job.records import Record, Records
from vidtrack.passes import Span

MANIFEST = "manifest.json"  # of a run that is not done; afterwards it is in report.json


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left.

    Attributes:
        folder: its results, or the folder in which it was stopped.
        manifest: see `make_manifest`.
        records: of the frames that it finished.
        count: number after the last frame, if it came to the end.
    """

    folder: Path
    manifest: Manifest
    records: Records
    count: int | None

    @classmethod
    def of_results(cls, out: Path) -> Earlier | None:
        """A complete run; None if `out` has none."""
        report = _read_json(out / "report.json")
        manifest, source = report.get("manifest"), report.get("input")
        if not isinstance(manifest, dict) or not isinstance(source, dict):
            return None
        return cls(out, manifest, Records(out), source.get("end"))

    @classmethod
    def of_stopped(cls, partial: Path) -> Earlier | None:
        """A stopped run; None if there was none."""
        manifest = _read_json(partial / MANIFEST)
        return cls(partial, manifest, Records(partial), None) if manifest else None

    def frames(self, span: Span, start: int) -> Iterator[Record]:
        """The records of the frames of a span that the run has whole.

        Args:
            span: see `Passes`.
            start: first frame of the run.
        """
        behind, ahead = span
        stop = self.count if ahead is None else ahead
        assert stop is not None
        return (self.records.read(number) for number in range(start if behind is None else behind + 1, stop))


def others(out: Path, files: Iterable[str]) -> list[str]:
    """Which of the existing files are not of the run that has its results in `out`: they are the user's.

    What a run wrote may be given to it again, as its masks with corrections.
    """
    report = _read_json(out / "report.json")
    frames = report.get("frames") or []
    names = {str(frame.get("name")) for frame in frames if isinstance(frame, dict)}
    written = report.get("files") or []

    def ours(path: Path) -> bool:
        inside = path.parent == out / path.parent.name and f"{path.parent.name}/" in written
        return (path.parent == out and path.name in written) or (inside and path.stem in names)

    return [file for file in files if os.path.exists(file) and not ours(Path(file).absolute())]


class Reuse:
    """Which spans need not be computed, and what is known of their frames.

    Args:
        earlier: runs that may have frames; of two that have the same, the first is asked.
        manifest: of this run.
        about: of this run.

    Attributes:
        runs: span -> the run that has its frames.
    """

    def __init__(self, earlier: Iterable[Earlier | None], manifest: Manifest, about: About) -> None:
        self.runs: dict[Span, Earlier] = {}
        self._about, self._backward = about, manifest["direction"] == "backward"
        self._annotated = sorted(about.labels)
        self._output = OUTPUTS[about.kind]
        self._source: Path | None = None
        self.start: int = manifest["start"]
        for run in earlier:
            if run is not None:
                self._take(run, manifest)

    def _take(self, run: Earlier, manifest: Manifest) -> None:
        try:
            spans = reusable(run.manifest, manifest, run.records, run.count)
            alike = run.manifest.get("on_error") == manifest["on_error"]
            for span in spans - self.runs.keys():
                frames = run.frames(span, self.start)
                if all(self._is_right(record, run.folder, alike) for record in frames):
                    self.runs[span] = run
        except (AttributeError, KeyError, TypeError, ValueError):
            return  # someone changed its files: it is no help

    def _is_right(self, record: Record, folder: Path, alike: bool) -> bool:
        """Whether all is there of a frame; `alike`: both runs do the same about damaged frames."""
        if (record["damaged"] and not alike) or Path(record["name"]).name != record["name"]:
            return False
        return record["skipped"] or self._output.there(self._about, record, folder)

    @property
    def frames(self) -> int:
        """How many frames are known."""
        return sum(sum(1 for _ in run.frames(span, self.start)) for span, run in self.runs.items())

    def from_folder(self, folder: Path) -> Iterator[Record]:
        """The records of all frames that are taken from a folder."""
        for span, run in self.runs.items():
            if run.folder == folder:
                yield from run.frames(span, self.start)

    def reload(self, folder: Path) -> None:
        """The records in a folder were written anew."""
        for run in self.runs.values():
            if run.folder == folder:
                run.records.reload()

    def known(self, index: int) -> tuple[Any, dict[Any, float]]:
        """Labels and confidence of a frame, for `Passes`."""
        behind, ahead = span = span_of(index, self._annotated)
        run = self.runs[span]
        self._source = run.folder
        origin = ahead if self._backward or behind is None else behind
        labels: Mapping[int, Any] = self._about.labels
        like = None if origin is None else labels[origin]
        return self._output.restore(self._about, run.records.read(index), run.folder, like)

    def take_source(self) -> Path | None:
        """The folder that the latest labels came from, None if they were computed; then forgotten."""
        source, self._source = self._source, None
        return source


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
