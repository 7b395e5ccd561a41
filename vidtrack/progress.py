"""Progress bars of the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS = 5.0  # between two lines about decoding


class _Rate(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s")


def _bars(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    )


@contextmanager
def frame_progress(what: str, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar over frames with frames per second and time left; yields `update(done, total)`."""
    with _bars(quiet) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def sequence_progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar over the frames of all sequences; yields `update(sequence, done, total)`."""
    with _bars(quiet) as bars:
        task = bars.add_task("benchmark", total=None)
        yield lambda name, done, total: bars.update(task, description=name, completed=done, total=total)


@contextmanager
def training_progress(
    quiet: bool, samples: str = "clips", sources: str = "videos"
) -> Iterator[tuple[Callable[[int, int], None], Callable[[dict[str, float]], None]]]:
    """Yields `decoding(done, total)` and `report(record)`, which print lines; the first not too often.

    Args:
        quiet: print nothing.
        samples: what steps are counted in.
        sources: what is decoded.
    """
    told = time.monotonic()

    def decoding(done: int, total: int) -> None:
        nonlocal told
        if not quiet and (done == total or time.monotonic() - told > SECONDS):
            told = time.monotonic()
            print(f"decoded {done} of {total} {sources}", file=sys.stderr, flush=True)

    def report(record: dict[str, float]) -> None:
        if quiet:
            return
        shown = {"loss", "learning_rate", "samples_per_second", "waiting", "step", "steps", "minutes"}
        shown |= {"minutes_left"}
        others = [f"{key} {value:.3f}" for key, value in record.items() if key not in shown]
        parts = [
            f"step {record['step']:.0f}/{record['steps']:.0f}",
            f"loss {record['loss']:.3f}",
            *others,
            f"{record['samples_per_second']:.1f} {samples}/s ({record['waiting']:.0%} waiting for data)",
            f"{record['minutes_left']:.0f} min left",
        ]
        print("  ".join(parts), flush=True)

    yield decoding, report


@contextmanager
def adapting_progress(
    quiet: bool,
) -> Iterator[tuple[Callable[[int, int], None], Callable[[dict[str, float]], None]]]:
    """Yields `decoding(done, total)` and `report(record)` for an adaptation to a video."""

    def report(record: dict[str, float]) -> None:
        if not quiet:
            print(
                f"step {record['step']:.0f}/{record['steps']:.0f}  cycle accuracy "
                f"{record['cycle_accuracy']:.3f} (before: {record['before']:.3f})",
                flush=True,
            )

    with training_progress(quiet, sources="parts of the video") as (decoding, _):
        yield decoding, report


def print_validation(record: dict[str, float]) -> None:
    """Print a line about a validation, see `vidtrack.learn.validate`."""
    others = [f"{key} {record[key]:.3f}" for key in ("J&F-Mean",) if key in record]
    parts = [f"step {record['step']:.0f}", f"cycle accuracy {record['cycle_accuracy']:.3f}", *others]
    print("validation: " + "  ".join([*parts, f"(chance {record['chance']:.3f})"]), flush=True)


def print_indexing() -> Callable[[int, int], None]:
    """A function `(done, total)` that prints how many videos were looked through, not too often."""
    told = time.monotonic()

    def indexing(done: int, total: int) -> None:
        nonlocal told
        if done == total or time.monotonic() - told > SECONDS:
            told = time.monotonic()
            print(f"looked through {done} of {total} videos", file=sys.stderr, flush=True)

    return indexing
