"""Training that is stopped at bad moments: in a validation, before one, while the last files are written."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.train import TRACKER, TrainResult, train
from vidtrack.learn.validate import LOG, Validator, read_validation

from .inputs import SHARE

STEPS = 4


def config() -> TrackConfig:
    """Validated before the first, after the second and the last step; a checkpoint after each."""
    return TrackConfig.model_validate(
        {
            "data": {"short_side": 32},
            "clips": {"frames": 2, "crop": 32},
            "anchors": {"grid": 2, "cross_grid": 2},
            "model": {"share": SHARE, "head": [8, 8]},
            "optimizer": {"steps": STEPS, "batch": 2, "warmup_steps": 1},
            "engine": {"precision": "32", "log_every": 1, "checkpoint_minutes": 0.0},
            "validation": {"every_steps": 2, "clips": {"clips": 2, "frames": 3, "gap": 1}},
        }
    )


def run(folder: Path, out: Path, **options: Any) -> TrainResult:
    return train(folder / "made/videos", config(), out, device="cpu", **options)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, out).done
    return out


def scores(out: Path) -> list[tuple[float, float]]:
    return [(record["step"], record["cycle_accuracy"]) for record in read_validation(out)]


def assert_same(one: Path, other: Path) -> None:
    for name in (TRACKER, "best.safetensors", "last.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name
    assert scores(one) == scores(other)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize(
    ("how", "number"),
    [("Ctrl-C", 0), ("Ctrl-C", 2), ("a kill", 1)],
    ids=["Ctrl-C, the first", "Ctrl-C, the last", "a kill, the second"],
)
def test_a_validation_that_was_stopped_is_made_by_the_next_run(
    how: str, number: int, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C doesn't wait for it; a kill leaves the checkpoint from before it."""
    real, made = Validator.score, []

    def score(self: Validator) -> Any:
        made.append(0)
        if len(made) == number + 1:
            if how == "a kill":
                raise RuntimeError("killed")
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(Validator, "score", score)
    before = signal.getsignal(signal.SIGINT)
    if how == "a kill":
        with pytest.raises(RuntimeError, match="killed"):
            run(folder, tmp_path / "run")
    else:
        stopped = run(folder, tmp_path / "run")
        assert stopped.interrupted and not stopped.done and stopped.steps == 2 * number
    assert signal.getsignal(signal.SIGINT) is before
    assert len(scores(tmp_path / "run")) == number and not (tmp_path / "run" / TRACKER).exists()
    assert run(folder, tmp_path / "run").done
    assert_same(tmp_path / "run", whole)


def test_a_validation_is_not_made_twice(folder: Path, whole: Path, tmp_path: Path) -> None:
    def kill(record: dict[str, float]) -> None:
        if record["step"] == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(folder, tmp_path / "run", report=kill)
    lines = (tmp_path / "run" / LOG).read_text().splitlines()
    assert run(folder, tmp_path / "run").done
    assert (tmp_path / "run" / LOG).read_text().splitlines()[:-1] == lines  # of the last step alone is new
    assert_same(tmp_path / "run", whole)


def test_the_report_comes_before_the_tracker(folder: Path, whole: Path, tmp_path: Path) -> None:
    """So a run that has a tracker has all."""
    out, seen = tmp_path / "run", []

    def fail(*given: Any) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(folder, out, finish=fail)
    assert not (out / TRACKER).exists() and (out / "frames").is_dir()
    assert run(folder, out, finish=lambda model, clips: seen.append(clips)).done
    assert len(seen) == 1 and seen[0] is not None
    assert_same(out, whole)
    assert run(folder, out, finish=fail).done  # nothing is left to do


def test_what_kills_leave_is_swept_up(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stop = run(folder, out, max_minutes=0)
    assert stop.steps == 1 and not stop.done
    (out / ".davis-abc").mkdir()
    for name in (".tracker.partial-77.safetensors", ".config.json.partial", "last.ckpt.partial", ".lock"):
        (out / name).write_text("half")
    assert run(folder, out).done
    assert_same(out, whole)
