"""Steps: batches that accumulate, averaged weights, checks in between; and exact resume of all of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pretrain.check import undisturbed
from pretrain.ema import EmaModel
from pretrain.engine import Engine, Optimizer, RunCallback, make_optimizer, make_trainer
from pretrain.folder import CHECKPOINT, steps_done
from pretrain.sampler import Draw, StepSampler, draw_rng, loader

STEPS = 5


class Numbers(Dataset[Tensor]):
    """Random vectors, a function of the draw."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, draw: Draw) -> Tensor:
        return torch.from_numpy(draw_rng(draw).normal(draw[3], 1, 4).astype(np.float32))


class Tiny(L.LightningModule):
    """A regression, with batch norm and an average if wanted; `seen` are the steps of its batches."""

    def __init__(self, settings: Optimizer, norm: bool = False, decay: float | None = None) -> None:
        super().__init__()
        self.settings = settings
        middle = nn.BatchNorm1d(3) if norm else nn.Identity()
        self.model = nn.Sequential(nn.Linear(4, 3), middle, nn.Tanh(), nn.Linear(3, 1))
        self.average = None if decay is None else EmaModel(self.model, decay)
        self.history: list[dict[str, Tensor]] = []
        self.seen: list[int] = []
        self.meddler: Any = None

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(self.global_step)
        loss = (self.model(batch)[:, 0] - batch.sum(dim=1)).square().mean()
        self.log("loss", loss)
        return loss

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.history.append({key: value.clone() for key, value in self.model.state_dict().items()})

    def configure_optimizers(self) -> Any:
        return make_optimizer(self, self.settings)


class Meddler:
    """A check that draws random numbers, changes modes, and takes its time."""

    def __init__(self, module: Tiny, every: int) -> None:
        self.module, self.every = module, every
        self.steps: list[int] = []

    def due(self, step: int, steps: int, minutes: float) -> bool:
        return step % self.every == 0 or step == steps

    def __call__(self, step: int) -> None:
        assert not torch.is_grad_enabled()
        self.steps.append(step)
        self.module.eval()
        self.module.model(torch.randn(5, 4))
        random.random(), np.random.rand()


