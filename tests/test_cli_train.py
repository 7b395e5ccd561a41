"""`vidtrack train` as users type it: shown progress, Ctrl-C, the same command again, the tracker used."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pretrain.config import load_config
from vidtrack.files import bundled_configs
from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.train import train
from vidtrack.video import VideoWriter

VIDTRACK = [sys.executable, "-m", "vidtrack.cli"]
TINY = [
    *("data.short_side=32", "clips.crop=32", "clips.frames=2", "anchors.grid=2", "anchors.cross_grid=2"),
    *("model.head=[8, 8]", "optimizer.batch=1", "optimizer.warmup_steps=1", "engine.log_every=1"),
]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with VideoWriter(folder / "a.mp4", 48, 40, Fraction(6)) as writer:
        for _ in range(8):
            writer.write(rng.integers(0, 255, (5, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1))
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def test_interrupted_resumed_and_used(videos: Path, tmp_path: Path) -> None:
    command = [*VIDTRACK, "train", "--data", "videos", "--out", "run", *TINY, "optimizer.steps=60"]
    log = tmp_path / "run" / "log.jsonl"
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    assert "loss" in shown and "clips/s" in shown
    assert (tmp_path / "run" / "last.ckpt").exists()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "broken.mp4 was skipped" in done.stderr
    steps = [line.split('"step": ')[1].split(",")[0] for line in log.read_text().splitlines()]
    assert steps == [str(n) for n in range(1, 61)]  # no step twice, none left out
    assert (tmp_path / "run" / "tracker.safetensors").exists()
    told = subprocess.run(
        [*VIDTRACK, "info", "videos/a.mp4", "--tracker", "run/tracker.safetensors"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert told.returncode == 0, told.stderr


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the weights and the log of a run that was left alone."""
    changes = [*TINY, "optimizer.steps=12", "engine.checkpoint_minutes=0.001"]
    words = [*VIDTRACK, "train", "--data", "videos", "--out", "killed", *changes, "--quiet", "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "killed" / "log.jsonl"
    process = subprocess.Popen(words, cwd=tmp_path, env=environment)
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 4):
        time.sleep(0.005)
    process.kill()
    assert process.wait() != 0, "it was over too soon"
    with log.open("a") as file:  # what a kill can leave
        file.write('{"step": 99, "loss": 1.0}\n{"st')
    assert (tmp_path / "killed" / "last.ckpt").is_file()
    subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, 13))

    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(Path("videos"), load_config(TrackConfig, "track/small", changes, bundled_configs()), Path("alone"))
    torch.set_num_threads(threads)
    one, other = (load_file(tmp_path / out / "tracker.safetensors") for out in ("killed", "alone"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "track/none"], "track/default"),
        (["--config", "track/laptp"], "there is no config 'track/laptp'; did you mean track/laptop?"),
        (["optimizer.step=3"], "did you mean optimizer.steps?"),
        (["objectives.lba=1"], "there is no key objectives.lba; did you mean objectives.lab?"),
        (["objectives={cycles: 1}"], "there is no key objectives.cycles; did you mean objectives.cycle?"),
        (["objectives.anchors=0"], "objectives.anchors: Input should be greater than 0"),
        (["objectives={}"], "objectives: give one of anchors, quantized, lab, cycle a weight (got {})"),
        (["--data", "nowhere"], "there is no folder or video nowhere"),
        (["clips.crop=20", "data.short_side=32"], "multiple of 8"),
        (["clips.crop=0"], "clips.crop: Input should be greater than or equal to 16"),
        (["clips.frames=1"], "clips.frames: Input should be greater than or equal to 2"),
        (["data.rate=nan"], "data.rate"),
        (["data.cache_gb=-1"], "data.cache_gb: Input should be greater than 0"),
        (["optimizer.learning_rate=inf"], "optimizer.learning_rate: Input should be a finite number"),
        (["clips.crop=64", "data.short_side=32"], "larger than data.short_side=32"),
        (
            ["validation.davis.data=nowhere", "optimizer.steps=1", "optimizer.warmup_steps=0"],
            "nowhere is missing",
        ),
    ],
)
def test_mistakes(
    videos: Path,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vidtrack.cli import app

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app(["train", "--data", "videos", "--out", "run", *arguments])
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in errors and errors.count("\n") == 1
    assert not (tmp_path / "run").exists()
