"""The judge of damaged inputs sees each kind of bad end: a soak without faults says something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .corpus import Case
from .verdict import arguments, faults

TOLD = "Error: a.mp4 can't be read: give another video.\n"
REPORT = {"frame_count": 5, "frames": [{}] * 5, "warnings": []}


def written(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({**REPORT, **changes}))
    return folder


def test_good_ends(tmp_path: Path) -> None:
    case = Case("cut", tmp_path / "a.mp4", "truncated", whole=5)
    assert faults(case, 2, TOLD, tmp_path / "none") == []
    assert faults(case, 0, "", written(tmp_path / "out")) == []
    warned = written(tmp_path / "warned", frame_count=4, frames=[{}] * 4, warnings=["it ends early"])
    assert faults(case, 0, "Warning: it ends early", warned) == []
    assert "--mask" in arguments(Case("mask", tmp_path / "m.png", "animation", "mask"), tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("code", "said", "found"),
    [
        (-11, "", "crashes with signal 11"),
        (1, "Traceback (most recent call last)", "ends in exit code 1"),
        (70, "", "ends in exit code 70"),
        (2, "something is wrong", "says"),
        (0, "", "has no report"),
    ],
)
def test_bad_ends(tmp_path: Path, code: int, said: str, found: str) -> None:
    (what,) = faults(Case("cut", tmp_path / "a.mp4", "truncated", whole=5), code, said, tmp_path / "none")
    assert what.startswith(found)


def test_bad_results(tmp_path: Path) -> None:
    whole = Case("strange", tmp_path / "a.mp4", "one frame", frames=5)
    cut = Case("cut", tmp_path / "a.mp4", "truncated", whole=6)
    out = written(tmp_path / "out")
    assert faults(whole, 2, TOLD, out)[0] == "leaves an output in spite of its error"
    assert faults(whole, 2, TOLD, tmp_path / "none")[0].startswith("is refused")
    assert faults(cut, 0, "", out) == ["loses frames, all but 5, without a word"]
    assert faults(whole, 0, "Warning: x", out)[0].startswith("has the warnings")
    short = written(tmp_path / "short", frames=[{}] * 4)
    assert faults(whole, 0, "", short) == ["has labels of 4 of 5 frames"]
    assert faults(whole, 0, "", short, skipped=True) == []
    few = written(tmp_path / "few", frame_count=3, frames=[{}] * 3)
    assert faults(whole, 0, "", few)[0].startswith("gives 3 frames instead of 5")
