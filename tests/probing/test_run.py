"""Backbones judged from the command line: files, table, and one sentence for each mistake."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pretrain.catalogue import build_any
from pretrain.errors import InputError
from pretrain.probe import ProbeSettings, pixel_probe
from pretrain.probe import linear as heads
from vidtrack.cli import app
from vidtrack.probing.columns import columns, layers, main_column
from vidtrack.probing.frames import find_halves
from vidtrack.probing.run import judge
from vidtrack.probing.table import fine_tuned, table

from .test_frames import fill


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["probe", *map(str, arguments)], env={"COLUMNS": "120"})


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of 20 noisy images of one colour each."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "<b>dog")):
        for n in range(20):
            path = tmp_path / "images" / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 90, (32, 32, 3)) + np.array([(0, 130, 0), (130, 0, 0)])[label]
            Image.fromarray(image.astype(np.uint8)).save(path)
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MLP_STEPS", 20)


def test_digits_from_the_command_line(tmp_path: Path) -> None:
    arguments = "--data", "digits", "--limit", 300, "--test-limit", 100, "--layers", "layer1,layer2"
    done = run("random:resnet18", *arguments, "--shares", "0.1,1", "--out", tmp_path / "out", "--size", 16)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["schema"], results["kind"], results["train"], results["test"]) == (1, "images", 300, 100)
    assert results["classes"] == list("0123456789") and results["size"] == 16
    (row,) = results["rows"]
    assert row["layer"] in ("layer1", "layer2") and len(row["weights"]) == 64
    assert len(row["scores"]) == 2 * (1 + 2 * 2)
    best = main_column(results).value(row, row["layer"])
    assert best is not None and best > 0.7
    assert np.trace(row["confusion"]) / 100 == pytest.approx(best)
    assert len(row["embedding"]["places"]) == len(row["embedding"]["labels"]) == 100
    with (tmp_path / "out" / "results.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(row["scores"])
    for line, score in zip(lines, row["scores"], strict=True):
        assert line["backbone"] == "random:resnet18" and float(line["accuracy"]) == score["accuracy"]
        assert line["held_out"] == ("" if score["held_out"] is None else str(score["held_out"]))
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert f"{best:.3f}" in done.output and "There is no test set" in done.output
    again = run("random:resnet18", *arguments, "--out", tmp_path / "out")
    assert again.exit_code == 2 and "exists already" in again.output


def test_several_backbones_have_a_row_each(classes: Path) -> None:
    settings = ProbeSettings(layers="last", heads=("linear",), embedding=False, k=33)
    results = judge(["random:resnet18", "random:resnet18#2"], classes, None, settings, size=32)
    assert "33 neighbours are more than there are training images: all 32 vote." in results["notes"]
    fewer = judge(["random:resnet18"], classes, None, settings.model_copy(update={"k": 32}), size=32)
    assert "neighbours" not in " ".join(fewer["notes"])
    assert [row["name"] for row in results["rows"]] == ["random:resnet18", "random:resnet18#2"]
    assert len({row["weights"] for row in results["rows"]}) == 2
    assert results["settings"]["shares"] == [0.1, 1.0]
    assert results["notes"][1] == "1 % of the labels is less than one for each class: left out."
    assert [column.title for column in columns(results)] == ["kNN 100 %", "linear 10 %", "linear 100 %"]
    assert layers(results["rows"][0]) == ["layer4"] and table(results).row_count == 2
    again = judge(["random:resnet18"], classes, None, settings, size=32)
    assert again["rows"][0]["scores"] == results["rows"][0]["scores"]


def test_a_damaged_image_is_told(classes: Path) -> None:
    (classes / "cat" / "3.png").write_bytes(b"no image")
    settings = ProbeSettings(layers="last", heads=("linear",), shares=(1.0,), embedding=False)
    results = judge(["random:resnet18"], classes, None, settings)
    assert results["notes"][-1] == "1 files can't be read and were left out, such as cat/3.png."


def test_pixels(tmp_path: Path) -> None:
    data = fill(tmp_path / "data", {"bear": 6})
    done = run("random:resnet18", "--data", data, "--layers", "layer1", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["kind"] == "pixels" and results["classes"] == ["1", "2"] and results["ids"] == [1, 2]
    assert results["notes"][0].startswith("The first half of each sequence's annotated frames trains")
    (row,) = results["rows"]
    (score,) = row["scores"]
    assert score["mIoU"] == pytest.approx(np.mean(list(score["IoU"].values())))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == 3 and page.count("data:image/jpeg;base64,") == 6
    head, line = csv.reader((tmp_path / "out" / "results.csv").read_text().splitlines())
    assert head[-2:] == ["IoU 1", "IoU 2"] and line[0] == "random:resnet18"
    assert "mIoU" in done.output


def test_pixels_of_camvid(data: Path) -> None:
    halves = find_halves(data / "eval" / "CamVid-0016E5", limit=4, test_limit=2)
    assert halves.names[1] == "Sky"
    sets = [
        part for half in (halves.train, halves.test) for part in (halves.images(half), halves.masks(half))
    ]
    result = pixel_probe(build_any("random:resnet18"), *sets, layers=["layer2"], size=120, pixels=4000)
    assert result.classes == tuple(range(1, 12))
    assert result.layers[0].accuracy > 0.75 and result.layers[0].miou > 0.3


MISTAKES = [
    (["--heads", "tree"], "--heads tree: choose linear, mlp or linear,mlp."),
    (["--shares", "0.1,2"], "--shares 0.1,2: give numbers above 0, up to 1, such as 0.01,0.1,1."),
    (["--shares", "x"], "--shares x: give numbers above 0"),
    (["--temperature", "0"], "--temperature 0: give a number above 0."),
    (["--max-minutes", "1"], "--max-minutes is for each fine-tuning: add --finetune"),
    (["--epochs", "3"], "--epochs is for each fine-tuning: add --finetune"),
    (["--layers", ","], "--layers is empty"),
    (["--layers", "layer9"], "the backbone has no layer 'layer9': choose from layer1"),
    (["--shares", "0.01"], "1 % of 32 images is less than one for each of the 2 classes"),
    (["random:resnet18"], "one backbone is named twice"),
    (["random:resnet99"], "resnet99"),
]


@pytest.mark.parametrize(("options", "sentence"), MISTAKES)
def test_mistakes_are_told_in_one_sentence(classes: Path, options: list[str], sentence: str) -> None:
    done = run("random:resnet18", *options, "--data", classes)
    assert done.exit_code == 2
    assert sentence in done.output and done.output.count("\n") == 1 and "Traceback" not in done.output


def test_a_network_of_a_fixed_size_is_told_before_any_work(classes: Path) -> None:
    pytest.importorskip("timm")
    done = run("random:resnet18", "random:mixer_s32_224", "--size", "64", "--data", classes)
    assert done.exit_code == 2 and "takes no images of 64 x 64 pixels" in done.output
    assert "give --size 224" in done.output and done.output.count("\n") == 1


def test_unusable_data_is_told(classes: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (classes / "cat").rename(tmp_path / "one" / "cat")
    with pytest.raises(InputError, match=r"only one class \(cat\)"):
        judge(["random:resnet18"], tmp_path / "one")
    with pytest.raises(InputError, match="has no labels"):
        judge(["random:resnet18"], tmp_path / "one" / "cat")
    with pytest.raises(InputError, match="is missing"):
        judge(["random:resnet18"], tmp_path / "nothing")
    data = fill(tmp_path / "data", {"bear": 2})
    with pytest.raises(InputError, match="whose pixels are probed linearly: leave out --finetune"):
        judge(["random:resnet18"], data, None, ProbeSettings(finetune=True))


def test_data_among_the_results_stays(classes: Path) -> None:
    (classes / "results.json").write_text("{}")
    with pytest.raises(InputError, match="lies in the output"):
        judge(["random:resnet18"], classes / "cat", classes, overwrite=True)
    assert (classes / "cat").is_dir()


def test_nothing_is_left_behind_when_writing_fails(classes: Path, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    settings = ProbeSettings(layers="last", heads=("linear",), shares=(1.0,), embedding=False)
    with pytest.raises(InputError, match="No space left on device"):
        judge(["random:resnet18"], classes, tmp_path / "out", settings, finish=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_what_fine_tuning_gave_is_a_sentence() -> None:
    def score(head: str, share: float, accuracy: float, stopped: bool = False) -> dict[str, Any]:
        layer = None if head == "finetune" else "a"
        found = {"head": head, "layer": layer, "share": share, "accuracy": accuracy, "stopped": stopped}
        return found | {"epochs": 28.57 if head == "finetune" else None}

    scores = [score("knn", 1, 0.5), score("finetune", 0.1, 0.25), score("finetune", 1, 0.75, True)]
    results = {"kind": "images", "title": "x", "rows": [{"name": "one", "layer": "a", "scores": scores}]}
    assert fine_tuned(results) == [
        "one fine-tuned with a share of the labels, 10 %: 0.250 (28.6 epochs), 100 %: 0.750 (28.6 epochs, "
        "stopped early)."
    ]
    assert [str(column.header) for column in table(results).columns] == ["layer", "kNN\n100 %"]
    assert [column.value(scores and results["rows"][0], "a") for column in columns(results)] == [
        0.5,
        0.25,
        0.75,
    ]
