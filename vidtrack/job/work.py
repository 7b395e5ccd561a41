"""OUT.partial: where a run works until everything is written, and where the next one goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from vidtrack import files
from vidtrack.files import write_json
from vidtrack.job.manifest import Manifest, reusable
from vidtrack.job.records import NAME, Record, Records, RecordWriter
from vidtrack.job.reuse import MANIFEST


def begin(partial: Path, manifest: Manifest, stopped: Iterable[Record], kept: Iterable[str]) -> RecordWriter:
    """Make `partial` ready for a run: what a stopped one finished stays, all else goes.

    Args:
        partial: see `vidtrack.files.work_folder`.
        manifest: of the run that begins.
        stopped: records of the frames to keep.
        kept: folders with a file per frame.
    """
    records = list(stopped)
    stay = {MANIFEST, NAME, *kept} if records else set()
    # The manifest goes first: without it nothing that is left counts.
    for path in sorted(partial.iterdir(), key=lambda path: path.name != MANIFEST):
        if path.name not in stay:
            _remove(path)
        elif path.is_dir():
            for half_written in path.glob(".*"):
                _remove(half_written)
    # The manifest comes last: should we be killed before, these records are right under the old one too.
    writer = RecordWriter(partial, records)
    write_json(partial / MANIFEST, manifest)
    return writer


def worth_keeping(partial: Path, manifest: Manifest) -> bool:
    """Whether what a stopped run wrote would save the next one any work."""
    return bool(reusable(manifest, manifest, Records(partial), None))


def complete(partial: Path, out: Path) -> None:
    """Give the finished folder its name."""
    (partial / MANIFEST).unlink()
    files.complete(partial, out)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
