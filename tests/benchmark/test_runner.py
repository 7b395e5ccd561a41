"""Running a benchmark: outputs, resuming after an interruption, existing masks, the printed table."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.runner import run_davis
from vidtrack.benchmark.scores import KEYS
from vidtrack.benchmark.table import table

from .conftest import SIZE, draw, save_gray, save_palette


class Fake:
    """Knows the truth; `wrong`: copies the first mask; `stop`: the sequence it breaks off at."""

    def __init__(self, objects, *, wrong=False, stop=None, weights="abc"):
        self.objects, self.wrong, self.stop, self.weights = objects, wrong, stop, weights
        self.calls = []

    def describe(self):
        return {"tracker": "fake", "weights": self.weights, "size": (1, 2), "wrong": self.wrong}

    def propagate(self, source, *, annotations, start):
        self.calls.append(source.name)
        first = annotations[0]
        assert start == 0
        for index in range(len(list(source.glob("*.jpg")))):
            if source.name == self.stop and index == 3:
                raise KeyboardInterrupt
            ids = first.ids if self.wrong else draw(index, self.objects[source.name])
            yield SimpleNamespace(index=index, labels=SimpleNamespace(ids=ids))


OBJECTS = {"two": 2, "one": 1}


def test_the_truth_scores_one(make_set, tmp_path):
    seen = []
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    results = run_davis(root, 2017, "val", out, Fake(OBJECTS), progress=lambda *state: seen.append(state))
    assert [results[key] for key in KEYS] == [1, 1, 1, 0, 1, 1, 0]
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["davis2017", "out"]
    assert sorted(path.name for path in out.iterdir()) == ["masks", "results.csv", "results.json"]
    for name, objects in OBJECTS.items():
        for index in range(6):
            with Image.open(out / f"masks/{name}/{index:05d}.png") as image:
                assert image.mode == "P"
                np.testing.assert_array_equal(np.asarray(image), draw(index, objects))
    assert seen[0] == ("two", 1, 12) and seen[-1] == ("one", 12, 12)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_results_record_how_they_were_made(make_set, tmp_path):
    results = run_davis(make_set(2017, OBJECTS), 2017, "val", tmp_path / "out", lambda: Fake(OBJECTS))
    assert results["schema"] == 1 and results["weights"] == "abc"
    assert results["settings"]["tracker"] == "fake"
    assert set(results["versions"]) >= {"vidtrack", "torch", "numpy"}
    assert len(results["data_sha256"]) == 64
    assert results["seconds"] >= results["propagation_seconds"] > 0
    assert results["frames_per_second"] == pytest.approx(12 / results["propagation_seconds"])
    assert results["peak_memory_mb"] > 10
    two = results["sequences"]["two"]
    assert two["frames"] == [f"{index:05d}" for index in range(6)]
    assert two["objects"]["2"]["J"] == [None, 1, 1, 1, 1, None]
    rows = list(csv.reader((tmp_path / "out/results.csv").open()))
    assert rows[0] == ["Sequence", *KEYS]
    assert [row[0] for row in rows[1:]] == ["two", "one"]
    assert [float(value) for value in rows[1][1:]] == [1, 1, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("year", [2016, 2017])
def test_copies_of_the_first_mask(make_set, tmp_path, year):
    results = run_davis(make_set(year, {"one": 1}), year, "val", tmp_path / "out", Fake({}, wrong=True))
    # The square of 6 pixels moves 2 a frame: overlap 4, 2, 0, 0 columns of 6.
    expected = [24 / 48, 12 / 60, 0, 0]
    assert results["sequences"]["one"]["objects"]["1"]["J"][1:5] == pytest.approx(expected)
    assert results["J-Mean"] == pytest.approx(np.mean(expected))
    assert results["J-Recall"] == 0
    assert 0 < results["F-Mean"] < 0.5
    assert results["J-Decay"] == pytest.approx((24 / 48 + 12 / 60) / 2)


def test_the_tracker_gets_the_first_annotation_without_void(make_set, tmp_path):
    root = make_set(2017, {"two": 2})
    first = draw(0, 2)
    first[0, :3] = 255
    save_palette(root / "Annotations/480p/two/00000.png", first)
    given = []

    class Spy(Fake):
        def propagate(self, source, *, annotations, start):
            given.append(annotations)
            return super().propagate(source, annotations=annotations, start=start)

    run_davis(root, 2017, "val", tmp_path / "out", Spy({"two": 2}))
    assert list(given[0]) == [0]
    np.testing.assert_array_equal(given[0][0].ids, draw(0, 2))
    np.testing.assert_array_equal(given[0][0].void, first == 255)


def test_void_of_2017_is_not_scored(make_set, tmp_path):
    root = make_set(2017, {"one": 1})
    for index in range(1, 6):
        truth = draw(index)
        truth[(draw(0) == 1) & (truth == 0)] = 255  # where the copy is wrong
        truth[truth == 1] = np.where(draw(0)[truth == 1] == 1, 1, 255)
        save_palette(root / f"Annotations/480p/one/{index:05d}.png", truth)
    results = run_davis(root, 2017, "val", tmp_path / "out", Fake({}, wrong=True))
    assert results["J&F-Mean"] == 1


def test_an_interrupted_run_goes_on(make_set, tmp_path):
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_davis(root, 2017, "val", out, Fake(OBJECTS, stop="one"))
    assert not out.exists()
    tracker = Fake(OBJECTS)
    results = run_davis(root, 2017, "val", out, tracker)
    assert tracker.calls == ["one"] and results["reused"] == ["two"]
    fresh = run_davis(root, 2017, "val", tmp_path / "fresh", Fake(OBJECTS))
    measured = ("seconds", "propagation_seconds", "frames_per_second", "peak_memory_mb", "reused")
    for value in (results, fresh):
        for part in (value, *value["sequences"].values()):
            for key in measured:
                part.pop(key, None)
    assert results == fresh
    assert not (tmp_path / "out.partial").exists() and not (out / "finished").exists()


def change_weights(root, partial):
    return Fake(OBJECTS, weights="other")


def change_settings(root, partial):
    return Fake(OBJECTS, wrong=True)


def change_frame(root, partial):
    save_gray(root / "JPEGImages/480p/two/00003.jpg", np.zeros((*SIZE, 3), np.uint8))
    return Fake(OBJECTS)


def change_annotation(root, partial):
    save_palette(root / "Annotations/480p/two/00003.png", draw(2, 2))
    return Fake(OBJECTS)


def change_mask(root, partial):
    save_palette(partial / "masks/two/00003.png", draw(2, 2))
    return Fake(OBJECTS)


def damage_record(root, partial):
    (partial / "finished/two.json").write_text("{")
    return Fake(OBJECTS)


@pytest.mark.parametrize(
    "change",
    [change_weights, change_settings, change_frame, change_annotation, change_mask, damage_record],
)
def test_only_equal_work_is_reused(make_set, tmp_path, change):
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_davis(root, 2017, "val", out, Fake(OBJECTS, stop="one"))
    tracker = change(root, tmp_path / "out.partial")
    results = run_davis(root, 2017, "val", out, tracker)
    assert tracker.calls == ["two", "one"] and results["reused"] == []


def test_other_versions_are_not_mixed(make_set, tmp_path, monkeypatch):
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_davis(root, 2017, "val", out, Fake(OBJECTS, stop="one"))
    monkeypatch.setattr("vidtrack.benchmark.runner.versions", lambda: {"vidtrack": "next"})
    assert run_davis(root, 2017, "val", out, Fake(OBJECTS))["reused"] == []


def test_masks_of_another_split_do_not_stay(make_set, tmp_path):
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_davis(root, 2017, "val", out, Fake(OBJECTS, stop="one"))
    (root / "ImageSets/2017/val.txt").write_text("one\n")
    run_davis(root, 2017, "val", out, Fake(OBJECTS))
    assert [path.name for path in (out / "masks").iterdir()] == ["one"]


def test_existing_output(make_set, tmp_path):
    root, out = make_set(2017, OBJECTS), tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    tracker = Fake(OBJECTS)
    with pytest.raises(InputError, match=r"out exists already: .*--overwrite"):
        run_davis(root, 2017, "val", out, tracker)
    with pytest.raises(InputError, match="no vidtrack results"):  # a folder of the user's stays
        run_davis(root, 2017, "val", out, tracker, overwrite=True)
    assert tracker.calls == [] and (out / "old").exists()
    (out / "results.json").touch()
    run_davis(root, 2017, "val", out, tracker, overwrite=True)
    assert not (out / "old").exists() and (out / "results.json").exists()


@pytest.mark.parametrize("folder", ["out", "out.partial"])
def test_input_is_never_overwritten(make_set, tmp_path, folder):
    masks = tmp_path / folder / "masks"
    write_masks(masks)
    (masks.parent / "results.json").touch()
    with pytest.raises(InputError, match="masks lies in the output"):
        run_davis(make_set(2017, OBJECTS), 2017, "val", tmp_path / "out", masks=masks, overwrite=True)
    assert (masks / "one/00003.png").exists()


def test_wrong_data_is_said_before_the_tracker_is_made(make_set, tmp_path):
    root = make_set(2017, OBJECTS)
    (root / "Annotations/480p/one/00004.png").unlink()
    with pytest.raises(InputError, match=r"one/00004.png is missing"):
        run_davis(root, 2017, "val", tmp_path / "out", lambda: pytest.fail("was made"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["davis2017"]


def test_either_a_tracker_or_masks(make_set, tmp_path):
    with pytest.raises(ValueError, match="either"):
        run_davis(make_set(2017, OBJECTS), 2017, "val", tmp_path / "out")
    with pytest.raises(ValueError, match="either"):
        run_davis(tmp_path, 2017, "val", tmp_path / "out", Fake(OBJECTS), masks=tmp_path)


@pytest.mark.parametrize("fault", ["few", "many", "size", "index"])
def test_results_must_fit_the_frames(make_set, tmp_path, fault):
    class Faulty(Fake):
        def propagate(self, source, *, annotations, start):
            results = list(super().propagate(source, annotations=annotations, start=start))
            if fault == "few":
                results.pop()
            elif fault == "many":
                results.append(results[-1])
            elif fault == "size":
                results[2].labels.ids = results[2].labels.ids[1:]
            else:
                results[2].index = 7
            return iter(results)

    said = {
        "few": "frame 5 of two: .* got nothing",
        "many": "two: more results than its 6 frames",
        "size": r"frame 2 of two: want ids \[24, 32\], got \[23, 32\] of frame 2",
        "index": "frame 2 of two: .* of frame 7",
    }
    with pytest.raises(ValueError, match=said[fault]):
        run_davis(make_set(2017, OBJECTS), 2017, "val", tmp_path / "out", Faulty(OBJECTS))
    assert not (tmp_path / "out").exists()


def write_masks(folder, frames=range(1, 5)):
    for name, objects in OBJECTS.items():
        for index in frames:
            save_palette(folder / name / f"{index:05d}.png", draw(index, objects))


def test_existing_masks_are_scored(make_set, tmp_path):
    root, masks = make_set(2017, OBJECTS), tmp_path / "masks"
    write_masks(masks)  # without the first and the last, which aren't scored
    save_palette(masks / "two/00002.png", draw(2, 1))
    results = run_davis(root, 2017, "val", tmp_path / "out", masks=masks)
    assert results["sequences"]["two"]["objects"]["2"]["J"] == [None, 1, 0, 1, 1, None]
    assert results["J-Mean"] == pytest.approx((1 + 0.75 + 1) / 3)
    assert results["weights"] is None and results["frames_per_second"] is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv", "results.json"]


def test_masks_of_2016_are_any_value(make_set, tmp_path):
    root, masks = make_set(2016, {"one": 1}), tmp_path / "masks"
    for index in range(6):
        save_gray(masks / f"one/{index:05d}.png", draw(index) * 255)
    assert run_davis(root, 2016, "val", tmp_path / "out", masks=masks)["J&F-Mean"] == 1


@pytest.mark.parametrize("fault", ["folder", "frame", "size", "id"])
def test_wrong_masks_are_said_before_any_work(make_set, tmp_path, fault):
    root, masks = make_set(2017, OBJECTS), tmp_path / "masks"
    write_masks(masks)
    path = masks / "one/00003.png"
    if fault == "size":
        save_palette(path, draw(3)[:, :30])
    elif fault == "id":
        save_palette(path, draw(3, 2))
    else:
        path.unlink()
    if fault == "folder":
        path.parent.rename(masks / "uno")
    said = {
        "folder": "masks/one is missing",
        "frame": "one/00003.png is missing",
        "size": "one/00003.png has 30x24 pixels, .* 32x24",
        "id": "one/00003.png has the id 2, but the objects of one are 1",
    }
    with pytest.raises(InputError, match=said[fault]):
        run_davis(root, 2017, "val", tmp_path / "out", masks=masks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["davis2017", "masks"]


def test_real_masks_of_another_method(data, tmp_path):
    """The layout of the golden masks, made a data set by links, scores what the official tool says."""
    golden, root = data / "golden/davis-metrics", tmp_path / "davis"
    official = json.loads((golden / "official_scores.json").read_text())["libby"]
    for part in ("JPEGImages", "Annotations"):  # no frames there: the masks stand in for them
        (root / part / "480p").mkdir(parents=True)
        (root / part / "480p/libby").symlink_to(golden / "ground-truth/libby")
    results = run_davis(root, 2016, "all", tmp_path / "out", masks=golden / "result")
    assert results["J-Mean"] == pytest.approx(official["J"]["mean"], abs=1e-6)
    assert results["F-Decay"] == pytest.approx(official["F"]["decay"], abs=1e-6)
    got = results["sequences"]["libby"]["objects"]["1"]["J"]
    assert got[0] is None and got[1:-1] == pytest.approx(official["J"]["per_frame"][1:-1], abs=1e-6)
    assert [s.name for s in DavisSet.find(root, 2016, "all").sequences] == ["libby"]


def rendered(results):
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(results))
    return console.export_text()


def test_table_of_one_result(make_set, tmp_path):
    results = run_davis(make_set(2017, OBJECTS), 2017, "val", tmp_path / "out", Fake(OBJECTS))
    results["J-Mean"] = 0.1234
    lines = [line.split() for line in rendered(results).splitlines()]
    assert lines[0] == ["DAVIS-2017", "val"]
    assert any(line[1:8:2] == ["two", "1.000", "1.000", "1.000"] for line in lines if line)
    assert any("objects" in line and "0.123" in line for line in lines)


def test_table_of_several_results(make_set, tmp_path):
    root = make_set(2017, OBJECTS)
    good = run_davis(root, 2017, "val", tmp_path / "good", Fake(OBJECTS))
    write_masks(tmp_path / "masks")
    other = run_davis(root, 2017, "val", tmp_path / "other", masks=tmp_path / "masks")
    del other["sequences"]["one"]
    text = rendered([good, other])
    assert "fake" in text and " 2 " in text
    assert any(line.split()[1:] == ["one", "│", "1.000", "│", "-", "│"] for line in text.splitlines())
    with pytest.raises(ValueError, match="no results"):
        table([])
