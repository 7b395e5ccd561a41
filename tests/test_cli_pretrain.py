"""`vidtrack pretrain` as users type it: images or a video in, Ctrl-C, the same command again, mistakes."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pretrain.run import load_method
from vidtrack.cli import app
from vidtrack.tracker import load
from vidtrack.video import VideoWriter

TINY = [
    *("data.size=16", "backbone.arch=vit_tiny", "backbone.patch=8", "optimizer.batch=2"),
    *("optimizer.warmup_steps=1", "engine.log_every=1", "engine.precision=32"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with `photos/` of six images and a broken one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.integers(0, 255, (4, 5, 3)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), image)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"nothing")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def arguments(out: str, *more: str, data: str = "photos", steps: int = 3) -> list[str]:
    # Sums depend on the number of threads, and other tests may have changed that of this process.
    fixed = ["--threads", "1", *TINY, f"optimizer.steps={steps}"]
    return ["pretrain", "rotation", "--data", data, "--out", out, *fixed, *more]


def run(*given: str) -> int:
    """Exit code of the command in this process."""
    with pytest.raises(SystemExit) as ended:
        app(list(given))
    return int(ended.value.code or 0)


def weights(out: Path) -> str:
    return hashlib.sha256((out / "backbone.safetensors").read_bytes()).hexdigest()


def test_interrupted_and_resumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = arguments("run", steps=24)
    log = here / "run" / "log.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "vidtrack.cli", *command],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) > 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate(timeout=180)
    assert process.returncode == 130, errors
    assert "go on" in errors and "Traceback" not in errors
    assert "loss" in shown and "images/s" in shown
    assert run(*command) == 0
    shown, errors = capsys.readouterr()
    assert "Warning: broken.jpg was skipped" in errors and "warm-up" not in errors
    assert "run/backbone.safetensors: 24 steps done; run/report.html shows" in shown
    assert "vidtrack probe run --data" in shown
    assert "vidtrack benchmark davis --data DAVIS --tracker run/backbone.safetensors" in shown
    steps = [line.split('"step": ')[1].split(",")[0] for line in log.read_text().splitlines()]
    assert steps == [str(n) for n in range(1, 25)]  # no step twice, none left out
    assert run(*arguments("whole", "--quiet", steps=24)) == 0
    assert weights(here / "run") == weights(here / "whole")
    assert capsys.readouterr().out == ""


def test_no_time_is_one_step_and_then_it_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        assert run(*arguments("part", "--max-minutes", "0")) == 0
        assert f"part: stopped at step {step}; run the same command again" in capsys.readouterr().out
        assert not (here / "part" / "report.html").exists()
    assert run(*arguments("part", "--max-minutes", "0")) == 0
    assert run(*arguments("whole")) == 0
    assert weights(here / "part") == weights(here / "whole")
    page = (here / "part" / "report.html").read_text()
    assert "rotation" in page and "broken.jpg" in page
    (here / "part" / "report.html").unlink()
    assert run(*arguments("part")) == 0  # nothing is left but the page
    assert (here / "part" / "report.html").exists()
    assert load(here / "part", device="cpu").embedder is not None


def test_a_video_is_a_source_of_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(here / "a.mp4", 48, 32, Fraction(8)) as writer:
        for _ in range(8):
            writer.write(rng.integers(0, 255, (4, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1))
    command = arguments("run", "data.rate=4", "data.cache=frames", data="a.mp4", steps=1)
    assert run(*command, "--threads", "1") == 0
    told = capsys.readouterr().err
    assert "decoded 1 of 1 files" in told and "Warning: the whole run is warm-up (optimizer.steps=1," in told
    assert len(list((here / "frames").glob("*.npy"))) == 1
    assert load_method(here / "run")[1].data.rate == 4


@pytest.mark.parametrize(
    ("side", "told"),
    [(16, ""), (24, ""), (32, "32: with data.size=20 they are"), (48, "48: with data.size=20")],
)
def test_images_that_are_enlarged_are_told(
    here: Path, side: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments("run", f"data.size={side}", steps=2)) == 0  # the photos have 20 x 25 pixels
    errors = capsys.readouterr().err
    if told:
        assert f"Warning: half of the images have 20 pixels or fewer, and are enlarged to {told}" in errors
    else:
        assert "enlarged" not in errors


def test_of_several_processes_one_talks(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")  # as torchrun sets it
    assert run(*arguments("run", steps=1)) == 0
    assert capsys.readouterr() == ("", "")
    assert not (here / "run" / "report.html").exists()


MINE = "method: moco\nmoco:\n  momentum: 0.5\n"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["optimizer.step=3"], "did you mean optimizer.steps?"),
        (["rotation.flips=1"], "did you mean rotation.flip?"),
        (["optimizer.steps=many"], "optimizer.steps: Input should be a valid integer"),
        (["data.size=2"], "data.size: Input should be greater than or equal to 8"),
        (["data.size=15"], "15 pixels don't consist of whole patches of 8"),
        (["data.stored=8"], "data.stored=8 is smaller than data.size=16"),
        (["method=moco"], "method=moco and rotation are two methods"),
        (["engine"], "'engine' is not an override"),
        (["--data", "nowhere"], "nowhere is missing"),
        (["--data", "empty"], "empty holds no images and no videos"),
        (["--data", "photos/broken.jpg"], "is no tar file and no video"),
        (["--config", "pretrain/none"], "pretrain/rotation"),
        (["--config", "track/laptop"], "config track/laptop is one of vidtrack train"),
        (["--config", "pretrain/simclr"], "config pretrain/simclr is for the method simclr, not rotation"),
        (["--config", "mine.yaml"], "config mine.yaml is for the method moco, not rotation"),
        (["--config", "list.yaml"], "must hold `key: value` lines"),
        (["--config", "broken.yaml"], "is not valid YAML"),
        (["--config", "photos/0.png"], "is not valid YAML"),
        (["backbone.arch=resnet18", "backbone.patch=null", "optimizer.batch=1"], None),
        (["backbone.arch=resnet19"], "resnet19"),
        (["optimizer.batch=7"], "there are only 6 images, fewer than a batch of 7"),
        (["--out", "photos"], "photos exists and holds no run"),
        (["--device", "gpu"], "--device gpu is unknown"),
    ],
)
def test_mistakes_are_one_sentence(
    here: Path, more: list[str], sentence: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    (here / "mine.yaml").write_text(MINE)
    (here / "list.yaml").write_text("- 1\n")
    (here / "broken.yaml").write_text("a: [\n")
    assert run(*arguments("run", *more)) == 2
    shown, errors = capsys.readouterr()
    assert (sentence or "optimizer.batch=1 is too small for batch norm") in errors
    errors = errors.replace("decoded 7 of 7 files\n", "")
    assert errors.startswith("Error: ") and errors.count("\n") == 1 and not shown
    assert not (here / "run" / "last.ckpt").exists()
    assert run(*arguments("run", "--quiet", steps=1)) == 0  # nothing stands in the way of the corrected one


@pytest.mark.parametrize(("method", "says"), [("moko", "did you mean moco?"), ("x", "choose one of simclr,")])
def test_unknown_methods(here: Path, method: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pretrain", method, "--data", "photos", "--out", "run") == 2
    errors = capsys.readouterr().err
    assert says in errors and errors.count("\n") == 1
    assert not (here / "run").exists()


def test_an_own_config_needs_no_method(here: Path) -> None:
    (here / "own.yaml").write_text("data:\n  limit: 3\nrotation:\n  flip: 0\n")
    assert run(*arguments("run", "--config", "own.yaml", steps=1)) == 0
    _, config = load_method(here / "run")
    assert config.method == "rotation" and config.of_method().flip == 0 and config.data.limit == 3
    assert '"images": 2,' in (here / "run" / "images.json").read_text()  # one is broken
