"""A camera as the source of a run: numbering, latency, and Ctrl-C as its end."""

import os
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.job import LiveSource, Plan, propagate_live
from vidtrack.job.records import Records
from vidtrack.tracker import Tracker
from vidtrack.video import Frame, VideoInfo

from .conftest import masks


class Camera:
    """A `LiveReader` that drops every second frame, and presses Ctrl-C before frame `press`."""

    press: int | None = None

    def __init__(self, source: str) -> None:
        self.warnings: list[str] = []
        self.dropped, self.closed = 0, False
        self.info = VideoInfo(Path("0"), "live", 64, 48, Fraction(30), None, None, "raw", 0, True)

    def __iter__(self) -> Iterator[Frame]:
        for n in range(0, 40, 2):
            if n // 2 == self.press:
                os.kill(os.getpid(), signal.SIGINT)
                while not self.closed:
                    time.sleep(0.01)
                return
            image = np.full((48, 64, 3), 90, np.uint8)
            image[masks(min(n, 10)).ids > 0] = (200, 40, 40)
            self.dropped += 1
            yield Frame(n, Fraction(n, 30), image, False, f"{n:05d}", captured=time.monotonic() - 0.25)

    def latency(self, frame: Frame) -> float:
        assert frame.captured is not None
        return time.monotonic() - frame.captured

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidtrack.job.live.LiveReader", Camera)
    monkeypatch.setattr(Camera, "press", None)


@pytest.mark.parametrize(("press", "end", "count"), [(None, None, 20), (None, 6, 6), (5, None, 5)])
def test_results_are_complete_however_it_ends(
    lab: Tracker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    press: int | None,
    end: int | None,
    count: int,
) -> None:
    monkeypatch.setattr(Camera, "press", press)
    before = signal.getsignal(signal.SIGINT)
    source = LiveSource("0", end)
    report = propagate_live(source, {0: masks(0)}, lab, tmp_path / "out", Plan(end=end))
    assert signal.getsignal(signal.SIGINT) is before
    assert report["frame_count"] == count
    names = sorted(p.name for p in (tmp_path / "out" / "masks").iterdir())
    assert names == [f"{n:05d}.png" for n in range(count)]
    assert (tmp_path / "out" / "overlay.mp4").is_file()
    live = report["live"]
    assert 250 <= live["mean_latency_ms"] <= live["max_latency_ms"] < 5000
    assert live["dropped_frames"] == count
    assert [r["time"] for r in Records(tmp_path / "out").all()] == [round(n / 15, 6) for n in range(count)]


def test_a_frame_is_labelled_before_the_next_is_waited_for(
    lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, asked = [0], []
    frames = Camera.__iter__

    def watched(camera: Camera) -> Iterator[Frame]:
        for frame in frames(camera):
            asked.append(done[0])
            yield frame

    def progress(now: int, total: int | None) -> None:
        done[0] = now

    monkeypatch.setattr(Camera, "__iter__", watched)
    propagate_live(LiveSource("0", 6), {0: masks(0)}, lab, tmp_path / "out", Plan(end=6), progress=progress)
    assert asked == [0, 1, 2, 3, 4, 5]


def test_what_a_camera_cannot_do(lab: Tracker, tmp_path: Path) -> None:
    for annotations, plan in (({0: masks(0)}, Plan("both")), ({3: masks(0)}, Plan())):
        with pytest.raises(InputError, match="goes forward from its first frame"):
            propagate_live(LiveSource("0"), annotations, lab, tmp_path / "out", plan)
    assert list(tmp_path.iterdir()) == []
