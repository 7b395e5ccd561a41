"""The rows of a table: sweeps, names, and embeddings that are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack import load
from vidtrack.benchmark.rows import Row, parse_sweep, rows_of
from vidtrack.benchmark.task import Run
from vidtrack.labels.masks import Masks
from vidtrack.video import save_png


def test_a_sweep_is_every_combination_of_its_values() -> None:
    sweep = parse_sweep(["topk=5,10", "temperature=0.03,0.1", "context=1+3,7", "reach=none,4", "refine=off"])
    assert sweep == {
        "topk": [5, 10],
        "temperature": [0.03, 0.1],
        "context": ["1,3", "7"],
        "reach": [None, 4],
        "refine": [False],
    }
    rows = rows_of(load, ["lab"], sweep=sweep)
    assert len(rows) == 16 and len({row.name for row in rows}) == len({row.folder for row in rows}) == 16
    assert rows[0].name == "lab topk=5 temperature=0.03 context=1+3 reach=none refine=off"
    last = rows[-1].settings["propagation"]
    assert (last["topk"], last["temperature"], last["context"]) == (10, 0.1, [1, 2, 3, 4, 5, 6, 7])
    assert (last["reach"], last["refine"]) == (4, False)
    assert rows[-1].swept == {"topk": 10, "temperature": 0.1, "context": "7", "reach": 4, "refine": False}
    embedders = {id(row.tracker.embedder) for row in rows}  # type: ignore[union-attr]
    assert len(embedders) == 1


def test_presets_and_qualities_can_be_swept() -> None:
    rows = rows_of(load, ["lab", "copy"], sweep=parse_sweep(["preset=crw,dino"]))
    assert [row.settings["propagation"]["topk"] for row in rows[:2]] == [10, 5]
    assert len(rows) == 3 and rows[2].name == "copy" and rows[2].swept == {}  # the same with all settings
    rows = rows_of(load, ["lab"], sweep=parse_sweep(["quality=fast,best"]))
    assert [row.settings["propagation"]["reach"] for row in rows] == [4, None]
    assert [row.settings["propagation"]["context"] for row in rows] == [[1, 4], [1, 3, 6]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["topk"], "give a setting and its values"),
        (["topk="], "give a setting and its values"),
        (["topk=5,,6"], "give a setting and its values"),
        (["colour=1"], "there is no setting colour"),
        (["topk=5", "topk=6"], "topk comes twice"),
        (["topk=5,5"], "a value comes twice"),
        (["topk=5,5.0"], "a value comes twice"),
        (["=5"], "give a setting and its values"),
        (["topk=none"], "--topk None"),
        (["topk=many"], "--topk 'many'"),
        (["temperature=0.1,0"], "--temperature 0"),
        (["preset=crow"], "there is no preset 'crow'"),
        (["topk=" + ",".join(map(str, range(1, 202)))], "201 combinations"),
    ],
)
def test_wrong_sweeps(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        rows_of(load, ["lab"], sweep=parse_sweep(words))


def test_names_are_unique_and_can_be_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.safetensors").touch()
    trackers = [str(tmp_path / "a/net.safetensors"), str(tmp_path / "b/net.safetensors"), "random:resnet18"]
    rows = rows_of(lambda name: name, trackers, [tmp_path / "a", Path("/masks/random_resnet18")])
    assert [row.name for row in rows] == ["net", "net 2", "random:resnet18", "a", "random_resnet18 2"]
    assert [row.folder for row in rows][:3] == ["net", "net_2", "random_resnet18"]
    assert Row("../..").folder == "_"


def test_a_sweep_embeds_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for index in range(4):
        (tmp_path / "video").mkdir(exist_ok=True)
        save_png(tmp_path / f"video/{index:05d}.png", rng.integers(0, 255, (64, 96, 3), np.uint8))
    mask = np.zeros((64, 96), np.uint8)
    mask[16:40, 16:48] = 1
    rows = rows_of(load, ["lab"], sweep={"topk": [1, 4], "size": [None]})
    embedder = rows[0].tracker.embedder  # type: ignore[union-attr]
    calls: list[Any] = []

    class Counting(type(embedder)):  # type: ignore[misc]
        def __call__(self, *arguments: Any) -> Any:
            calls.append(arguments)
            return super().__call__(*arguments)

    embedder.__class__ = Counting
    run = Run("", {0: Masks(mask, None)})
    found = [[result.labels.ids for result in row.results(tmp_path / "video", run, 10**8)] for row in rows]
    assert len(calls) == 4 and len(found[0]) == 4
    again = [result.labels.ids for result in rows[1].results(tmp_path / "video", run, 0)]
    assert len(calls) > 4
    np.testing.assert_array_equal(found[1], again)
