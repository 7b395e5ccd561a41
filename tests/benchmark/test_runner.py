"""Running a benchmark: outputs, several trackers, going on after an interruption, existing masks, sweeps."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.results import as_table
from vidtrack.benchmark.rows import Row
from vidtrack.benchmark.runner import run
from vidtrack.labels.masks import Masks

from .toy import FRAMES, Fake, ToyTask, draw, make_task

MEASURED = ("propagation_seconds", "frames_per_second", "peak_memory_mb", "reused")


@pytest.fixture
def task(tmp_path: Path) -> ToyTask:
    return make_task(tmp_path / "data")


def without_measurements(results: dict[str, Any]) -> dict[str, Any]:
    for row in results["rows"]:
        for part in (row, *row["sequences"].values()):
            for key in MEASURED:
                part.pop(key, None)
    return results


def test_the_truth_is_right(task: ToyTask, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    results = run(task, [Row("fake", Fake())], out, progress=lambda *state: seen.append(state))
    assert as_table(json.loads((out / "results.json").read_text())) == results
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in out.iterdir()) == ["made", "masks", "results.csv", "results.json"]
    (row,) = results["rows"]
    assert row["scores"] == {"right": 1} and row["sequences"]["two"]["scores"] == {"right": 1}
    for name in ("two", "one"):
        for index in range(FRAMES):
            with Image.open(out / f"masks/{name}/{index:05d}.png") as image:
                assert image.mode == "P"
                np.testing.assert_array_equal(np.asarray(image), draw(index))
    assert seen[0] == ("two", 1, 12) and seen[-1] == ("one", 12, 12)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_results_record_how_they_were_made(task: ToyTask, tmp_path: Path) -> None:
    results = run(task, [Row("a", Fake()), Row("b", Fake(wrong=True))], tmp_path / "out")
    assert results["schema"] == 2 and results["keys"] == ["right"] and results["protocol"] == {"rule": 1}
    assert set(results["versions"]) >= {"vidtrack", "torch", "numpy"}
    assert len(results["data_sha256"]) == 64 and results["sweep"] is None
    good, bad = results["rows"]
    assert (good["name"], good["weights"], good["settings"]["tracker"]) == ("a", "abc", "fake")
    assert good["frames_per_second"] == pytest.approx(12 / good["propagation_seconds"])
    assert good["peak_memory_mb"] > 10 and good["folder"] == "a/masks"
    assert bad["scores"]["right"] == pytest.approx(1 / 6)
    assert bad["sequences"]["one"]["series"] == {"1": [1, 0, 0, 0, 0, 0]}
    assert json.loads((tmp_path / "out/table.json").read_text()) == results
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "table.csv", "table.json"]
    rows = list(csv.reader((tmp_path / "out/table.csv").open()))
    assert rows == [["Tracker", "right"], ["a", "1.000000"], ["b", "0.166667"]]
    rows = list(csv.reader((tmp_path / "out/b/results.csv").open()))
    assert rows == [["Sequence", "right"], ["two", "0.166667"], ["one", "0.166667"]]
    one = json.loads((tmp_path / "out/b/results.json").read_text())
    assert one["schema"] == 1 and one["right"] == one["sequences"]["two"]["right"] == 1 / 6
    assert one["weights"] == "abc" and one["settings"]["tracker"] == "fake" and one["peak_memory_mb"] > 10
    assert as_table(one) == {**results, "rows": [bad]}


class Heavy(Fake):
    """Holds a lot of memory for a moment."""

    def results(self, *arguments: Any) -> Any:
        np.ones(50_000_000)  # 400 MB
        return super().results(*arguments)


def test_a_sweep_has_columns_of_its_own(task: ToyTask, tmp_path: Path) -> None:
    swept = ({"topk": 5, "size": None}, {"topk": 10, "size": 120}, {})
    rows = [Row(name, Fake(), None, dict(own)) for name, own in zip("abc", swept, strict=True)]
    run(task, rows, tmp_path / "out", sweep={"topk": [5, 10], "size": [None, 120]})
    lines = list(csv.reader((tmp_path / "out/table.csv").open()))
    assert [line[:3] for line in lines] == [
        ["Tracker", "topk", "size"],
        ["a", "5", "none"],
        ["b", "10", "120"],
        ["c", "", ""],
    ]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are reset on Linux alone")
def test_each_row_has_a_peak_of_memory_of_its_own(task: ToyTask, tmp_path: Path) -> None:
    results = run(task, [Row("heavy", Heavy()), Row("light", Fake())], tmp_path / "out")
    heavy, light = (row["peak_memory_mb"] for row in results["rows"])
    assert heavy > light + 300


def test_other_processes_score_the_same(
    task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # where the processes find the toys
    rows = [Row("a", Fake()), Row("b", Fake(wrong=True))]
    one, two = run(task, rows, tmp_path / "1"), run(task, rows, tmp_path / "2", workers=2)
    assert without_measurements(one) == without_measurements(two)


def test_each_run_of_a_sequence_has_a_folder(tmp_path: Path) -> None:
    task = make_task(tmp_path / "data", ["one"], passes=2)
    results = run(task, [Row("fake", Fake(wrong=True))], tmp_path / "out")
    folder = tmp_path / "out/masks/one"
    assert (
        len(list((folder / "from 0").glob("*.png"))) == 6 and len(list((folder / "from 1").iterdir())) == 10
    )
    with np.load(folder / "from 1/00002.npz") as soft:
        assert soft["labels"].shape == (3, 4, 2) and soft["objects"].tolist() == [1]
        assert (soft["working"].tolist(), int(soft["stride"])) == ([24, 32], 8)
    assert results["rows"][0]["sequences"]["one"]["series"] == {"1": [1, 0.5, 0, 0, 0, 0]}


def test_an_interrupted_run_goes_on(task: ToyTask, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(task, [Row("fake", Fake(stop="one"))], out)
    assert not out.exists()
    tracker = Fake()
    results = run(task, [Row("fake", tracker)], out)
    assert tracker.calls == ["one"] and results["rows"][0]["reused"] == ["two"]
    assert results["rows"][0]["propagation_seconds"] > 0
    fresh = run(task, [Row("fake", Fake())], tmp_path / "fresh")
    assert without_measurements(results) == without_measurements(fresh)
    assert not (tmp_path / "out.partial").exists()


def test_a_complete_run_is_used_again_for_more_trackers(task: ToyTask, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(task, [Row("a", Fake()), Row("gone", Fake())], out)
    first, second = Fake(), Fake(wrong=True)
    results = run(task, [Row("a", first), Row("b", second)], out, overwrite=True)
    assert first.calls == [] and second.calls == ["two", "one"]
    assert results["rows"][0]["reused"] == ["two", "one"] and results["rows"][1]["reused"] == []
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "table.csv", "table.json"]
    third = Fake()
    results = run(task, [Row("a", third)], out, overwrite=True)
    assert third.calls == [] and results["rows"][0]["reused"] == ["two", "one"]
    assert sorted(path.name for path in out.iterdir()) == ["made", "masks", "results.csv", "results.json"]


def change_weights(task: ToyTask, partial: Path) -> Fake:
    return Fake(weights="other")


def change_settings(task: ToyTask, partial: Path) -> Fake:
    return Fake(wrong=True)


def change_data(task: ToyTask, partial: Path) -> Fake:
    for item in task.items:
        item.print = "other"
    return Fake()


def change_protocol(task: ToyTask, partial: Path) -> Fake:
    task.protocol["rule"] = 2
    return Fake()


def change_mask(task: ToyTask, partial: Path) -> Fake:
    Masks(draw(2), None).save(partial / "masks/two/00003.png", overwrite=True)
    return Fake()


def damage_record(task: ToyTask, partial: Path) -> Fake:
    (partial / "made/two.json").write_text("{")
    return Fake()


CHANGES = [change_weights, change_settings, change_data, change_protocol, change_mask, damage_record]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("complete", [False, True])
def test_only_equal_work_is_reused(
    task: ToyTask, tmp_path: Path, change: Callable[[ToyTask, Path], Fake], complete: bool
) -> None:
    out = tmp_path / "out"
    if complete:
        run(task, [Row("fake", Fake())], out)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(task, [Row("fake", Fake(stop="one"))], out)
    tracker = change(task, out if complete else tmp_path / "out.partial")
    results = run(task, [Row("fake", tracker)], out, overwrite=True)
    assert "two" in tracker.calls and "two" not in results["rows"][0]["reused"]


def test_other_versions_are_not_mixed(task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task, [Row("fake", Fake(stop="one"))], tmp_path / "out")
    monkeypatch.setattr("vidtrack.benchmark.runner.versions", lambda: {"vidtrack": "next"})
    assert run(task, [Row("fake", Fake())], tmp_path / "out")["rows"][0]["reused"] == []


def test_predictions_of_another_question_do_not_stay(task: ToyTask, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task, [Row("fake", Fake(stop="one"))], tmp_path / "out")
    run(make_task(tmp_path / "data", ["one"]), [Row("fake", Fake())], tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").glob("*/*")}
    assert found == {"masks/one", "made/one.json"}


def test_existing_output(task: ToyTask, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Fake()
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(InputError, match=r"out exists already: .*--overwrite"):
        run(task, [Row("fake", tracker)], out)
    with pytest.raises(InputError, match="no vidtrack results"):  # a folder of the user's stays
        run(task, [Row("fake", tracker)], out, overwrite=True)
    assert tracker.calls == [] and (out / "old").exists()
    (out / "results.json").touch()
    run(task, [Row("fake", tracker)], out, overwrite=True)
    assert not (out / "old").exists() and (out / "results.json").stat().st_size


@pytest.mark.parametrize("inside", ["out/masks", "out.partial/masks"])
def test_input_is_never_overwritten(task: ToyTask, tmp_path: Path, inside: str) -> None:
    masks = tmp_path / inside
    masks.mkdir(parents=True)
    (masks.parent / "results.json").touch()
    with pytest.raises(InputError, match="masks lies in the output"):
        run(task, [Row("theirs", None, masks)], tmp_path / "out", overwrite=True)
    assert masks.is_dir()


@pytest.mark.parametrize("fault", ["few", "many", "index"])
def test_results_must_fit_the_frames(task: ToyTask, tmp_path: Path, fault: str) -> None:
    class Faulty(Fake):
        def results(self, *arguments: Any) -> Any:
            results = list(super().results(*arguments))
            if fault == "few":
                results.pop()
            elif fault == "many":
                results.append(results[-1])
            else:
                results[2].index = 7
            return iter(results)

    said = {
        "few": "two: want frame 5, got nothing",
        "many": "two: more results than its frames",
        "index": "two: want frame 2, got frame 7",
    }
    with pytest.raises(ValueError, match=said[fault]):
        run(task, [Row("fake", Faulty())], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_existing_masks_are_scored_where_they_are(task: ToyTask, tmp_path: Path) -> None:
    for name in ("two", "one"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        for index in range(FRAMES):
            Masks(draw(min(index, 3)), None).save(tmp_path / f"theirs/{name}/{index:05d}.png")
    results = run(task, [Row("theirs", None, tmp_path / "theirs")], tmp_path / "out")
    (row,) = results["rows"]
    assert row["scores"]["right"] == pytest.approx(4 / 6)
    assert row["settings"] == {"masks": str(tmp_path / "theirs")}
    assert [row[key] for key in ("weights", "folder", "frames_per_second", "peak_memory_mb")] == [None] * 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv", "results.json"]


def test_reports_are_written_before_the_folder_appears(task: ToyTask, tmp_path: Path) -> None:
    def report(folder: Path, results: dict[str, Any]) -> None:
        assert not (tmp_path / "out").exists() and (folder / "results.json").is_file()
        assert (folder / results["rows"][0]["folder"] / "two").is_dir()
        (folder / "report.html").write_text(results["title"])

    run(task, [Row("fake", Fake())], tmp_path / "out", finish=report)
    assert (tmp_path / "out/report.html").read_text() == "Toys"


def test_two_runs_never_share_an_output(task: ToyTask, tmp_path: Path) -> None:
    class Second(Fake):
        def results(self, *arguments: Any) -> Any:
            with pytest.raises(InputError, match=r"another run is writing .*out\.partial: wait"):
                run(task, [Row("fake", Fake())], tmp_path / "out")
            return super().results(*arguments)

    results = run(task, [Row("fake", Second())], tmp_path / "out")
    assert results["rows"][0]["scores"] == {"right": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("made", "masks", "results.csv", "results.json"),
    ]


def test_a_folder_of_the_user_named_partial_stays(task: ToyTask, tmp_path: Path) -> None:
    tracker = Fake()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/thesis.txt").touch()
    with pytest.raises(InputError, match=r"out\.partial holds something that vidtrack did not write"):
        run(task, [Row("fake", tracker)], tmp_path / "out")
    assert tracker.calls == [] and (tmp_path / "out.partial/thesis.txt").exists()
    (tmp_path / "other.partial").touch()
    with pytest.raises(InputError, match="did not write"):
        run(task, [Row("fake", tracker)], tmp_path / "other")


def test_an_output_that_cannot_be_made(
    task: ToyTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"can't be made \(Read-only file system\): choose another --out"):
        run(task, [Row("fake", Fake())], tmp_path / "out")


def test_a_run_that_fails_at_once_leaves_nothing(task: ToyTask, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task, [Row("fake", Fake(stop="two"))], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
