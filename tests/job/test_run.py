"""Runs, corrections of them, and runs that were stopped: always the result of one run, bit for bit."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.given import DIRECTIONS
from vidtrack.job import Plan, propagate_video
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.tracker import Tracker
from vidtrack.video import VideoInfo, VideoReader, save_png

from .conftest import FRAMES, labels, masks

VOLATILE = ("seconds", "frames_per_second", "peak_memory_mb", "computed_frames")
KINDS = (Masks, Keypoints, Boxes, Maps)


class Pictures:
    """Stands for VideoWriter: keeps the pictures exactly. FFmpeg rounds them differently at times."""

    warnings: ClassVar[list[str]] = []

    def __init__(self, path: Path) -> None:
        self.path, self.images = path, list[np.ndarray]()

    @classmethod
    def like(cls, path: Path, info: VideoInfo) -> Self:
        return cls(path)

    def write(self, image: np.ndarray, time: Fraction) -> None:
        self.images.append(image)

    def close(self) -> None:
        with self.path.open("wb") as stream:
            np.save(stream, np.stack(self.images))

    def __exit__(self, *error: object) -> None:
        self.images.clear()


@pytest.fixture(autouse=True)
def exact_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidtrack.job.writer.VideoWriter", Pictures)


def content(folder: Path) -> dict[str, Any]:
    """All files of a folder by name, and what the report tells beside times."""
    files: dict[str, Any] = {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
    report = json.loads(files.pop("report.json"))
    files.pop("cutout.webm", None)
    return {**files, "report": {key: value for key, value in report.items() if key not in VOLATILE}}


def differences(a: Path, b: Path) -> list[str]:
    """Names of the files that differ."""
    one, two = content(a), content(b)
    return [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]


class Stop:
    """A progress callback that presses Ctrl-C once `frame` results were handed over."""

    def __init__(self, frame: int) -> None:
        self.frame = frame

    def __call__(self, done: int, total: int | None) -> None:
        if done == self.frame:
            raise KeyboardInterrupt


FILES = {
    Masks: ["masks"],
    Keypoints: ["deeplabcut.csv", "keypoints.csv", "keypoints.json"],
    Boxes: ["boxes.csv"],
    Maps: ["maps"],
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_correction_gives_what_a_fresh_run_gives(
    clip: Path, lab: Tracker, tmp_path: Path, kind: type[Any], direction: Any
) -> None:
    first = {n: labels(kind, n) for n in (2, 6)}
    propagate_video(clip, first, lab, tmp_path / "out", Plan(direction))
    shown = sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith("."))
    assert shown == sorted([*FILES[kind], "overlay.mp4", "report.json", "report.png"])
    before = content(tmp_path / "out")
    more = {2: first[2], 6: first[6], 10: labels(kind, 10, off=1)}
    report = propagate_video(clip, more, lab, tmp_path / "out", Plan(direction, overwrite=True))
    fresh = propagate_video(clip, more, lab, tmp_path / "fresh", Plan(direction))
    assert differences(tmp_path / "out", tmp_path / "fresh") == []
    unreached = {"forward": 2, "backward": 3, "both": 0}[direction]  # 0, 1; 11, 12, 13
    assert fresh["computed_frames"] == FRAMES - 3 - unreached
    assert len(fresh["warnings"]) == (direction != "both")
    # 7, 8, 9, and where labels go on from the last annotation 11, 12, 13; not 0, 1 and 3, 4, 5
    assert report["computed_frames"] == (3 if direction == "backward" else 3 + 3)
    # ... and without it again: the old result comes back.
    propagate_video(clip, first, lab, tmp_path / "out", Plan(direction, overwrite=True))
    assert content(tmp_path / "out") == before


def test_annotations_that_are_not_given_again_are_told(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    told: list[str] = []
    for numbers in ((0, 2, 6), (2,), (2, 6)):
        given = {n: masks(n) for n in numbers}
        propagate_video(clip, given, lab, tmp_path / "out", Plan(overwrite=True), tell=told.append)
    lines = [line for line in told if line.startswith("Warning")]
    assert len(lines) == 1
    assert "out was also annotated at frames 0, 6, which this call leaves out" in lines[0]
    other = tmp_path / "other"
    for number in range(4):
        save_png(other / f"{number}.png", np.full((48, 64, 3), 50 * number, np.uint8))
    told.clear()
    propagate_video(other, {2: masks(2)}, lab, tmp_path / "out", Plan(overwrite=True), tell=told.append)
    assert "Warning: out holds the result of another video, or of this one as it was" in told[0]


def test_the_frames_between_unchanged_annotations_are_read_not_computed(
    clip: Path, lab: Tracker, tmp_path: Path
) -> None:
    annotations = {n: masks(n) for n in (0, 6)}
    propagate_video(clip, annotations, lab, tmp_path / "out")
    for index, place in ((3, 3), (9, 5)):  # a mark in a frame before, and in one after the second annotation
        path = tmp_path / "out" / "masks" / f"{index:05d}.png"
        marked = masks(0, ())
        marked.ids[place, place] = 1
        marked.save(path, overwrite=True)
    changed = {0: annotations[0], 6: masks(7)}
    propagate_video(clip, {**changed, 0: masks(0)}, lab, tmp_path / "out", Plan(overwrite=True))
    found = [np.array(read(tmp_path / "out", n)) for n in (3, 9)]
    assert found[0].sum() > 1 and found[1].sum() > 1  # both have 6 as a neighbour
    changed[10] = masks(10)
    (tmp_path / "out" / "masks" / "00003.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"00003.png can't be read"):
        propagate_video(clip, changed, lab, tmp_path / "out", Plan(overwrite=True))
    (tmp_path / "out" / "masks" / "00003.png").unlink()  # then the stretch is computed again
    report = propagate_video(clip, changed, lab, tmp_path / "out", Plan(overwrite=True))
    assert report["computed_frames"] == FRAMES - 3
    propagate_video(clip, changed, lab, tmp_path / "fresh")
    assert differences(tmp_path / "out", tmp_path / "fresh") == []


def read(out: Path, index: int) -> np.ndarray:
    return Masks.load(out / "masks" / f"{index:05d}.png").ids


CHANGES: dict[str, dict[str, Any]] = {
    "direction": {"direction": "both"},
    "start": {"start": 1},
    "end": {"end": 13},
    "soft maps": {"saves": frozenset({"npz"})},
}


@pytest.mark.parametrize("what", [*CHANGES, "object", "settings", "video"])
def test_whatever_decides_the_result_makes_it_new(
    clip: Path, lab: Tracker, tmp_path: Path, what: str
) -> None:
    video = Path(shutil.copy(clip, tmp_path / "video.mp4"))
    annotations = {2: masks(2), 6: masks(6)}
    propagate_video(video, annotations, lab, tmp_path / "out")
    tracker = lab
    if what == "object":
        annotations[10] = masks(10)
        annotations[10].ids[0, 0] = 9
    elif what == "settings":
        tracker = Tracker("lab", lab.embedder, lab.settings.model_copy(update={"topk": 3}))
    elif what == "video":
        with video.open("ab") as stream:
            stream.write(b"\0" * 8)
    plan = Plan(**{"overwrite": True, **CHANGES.get(what, {})})
    report = propagate_video(video, annotations, tracker, tmp_path / "out", plan)
    unreached = 0 if plan.direction == "both" else min(annotations) - plan.start
    assert report["computed_frames"] == report["frame_count"] - len(annotations) - unreached


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_stopped_run_goes_on(
    clip: Path, lab: Tracker, tmp_path: Path, kind: type[Any], direction: Any
) -> None:
    annotations = {n: labels(kind, n) for n in (0, 4, 8)}
    plan = Plan(direction)
    propagate_video(clip, annotations, lab, tmp_path / "fresh", plan)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match=r"go on; what is done is kept in out\.partial"):
        propagate_video(clip, annotations, lab, out, plan, progress=Stop(11))
    assert not out.exists() and (tmp_path / "out.partial").is_dir()
    told: list[str] = []
    report = propagate_video(clip, annotations, lab, out, plan, tell=told.append)
    assert "going on from out.partial" in " ".join(told)
    assert report["computed_frames"] < FRAMES - 3
    assert differences(out, tmp_path / "fresh") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh", "out"]


def test_a_run_without_a_finished_stretch_leaves_nothing(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="start over"):
        propagate_video(clip, {0: masks(0)}, lab, tmp_path / "out", progress=Stop(9))
    with pytest.raises(InputError, match="no frame 99"):
        propagate_video(clip, {0: masks(0), 99: masks(0)}, lab, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_goes_on_with_other_annotations(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    """kill -9 in the middle, a correction of the stopped run, a kill again, and the end."""
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from conftest import masks\n"
        "from vidtrack.job import Plan, propagate_video\n"
        "from vidtrack.tracker import load\n"
        "stop = int(sys.argv[2])\n"
        "def progress(done, total):\n"
        "    if done == stop: import time; time.sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)\n"
        "tracker = load('lab', device='cpu', size=None)\n"
        "plan = Plan(saves=frozenset({'rle', 'cutout', 'cutout-png'}))\n"
        "annotations = {0: masks(0), 4: masks(4), 8: masks(8 + (stop == 13))}\n"
        "propagate_video(Path(sys.argv[1]), annotations, tracker, Path('out'), plan, progress=progress)"
    )
    path = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    for stop in (11, 13):
        command = [sys.executable, "-c", code, str(clip), str(stop), *path]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert (tmp_path / "out.partial").is_dir() and not (tmp_path / "out").exists()
    (tmp_path / "out.partial" / "masks" / ".00009.partial-1.png").write_text("half")
    saves = frozenset({"rle", "cutout", "cutout-png"})
    annotations = {0: masks(0), 4: masks(4), 8: masks(9)}
    report = propagate_video(clip, annotations, lab, tmp_path / "out", Plan(saves=saves))
    assert report["computed_frames"] == FRAMES - 3 - 3 - 3
    propagate_video(clip, annotations, lab, tmp_path / "fresh", Plan(saves=saves))
    assert differences(tmp_path / "out", tmp_path / "fresh") == []


def test_two_runs_never_write_into_one_folder(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    def again(done: int, total: int | None) -> None:
        if done == 3:
            with pytest.raises(InputError, match=r"another run is writing .*out\.partial"):
                propagate_video(clip, {0: masks(0)}, lab, tmp_path / "out")

    report = propagate_video(clip, {0: masks(0)}, lab, tmp_path / "out", progress=again)
    assert report["frame_count"] == FRAMES
    assert not (tmp_path / "out" / ".lock").exists()


def test_a_folder_of_the_user_is_left_alone(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "photo.png").write_text("mine")
    with pytest.raises(InputError, match="did not write"):
        propagate_video(clip, {0: masks(0)}, lab, tmp_path / "out")
    assert (tmp_path / "out.partial" / "photo.png").read_text() == "mine"


def test_frames_that_no_annotation_reaches_have_the_same_layout(
    clip: Path, lab: Tracker, tmp_path: Path
) -> None:
    propagate_video(clip, {5: labels(Keypoints, 5)}, lab, tmp_path / "k")
    points = Keypoints.load(tmp_path / "k" / "keypoints.csv")
    assert len(points) == FRAMES and np.isnan(points[0].xy).all() and points[0].xy.shape == (1, 3, 2)
    assert np.isfinite(points[9].xy[0, :2]).all() and np.isnan(points[9].xy[0, 2]).all()
    for name in ("keypoints.json", "deeplabcut.csv"):
        found = Keypoints.load(tmp_path / "k" / name)
        assert np.array_equal(found[9].xy, points[9].xy, equal_nan=True)
    propagate_video(clip, {5: labels(Maps, 5)}, lab, tmp_path / "m")
    early, late = (np.load(tmp_path / "m" / "maps" / f"{n:05d}.npy") for n in (0, 9))
    assert early.shape == late.shape == (48, 64, 2) and np.isnan(early).all() and np.isfinite(late).any()
    propagate_video(clip, {5: labels(Boxes, 5)}, lab, tmp_path / "b")
    assert min(Boxes.load(tmp_path / "b" / "boxes.csv")) == 5


def test_the_report_and_the_overlay(
    clip: Path, lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("vidtrack.job.run.NOTICED", 0)
    told: list[str] = []
    seen: list[tuple[int, int | None]] = []
    annotations = {0: masks(0), 10: masks(10, (1,))}
    report = propagate_video(
        *(clip, annotations, lab, tmp_path / "out", Plan("both", cache_bytes=10**8)),
        progress=lambda done, total: seen.append((done, total)),
        tell=told.append,
    )
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["schema"], report["direction"], report["kind"]) == (2, "both", "masks")
    assert set(report["annotations"]) == {"0", "10"}
    assert report["annotations"]["0"]["labels_sha256"] != report["annotations"]["10"]["labels_sha256"]
    assert report["objects"] == {"1": {"name": "red", "color": None}, "7": {"name": None, "color": None}}
    assert [f["index"] for f in report["frames"]] == list(range(FRAMES))
    assert all(0 < o["confidence"] <= 1 for f in report["frames"] for o in f["objects"].values())
    assert not report["warnings"]  # object 7 is not lost: frame 10 says that it is gone
    assert seen[-1] == (FRAMES + 9, FRAMES + 9) and [d for d, _ in seen] == list(range(1, FRAMES + 10))
    assert "14 frames of 64 x 48, masks of 2 objects, both from 2 annotated frames" in told[0]
    assert "temporary files" in told[1] and told[-1].startswith("writing ")
    drawn = np.load(tmp_path / "out" / "overlay.mp4").astype(int)
    assert len(drawn) == FRAMES
    with VideoReader(clip) as reader:
        original = [frame.image for frame in reader]
    changed = np.abs(drawn[0] - original[0]).max(axis=-1) > 60
    assert changed[masks(0).ids > 0].mean() > 0.5 and changed[masks(0).ids == 0].mean() < 0.1


def test_lost_points_are_blank(
    clip: Path, lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidtrack.propagate.points.LOST", 2.0)  # so that all are
    given = replace(labels(Keypoints, 0), confidence=np.float32([[0, 0.5, 0]]))
    propagate_video(clip, {0: given}, lab, tmp_path / "k", Plan(end=3))
    for name in ("keypoints.csv", "keypoints.json", "deeplabcut.csv"):
        found = Keypoints.load(tmp_path / "k" / name)
        assert found[0].labelled.tolist() == [[True, True, False]], name  # as annotated
        assert not any(found[n].labelled.any() for n in (1, 2) if n in found), name


def test_nothing_to_carry_is_told(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    for count, warned in ((3, True), (2, False)):
        told: list[str] = []
        given = {n: labels(Boxes, n) for n in range(count)}
        propagate_video(clip, given, lab, tmp_path / str(count), Plan(end=3), tell=told.append)
        assert any("every frame is annotated" in line for line in told) == warned


def test_a_box_that_appears_later(clip: Path, lab: Tracker, tmp_path: Path) -> None:
    """Both passes know all objects, so that they can be joined, and each appears with its annotation."""
    annotations = {0: labels(Boxes, 0), 8: labels(Boxes, 8)}
    for n in (0, 8):
        annotations[n].ids = (1, 2) if n else (1, 3)
    for direction in DIRECTIONS:
        propagate_video(clip, annotations, lab, tmp_path / direction, Plan(direction))
        found = Boxes.load(tmp_path / direction / "boxes.csv")
        assert 1 in found[4].ids and set(found[0].ids) == {1, 3} and set(found[8].ids) == {1, 2}
        wanted = {"forward": {1, 3}, "backward": {1, 2}, "both": {1, 2, 3}}[direction]
        assert all(set(found[n].ids) == wanted for n in range(3, 7))


def test_too_little_room_for_the_backward_pass(
    clip: Path, lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 99))
    with pytest.raises(InputError, match=r"the backward pass needs .* TMPDIR"):
        propagate_video(clip, {9: masks(9)}, lab, tmp_path / "out", Plan("backward"))
    assert list(tmp_path.iterdir()) == []


def test_the_cache_changes_nothing_but_the_time(
    clip: Path, lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path / "cache"))
    plan = Plan("both", cache_bytes=10**8)
    annotations = {3: masks(3), 9: masks(9)}
    for name, chosen in (("plain", Plan("both")), ("first", plan), ("second", plan)):
        propagate_video(clip, annotations, lab, tmp_path / name, chosen)
    assert differences(tmp_path / "plain", tmp_path / "first") == []
    assert differences(tmp_path / "first", tmp_path / "second") == []
    assert len(list((tmp_path / "cache").rglob("*.bin"))) == FRAMES


def test_copying_is_a_tracker_too(clip: Path, tmp_path: Path) -> None:
    from vidtrack.tracker import load

    report = propagate_video(clip, {0: masks(0)}, load("copy"), tmp_path / "out", Plan("both"))
    assert report["frame_count"] == FRAMES and np.array_equal(read(tmp_path / "out", 13), masks(0).ids)
