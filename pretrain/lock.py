"""One process at a time: a locked file, which the system frees however the process ends."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pretrain.errors import InputError

_OURS = "ours\n"  # second line of a lock file
_FAR = 1 << 30  # the byte that Windows locks: what stands before it stays readable
_held: set[int] = set()  # descriptors


class Lock:
    """A lock file that is ours until the end.

    Attributes:
        stays: the file stays afterwards, and says so to whoever takes it next. True at first if it was left
            so, by a process that was killed or on purpose.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner = f"{os.getpid()} {socket.gethostname()}\n"
        self._stays = _OURS in _read(descriptor)
        self._write()

    @property
    def stays(self) -> bool:
        return self._stays

    @stays.setter
    def stays(self, value: bool) -> None:
        if value != self._stays:
            self._stays = value
            self._write()

    def _write(self) -> None:
        text = self._owner + (_OURS if self._stays else "")
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text.encode())
            os.ftruncate(self._descriptor, len(text.encode()))


@contextlib.contextmanager
def locked(path: Path, work: Path) -> Iterator[Lock]:
    """Context manager: `work` is ours alone, by a lock on the file `path`, which is gone afterwards.

    A process that dies, even by kill -9, holds it no longer, and the processes that it forked never do.
    Where the file system knows no locks there is none.

    Args:
        path: the lock file; its folder exists.
        work: what is protected, for the sentence to the user.

    Raises:
        InputError: another process has it, or the file can't be made.
    """
    descriptor = _take(path, work)
    _held.add(descriptor)
    try:
        lock = Lock(descriptor)
        try:
            yield lock
        finally:
            if not lock.stays and os.name != "nt":  # where an open file can't be removed
                path.unlink(missing_ok=True)
    finally:
        _held.discard(descriptor)
        os.close(descriptor)
    if not lock.stays:
        path.unlink(missing_ok=True)


def _take(path: Path, work: Path) -> int:
    """The descriptor of the locked file."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise InputError(f"{path} can't be made ({error.strerror}): choose another --out.") from error
        try:
            _lock(descriptor)
            if _same(path, descriptor):
                return descriptor  # else its owner has removed it just now
        except BlockingIOError as error:
            pid, _, host = _read(descriptor).partition("\n")[0].partition(" ")
            who = f"process {pid} on {host}" if host else "another process"
            os.close(descriptor)
            raise InputError(
                f"another run is writing {work}: wait for its end ({who}), or choose another --out."
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if another process has the lock."""
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            raise BlockingIOError from error
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # no locks here


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 1000).decode(errors="replace")


def _let_go() -> None:
    """In a forked process, which would hold the locks when its parent is dead."""
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
