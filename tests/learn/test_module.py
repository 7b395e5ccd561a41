"""What a run makes of its config: frozen stages, learning rates, the average of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vidtrack.learn.module import ColorizerTraining
from vidtrack.learn.settings import TrackConfig


def training(**changes: Any) -> ColorizerTraining:
    values: dict[str, Any] = {
        "clips": {"frames": 2, "crop": 32},
        "anchors": {"grid": 2, "cross_grid": 2},
        "model": {"head": [16, 8]},
        "optimizer": {"learning_rate": 0.8, "warmup_steps": 0},
    }
    torch.manual_seed(0)
    return ColorizerTraining(TrackConfig.model_validate(values | changes))


def batch() -> tuple[Tensor, Tensor]:
    frames = torch.randint(0, 256, (2, 2, 3, 32, 32), dtype=torch.uint8)
    return frames, torch.tensor([[0.1, 0.2, 0.6, 0.0], [0.3, 0.1, 0.5, 1.0]])


@pytest.mark.filterwarnings("ignore:You are trying to .self.log")  # it works without a trainer
def test_frozen_stages_keep_weights_and_statistics_in_a_step() -> None:
    module = training(transfer={"freeze": 2})
    module.train()
    before = {name: value.clone() for name, value in module.model.named_buffers() if "running" in name}
    module.training_step(batch(), 0).backward()
    frozen = ("backbone.conv1", "backbone.bn1", "backbone.layer1")
    for name, parameter in module.model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
    now = dict(module.model.named_buffers())
    for name, value in before.items():
        assert torch.equal(now[name], value) == name.startswith(frozen), name


def test_stages_learn_at_their_own_rates() -> None:
    made = training(transfer={"rate_decay": 0.5}).configure_optimizers()["optimizer"]
    assert {round(group["lr"], 6) for group in made.param_groups} == {0.05, 0.1, 0.2, 0.4, 0.8}
    made = training().configure_optimizers()["optimizer"]
    assert {group["lr"] for group in made.param_groups} == {0.8}


def test_the_average_is_the_teacher_and_what_is_kept() -> None:
    module, plain = training(ema={"decay": 0.9}), training()
    assert module.average is not None and plain.average is None
    assert plain.best() is plain.model and module.best() is module.average.module
    with torch.no_grad():
        for parameter in module.average.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    module.train()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = module.best().eval()(images)
        assert torch.equal(module.target(images), expected)
        assert not torch.allclose(module.model(images), expected, atol=1e-3)
    trained = {
        id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]
    }
    assert not trained & {id(p) for p in module.average.parameters()}
