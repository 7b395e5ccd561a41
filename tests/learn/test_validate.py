"""Validation of a run: when, what is written, and which weights are the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from pretrain.errors import InputError
from vidtrack.learn.cycle_accuracy import CycleAccuracy, cycle_accuracy
from vidtrack.learn.held_out import ClipSet, HeldOut, choose_clips
from vidtrack.learn.validate import BEST, LAST, LOG, PRODUCTS, Validation, Validator, read_validation
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.propagate.settings import Propagation


@pytest.fixture(scope="module")
def model() -> VideoColorizer:
    torch.manual_seed(0)
    return VideoColorizer(Model(head=(8, 4)))


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 255, (6, 40, 56, 3)).astype(np.uint8) for _ in range(2)]
    chosen = choose_clips(videos, ["a", "b"], HeldOut(clips=2, frames=3, gap=1), 32)
    assert chosen is not None
    return chosen


def validator(out: Path, model: VideoColorizer, clips: ClipSet, **settings: Any) -> Validator:
    def save(path: Path, step: int) -> None:
        save_tracker(path, model, Propagation().model_dump(mode="json"), {"step": step})

    return Validator(out, Validation.model_validate(settings), model, clips, save)


def score(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """The next scores are these."""
    left = iter(values)
    monkeypatch.setattr(Validator, "score", lambda _: CycleAccuracy(next(left), (0.5, 0.25), 0.03))


def test_a_record_holds_the_score(
    tmp_path: Path, model: VideoColorizer, clips: ClipSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    asked: list[Any] = []
    monkeypatch.setattr(
        "vidtrack.learn.validate.cycle_accuracy",
        lambda *arguments: (asked.append(arguments[3:]), cycle_accuracy(*arguments))[1],
    )
    check = validator(tmp_path, model.train(), clips, temperature=0.1)
    check.report = told.append
    with torch.no_grad():
        check(7)
    (record,) = read_validation(tmp_path)
    assert asked == [(0.1, 1)]
    assert told == [record] and record["step"] == 7 and record["seconds"] > 0
    found = cycle_accuracy(model.eval().embed, clips.frames, clips.windows, 0.1)
    assert record["cycle_accuracy"] == pytest.approx(found.mean)
    assert [record[f"cycle_accuracy_{k}"] for k in (1, 2)] == pytest.approx(list(found.steps))
    assert record["chance"] == found.chance
    assert {path.name for path in tmp_path.iterdir()} == set(PRODUCTS)


def test_the_best_weights_stay(
    tmp_path: Path, model: VideoColorizer, clips: ClipSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(name: str) -> int:
        return int(load_tracker(tmp_path / name).training["step"])

    score(monkeypatch, [0.2, 0.4, 0.3, 0.35, 0.5, 0.1])
    check = validator(tmp_path, model, clips)
    bests = []
    for step in (0, 1, 2):
        check(step)
        bests.append(saved(BEST))
        assert saved(LAST) == step
    check = validator(tmp_path, model, clips)  # resumed
    for step in (3, 4):
        check(step)
        bests.append(saved(BEST))
    assert bests == [0, 1, 1, 1, 4]
    (tmp_path / BEST).unlink()  # lost: what comes next is the best that there is
    validator(tmp_path, model, clips)(5)
    assert saved(BEST) == 5
    assert [record["step"] for record in read_validation(tmp_path)] == [0, 1, 2, 3, 4, 5]


def test_the_log_of_a_killed_run(tmp_path: Path) -> None:
    lines = [(0, 0.1), (4, 0.2), (8, 0.5), (4, 0.3)]
    written = [json.dumps({"step": step, "cycle_accuracy": value}) for step, value in lines]
    (tmp_path / LOG).write_text("\n".join([*written[:2], "[]", '{"step": 3}', *written[2:], '{"st']))
    found = read_validation(tmp_path)
    assert [(record["step"], record["cycle_accuracy"]) for record in found] == [(0, 0.1), (4, 0.3), (8, 0.5)]
    assert read_validation(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_minutes": None}, [0, 12]),
        ({"every_minutes": None, "every_steps": 5}, [0, 5, 10, 12]),
        ({"every_minutes": 3.0}, [0, 3, 6, 9, 12]),
        ({"every_minutes": 4.5, "every_steps": 6}, [0, 5, 6, 11, 12]),
    ],
)
def test_when_it_is_due(
    tmp_path: Path,
    model: VideoColorizer,
    clips: ClipSet,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    expected: list[int],
) -> None:
    """A step takes a minute, a validation two, which don't count."""
    clock = [1000.0]
    monkeypatch.setattr("vidtrack.learn.validate.time.monotonic", lambda: clock[0])

    def slow(_: Validator) -> CycleAccuracy:
        clock[0] += 120.0
        return CycleAccuracy(0.5, (0.5,), 0.03)

    monkeypatch.setattr(Validator, "score", slow)
    check = validator(tmp_path, model, clips, **settings)
    minutes = 0.0
    for step in range(13):
        minutes += step > 0
        if check.due(step, 12, minutes):
            check(step)
            minutes = 0.0
    found = read_validation(tmp_path)
    assert [record["step"] for record in found] == expected
    assert {record["seconds"] for record in found} == {120}


def make_davis(root: Path) -> None:
    """A bright square that moves over a dark sequence of four frames, in DAVIS layout."""
    for index in range(4):
        for kind, name in (("JPEGImages", f"{index:05d}.jpg"), ("Annotations", f"{index:05d}.png")):
            folder = root / kind / "480p" / "square"
            folder.mkdir(parents=True, exist_ok=True)
            ids = np.zeros((48, 64), np.uint8)
            ids[8:32, 8 + 4 * index : 32 + 4 * index] = 1
            Image.fromarray(ids * 200 if kind == "JPEGImages" else ids * 255).save(folder / name)


def test_masks_are_carried_where_a_folder_is_given(
    tmp_path: Path, model: VideoColorizer, clips: ClipSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_davis(tmp_path / "davis")
    davis = {"data": str(tmp_path / "davis"), "year": 2016, "size": 64}
    score(monkeypatch, [0.2])
    (tmp_path / "run").mkdir()
    check = validator(tmp_path / "run", model, clips, davis=davis)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    check(3)
    (record,) = read_validation(tmp_path / "run")
    assert {"J&F-Mean", "J-Mean", "F-Mean"} <= record.keys() and 0.2 < record["J-Mean"] <= 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(PRODUCTS)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_mistakes_are_told_before_anything_is_done(
    tmp_path: Path, model: VideoColorizer, clips: ClipSet
) -> None:
    with pytest.raises(InputError, match="nowhere is missing"):
        validator(tmp_path, model, clips, davis={"data": str(tmp_path / "nowhere")})
    for wrong in ({"clips": {"frames": 1}}, {"every_steps": 0}, {"every_minutes": -1}, {"temperature": 0}):
        with pytest.raises(ValidationError):
            Validation.model_validate(wrong)
    assert not list(tmp_path.iterdir())
