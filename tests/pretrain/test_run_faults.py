"""Runs of pretext tasks that are killed, interrupted, or lose a process that prepares batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pretrain.catalogue import FILE
from pretrain.errors import InputError
from pretrain.folder import CHECKPOINT, LOCK
from pretrain.images import ImageSet
from pretrain.methods.base import Views
from pretrain.run import ImageDataset, pretrain
from pretrain.settings import Data, PretrainConfig

from .toy import Toy, add_toy, config, products, run


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method `toy` is one of the methods."""
    add_toy(monkeypatch)


def test_a_config_that_a_kill_cut_off_is_no_run(tmp_path: Path) -> None:
    run(tmp_path / "run", max_minutes=0)
    (tmp_path / "run" / "config.json").write_text('{"config": {"meth')
    with pytest.raises(InputError, match=r"config\.json can't be read: .*--overwrite"):
        run(tmp_path / "run")
    assert run(tmp_path / "run", overwrite=True).done


def test_a_finished_run_is_replaced_only_by_one_that_can_learn(tmp_path: Path) -> None:
    assert run(tmp_path / "run").done
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def refuse(data: Data) -> ImageSet:
        raise InputError("nope is missing")

    for changes, read in (({}, refuse), ({"optimizer": {"batch": 13}}, None)):
        with pytest.raises(InputError, match=r"missing|fewer than"):
            run(tmp_path / "run", config(**changes), **({"read": read} if read else {}), overwrite=True)
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def refuse(data: Data) -> ImageSet:
        assert (out / LOCK).is_file()
        raise InputError("nothing to learn from.")

    with pytest.raises(InputError, match="nothing to learn from"):
        pretrain(refuse, config(), out, device="cpu")
    assert not out.exists()
    run(out, max_minutes=0)  # a checkpoint stays, whatever is refused afterwards
    before = (out / CHECKPOINT).read_bytes()
    with pytest.raises(InputError, match="nothing to learn from"):
        pretrain(refuse, config(), out, device="cpu")
    assert (out / CHECKPOINT).read_bytes() == before


def test_a_run_without_a_step_begins_anew(tmp_path: Path) -> None:
    """It was killed while it replaced an earlier one of the same config: nothing of that may stay."""
    run(tmp_path / "run")
    before = products(tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).unlink()
    (tmp_path / "run" / "images.json").write_text("of others")
    seen: list[bool] = []
    run(tmp_path / "run", report=lambda record: seen.append((tmp_path / "run" / FILE).exists()))
    assert products(tmp_path / "run") == before and seen == [False] * 6


def workers(count: int = 2) -> PretrainConfig:
    return config(engine={"precision": "32", "log_every": 1, "workers": count, "checkpoint_minutes": 0.0})


def test_a_worker_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a system that is short of memory: a clear sentence, and the same command goes on."""
    real = ImageDataset.batch

    def batch(self: ImageDataset, draws: list[Any]) -> Any:
        if draws[0][0] == 3 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, draws)

    run(tmp_path / "whole", workers(0))
    monkeypatch.setattr(ImageDataset, "batch", batch)
    with pytest.raises(RuntimeError, match=r"prepares batches died.*go on from the last checkpoint"):
        run(tmp_path / "part", workers())
    assert not (tmp_path / "part" / FILE).exists()
    monkeypatch.setattr(ImageDataset, "batch", real)
    assert run(tmp_path / "part", workers()).done
    assert products(tmp_path / "part") == products(tmp_path / "whole")


def test_ctrl_c_reaches_workers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to all processes: the first one still ends its step, and writes the checkpoint."""
    optimizer = {"steps": 4, "batch": 2, "accumulate": 6, "warmup_steps": 1}
    settings = workers().model_copy(update={"optimizer": config(optimizer=optimizer).optimizer})
    run(tmp_path / "whole", settings)
    real, calls = Toy.loss, []

    def loss(self: Toy, views: Views) -> dict[str, Tensor]:
        calls.append(0)
        if len(calls) == 7:  # the first batch of the second step: more of them are wanted than wait
            for child in 2 * multiprocessing.active_children():  # the first may meet an inherited handler
                assert child.pid is not None
                os.kill(child.pid, signal.SIGINT)
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, views)

    monkeypatch.setattr(Toy, "loss", loss)
    stopped = run(tmp_path / "part", settings)
    assert stopped.interrupted and stopped.steps == 2
    assert run(tmp_path / "part", settings).done
    assert products(tmp_path / "part") == products(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait_for_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Toy.loss

    def loss(self: Toy, views: Views) -> dict[str, Tensor]:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, views)

    monkeypatch.setattr(Toy, "loss", loss)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run" / CHECKPOINT).exists() and not (tmp_path / "run" / ".lock").exists()


def test_a_run_that_diverges_keeps_its_last_sound_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = Toy.loss, []

    def loss(self: Toy, views: Any) -> dict[str, Any]:
        taken.append(1)
        found = real(self, views)
        return found if len(taken) <= 2 else {**found, "loss": found["loss"] * float("nan")}

    monkeypatch.setattr(Toy, "loss", loss)
    engine = {"precision": "32", "log_every": 100, "checkpoint_minutes": 0}
    with pytest.raises(InputError, match=r"not finite at step 3: the run diverged; .*--overwrite"):
        run(tmp_path / "run", config(engine=engine, snapshots=0))
    left = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    assert left["global_step"] == 2
    assert all(bool(value.isfinite().all()) for value in left["state_dict"].values())
