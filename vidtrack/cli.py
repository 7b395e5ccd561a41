"""The command line: which commands there are. Each is a function in `vidtrack/commands`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vidtrack import __version__
from vidtrack.commands.adapt import adapt
from vidtrack.commands.benchmark import boxes, davis, parts, points, pose
from vidtrack.commands.colorize import colorize
from vidtrack.commands.compare import compare
from vidtrack.commands.demo import demo
from vidtrack.commands.export import export
from vidtrack.commands.look import frame, info
from vidtrack.commands.pointers import pointers
from vidtrack.commands.pretrain import pretrain
from vidtrack.commands.probe import probe
from vidtrack.commands.propagate import propagate
from vidtrack.commands.train import train

# Waiting threads must sleep: on shared cores two spinning OpenMP threads are several times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="vidtrack",
    help="Learn to track from raw, unlabelled video; carry labels through videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
benchmark_app = typer.Typer(
    help="Measure a tracker on a data set with ground truth.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(benchmark_app, name="benchmark")


def main() -> None:
    """The command line, without what `vidtrack.__main__` does for its first moments."""
    app()


def _version(asked: bool) -> None:
    if asked:
        print(f"vidtrack {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(propagate)
app.command()(colorize)
app.command()(pointers)
app.command()(frame)
app.command()(info)
app.command()(train)
app.command()(adapt)
app.command()(pretrain)
app.command()(probe)
app.command()(export)
app.command()(demo)
for measure in (davis, pose, parts, points, boxes):
    benchmark_app.command()(measure)
app.command()(compare)

if __name__ == "__main__":
    main()