def run(
    out: Path, batch: int = 4, accumulate: int = 1, stop: int | None = None, meddle: int = 0, **options: Any
) -> Tiny:
    """Train in `out` until step `stop`, or go on there."""
    settings = Optimizer(
        name="sgd", steps=STEPS, batch=batch, accumulate=accumulate, warmup_steps=2, learning_rate=0.05
    )
    out.mkdir(exist_ok=True)
    torch.manual_seed(1)
    module = Tiny(settings, **options)
    if meddle:
        module.meddler = Meddler(module, meddle)
    first = steps_done(out)
    callback: Any = None

    def report(record: dict[str, float]) -> None:
        if record["step"] == stop:
            callback.interrupted.set()

    engine = Engine(precision="32", log_every=1)
    callback = RunCallback(out, engine, batch, None, report, module.meddler)
    sampler = StepSampler(7, batch, STEPS, 0, first, accumulate=accumulate)
    trainer = make_trainer(callback, settings, engine, torch.device("cpu"))
    trainer.fit(module, loader(Numbers(), sampler, 0), ckpt_path=str(out / CHECKPOINT) if first else None)
    assert trainer.global_step == (stop or STEPS)
    return module


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", batch=6)
    parts = run(tmp_path / "parts", batch=2, accumulate=3)
    assert parts.seen == [step for step in range(STEPS) for _ in range(3)]
    assert len(parts.history) == len(whole.history) == STEPS
    for one, other in zip(whole.history, parts.history, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.equal(whole.history[0]["0.weight"], whole.history[-1]["0.weight"])
    logs = log(tmp_path / "whole"), log(tmp_path / "parts")
    for one, other in zip(*logs, strict=True):
        assert one["step"] == other["step"] and one["learning_rate"] == other["learning_rate"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)  # of all batches of the step


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_stop_is_between_steps_and_changes_nothing(tmp_path: Path, stop: int) -> None:
    options: dict[str, Any] = {"batch": 2, "accumulate": 3, "norm": True, "decay": 0.6}
    whole = run(tmp_path / "whole", **options)
    first = run(tmp_path / "part", stop=stop, **options)
    assert len(first.seen) == 3 * stop
    last = run(tmp_path / "part", **options)
    assert len(last.seen) == 3 * (STEPS - stop)
    assert same(last, whole)
    assert whole.average is not None and int(whole.average.n_averaged) == STEPS
    assert not same(whole.average.module, whole.model)


def test_throughput_counts_all_batches_and_no_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("pretrain.engine.time.monotonic", lambda: clock[0])
    step, check, draw = Tiny.training_step, Meddler.__call__, StepSampler.__iter__

    def training_step(module: Tiny, batch: Tensor, batch_idx: int) -> Tensor:
        clock[0] += 0.5
        return step(module, batch, batch_idx)

    def slow(meddler: Meddler, number: int) -> None:
        clock[0] += 100
        check(meddler, number)

    def late(sampler: StepSampler) -> Iterator[list[Draw]]:
        for draws in draw(sampler):
            clock[0] += 0.25
            yield draws

    monkeypatch.setattr(Tiny, "training_step", training_step)
    monkeypatch.setattr(Meddler, "__call__", slow)
    monkeypatch.setattr(StepSampler, "__iter__", late)
    run(tmp_path / "run", batch=2, accumulate=3, meddle=2)
    records = log(tmp_path / "run")[1:-1]  # Lightning fetches one batch ahead
    assert [record["samples_per_second"] for record in records] == pytest.approx([8 / 3] * (STEPS - 2))
    assert [record["waiting"] for record in records] == pytest.approx([1 / 3] * (STEPS - 2))


@pytest.mark.parametrize("meddle", [1, 2])
def test_a_check_leaves_no_trace(tmp_path: Path, meddle: int) -> None:
    plain = run(tmp_path / "plain", norm=True)
    checked = run(tmp_path / "checked", norm=True, meddle=meddle)
    assert same(plain, checked)
    expected = [step for step in range(STEPS + 1) if step % meddle == 0 or step == STEPS]
    assert checked.meddler.steps == expected
    again = run(tmp_path / "stopped", norm=True, meddle=meddle, stop=2)
    assert again.meddler.steps == [s for s in expected if s < 2]
    assert same(run(tmp_path / "stopped", norm=True, meddle=meddle), plain)


@pytest.mark.parametrize("stop", [None, 1, 2, 3])
def test_clocks_go_on_where_a_run_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int | None
) -> None:
    """A step takes a minute, a check ten, and the time between two stretches doesn't count."""
    clock = [0.0]
    monkeypatch.setattr("pretrain.engine.time.monotonic", lambda: clock[0])
    step, check = Tiny.training_step, Meddler.__call__
    asked: list[tuple[int, float]] = []

    def training_step(module: Tiny, batch: Tensor, batch_idx: int) -> Tensor:
        clock[0] += 60
        return step(module, batch, batch_idx)

    def slow(meddler: Meddler, number: int) -> None:
        clock[0] += 600
        check(meddler, number)

    def due(meddler: Meddler, number: int, steps: int, minutes: float) -> bool:
        asked.append((number, minutes))
        return minutes >= 3

    for name, changed in (("__call__", slow), ("due", due)):
        monkeypatch.setattr(Meddler, name, changed)
    monkeypatch.setattr(Tiny, "training_step", training_step)
    if stop is not None:
        run(tmp_path / "run", meddle=1, stop=stop)
        clock[0] += 6000
    run(tmp_path / "run", meddle=1)
    assert dict(asked) == pytest.approx({0: 0, 1: 1, 2: 2, 3: 3, 4: 1, 5: 2})
    assert [record["minutes"] for record in log(tmp_path / "run")] == pytest.approx([1, 2, 3, 14, 15])


@pytest.mark.parametrize("first", [True, False])
def test_every_process_knows_that_a_check_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """The first one makes it. Were it due for ever in another, all would stop for it after each step."""
    clock, asked = [0.0], list[float]()
    monkeypatch.setattr("pretrain.engine.time.monotonic", lambda: clock[0])

    def due(meddler: Meddler, number: int, steps: int, minutes: float) -> bool:
        asked.append(minutes)
        return minutes >= 15

    monkeypatch.setattr(Meddler, "due", due)
    module = Tiny(Optimizer(steps=STEPS))
    meddler = Meddler(module, 1)
    callback = RunCallback(tmp_path, Engine(), 2, None, None, meddler)
    alone = SimpleNamespace(barrier=lambda: None, reduce_boolean_decision=lambda one, all: one)
    trainer: Any = SimpleNamespace(is_global_zero=first, world_size=2, max_steps=STEPS, strategy=alone)
    for minute in (14, 16, 17, 32):
        clock[0] = 60.0 * minute
        with torch.no_grad():
            callback.look(trainer, module)
    assert asked == [14, 16, 1, 16] and len(meddler.steps) == (2 if first else 0)


def test_random_states_and_modes_come_back() -> None:
    module = nn.Sequential(nn.Linear(2, 2).eval(), nn.Dropout()).train()
    module[0].eval()
    for kind in (random.seed, np.random.seed, torch.manual_seed):
        kind(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    for kind in (random.seed, np.random.seed, torch.manual_seed):
        kind(3)
    with undisturbed(module), pytest.raises(KeyError):
        module.eval()[0].train()
        random.random(), np.random.rand(), torch.rand(1)
        assert not torch.is_grad_enabled()
        raise KeyError
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert [part.training for part in module.modules()] == [True, False, True]
