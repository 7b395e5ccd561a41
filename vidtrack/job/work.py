"""OUT.partial: where a run works until everything is written, and where the next one goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrain.errors import InputError
from vidtrack.files import LOCK, locked, replace, write_json
from vidtrack.job.manifest import Manifest, reusable
from vidtrack.job.records import NAME, Record, Records, RecordWriter
from vidtrack.job.reuse import MANIFEST


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """Context manager: `OUT.partial`, made and locked, so that two runs never write into one folder.

    Raises:
        InputError: another run has it, it holds something else, or it can't be made.
    """
    partial = out.with_name(f"{out.name}.partial")
    try:
        if not _ours(partial):
            raise InputError(f"{partial} holds something that vidtrack did not write: choose another --out.")
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{partial} can't be made: {error.strerror}; choose another --out.") from error
    with locked(partial, f"another run is writing {partial}: wait for its end, or choose another --out."):
        yield partial


def _ours(partial: Path) -> bool:
    if not partial.exists():
        return True
    if partial.is_symlink() or not partial.is_dir():
        return False
    return (partial / MANIFEST).is_file() or {path.name for path in partial.iterdir()} <= {LOCK}


def begin(partial: Path, manifest: Manifest, stopped: Iterable[Record], kept: Iterable[str]) -> RecordWriter:
    """Make `partial` ready for a run: what a stopped one finished stays, all else goes.

    Args:
        partial: see `work_folder`.
        manifest: of the run that begins.
        stopped: records of the frames to keep.
        kept: folders with a file per frame.
    """
    records = list(stopped)
    stay = {LOCK, *((MANIFEST, NAME, *kept) if records else ())}
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
    replace(partial, out)
    (out / LOCK).unlink(missing_ok=True)  # only now: until here it kept others away


def drop(partial: Path) -> None:
    """Remove the folder of a run that failed."""
    shutil.rmtree(partial, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
