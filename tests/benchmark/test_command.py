"""Options of `vidtrack benchmark` that can't be meant: one sentence, and no output."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vidtrack.cli import app


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--topk", "4", "--sweep", "topk=5,6"], "--topk is given, and --sweep topk too: give one of them."),
        (["--preset", "crw", "--sweep", "preset=dino"], "--preset is given, and --sweep preset too"),
        (["--cache", "inf"], "--cache inf: give a number of GB."),
        (["--cache", "nan"], ""),
    ],
)
def test_options_that_cannot_be_meant(make_set, tmp_path: Path, options: list[str], sentence: str) -> None:
    data = make_set(2017, {"one": 1})
    command = ["benchmark", "davis", "--data", str(data), "--out", str(tmp_path / "out"), "--tracker", "copy"]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 2 and sentence in done.stderr
    assert not list(tmp_path.glob("out*"))
