"""What the commands share: options, and how errors, warnings and interruptions are told."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from pretrain.errors import InputError
from pretrain.interrupts import Handlers

if TYPE_CHECKING:
    from rich.table import Table

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="CPU threads; the default is torch's choice.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and warnings.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
TrackerName = Annotated[str, typer.Option(help="default, small, free, PATH, random:resnet18, lab or copy.")]
OnError = Annotated[
    str,
    typer.Option(
        help="Frames that can't be decoded: repeat the one before (up to a tenth), skip them, or stop."
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Width times height of the largest picture or video that is read. [8192 x 8192]"),
]
START_OVER = "run the same command again to start over."
FULL = (errno.ENOSPC, errno.EDQUOT)
_WIDEST = 10_000  # characters of a table
GO_ON = "run the same command again to go on."


@contextmanager
def told(resume: str = START_OVER) -> Iterator[None]:
    """Turn exceptions into one sentence on stderr and the right exit code.

    Inside, Ctrl-C and SIGTERM end the work in order; the second time, at once.

    Args:
        resume: what to do after an interruption that doesn't say it itself.
    """
    # What Pillow finds odd in a picture is either refused in our words, or harmless.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    stop = _Stop(resume)
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            fail(f"interrupted: {error.args[0] if error.args else resume}", 130)
        if stop.asked:  # what it interrupts may tell it in another way, such as a module half imported
            fail(f"interrupted: {resume}", 130)
        if isinstance(error, InputError):
            fail(str(error), 2)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            fail("a name is longer than that of a file can be: give a shorter path.", 2)
        if isinstance(error, PermissionError) and error.filename:
            fail(f"{error.filename} is not yours to use: change its permissions, or leave it out.", 2)
        if isinstance(error, OSError) and error.errno in FULL:
            where = f"disk of {error.filename}" if error.filename else "disk"
            fail(f"the {where} is full: make room, then {resume}", 1)
        if os.environ.get("VIDTRACK_DEBUG") or not isinstance(error, Exception):
            raise
        text = " ".join(str(error).split()) or "no message"
        fail(f"vidtrack failed: {type(error).__name__}: {text} (set VIDTRACK_DEBUG=1 for the traceback).", 1)
    finally:
        stop.end()


class _Stop:
    """What Ctrl-C and SIGTERM do during a command, until `end`.

    Python drops an exception that is raised while it tidies up behind an object (`__del__`, callbacks of weak
    references, such as each import makes): a signal that comes just then is sent once more.

    Args:
        resume: what to do afterwards.

    Attributes:
        asked: one of them has come.
    """

    def __init__(self, resume: str) -> None:
        self.resume, self.asked = resume, False
        self._number, self._again = signal.SIGINT, threading.Timer(0, lambda: None)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        self.handlers = Handlers(self._handle)

    def end(self) -> None:
        """As before the command."""
        self._again.cancel()
        sys.unraisablehook = self._hook
        self.handlers.restore()

    def _dropped(self, what: sys.UnraisableHookArgs) -> None:
        if not (self.asked and issubclass(what.exc_type, KeyboardInterrupt)):
            self._hook(what)
            return
        self.asked = False
        self._again = threading.Timer(0.02, _send, [self._number])
        self._again.daemon = True
        self._again.start()

    def _handle(self, number: int) -> None:
        if self.asked:
            cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
            os.write(2, f"{cursor}interrupted twice, ended at once: {self.resume}\n".encode())
            os._exit(130)
        self.asked, self._number = True, signal.Signals(number)
        raise KeyboardInterrupt


def _send(number: int) -> None:
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:  # so that the main thread wakes up
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def fail(sentence: str, code: int) -> None:
    """Print a sentence on stderr and leave with an exit code."""
    print(printable(f"Error: {sentence}" if code != 130 else sentence), file=sys.stderr)
    raise typer.Exit(code)


def warn(sentences: Iterable[str]) -> None:
    """Print warnings on stderr, one a line."""
    for sentence in sentences:
        print(printable(f"Warning: {sentence}"), file=sys.stderr)


def show(*tables: Table) -> None:
    """Print tables on stdout: fitted to the terminal; as wide as they are where there is none."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        any_width = console.options.update(max_width=_WIDEST)
        widths = (Measurement.get(console, any_width, one).maximum for one in tables)
        console.width = max(console.width, *widths)
    for one in tables:
        console.print(one)


def say(line: object) -> None:
    """Print a line on stdout."""
    print(printable(str(line)))


def printable(line: str) -> str:
    """A line as a terminal can show it: names of files may hold line breaks, escapes and broken text."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode()
        for one in line
    )
