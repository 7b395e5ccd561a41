"""What a run does about damaged frames: repeat, skip, stop; nothing is lost without a word."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.given import DIRECTIONS, Direction
from vidtrack.job import Plan, propagate_video
from vidtrack.job.outputs.masks import MaskOutput
from vidtrack.job.records import NAME
from vidtrack.job.report import summary
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.tolerance import Tolerance
from vidtrack.tracker import Tracker, load
from vidtrack.video import Damage, VideoReader, save_png

from ..video.conftest import doubtful_video, encode_video
from .conftest import FRAMES, labels, masks

DAMAGED = 6


@pytest.fixture(scope="module")
def frames(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as a folder of frames, all of them whole."""
    folder = tmp_path_factory.mktemp("damage") / "frames"
    with VideoReader(clip) as reader:
        for frame in reader:
            save_png(folder / f"{frame.name}.png", frame.image)
    return folder


def damaged(frames: Path, where: Path, *numbers: int) -> Path:
    """A copy of the folder in which some frames can't be decoded."""
    shutil.copytree(frames, where)
    for number in numbers or (DAMAGED,):
        (where / f"{number:05d}.png").write_bytes(b"no picture")
    return where


@pytest.fixture(scope="module")
def broken(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip with one damaged frame."""
    return damaged(frames, tmp_path_factory.mktemp("broken") / "frames")


@pytest.fixture
def copy() -> Tracker:
    return load("copy")


def test_repeat_takes_the_frame_before_and_lists_it(broken: Path, copy: Tracker, tmp_path: Path) -> None:
    report = propagate_video(broken, {0: masks(0)}, copy, tmp_path / "out")
    assert report["damage"] == {
        "on_error": "repeat",
        "damaged_frames": [DAMAGED],
        "doubtful_frames": [],
        "skipped_frames": [],
        "lost_before_first": 0,
        "ends_early": False,
        "unreadable_data": False,
    }
    assert [frame["damaged"] for frame in report["frames"]] == [n == DAMAGED for n in range(FRAMES)]
    assert len(report["warnings"]) == 1 and f"1 of {FRAMES} frames" in report["warnings"][0]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES
    assert f"damaged: 1 frame showing what came before: {DAMAGED}" in summary(report)


def test_a_record_that_leads_elsewhere_is_not_used(broken: Path, lab: Tracker, tmp_path: Path) -> None:
    given = {0: masks(0), 4: masks(4), 10: masks(10)}
    with pytest.raises(InputError, match="can't be decoded"):
        propagate_video(broken, given, lab, tmp_path / "out", Plan(on_error="stop"))
    kept = tmp_path / "out.partial"
    shutil.copy(kept / "masks" / "00002.png", tmp_path / "00002.png")
    lines = (kept / NAME).read_text().replace('"name":"00002"', '"name":"../../00002"')
    assert "../../00002" in lines
    (kept / NAME).write_text(lines)
    report = propagate_video(broken, given, lab, tmp_path / "out")
    assert report["computed_frames"] == FRAMES - 3  # nothing was taken over


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_skip_is_as_if_the_frame_were_not_there(
    frames: Path, broken: Path, lab: Tracker, tmp_path: Path, direction: Any
) -> None:
    """The tracker doesn't see it: the others get what they get without it, under their own names."""
    less = tmp_path / "less"
    shutil.copytree(frames, less)
    (less / f"{DAMAGED:05d}.png").unlink()
    given = {2: masks(2), 9: masks(9)}
    report = propagate_video(broken, given, lab, tmp_path / "out", Plan(direction, on_error="skip"))
    propagate_video(less, {2: masks(2), 8: masks(9)}, lab, tmp_path / "less_out", Plan(direction))
    names = sorted(p.name for p in (tmp_path / "out" / "masks").iterdir())
    assert names == [f"{n:05d}.png" for n in range(FRAMES) if n != DAMAGED]
    for name in names if direction != "both" else ():  # there, the halves are joined by their times
        ids = [np.asarray(Image.open(tmp_path / out / "masks" / name)) for out in ("out", "less_out")]
        assert np.array_equal(*ids), name
    assert report["damage"]["skipped_frames"] == report["damage"]["damaged_frames"] == [DAMAGED]
    entry = report["frames"][DAMAGED]
    assert (entry["index"], entry["damaged"], entry["skipped"], entry["objects"]) == (DAMAGED, True, True, {})
    unreached = {"forward": 2, "backward": FRAMES - 10, "both": 0}[direction]
    assert report["frame_count"] == FRAMES and report["computed_frames"] == FRAMES - 3 - unreached
    # No object counts as lost, and none as drifting.
    assert len(report["warnings"]) == (1 if direction == "both" else 2)
    assert not any(alarm["first"] <= DAMAGED <= alarm["last"] for alarm in report["alarms"])


def test_films_stay_in_step_where_frames_are_skipped(broken: Path, copy: Tracker, tmp_path: Path) -> None:
    saves = frozenset({"rle", "cutout", "cutout-png"})
    propagate_video(broken, {0: masks(0)}, copy, tmp_path / "out", Plan(on_error="skip", saves=saves))
    films = {}
    for name in ("overlay.mp4", "cutout.webm"):
        with VideoReader(tmp_path / "out" / name) as reader:
            films[name] = [frame.time for frame in reader]
        assert [float(t) for t in films[name]] == pytest.approx([n / 25 for n in range(FRAMES)], abs=1e-3)
    wanted = [n for n in range(FRAMES) if n != DAMAGED]
    assert sorted(int(p.stem) for p in (tmp_path / "out" / "cutout").iterdir()) == wanted
    coco = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert [image["frame_index"] for image in coco["images"]] == wanted


@pytest.mark.parametrize("kind", [Keypoints, Boxes, Maps])
def test_skipped_frames_have_no_rows(broken: Path, copy: Tracker, tmp_path: Path, kind: type[Any]) -> None:
    plan = Plan(on_error="skip", overlay=False)
    propagate_video(broken, {0: labels(kind, 0)}, copy, tmp_path / "out", plan)
    wanted = [n for n in range(FRAMES) if n != DAMAGED]
    if kind is Maps:
        names = sorted(p.stem for p in (tmp_path / "out" / "maps").iterdir())
        assert names == [f"{n:05d}" for n in wanted]
        return
    for name in ("boxes.csv",) if kind is Boxes else ("keypoints.csv", "keypoints.json", "deeplabcut.csv"):
        assert sorted(kind.load(tmp_path / "out" / name)) == wanted


def test_skip_at_the_ends(frames: Path, copy: Tracker, tmp_path: Path) -> None:
    source = damaged(frames, tmp_path / "frames", 0, FRAMES - 1)
    report = propagate_video(source, {1: masks(1)}, copy, tmp_path / "out", Plan("both", on_error="skip"))
    assert report["damage"]["skipped_frames"] == [0, FRAMES - 1]
    assert len(report["warnings"]) == 1


@pytest.mark.parametrize("policy", ["repeat", "skip"])
def test_stop_names_the_frame_and_keeps_what_is_finished(
    broken: Path, lab: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    put = MaskOutput.put

    def slow(*arguments: Any) -> Any:  # what waits to be written when the run ends counts, too
        time.sleep(0.1)
        return put(*arguments)

    monkeypatch.setattr(MaskOutput, "put", slow)
    given = {0: masks(0), 4: masks(4), 10: masks(10)}
    told: list[str] = []
    with pytest.raises(InputError, match=rf"frame {DAMAGED} can't be decoded whole: .*repeat or skip\.$"):
        propagate_video(broken, given, lab, tmp_path / "out", Plan(on_error="stop"), tell=told.append)
    assert not (tmp_path / "out").exists()
    assert "is kept in out.partial" in told[-1]
    report = propagate_video(broken, given, lab, tmp_path / "out", Plan(on_error=policy))
    fresh = propagate_video(broken, given, lab, tmp_path / "fresh", Plan(on_error=policy))
    assert report["computed_frames"] == fresh["computed_frames"] - 3  # 1, 2 and 3 are known
    assert report["frames"] == fresh["frames"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_more_than_a_tenth_ends_the_run_as_soon_as_it_is_certain(
    frames: Path, copy: Tracker, tmp_path: Path, direction: Any
) -> None:
    source = damaged(frames, tmp_path / "frames", 3, 5, 7)
    seen: list[int] = []
    with pytest.raises(InputError, match=rf"2 of {FRAMES} frames .* more than a tenth: .*--on-error skip\.$"):
        propagate_video(
            *(source, {0: masks(0), 12: masks(12)}, copy, tmp_path / "out", Plan(direction)),
            progress=lambda done, total: seen.append(done),
        )
    assert max(seen, default=0) <= 7 and not (tmp_path / "out").exists()
    report = propagate_video(
        source, {0: masks(0), 12: masks(12)}, copy, tmp_path / "out", Plan(direction, on_error="skip")
    )
    assert report["damage"]["skipped_frames"] == [3, 5, 7]


@pytest.mark.parametrize("policy", ["skip", "stop"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_annotated_frame_must_be_whole(
    broken: Path, copy: Tracker, tmp_path: Path, policy: Any, direction: Any
) -> None:
    given = {0: masks(0), DAMAGED: masks(DAMAGED)}
    with pytest.raises(InputError, match=f"frame {DAMAGED}"):
        propagate_video(broken, given, copy, tmp_path / "out", Plan(direction, on_error=policy))
    assert propagate_video(broken, given, copy, tmp_path / "out", Plan(direction))["frame_count"] == FRAMES


def test_the_policy_matters_only_where_frames_are_damaged(broken: Path, lab: Tracker, tmp_path: Path) -> None:
    given = {0: masks(0), 4: masks(4), 10: masks(10)}
    propagate_video(broken, given, lab, tmp_path / "out")
    report = propagate_video(broken, given, lab, tmp_path / "out", Plan(on_error="skip", overwrite=True))
    assert report["computed_frames"] == 4  # of frames 5 to 9 all but the damaged one
    again = propagate_video(broken, given, lab, tmp_path / "out", Plan(on_error="skip", overwrite=True))
    assert again["computed_frames"] == 0 and again["frames"] == report["frames"]


def test_a_file_that_loses_its_beginning_or_its_end(clip: Path, copy: Tracker, tmp_path: Path) -> None:
    whole = encode_video(tmp_path / "whole.avi", "mjpeg", "yuvj420p", 20)
    with av.open(str(whole)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(whole.read_bytes())
    for place, size in places[:3]:
        data[place : place + size] = bytes(size)
    (tmp_path / "beginning.avi").write_bytes(data)
    (tmp_path / "end.avi").write_bytes(whole.read_bytes()[: places[12][0]])
    (tmp_path / "packet.avi").write_bytes(whole.read_bytes()[: places[12][0] + places[12][1] // 2])
    ids = np.zeros((48, 64), np.uint8)
    ids[:20] = 1
    found = {}
    for name in ("beginning", "end", "packet"):
        source = tmp_path / f"{name}.avi"
        report = propagate_video(source, {0: Masks(ids)}, copy, tmp_path / name)
        found[name] = (
            report["damage"]["lost_before_first"],
            report["damage"]["ends_early"],
            report["damage"]["unreadable_data"],
            report["frame_count"],
        )
        assert len(report["warnings"]) == 1
        with pytest.raises(InputError, match=r"(is damaged, |frame 12 can).*repeat or skip\.$"):
            propagate_video(source, {0: Masks(ids)}, copy, tmp_path / "stop", Plan(on_error="stop"))
        assert not (tmp_path / "stop").exists()
    assert found == {
        "beginning": (3, False, False, 17),
        "end": (0, True, True, 12),
        "packet": (0, True, True, 13),
    }


@pytest.mark.parametrize("broken_frames", [1, 2])
def test_where_the_length_is_not_known_the_end_decides(clip: Path, broken_frames: int) -> None:
    with VideoReader(clip) as reader:
        frames = list(reader)[:10]
    tolerance = Tolerance("repeat", "a.gif", total=None)
    for frame in frames:
        tolerance.see(replace(frame, damaged=frame.index < broken_frames))
    if broken_frames == 1:
        tolerance.finish(len(frames), Damage())
    else:
        with pytest.raises(InputError, match=r"2 of 10 frames .* more than a tenth"):
            tolerance.finish(len(frames), Damage())


def test_the_library_yields_no_result_of_a_skipped_frame(broken: Path, copy: Tracker) -> None:
    found = [result.index for result in copy.propagate(broken, {0: masks(0)}, on_error="skip")]
    assert found == [n for n in range(FRAMES) if n != DAMAGED]
    assert len(list(copy.propagate(broken, {0: masks(0)}))) == FRAMES
    with pytest.raises(InputError, match="--on-error never is unknown"):
        list(copy.propagate(broken, {0: masks(0)}, on_error="never"))  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_frames_that_were_predicted_from_damaged_ones_are_told(
    copy: Tracker, tmp_path: Path, direction: Direction
) -> None:
    video, given = doubtful_video(tmp_path / "a.mkv"), Masks(np.eye(96, 128, dtype=np.uint8))
    first = {"forward": 0, "backward": 39, "both": 20}[direction]
    report = propagate_video(video, {first: given}, copy, tmp_path / "out", Plan(direction))
    told = report["damage"]
    assert told["damaged_frames"] == [13, 28] and told["doubtful_frames"] == [[14, 19], [29, 29]]
    assert [n for n, frame in enumerate(report["frames"]) if frame["doubtful"]] == [*range(14, 20), 29]
    assert "doubtful: 7 frames decoded from damaged ones, perhaps: 14-19, 29" in summary(report)
    assert "7 that follow them, up to the next key picture, may show traces" in report["warnings"][0]
