"""Room on the disk as the backward pass really takes it, and progress in both directions."""

from pathlib import Path
from typing import Any

import pytest

from vidtrack.job import Plan, expect
from vidtrack.job.annotate import Annotations
from vidtrack.job.expect import Meter, backward_lengths, clock, laid_aside_bytes
from vidtrack.job.run import _Run
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.passes import _Laid
from vidtrack.tracker import Tracker
from vidtrack.video import probe

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
