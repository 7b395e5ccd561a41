"""Atomic outputs and content hashes: nothing half-written ever carries its final name."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pretrain.errors import InputError
from pretrain.interrupts import held_back
from pretrain.lock import locked

RESULTS = ("report.json", "results.json", "table.json")  # every folder of results has one of these


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's content, or of a folder's file names, sizes and contents in sorted order."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            digest.update(os.fsencode(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0"))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def require_free(path: Path | str, overwrite: bool = False, *, folder: bool = False) -> Path:
    """Return `path` if it may be written: it is free or may be overwritten, and its folder is writable.

    With `overwrite` a file replaces a file only, and a folder of results only a folder of results (one with
    a file of `RESULTS`, or an empty one): a folder of the user's is never removed.

    Raises:
        InputError: `path` exists and must not be replaced, or its folder can't be written.
    """
    path = Path(path)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # the name is too long, or a folder is closed to us
        raise InputError(f"{path} can't be written ({error.strerror}): choose another output.") from error
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: choose another output, or add --overwrite to replace it.")
    if path.exists() and not folder and path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file.")
    if path.exists() and folder:
        if path.is_symlink() or not path.is_dir():
            raise InputError(f"{path} is not a folder: choose another output.")
        ours = any((path / name).is_file() for name in RESULTS) or not any(path.iterdir())
        here = Path.cwd().resolve()
        if not ours or path.resolve() == here or path.resolve() in here.parents:
            raise InputError(f"{path} holds no vidtrack results and is not replaced: choose another output.")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{parent} can't be written: choose an output in a folder that you may write.")
    return path


def require_outside(out: Path, sources: Iterable[Path | str]) -> None:
    """Raises InputError if one of `sources` lies in the results `out`, or in those of its stopped run.

    They are replaced as a whole, and what lies among them goes with them.
    """
    places = {os.path.realpath(folder) for folder in (out, out.with_name(f"{out.name}.partial"))}
    for source in sources:
        path = Path(os.path.abspath(source))
        if any(os.path.realpath(folder) in places for folder in (path, *path.parents)):
            raise InputError(
                f"{source} lies in the output {out}, which is replaced: move it, or choose another output."
            )


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target`; a file or folder that stands there is removed only just before."""
    if not source.is_dir():
        os.replace(source, target)
        return
    old = target.with_name(f".{target.name}.replaced")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        source.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)  # also that of a run that was killed before this line


@contextlib.contextmanager
def atomic_file(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """Context manager: yields a temporary path beside `path` with the same suffix, renamed to it on success.

    On an exception the temporary file is removed and `path` stays as it was.

    Raises:
        InputError: see `require_free`.
    """
    path = require_free(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} can't be made: {error.strerror}; choose another output.") from error
    partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield partial
        replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def work_folder(out: Path, overwrite: bool = False, fresh: bool = False) -> Iterator[Path]:
    """Context manager: `OUT.partial`, made, and of no other run meanwhile; see `complete` and `drop`.

    The lock is a file beside it, `.OUT.lock`, which goes when the folder does. While the folder waits for the
    next run, because this one was stopped or killed, the file tells that it is no folder of the user's.

    Args:
        out: what the folder is to become.
        overwrite: see `require_free`.
        fresh: it begins empty, and is gone at the end: nothing is kept for another run.

    Raises:
        InputError: see `require_free`; another run has the folder, it holds something else, or can't be made.
    """
    partial = out.with_name(f"{out.name}.partial")
    _make(out.parent)
    with locked(out.with_name(f".{out.name}.lock"), partial) as lock:
        require_free(out, overwrite, folder=True)  # again: another run may just have finished
        empty = not partial.exists() or (_is_folder(partial) and not any(partial.iterdir()))
        if not empty and not (lock.stays and _is_folder(partial)):
            raise InputError(f"{partial} holds something that vidtrack did not write: choose another --out.")
        lock.stays = True
        if fresh:
            drop(partial)
        try:
            _make(partial)
            yield partial
        finally:
            if fresh:
                drop(partial)
            lock.stays = partial.exists()


@contextlib.contextmanager
def locked_file(path: Path, overwrite: bool = False) -> Iterator[None]:
    """Context manager: `path`, which is to be written, is of no other run meanwhile.

    Raises:
        InputError: see `require_free`; or another run is writing it.
    """
    require_free(path, overwrite)
    _make(path.parent)
    with locked(path.with_name(f".{path.name}.lock"), path):
        require_free(path, overwrite)
        for left in path.parent.glob(f".{glob.escape(path.stem)}.partial-*{glob.escape(path.suffix)}"):
            left.unlink()  # of a run that was killed: nobody else is writing this file
        yield


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be made ({error.strerror}): choose another --out.") from error


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def complete(partial: Path, out: Path) -> None:
    """Give the finished folder of a run its name; Ctrl-C is too late by then."""
    with held_back():
        replace(partial, out)


def drop(partial: Path) -> None:
    """Remove the folder of a run that failed."""
    shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path | str, value: Any, overwrite: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path, overwrite) as partial:
        partial.write_bytes(json_bytes(value, indent=2) + b"\n")


def json_bytes(value: Any, **options: Any) -> bytes:
    """`value` as JSON in UTF-8; names of files that no text can hold survive as escapes."""
    return json.dumps(value, ensure_ascii=False, **options).encode("utf-8", "backslashreplace")


def is_results(path: Path) -> bool:
    """Whether a file named as one of `RESULTS` is vidtrack's own: other programs have such names, too."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {"schema", "versions"} <= value.keys()


def bundled_configs() -> Path:
    """The folder of the configs that come with vidtrack: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
