"""What the commands share: options, and how errors, warnings and interruptions are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pretrain.errors import InputError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; the default is torch's choice.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and warnings.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
TrackerName = Annotated[str, typer.Option(help="default, PATH, random:resnet18, lab or copy.")]
START_OVER = "run the same command again to start over."
GO_ON = "run the same command again to go on."


@contextmanager
def told(resume: str = START_OVER) -> Iterator[None]:
    """Turn exceptions into one sentence on stderr and the right exit code.

    Args:
        resume: what to do after an interruption that doesn't say it itself.
    """
    try:
        yield
    except InputError as error:
        fail(str(error), 2)
    except KeyboardInterrupt as stop:
        fail(f"interrupted: {stop.args[0] if stop.args else resume}", 130)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if os.environ.get("VIDTRACK_DEBUG"):
            raise
        text = " ".join(str(error).split()) or "no message"
        fail(f"vidtrack failed: {type(error).__name__}: {text} (set VIDTRACK_DEBUG=1 for the traceback).", 1)


def fail(sentence: str, code: int) -> None:
    """Print a sentence on stderr and leave with an exit code."""
    print(f"Error: {sentence}" if code != 130 else sentence, file=sys.stderr)
    raise typer.Exit(code)


def warn(sentences: Iterable[str]) -> None:
    """Print warnings on stderr, one a line."""
    for sentence in sentences:
        print(f"Warning: {sentence}", file=sys.stderr)
