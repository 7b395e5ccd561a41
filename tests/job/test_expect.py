"""Room on the disk as the backward pass really takes it, and progress in both directions."""

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtrack.job import Plan, expect
from vidtrack.job.annotate import Annotations
from vidtrack.job.expect import Meter, backward_lengths, clock, laid_aside_bytes, memory_bound_mb, stated
from vidtrack.job.run import _Run
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.passes import _Laid
from vidtrack.tracker import Tracker, load
from vidtrack.video import VideoWriter, probe

from .conftest import labels


@pytest.mark.parametrize("kind", [Masks, Keypoints, Boxes, Maps])
def test_room_for_the_backward_pass(
    clip: Path, lab: Tracker, tmp_path: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    put = _Laid.put

    def measured(self: _Laid, index: int, carried: Any) -> None:
        put(self, index, carried)
        sizes.append((self._folder / f"{index}.npz").stat().st_size)

    monkeypatch.setattr(_Laid, "put", measured)
    annotations = {10: labels(kind, 10)}
    list(lab.propagate(clip, annotations, direction="backward"))
    run = _Run(Annotations(annotations, {}), lab, tmp_path / "o", Plan(), probe(clip), None, None)
    expected = laid_aside_bytes(run.about, [10])
    assert sum(sizes) * 0.8 <= expected <= sum(sizes) * 1.6
    assert laid_aside_bytes(run.about, []) == 0


def test_lengths() -> None:
    assert backward_lengths([(None, 4), (4, 9), (9, None)], 1) == [3, 4]


def test_the_estimate_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(expect.time, "perf_counter", lambda: now[0])
    lines: list[str] = []
    meter = Meter(100, 20, None, lines.append)
    for _ in range(20):
        meter.result(computed=False)
    for _ in range(40):
        now[0] += 0.5
        meter.result(computed=True)
    assert len(lines) == 1 and lines[0].startswith("expected: 0:40 min") and "at 2.0 frames/s" in lines[0]


def test_clock() -> None:
    assert (clock(59.6), clock(61), clock(3723)) == ("1:00 min", "1:01 min", "1:02:03")


@pytest.mark.parametrize(("size", "direction"), [((120, 160), "both"), ((360, 640), "forward")])
def test_the_memory_that_is_stated_is_kept_to(tmp_path: Path, size: tuple[int, int], direction: str) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "video.mp4", size[1], size[0], Fraction(25)) as writer:
        for _ in range(12):
            writer.write(rng.integers(0, 255, (*size, 3), np.uint8))
    mask = np.zeros(size, np.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    Masks(mask).save(tmp_path / "mask.png")
    command = [sys.executable, "-m", "vidtrack.cli", "propagate", "video.mp4", "--mask", "0=mask.png"]
    command += ["--mask", "11=mask.png"] if direction == "both" else []
    done = subprocess.run(
        [*command, "--direction", direction], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told, *_ = re.findall(r"expected: at most ([\d.]+) GB of memory", done.stdout)
    report = json.loads((tmp_path / "video_vidtrack/report.json").read_text())
    assert 0.5 * float(told) < report["peak_memory_mb"] / 1000 <= float(told)


def test_a_bound_is_rounded_up() -> None:
    assert [stated(mb) for mb in (800, 801, 849, 1999.9)] == [
        f"at most {gb} GB" for gb in (0.8, 0.9, 0.9, 2.0)
    ]


def test_no_bound_is_stated_for_other_trackers() -> None:
    assert memory_bound_mb(load("lab"), (480, 854)) is None
    assert memory_bound_mb(load(preset="crw"), (480, 854)) is None
    tracker = load(device="cpu")
    small, large = (memory_bound_mb(tracker, size) or 0 for size in ((480, 854), (1080, 1920)))
    assert 0 < small < large < small + 600
    assert (memory_bound_mb(tracker, (480, 854), both=True) or 0) > small
