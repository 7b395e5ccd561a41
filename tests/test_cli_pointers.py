"""`vidtrack pointers` as users type it."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidtrack.video import VideoWriter


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`video.mp4`, 8 frames 96 x 64, in the current folder."""
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "video.mp4", 96, 64, Fraction(25)) as writer:
        for _ in range(8):
            writer.write(rng.integers(0, 255, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> int:
    from vidtrack.cli import app

    with pytest.raises(SystemExit) as ended:
        app(["pointers", *(str(a) for a in arguments), "--device", "cpu"])
    return int(ended.value.code or 0)


def test_it_writes_a_sheet(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("video.mp4", "--frame", 7, "--point", "40,30", "--point", "5,60", "--tracker", "lab")
    assert run(*options) == 0
    told = capsys.readouterr()
    assert "point 40,30: weight by frame 0 " in told.out and "pointers.png" in told.out and not told.err
    assert Image.open(clip / "pointers.png").mode == "RGB"
    assert run(*options) == 2
    assert "--overwrite" in capsys.readouterr().err
    more = ("--reference", 2, "--context", "1,2", "--radius", 3, "--topk", 2, "--temperature", 0.1)
    assert run(*options, *more, "--size", 32, "-o", "other.png", "--quiet") == 0
    assert capsys.readouterr().out == "" and (clip / "other.png").exists()


MISTAKES = {
    "point": (["video.mp4", "--frame", "7", "--point", "96,0"], "96,0 lies outside"),
    "no point": (["video.mp4", "--frame", "7", "--point", "here"], "--point here"),
    "frame": (["video.mp4", "--frame", "8", "--point", "1,1"], "no frame 8: it has 8 frames"),
    "reference": (["video.mp4", "--frame", "7", "--point", "1,1", "--reference", "9"], "no frame 9"),
    "video": (["nothing.mp4", "--frame", "7", "--point", "1,1"], "nothing.mp4"),
    "name": (["video.mp4", "--frame", "7", "--point", "1,1", "-o", "a.jpg"], "a.jpg is not named .png"),
    "tracker": (["video.mp4", "--frame", "7", "--point", "1,1", "--tracker", "copy"], "has no pointers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(clip: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = MISTAKES[mistake]
    assert run(*arguments, *([] if "--tracker" in arguments else ["--tracker", "lab"])) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ") and told.count("\n") == 1 and re.search(sentence, told), told
    assert [p.name for p in clip.iterdir()] == ["video.mp4"]
