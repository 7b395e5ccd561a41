"""What the index did, as a table in plain text."""

from __future__ import annotations

from io import StringIO
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from vidtrack.learn.index.verdicts import Footage, Reason, counted


def table(footage: Footage) -> str:
    """A row for what is kept, and one for each reason for which something is not: videos, shots, minutes.

    A video that is dropped in part counts in several rows. How long a broken video is, or one with the same
    bytes as another, is not known: it was not looked at. What is missing are the ends that headers promise.
    """
    shots, dropped = footage.shots, footage.dropped
    cropped = sum(shot.box is not None for shot in shots)
    title = f"{counted(footage.videos, 'video')}, {counted(footage.cuts, 'hard cut')}, "
    title += f"black bars cropped from {counted(cropped, 'shot')}"
    out = Table(box=box.SIMPLE_HEAD)
    for head in ("", "videos", "shots", "minutes"):
        out.add_column(head, justify="right" if head else "left")

    def row(name: str, videos: set[str], number: int, seconds: float) -> None:
        out.add_row(name, str(len(videos)), str(number), f"{seconds / 60:.1f}")

    row("learned from", {shot.name for shot in shots}, len(shots), sum(shot.seconds for shot in shots))
    for reason in get_args(Reason):
        some = [one for one in dropped if one.reason == reason]
        if some:
            videos = {one.video for one in some}
            row(reason, videos, sum(one.shots for one in some), sum(one.seconds for one in some))
    text = StringIO()
    Console(file=text, width=80).print(out)
    lines = [title, *(line.rstrip() for line in text.getvalue().splitlines())]
    return "\n".join(line for line in lines if line)
