"""The `vidtrack` command, also `python -m vidtrack`: Ctrl-C leaves no traceback, from the first import on."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Entry point: the command line, with the signals in order before a command begins and after its end."""
    signals = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    for number in signals:
        signal.signal(number, _leave)
    from vidtrack.cli import main as run

    try:
        run()
    except SystemExit as end:
        if end.code == 130:  # at once: the interpreter's own end can take seconds, and tell another code
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        raise
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    """Nothing was begun: nothing is left to be put in order."""
    os.write(2, b"interrupted: run the same command again to start over.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
