"""Two processes against one with the doubled batch: loss and gradients of each objective, and a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from pretrain.distributed import begin, rank, world_size
from pretrain.sampler import StepSampler
from vidtrack.learn.clips import ClipDataset, collate
from vidtrack.learn.module import ColorizerTraining
from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.train import train
from vidtrack.video import VideoWriter

BATCH = 4  # of all processes together
# Where a colour is not among the references, its probability is nothing but rounding, and the gradient of its
# logarithm magnifies that.
TOLERANCE = {"quantized": 0.1}
CASES = {
    "anchors": {"objectives": {"anchors": 1.0}},
    "several": {"objectives": {"anchors": 1.0, "lab": 2.0, "cycle": 0.5}},
    "quantized": {"objectives": {"quantized": 1.0}},
    "average": {"objectives": {"anchors": 1.0}, "ema": {"decay": 0.9}},
}


def config(workers: int, **changes: Any) -> TrackConfig:
    values: dict[str, Any] = {
        "data": {"short_side": 32, "cache_gb": 0.01, "index": {"static": None}},
        "clips": {"frames": 3, "gap": [1, 1], "crop": 32},
        "anchors": {"grid": 2, "cross_grid": 2},
        "model": {"head": [16, 8]},
        "optimizer": {
            "name": "sgd",
            "steps": 2,
            "batch": BATCH // workers,
            "warmup_steps": 0,
            "learning_rate": 0.03,
        },
        "engine": {"precision": "32", "log_every": 1},
    }
    return TrackConfig.model_validate(values | changes)


def footage() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 4, 5, 9, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 2).repeat(8, 3))  # [4, 40, 72, 3] each


def one_step(case: str) -> dict[str, Tensor]:
    """Loss, metrics and gradients of a step, averaged over the processes as Lightning does."""
    settings = config(world_size(), **CASES[case])
    torch.manual_seed(0)
    module = ColorizerTraining(settings)
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.__setitem__(name, value.detach().clone())  # type: ignore[method-assign, assignment]
    for objective in module.objectives.values():
        if hasattr(objective, "palette"):
            objective.palette.copy_(torch.randn(objective.palette.shape) * 20)
    module.train()
    sampler = StepSampler(5, settings.optimizer.batch, 1, 0, rank=rank(), world=world_size())
    data = ClipDataset(footage(), settings.clips)
    (draws,) = list(sampler)
    module.training_step(collate([data[draw] for draw in draws]), 0).backward()
    found = dict(logged)
    for name, parameter in module.model.named_parameters():
        assert parameter.grad is not None
        found[f"gradient {name}"] = parameter.grad
    if world_size() > 1:
        for value in found.values():
            dist.all_reduce(value)
    found = {name: value / world_size() for name, value in found.items()}
    return found | {name: value for name, value in module.model.named_buffers() if "running" in name}


def run(folder: Path) -> None:
    # Without anchors: which of them is nearest can change by rounding, with the weights of the step before.
    settings = config(world_size(), objectives={"lab": 1.0})
    train(folder / "videos", settings, folder / f"run{world_size()}", device="cpu")


def everything(folder: Path) -> None:
    """What one of two processes does."""
    begin(torch.device("cpu"))
    torch.set_num_threads(1)
    torch.save({case: one_step(case) for case in CASES}, folder / f"{rank()}.pt")
    run(folder)
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes have left what they found."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "videos").mkdir()
    for number, frames in enumerate(footage()):
        with VideoWriter(folder / "videos" / f"{number}.mp4", 72, 40, Fraction(6)) as writer:
            for frame in frames:
                writer.write(frame)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, __file__, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_two_is_that_of_one(case: str, two: Path) -> None:
    expected = one_step(case)
    for number in range(2):
        found = torch.load(two / f"{number}.pt")[case]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            scale = max(1e-3, float(value.abs().max()))
            near = scale * (TOLERANCE.get(case, 1e-3) if name.startswith("gradient") else 1e-4)
            torch.testing.assert_close(found[name], value, atol=near, rtol=0, msg=f"{case} {name}")


def test_a_whole_run(two: Path) -> None:
    run(two)
    one, other = (load_file(two / name / "tracker.safetensors") for name in ("run1", "run2"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        near = 0.02 * max(1e-3, float(value.float().abs().max()))
        torch.testing.assert_close(other[name].float(), value.float(), atol=near, rtol=0.02, msg=name)
    logs = [[json.loads(line) for line in (two / name / "log.jsonl").open()] for name in ("run1", "run2")]
    assert [len(log) for log in logs] == [2, 2]  # the first process alone writes
    for one_step, of_two in zip(*logs, strict=True):
        assert of_two["loss"] == pytest.approx(one_step["loss"], rel=1e-4)  # and it writes that of both


if __name__ == "__main__":
    everything(Path(sys.argv[1]))
