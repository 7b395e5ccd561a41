"""`vidtrack compare`: is one benchmark result better than another?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidtrack.commands.shared import Overwrite, Quiet, show, told

if TYPE_CHECKING:
    from rich.table import Table

    from vidtrack.benchmark.compare import Comparison


def compare(
    a: Annotated[
        Path,
        typer.Argument(help="Folder of results, or its table.json or results.json; FOLDER#ROW: one row."),
    ],
    b: Annotated[Path, typer.Argument(help="The same of what A is compared with.")],
    row: Annotated[
        list[str] | None, typer.Option(help="Row of both; given twice: that of A, then that of B.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Score to compare. [all, the main one first]")] = None,
    samples: Annotated[int, typer.Option(min=100, max=1_000_000, help="Samples of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the comparison to this file, too.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Is B better than A? Differences by sequence, and a 95 % interval of their mean."""
    with told():
        from pretrain.errors import InputError
        from vidtrack.benchmark.compare import compare as compare_results
        from vidtrack.benchmark.compare import differing, load_results, split_row
        from vidtrack.files import write_json

        given = row or []
        if len(given) > 2:
            raise InputError(f"--row is given {len(given)} times: give it once for both, or twice.")
        (first, of_first), (second, of_second) = split_row(a), split_row(b)
        if given and (of_first is not None or of_second is not None):
            raise InputError("A row is named both after # and by --row: use one of them.")
        if given:
            of_first, of_second = given[0], given[-1]
        comparison = compare_results(
            load_results(first), load_results(second), key, (of_first, of_second), samples, seed
        )
        if json is not None:
            write_json(json, comparison.to_json(), overwrite)
        if not quiet:
            show(_sequences(comparison), *([_keys(comparison)] if len(comparison.differences) > 1 else []))
            for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
                if names:
                    print(f"Only {side} has {', '.join(names)}: left out.")
            if comparison.settings:
                print(f"A and B differ in {differing(comparison.settings)}.")
            print(comparison.verdict)


def _sequences(comparison: Comparison) -> Table:
    """A row per sequence of the first score, and their mean."""
    from rich.table import Table
    from rich.text import Text

    difference = comparison.differences[0]
    lower = ", lower is better" if difference.lower else ""
    out = Table(title=Text(f"{comparison.title}: {difference.key}{lower}"))
    out.add_column("sequence", overflow="fold")
    for side, name in zip("AB", comparison.names, strict=True):
        out.add_column(Text(f"{side}: {name}"), justify="right", overflow="fold")
    out.add_column("B - A", justify="right")
    scores = difference.scores
    for number, (name, (a, b)) in enumerate(scores.items(), 1):
        change = Text(f"{b - a:+.3f}", style=_style(b - a, difference.lower))
        out.add_row(Text(name), f"{a:.3f}", f"{b:.3f}", change, end_section=number == len(scores))
    if difference.mean is not None and difference.share_better is not None:
        means = [sum(pair[side] for pair in scores.values()) / len(scores) for side in (0, 1)]
        out.add_row("mean", *(f"{mean:.3f}" for mean in means), f"{difference.mean:+.3f}", style="bold")
        out.add_row("B is better in", "", "", f"{difference.share_better:.0%}")
    return out


def _keys(comparison: Comparison) -> Table:
    """A row per score: the mean difference and its interval."""
    from rich.table import Table
    from rich.text import Text

    out = Table(title="all scores, mean over sequences")
    for head in ("score", "B - A", "95 % interval", "better"):
        out.add_column(head, justify="left" if head == "score" else "right")
    for one in comparison.differences:
        mean = "-" if one.mean is None else f"{one.mean:+.3f}"
        interval = "-" if one.interval is None else "{:+.3f} to {:+.3f}".format(*one.interval)
        out.add_row(Text(one.key + (" (lower)" if one.lower else "")), mean, interval, one.better or "-")
    return out


def _style(change: float, lower: bool) -> str:
    if change == 0:
        return ""
    return "green" if (change > 0) != lower else "red"
