"""Which frames are shown as best and worst, and what is drawn on them."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtrack.labels import Boxes, Keypoints, Masks
from vidtrack.reports.benchmark_pictures import draw, frame_scores, make_pictures, shrink
from vidtrack.reports.boxes import draw_boxes
from vidtrack.reports.keypoints import draw_keypoints
from vidtrack.reports.overlay import draw_masks

SIZE = 40, 60


def square(left: int) -> Masks:
    ids = np.zeros(SIZE, np.uint8)
    ids[10:30, left : left + 20] = 1
    return Masks(ids)


class FakeItem:
    """A sequence whose frame t is of the gray 10 t; its predictions are named in the folder."""

    frames = 5

    def __init__(self, name: str) -> None:
        self.name = name

    def fingerprint(self) -> str:
        return self.name

    def video(self) -> Any:
        return nullcontext(Path())

    def runs(self) -> list[Any]:
        return []

    def score(self, folder: Path) -> dict[str, Any]:
        return {}

    def frame(self, index: int) -> np.ndarray:
        return np.full((*SIZE, 3), 10 * index, np.uint8)

    def truth(self, index: int) -> Masks | None:
        return None if self.name == "bare" else square(5)

    def predicted(self, folder: Path, index: int) -> Masks:
        return square(int((folder / "left.txt").read_text()) + index)


class FakeTask:
    benchmark, title, keys, data = "davis", "t", ("J",), Path()
    protocol: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, *names: str) -> None:
        self.items = [FakeItem(name) for name in names]

    def summarize(self, records: Any) -> dict[str, float | None]:
        return {}


SERIES: dict[str, dict[str, list[float | None]]] = {
    "one": {"1": [None, 0.9, 0.2, 0.5, None], "2": [None, 0.7, None, 0.1, None]},  # means 0.8, 0.2, 0.3
    "two": {"1": [None, 0.6, 0.5, 0.95, None]},
    "three": {"1": [None, 0.3, 0.1, 0.2, None]},
    "four": {"1": [None] * 5},
}


def make(tmp_path: Path, rows: tuple[str, ...] = ("default",), **changes: Any) -> dict[str, Any]:
    made = []
    for place, row in enumerate(rows):
        for name in SERIES:
            folder = tmp_path / "predictions" / row / name
            folder.mkdir(parents=True)
            (folder / "left.txt").write_text(str(10 * place))
        sequences = {name: {"series": series} for name, series in SERIES.items()}
        made.append(
            {"name": row, "scores": {"J": 0.5}, "folder": f"predictions/{row}", "sequences": sequences}
        )
    return {"keys": ["J"], "lower": [], "rows": made, **changes}


def told(pictures: list[Any]) -> list[tuple[str, str, int, float]]:
    return [(p.kind, p.sequence, p.frame, pytest.approx(p.score)) for p in pictures]


def test_the_best_and_worst_frame_of_each_sequence(tmp_path: Path) -> None:
    pictures = make_pictures(FakeTask(*SERIES), make(tmp_path), tmp_path)
    assert told(pictures) == [
        ("best", "two", 3, 0.95),
        ("best", "one", 1, 0.8),
        ("best", "three", 1, 0.3),
        ("worst", "three", 2, 0.1),
        ("worst", "one", 2, 0.2),
        ("worst", "two", 2, 0.5),
    ]
    assert told(make_pictures(FakeTask(*SERIES), make(tmp_path / "b"), tmp_path / "b", 1)) == [
        ("best", "two", 3, 0.95),
        ("worst", "three", 2, 0.1),
    ]


def test_lower_can_be_better(tmp_path: Path) -> None:
    pictures = make_pictures(FakeTask(*SERIES), make(tmp_path, lower=["J"]), tmp_path, 1)
    assert told(pictures) == [("best", "three", 2, 0.1), ("worst", "two", 3, 0.95)]


def test_each_row_has_its_own_predictions(tmp_path: Path) -> None:
    results = make(tmp_path, ("default", "lab"))
    results["rows"][1] |= {"folder": None, "settings": {"masks": str(tmp_path / "predictions" / "lab")}}
    results["rows"].append({**results["rows"][0], "name": "gone", "folder": "predictions/gone"})
    results["rows"].append({**results["rows"][0], "name": "unknown", "folder": None})
    pictures = make_pictures(FakeTask(*SERIES), results, tmp_path, 1)
    assert [p.row for p in pictures] == ["default", "default", "lab", "lab"]
    frame = np.full((*SIZE, 3), 30, np.uint8)
    assert np.array_equal(pictures[0].predicted, draw_masks(frame, square(3)))
    assert np.array_equal(pictures[2].predicted, draw_masks(frame, square(13)))
    assert np.array_equal(pictures[2].truth, draw_masks(frame, square(5)))


def test_sequences_without_data_or_truth(tmp_path: Path) -> None:
    results = make(tmp_path)
    assert [p.sequence for p in make_pictures(FakeTask("one"), results, tmp_path)] == ["one", "one"]
    sequences = results["rows"][0]["sequences"]
    results["rows"][0]["sequences"] = {"bare": sequences["two"]}
    (tmp_path / "predictions" / "default" / "two").rename(tmp_path / "predictions" / "default" / "bare")
    picture = make_pictures(FakeTask("bare"), results, tmp_path, 1)[0]
    assert (picture.truth == 30).all() and not (picture.predicted == 30).all()


def test_every_kind_of_label_is_drawn() -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    boxes = Boxes.from_xyxy([(5, 5, 30, 25)])
    points = Keypoints.from_points([(20, 20), (40, 10)])
    assert np.array_equal(draw(image, boxes), draw_boxes(image, boxes))
    assert np.array_equal(draw(image, points), draw_keypoints(image, points))
    assert np.array_equal(draw(image, square(5)), draw_masks(image, square(5)))
    assert np.array_equal(draw(image, None), image) and draw(image, None) is not image
    with pytest.raises(ValueError, match="not str"):
        draw(image, "mask")


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((480, 854), (360, 640)), ((2000, 1000), (640, 320)), ((4, 3000), (1, 640)), ((9, 9), (9, 9))],
)
def test_large_pictures_shrink(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    small = shrink(np.full((*size, 3), 77, np.uint8))
    assert small.shape == (*wanted, 3) and (small == 77).all() and small.dtype == np.uint8


def test_frame_scores_are_means_over_objects() -> None:
    assert frame_scores({"series": {"a": [None, 0.5, 1.0], "b": [None, None, 0.0]}}) == [None, 0.5, 0.5]
    assert frame_scores({"series": {}}) == []
