"""The command line as users type it: outputs, exit codes, one clear sentence per mistake."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

from vidtrack.commands.shared import show
from vidtrack.labels.masks import Masks
from vidtrack.video import VideoReader, VideoWriter

from .video.conftest import doubtful_video

VIDTRACK = [sys.executable, "-m", "vidtrack.cli"]


def run(*arguments: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    command = [*VIDTRACK, *(str(a) for a in arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def shown(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """`video.mp4` (12 frames 96x64) and `first.png`, one object."""
    ids = np.zeros((64, 96), np.uint8)
    ids[16:48, 8:40] = 1
    with VideoWriter(tmp_path / "video.mp4", 96, 64, Fraction(30000, 1001)) as writer:
        for t in range(12):
            image = np.full((64, 96, 3), 90, np.uint8)
            image[16:48, 8 + 3 * t : 40 + 3 * t] = (220, 120, 30)
            writer.write(image)
    Masks(ids).save(tmp_path / "first.png")
    return tmp_path


def test_propagate_writes_everything(clip: Path) -> None:
    done = run("propagate", "--mask", "first.png", "video.mp4", "--tracker", "lab", cwd=clip)
    assert done.returncode == 0, done.stderr
    out = clip / "video_vidtrack"
    assert shown(out) == ["masks", "overlay.mp4", "report.json", "report.png"]
    assert sorted(p.name for p in (out / "masks").iterdir()) == [f"{n:05d}.png" for n in range(12)]
    last = Image.open(out / "masks" / "00011.png")
    assert last.mode == "P" and last.size == (96, 64)
    assert np.array(last)[32, 60] == 1 and np.array(last)[32, 12] == 0
    report = json.loads((out / "report.json").read_text())
    assert report["rate"] == "30000/1001"
    assert report["frame_count"] == 12 and len(report["frames"]) == 12
    assert report["frames"][0]["objects"]["1"] == {"area": 1024, "confidence": 1.0}
    assert report["options"]["propagation"]["radius"] == 12
    assert report["seconds"]["total"] > 0 and report["peak_memory_mb"] > 0
    with VideoReader(out / "overlay.mp4") as reader:
        frames = list(reader)
        assert reader.info.rate == Fraction(30000, 1001)
    assert len(frames) == 12
    assert frames[0].image[2, 2].max() < 110  # untouched far from the object
    assert not list(clip.glob("*.partial"))
    again = run("propagate", "--mask", "first.png", "video.mp4", "--tracker", "lab", cwd=clip)
    assert again.returncode == 2 and "--overwrite" in again.stderr


def test_a_folder_of_frames_keeps_its_names_and_options(clip: Path) -> None:
    frames = clip / "frames"
    frames.mkdir()
    with VideoReader(clip / "video.mp4") as reader:
        for frame in reader:
            Image.fromarray(frame.image).save(frames / f"shot{frame.index + 3}.png")
    done = run(
        *("propagate", "--mask", "first.png", "frames/", "--out", "result", "--start", 1, "--end", 9),
        *("--context", 3, "--radius", 6, "--topk", 5, "--temperature", 0.07, "--no-refine"),
        *("--size", "native", "--tracker", "lab", "--no-overlay", "--quiet"),
        cwd=clip,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    names = sorted(p.name for p in (clip / "result" / "masks").iterdir())
    assert names == sorted(f"shot{n}.png" for n in range(4, 12))
    options = json.loads((clip / "result" / "report.json").read_text())["options"]["propagation"]
    expected = {
        "size": None,
        "context": [1, 2, 3],
        "radius": 6,
        "reach": 4,
        "topk": 5,
        "temperature": 0.07,
        "refine": False,
        "foreground": 1.3,
        "preset": None,
    }
    assert {**options, **expected} == options
    assert not (clip / "result" / "overlay.mp4").exists()


def test_a_lost_object_is_told(clip: Path) -> None:
    ids = np.zeros((64, 96), np.uint8)
    ids[16:48, 8:40] = 1
    ids[2, 90] = 7
    Masks(ids).save(clip / "tiny.png")
    with VideoWriter(clip / "blink.mp4", 96, 64, Fraction(30)) as writer:
        for t in range(4):
            image = np.full((64, 96, 3), 90, np.uint8)
            image[16:48, 8:40] = (220, 120, 30)
            image[0:8, 88:96] = (30, 30, 220) if t == 0 else 90
            writer.write(image)
    done = run("propagate", "--mask", "tiny.png", "blink.mp4", "--tracker", "lab", cwd=clip)
    assert done.returncode == 0
    assert "object 7 is not seen from frame" in done.stderr and "object 1" not in done.stderr


MISTAKES = {
    "no video": (["--mask", "first.png", "nothing.mp4"], "nothing.mp4"),
    "text as video": (["--mask", "first.png", "text.mp4"], "text.mp4"),
    "empty folder": (["--mask", "first.png", "empty"], "empty"),
    "no mask": (["--mask", "nothing.png", "video.mp4"], "nothing.png"),
    "empty mask": (["--mask", "blank.png", "video.mp4"], "blank.png"),
    "JPEG mask": (["--mask", "mask.jpg", "video.mp4"], "JPEG"),
    "aspect": (["--mask", "square.png", "video.mp4"], "50x50.*96x64"),
    "too many objects": (["--mask", "many.png", "video.mp4"], "254"),
    "start": (["--mask", "first.png", "video.mp4", "--start", "99"], "12 frames"),
    "size": (["--mask", "first.png", "video.mp4", "--size", "big"], "--size big"),
    "radius": (["--mask", "first.png", "video.mp4", "--radius", "0"], "--radius 0"),
    "tracker": (["--mask", "first.png", "video.mp4", "--tracker", "magic"], "magic"),
    "context": (["--mask", "first.png", "video.mp4", "--context", "3,1"], "context"),
    "quality": (["--mask", "first.png", "video.mp4", "--quality", "good"], "--quality good"),
    "preset": (["--mask", "first.png", "video.mp4", "--preset", "xyz"], "xyz"),
    "preset of boxes": (["--box", "1,2,30,40", "video.mp4", "--preset", "crw"], "masks and keypoints"),
    "direction": (["--mask", "first.png", "video.mp4", "--direction", "up"], "--direction up"),
    "no labels": (["video.mp4"], "give one of --mask, .* not none"),
    "two kinds": (["video.mp4", "--mask", "first.png", "--point", "1,2"], "--mask and --point"),
    "void of points": (["video.mp4", "--point", "1,2", "--void", "255"], "--void goes with --mask"),
    "no video at all": (["--mask", "first.png"], "one video, or --live"),
    "video and live": (["--mask", "first.png", "video.mp4", "--live", "0"], "one video, or --live"),
    "live nothing": (["--mask", "first.png", "--live", "video.mp4"], "neither a camera number nor"),
    "live backward": (["--mask", "first.png", "--live", "0", "--direction", "both"], "no camera 0|forward"),
    "twice a frame": (["video.mp4", "--mask", "0=first.png", "--mask", "first.png"], "for frame 0"),
    "frame too late": (["video.mp4", "--mask", "0=first.png", "--mask", "40=first.png"], "no frame 40"),
    "before the start": (["video.mp4", "--mask", "0=first.png", "--start", "2"], "only frames from 2 on"),
    "folder of masks": (["video.mp4", "--mask", "empty"], "empty holds no mask"),
    "point": (["video.mp4", "--point", "1"], "--point 1 is not x,y"),
    "point outside": (["video.mp4", "--point", "96,2"], "outside of the frame"),
    "box": (["video.mp4", "--box", "1,2,3,x"], "--box 1,2,3,x is not x1,y1,x2,y2"),
    "empty box": (["video.mp4", "--box", "30,2,3,9"], "--box 30,2,3,9 is empty"),
    "keypoints": (["video.mp4", "--keypoints", "text.mp4"], "text.mp4"),
    "boxes": (["video.mp4", "--boxes", "text.mp4"], "text.mp4"),
    "array": (["video.mp4", "--array", "first.png"], "first.png"),
    "save": (["video.mp4", "--mask", "first.png", "--save", "gold"], "--save gold"),
    "save of boxes": (["video.mp4", "--box", "1,2,30,40", "--save", "rle"], "rle goes with masks"),
    "out is a file": (["--mask", "first.png", "video.mp4", "--out", "text.mp4/x"], "text.mp4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(
    clip: Path, mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidtrack.cli import app

    (clip / "text.mp4").write_text("hello")
    (clip / "empty").mkdir()
    Masks(np.zeros((64, 96), np.uint8)).save(clip / "blank.png")
    Image.fromarray(np.full((64, 96), 255, np.uint8)).save(clip / "mask.jpg")
    Image.fromarray(np.full((50, 50), 255, np.uint8)).save(clip / "square.png")
    many = np.arange(64 * 96).reshape(64, 96) % 400
    Image.fromarray(many.astype(np.uint16)).save(clip / "many.png")
    before = sorted(clip.rglob("*"))
    arguments, sentence = MISTAKES[mistake]
    if "--tracker" not in arguments:
        arguments = [*arguments, "--tracker", "lab"]
    monkeypatch.chdir(clip)
    with pytest.raises(SystemExit) as ended:
        app(["propagate", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
    assert re.search(sentence, captured.err), captured.err
    assert sorted(clip.rglob("*")) == before  # OUT is absent, and nothing else is left


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["--mask", "first.png", "--save", "rle,cutout,cutout-png"], "masks masks.json cutout.webm cutout"),
        (
            ["--point", "20,30", "--point", "30,20", "--save", "h5"],
            "keypoints.csv keypoints.json deeplabcut.*",
        ),
        (["--keypoints", "points.csv", "--end", "12"], "keypoints.csv keypoints.json deeplabcut.csv"),
        (["--box", "8,16,40,48", "--direction", "both"], "boxes.csv"),
        (["--boxes", "boxes.csv"], "boxes.csv"),
        (["--array", "map.npy", "--array", "6=map.npy", "--direction", "both"], "maps"),
        (["--mask", "numbered", "--quality", "fast", "--context", "2"], "masks"),
        (["--mask", "first.png", "--preset", "dino", "--cache", "0"], "masks"),
    ],
)
def test_every_kind_of_label(clip: Path, arguments: list[str], files: str, capsys: Any) -> None:
    from vidtrack.cli import app

    (clip / "points.csv").write_text("frame,keypoint,x,y\n1,a,20,30\n2,a,,\n7,a,40,30\n99,a,1,1\n")
    (clip / "boxes.csv").write_text("frame,object,x1,y1,x2,y2\n0,4,8,16,40,48\n")
    np.save(clip / "map.npy", np.mgrid[:64, :96][1].astype(np.float32))
    (clip / "numbered").mkdir()
    for n in (0, 5):
        shutil.copy(clip / "first.png", clip / "numbered" / f"{n:03d}.png")
    here = os.getcwd()
    os.chdir(clip)
    try:
        with pytest.raises(SystemExit) as ended:
            app(["propagate", "video.mp4", "--tracker", "lab", "--out", "result", *arguments])
    finally:
        os.chdir(here)
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    expected = files.replace("deeplabcut.*", "deeplabcut.csv deeplabcut.h5").split()
    assert shown(clip / "result") == sorted([*expected, "overlay.mp4", "report.json", "report.png"])
    report = json.loads((clip / "result" / "report.json").read_text())
    assert report["frame_count"] == 12 and report["schema"] == 2
    assert "12 frames of 96 x 64" in told.out and "frames/s" in told.out and "writing" in told.out
    assert ("1 annotated frame outside" in told.err) == ("points.csv" in arguments)
    with VideoReader(clip / "result" / "overlay.mp4") as reader:
        assert sum(1 for _ in reader) == 12


def test_a_correction_from_the_command_line(clip: Path) -> None:
    command = ["propagate", "video.mp4", "--mask", "0=first.png", "--tracker", "lab", "--mask", "4=first.png"]
    assert run(*command, cwd=clip).returncode == 0
    done = run(*command, "--mask", "8=first.png", "--overwrite", cwd=clip)
    assert done.returncode == 0, done.stderr
    assert "going on from video_vidtrack: 3 frames" in done.stdout and "6 of them computed" in done.stdout


def test_help_and_version_are_light(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("vidtrack ")
    for arguments in ("--help", "propagate -h", "benchmark --help"):
        done = run(*arguments.split(), cwd=tmp_path)
        assert done.returncode == 0 and "Usage" in done.stdout
    code = "import sys, vidtrack.cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0


def test_propagate_imports_nothing_of_training(clip: Path) -> None:
    code = (
        "import sys; from vidtrack.cli import app\n"
        "try: app(['propagate', '--mask', 'first.png', 'video.mp4', '--tracker', 'random:resnet18', '-q'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = ('lightning', 'timm', 'sklearn', 'matplotlib', 'torchvision', 'torch._dynamo')\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=clip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_an_interrupted_run_leaves_nothing(clip: Path) -> None:
    with VideoWriter(clip / "long.mp4", 96, 64, Fraction(30)) as writer:
        image = np.full((64, 96, 3), 90, np.uint8)
        image[16:48, 8:40] = (220, 120, 30)  # the object stays, so that each frame costs some time
        for _ in range(6000):
            writer.write(image)
    command = [*VIDTRACK, "propagate", "--mask", "first.png", "long.mp4", "--tracker", "lab"]
    process = subprocess.Popen(
        command, cwd=clip, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    partial = clip / "long_vidtrack.partial" / "masks"
    deadline = time.monotonic() + 120
    while not (partial.is_dir() and len(list(partial.iterdir())) > 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted" in errors and "start over" in errors and "Traceback" not in errors
    assert not list(clip.glob("long_vidtrack*"))


def test_frame_and_info(clip: Path) -> None:
    done = run("frame", "video.mp4", 3, "-o", "f.png", cwd=clip)
    assert done.returncode == 0, done.stderr
    assert Image.open(clip / "f.png").size == (96, 64)
    assert run("frame", "video.mp4", 3, cwd=clip).returncode == 0
    assert (clip / "frame_00003.png").read_bytes() == (clip / "f.png").read_bytes()
    late = run("frame", "video.mp4", 12, "-o", "g.png", cwd=clip)
    assert late.returncode == 2 and "12 frames" in late.stderr and not (clip / "g.png").exists()
    told = run("info", "video.mp4", "--tracker", "lab", cwd=clip)
    assert told.returncode == 0, told.stderr
    for word in ("torch", "device", "96 x 64", "30000/1001", "expected time"):
        assert word in told.stdout
    doubtful_video(clip / "spoilt.mkv")
    for number, word in ((13, "can't be decoded"), (14, "may be spoilt"), (12, "")):
        told = run("frame", "spoilt.mkv", number, "-o", f"{number}.png", cwd=clip)
        assert told.returncode == 0 and (clip / f"{number}.png").is_file()
        assert word in told.stderr and ("Warning" in told.stderr) == bool(word)


def test_tables_in_a_pipe_are_as_wide_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a name of a tracker, that is longer than a terminal is wide, " * 2
    shown = Table(title="names")
    shown.add_column("tracker", overflow="fold")
    shown.add_row(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    show(Table("small"), shown)
    assert name in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")  # asked for
    show(shown)
    lines = capsys.readouterr().out.splitlines()
    assert name not in "".join(lines) and max(map(len, lines)) == 60


def test_benchmark_of_a_tiny_set(clip: Path) -> None:
    root = clip / "set"
    for folder in ("JPEGImages/480p/a", "Annotations/480p/a", "ImageSets/2016"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/2016/dev.txt").write_text("a\n")
    with VideoReader(clip / "video.mp4") as reader:
        for t, frame in enumerate(reader):
            Image.fromarray(frame.image).save(root / f"JPEGImages/480p/a/{frame.name}.jpg")
            ids = np.zeros((64, 96), np.uint8)
            ids[16:48, 8 + 3 * t : 40 + 3 * t] = 255
            Image.fromarray(ids).save(root / f"Annotations/480p/a/{frame.name}.png")
    data = ["--data", root, "--year", 2016, "--split", "dev"]
    options = [*data, "--tracker", "lab", "--tracker", "copy", "--sweep", "topk=2,4", "--cache", 0]
    done = run("benchmark", "davis", *options, "--out", "scores", cwd=clip)
    assert done.returncode == 0, done.stderr
    assert "J&F" in done.stdout and "report.html" in done.stdout and "share embeddings" in done.stdout
    results = json.loads((clip / "scores/table.json").read_text())
    scores = {row["name"]: row["scores"]["J&F-Mean"] for row in results["rows"]}
    assert list(scores) == ["lab topk=2", "lab topk=4", "copy"]
    assert scores["lab topk=4"] > 0.7 > scores["copy"]
    masks = clip / "scores/lab_topk=4/masks"
    assert len(list((masks / "a").iterdir())) == 12
    assert "<svg" in (clip / "scores/report.html").read_text()

    again = run("benchmark", "davis", *data, "--masks", masks, "--out", "again", cwd=clip)
    assert again.returncode == 0, again.stderr
    one = json.loads((clip / "again/results.json").read_text())
    assert one["schema"] == 1 and one["J&F-Mean"] == one["sequences"]["a"]["J&F-Mean"] == scores["lab topk=4"]

    better = run("compare", "scores#copy", "scores#lab topk=4", cwd=clip)
    assert better.returncode == 0 and "J&F-Mean" in better.stdout, better.stderr
    wrong = run("benchmark", "davis", *data[:4], "--split", "val", "--out", "more", cwd=clip)
    assert wrong.returncode == 2 and not (clip / "more").exists()
