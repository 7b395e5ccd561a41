"""DAVIS as a task: what is given, scores through files, and the same scores as the official tool's."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.davis_task import davis_task
from vidtrack.benchmark.scores import KEYS, ObjectScores, mean_scores, score_sequence, summarize

from .conftest import SIZE, draw, save_gray, save_palette


def write(folder, frames):
    for index, ids in frames.items():
        save_palette(folder / f"{index:05d}.png", ids)


def test_given_and_pictures(make_set):
    root = make_set(2017, {"a": 2})
    first = draw(0, 3)
    first[-1] = 255
    save_palette(root / "Annotations/480p/a/00000.png", np.where(first == 3, 0, first).astype(np.uint8))
    save_palette(root / "Annotations/480p/a/00002.png", draw(2, 3))  # a later object is none
    task = davis_task(DavisSet.find(root, 2017, "val"))
    assert (task.benchmark, task.title, task.keys) == ("davis", "DAVIS-2017 val", KEYS)
    (item,) = task.items
    assert (item.name, item.frames, item.objects) == ("a", 6, (1, 2))
    (run,) = item.runs()
    assert (run.name, run.start, run.end, run.direction, run.soft) == ("", 0, None, "forward", False)
    assert list(run.annotations) == [0]
    np.testing.assert_array_equal(run.annotations[0].ids, draw(0, 2))
    np.testing.assert_array_equal(run.annotations[0].void, first == 255)
    with item.video() as folder:
        assert folder == root / "JPEGImages/480p/a"
    assert item.frame(3).shape == (*SIZE, 3) and 100 < item.frame(3).mean() < 140
    np.testing.assert_array_equal(item.truth(2).ids, draw(2, 2))


def test_2016_is_binary(make_set, tmp_path):
    (item,) = davis_task(DavisSet.find(make_set(2016, {"a": 2}), 2016, "val")).items
    (run,) = item.runs()
    assert run.annotations[0].objects == [1] and run.annotations[0].void is None
    for index in range(1, 5):
        save_gray(tmp_path / f"{index:05d}.png", draw(index, 2) * 100)
    assert item.score(tmp_path)["scores"]["J&F-Mean"] == 1
    np.testing.assert_array_equal(item.predicted(tmp_path, 2).ids, draw(2, 2) > 0)
    assert item.predicted(tmp_path, 0) is None


def test_records_and_totals(make_set, tmp_path):
    task = davis_task(DavisSet.find(make_set(2017, {"a": 2, "b": 1}), 2017, "val"))
    records, slow = {}, []
    for item, objects in zip(task.items, (2, 1), strict=True):
        item = pickle.loads(pickle.dumps(item))
        results = [np.roll(draw(index, objects), index % 3, axis=1) for index in range(6)]
        write(tmp_path / item.name, dict(enumerate(results)))
        for index in (0, 5):
            (tmp_path / item.name / f"{index:05d}.png").unlink()  # never read
        record = json.loads(json.dumps(item.score(tmp_path / item.name)))
        truth = [draw(index, objects) for index in range(6)]
        expected = score_sequence(truth, results, range(1, objects + 1), 255)
        slow += expected.values()
        assert record["scores"] == summarize(expected.values())
        assert list(record["detail"]) == list(record["series"]) == [str(id_) for id_ in expected]
        for id_, scores in expected.items():
            assert record["detail"][str(id_)] == {"J": list(scores.J), "F": list(scores.F)}
            series = record["series"][str(id_)]
            assert series[0] is series[5] is None
            pairs = zip(scores.J[1:-1], scores.F[1:-1], strict=True)
            assert series[1:-1] == [pytest.approx((j + f) / 2) for j, f in pairs]
        records[item.name] = record
    # Of three objects, not of two sequences.
    assert task.summarize(records) == pytest.approx(summarize(slow))


def test_fingerprint_changes_with_all_that_decides(make_set):
    root = make_set(2017, {"a": 1})

    def fingerprint(year=2017):
        return davis_task(DavisSet.find(root, year, "val")).items[0].fingerprint()

    before = fingerprint()
    assert before == fingerprint() and len(before) == 64
    (root / "ImageSets/val.txt").write_text("a")
    assert fingerprint(2016) != before
    frame = root / "JPEGImages/480p/a/00001.jpg"
    kept = frame.read_bytes()
    save_gray(frame, np.full((*SIZE, 3), 200, np.uint8))
    assert fingerprint() != before
    frame.write_bytes(kept)
    assert fingerprint() == before
    save_palette(root / "Annotations/480p/a/00004.png", draw(3))
    assert fingerprint() != before


def test_official_scores_from_files(data, tmp_path):
    """The masks of STM, scored through the task, against what the official tool says."""
    golden = data / "golden/davis-metrics"
    official = json.loads((golden / "official_scores.json").read_text())["libby"]
    root, stems = tmp_path / "davis", [p.stem for p in sorted((golden / "ground-truth/libby").glob("*.png"))]
    (root / "Annotations/480p").mkdir(parents=True)
    (root / "Annotations/480p/libby").symlink_to(golden / "ground-truth/libby")
    for stem in stems:
        with Image.open(golden / f"ground-truth/libby/{stem}.png") as image:
            save_gray(root / f"JPEGImages/480p/libby/{stem}.png", np.zeros(image.size[::-1], np.uint8))
    task = davis_task(DavisSet.find(root, 2016, "any"))
    (item,) = task.items
    record = item.score(golden / "result/libby")
    assert record["scores"]["J-Mean"] == pytest.approx(official["J"]["mean"], abs=1e-6)
    assert record["scores"]["F-Mean"] == pytest.approx(official["F"]["mean"], abs=1e-6)
    assert record["scores"]["J-Decay"] == pytest.approx(official["J"]["decay"], abs=1e-6)
    assert task.summarize({"libby": record}) == record["scores"]


def test_means_over_objects():
    objects = [
        ObjectScores(J=(None, 1.0, 0.0), F=(None, 0.5, 0.5)),
        ObjectScores(J=(None, None, 0.8), F=(None, None, 0.2)),
        ObjectScores(J=(None, None, None), F=(None, None, None)),  # nothing scored: doesn't count
    ]
    assert mean_scores(objects) == pytest.approx({"J&F-Mean": 0.5, "J-Mean": 0.65, "F-Mean": 0.35})
    assert mean_scores(objects[2:]) == {"J&F-Mean": None, "J-Mean": None, "F-Mean": None}
