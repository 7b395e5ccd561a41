"""Kills, Ctrl-C, two runs at once, full disks and dead workers: clear words, nothing lost, nothing left."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from pretrain.lock import locked
from vidtrack.job import Plan, propagate_video
from vidtrack.job.writer import ResultWriter
from vidtrack.labels import Masks
from vidtrack.tracker import load
from vidtrack.video.source import FileSource

from .faults import Job, Nursery, contents, kill_rounds
from .inputs import COMMANDS, ids

KILLED = ("propagate", "train", "pretrain", "benchmark", "adapt")


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_command_ends_as_one_that_was_not(name: str, folder: Path, nursery: Nursery) -> None:
    counts = kill_rounds(name, folder, seed=0, rounds=1, nursery=nursery, most=1)
    assert counts.faults == [] and counts.hangs == 0 and counts.rounds == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_two_runs_never_share_an_output(name: str, folder: Path, nursery: Nursery) -> None:
    command = COMMANDS[name]
    out = folder / f"second-{command.out}"
    argv = [str(out) if word == command.out else word for word in command.argv]
    lock = out.with_name(f".{out.name}.lock")
    if not command.whole:
        out.mkdir()
        lock = out / ".lock"
    with locked(lock, out):
        (ended,) = nursery.run(Job(argv))
    assert ended.code == 2, ended.said
    assert "another run is writing" in ended.said and out.name in ended.said
    assert f"wait for its end (process {os.getpid()} on {socket.gethostname()}), or" in ended.said
    assert ended.said.count("\n") == 1 and not contents(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_says_how_to_go_on(
    name: str, number: int, folder: Path, nursery: Nursery
) -> None:
    """At a moment that is early for all of them; a run that was done before is none."""
    command = COMMANDS[name]
    argv = [f"stopped-{word}" if word == command.out else word for word in command.argv]
    out = folder / f"stopped-{command.out}"
    (ended,) = nursery.run(Job(argv, after=0.15, signal=number))
    assert ended.code == 130, ended.said
    assert ended.said.startswith("interrupted: run the same command again to ")
    assert ended.said.count("\n") == 1
    if command.whole:
        assert not out.exists()
    left = [path.name for path in folder.glob(f".{out.name}*")]
    assert left == [] or (folder / f"{out.name}.partial").is_dir()


def test_a_second_interruption_ends_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from vidtrack.commands.shared import told\n"
        "with told('go on.'):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaning', flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 130 and done.stdout == "cleaning\n"
    assert done.stderr == "interrupted twice, ended at once: go on.\n"


def test_an_interruption_that_python_drops_comes_again(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time, typer\n"
        "from vidtrack.commands.shared import told\n"
        "class Tidy:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(1)\n"
        "try:\n"
        "    with told('go on.'):\n"
        "        Tidy()\n"
        "        time.sleep(60)\n"
        "except typer.Exit as end:\n"
        "    sys.exit(end.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.stderr, done.returncode) == ("interrupted: go on.\n", 130)


@pytest.mark.parametrize("place", ["writer", "reader", "full disk"])
def test_a_thread_that_fails_ends_the_run(
    place: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a hang nor half a result; what was finished between annotations is kept, and used."""
    broken = True
    real_write, real_read = ResultWriter._write, FileSource.frames

    def write(self: ResultWriter, item: Any) -> None:
        if broken and place != "reader" and item[0].index == 7:
            full = OSError(errno.ENOSPC, "No space left on device", "out.partial/masks/00007.png")
            raise full if place == "full disk" else RuntimeError("writer")
        real_write(self, item)

    def read(*given: Any) -> Iterator[Any]:
        for frame in real_read(*given):
            if broken and place == "reader" and frame.index == 7:
                raise RuntimeError("reader")
            yield frame

    monkeypatch.setattr(ResultWriter, "_write", write)
    monkeypatch.setattr(FileSource, "frames", read)
    given = {t: Masks(ids(t)) for t in (0, 5, 10)}
    tracker = load("lab", device="cpu", size=None)
    out, threads = tmp_path / "out", threading.active_count()
    with pytest.raises((RuntimeError, InputError), match=place if place != "full disk" else "No space left"):
        propagate_video(folder / "made/video.mp4", given, tracker, out, Plan())
    assert not out.exists() and (tmp_path / "out.partial").is_dir()
    assert threading.active_count() <= threads + 1  # that of embeddings may take a moment
    broken = False
    report = propagate_video(folder / "made/video.mp4", given, tracker, out, Plan())
    assert report["computed_frames"] == 7  # frames 1 to 4 are known
    assert np.array_equal(Masks.load(out / "masks/00010.png").ids, ids(10))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_full_disk_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    from vidtrack.commands.shared import told

    with pytest.raises(typer.Exit) as ended, told("go on."):
        raise OSError(errno.ENOSPC, "No space left on device", "out.partial/a.png")
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "Error: the disk of out.partial/a.png is full: make room, then go on.\n"
