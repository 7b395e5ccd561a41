"""Atomic outputs and content hashes: nothing half-written ever carries its final name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pretrain.errors import InputError

LOCK = ".lock"
RESULTS = ("report.json", "results.json", "table.json")  # every folder of results has one of these


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's content, or of a folder's file names, sizes and contents in sorted order."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
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


def replace(source: Path, target: Path) -> None:
    """Give `source` the name `target`; a file or folder that stands there is removed only just before."""
    if target.is_dir() and not target.is_symlink():
        old = target.with_name(f"{target.name}.old-{os.getpid()}")
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old)
    else:
        os.replace(source, target)


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
def locked(folder: Path, busy: str) -> Iterator[Path]:
    """Context manager: `folder` is ours alone, by a locked file in it, which the system frees when we die.

    Yields the path of the lock file. The folder may be renamed meanwhile (except on Windows, which renames no
    folder with an open file in it); whoever does that removes the lock file afterwards.

    Args:
        folder: exists.
        busy: the sentence for the user when another process has the lock.

    Raises:
        InputError: another process has the lock, or the file can't be made.
    """
    path = folder / LOCK
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise InputError(f"{path} can't be made ({error.strerror}): choose another output.") from error
    with stream:
        try:
            _lock(stream.fileno())
        except OSError as error:
            raise InputError(busy) from error
        yield path


def _lock(descriptor: int) -> None:
    """Raises OSError if another process has the lock."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_json(path: Path | str, value: Any, overwrite: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_file(path, overwrite) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def bundled_configs() -> Path:
    """The folder of the configs that come with vidtrack: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
