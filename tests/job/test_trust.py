"""What a run tells of its confidences: in the report, in the terminal and as a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidtrack.job import Plan, propagate_video
from vidtrack.job.report import summary
from vidtrack.job.trust import Trust, confidence_series
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.tracker import Tracker

from .conftest import FRAMES, labels, masks


def records(confidences: list[dict[str, float]], start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "index": n,
            "name": f"{n:05d}",
            "skipped": False,
            "objects": {k: {"confidence": v} for k, v in values.items()},
        }
        for n, values in enumerate(confidences, start)
    ]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("forward", {"1": [np.nan, 1, 0, np.nan, np.nan], "7": [np.nan, 1, 0.5, 1, 0]}),
        ("backward", {"1": [0, 1, np.nan, np.nan, np.nan], "7": [0, 1, 0.5, 1, np.nan]}),
        ("both", {"1": [0, 1, 0, np.nan, np.nan], "7": [0, 1, 0.5, 1, 0]}),
    ],
)
def test_zero_where_an_object_is_missed_and_nan_where_it_is_not(
    direction: Any, expected: dict[str, list[float]]
) -> None:
    frames = records([{}, {"1": 1, "7": 1}, {"7": 0.5}, {"7": 1}, {}], start=4)
    found = confidence_series(frames, {5: masks(0), 7: masks(0, (7,))}, direction)
    assert list(found) == ["1", "7"]
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)


def test_frames_are_numbered_as_in_the_video() -> None:
    values = [1.0] + [0.9] * 20 + [0.2] * 20
    trust = Trust(records([{"1": v} for v in values], start=100), {100: masks(0, (1,))}, "forward")
    assert trust.annotated == [0]
    told = trust.describe()
    assert [(a["object"], a["first"], a["last"], a["lowest"]) for a in told["alarms"]] == [
        ("1", 121, 140, 0.2)
    ]
    assert "object 1" in told["alarms"][0]["sentence"] and "121 to 140" in told["alarms"][0]["sentence"]
    first = told["annotate_next"][0]
    assert 121 <= first["frame"] < 140 and first["name"] == f"{first['frame']:05d}"
    assert 0 < first["gain"] < 1


@pytest.mark.parametrize("kind", [Masks, Keypoints, Boxes, Maps])
def test_every_kind_of_label_has_its_picture(
    clip: Path, lab: Tracker, tmp_path: Path, kind: type[Any]
) -> None:
    report = propagate_video(clip, {2: labels(kind, 2)}, lab, tmp_path / "out", Plan(overlay=False))
    assert report["files"][0] == "report.png"
    with Image.open(tmp_path / "out" / "report.png") as picture:
        assert picture.width == 1200
    for alarm in report["alarms"]:
        assert 2 < alarm["first"] <= alarm["last"] < FRAMES
    assert all(one["frame"] != 2 for one in report["annotate_next"])


def test_the_terminal_tells_few_alarms_and_what_to_do() -> None:
    alarm = {"sentence": "object 1 may drift."}
    report = {
        "seconds": {"total": 1.0},
        "peak_memory_mb": None,
        "frame_count": 10,
        "computed_frames": 9,
        "frames_per_second": 9.0,
        "damage": {"damaged_frames": [], "doubtful_frames": [], "skipped_frames": []},
        "alarms": [alarm] * 7,
        "annotate_next": [{"frame": n, "name": s} for n, s in ((31, "00031"), (60, "00061"), (9, "img_9"))],
    }
    lines = summary(report)
    assert lines[1:] == [
        *["alarm: object 1 may drift."] * 5,
        "and 2 more alarms, see report.json",
        "annotate next: frame 31, then 60 (00061), then 9 (img_9)",
    ]
    assert len(summary({**report, "alarms": [], "annotate_next": []})) == 1
