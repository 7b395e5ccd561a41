"""The sampler and the schedule are pure functions of the seed and the step."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from torch import nn

from pretrain.engine import Engine, Optimizer, cosine_warmup, make_optimizer
from pretrain.methods.inpainting_networks import Decoder
from pretrain.sampler import StepSampler, draw_rng


def test_a_resumed_sampler_goes_on_where_it_stopped() -> None:
    whole = list(StepSampler(length=7, batch=3, steps=10, seed=4))
    rest = list(StepSampler(length=7, batch=3, steps=10, seed=4, first_step=6))
    assert rest == whole[6:]
    assert len(StepSampler(7, 3, 10, 4, 6)) == 10  # as Lightning wants it, see there
    assert whole != list(StepSampler(length=7, batch=3, steps=10, seed=5))


def test_each_pass_visits_every_sample_once() -> None:
    indices = [draw[-1] for step in StepSampler(6, 4, 9, 0) for draw in step]
    for epoch in range(6):
        assert sorted(indices[6 * epoch : 6 * epoch + 6]) == list(range(6))
    assert indices[:6] != indices[6:12]


def test_draws_are_reproducible_and_different() -> None:
    first = draw_rng((0, 1, 2, 5)).random(4)
    assert np.array_equal(first, draw_rng((0, 1, 2, 5)).random(4))
    assert not np.array_equal(first, draw_rng((0, 1, 3, 5)).random(4))


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.505), (110, 0.01)])
def test_warm_up_then_cosine(step: int, factor: float) -> None:
    settings = Optimizer(steps=110, warmup_steps=10, final_ratio=0.01)
    assert cosine_warmup(step, settings) == pytest.approx(factor)


@pytest.mark.parametrize("world", [1, 2])
def test_the_batches_of_a_step_are_one_large_batch(world: int) -> None:
    for rank in range(world):
        whole = list(StepSampler(11, 6, 5, 3, rank=rank, world=world))
        parts = list(StepSampler(11, 2, 5, 3, rank=rank, world=world, accumulate=3))
        assert [len(part) for part in parts] == [2] * 15
        assert [[*a, *b, *c] for a, b, c in zip(parts[::3], parts[1::3], parts[2::3], strict=True)] == whole
        rest = list(StepSampler(11, 2, 5, 3, first_step=2, rank=rank, world=world, accumulate=3))
        assert rest == parts[6:]
    assert len(StepSampler(11, 2, 5, 3, accumulate=3)) == 15


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Engine, {"log_every": 0}),
        (Engine, {"workers": -1}),
        (Engine, {"checkpoint_minutes": -1}),
        *((Optimizer, {key: -0.1}) for key in ("weight_decay", "momentum", "final_ratio")),
        (Optimizer, {"warmup_steps": -1}),
        (Optimizer, {"betas": (0.9, 1.0)}),
    ],
)
def test_numbers_that_no_run_can_have(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        kind(**values)


def test_weights_alone_decay() -> None:
    """A bias may have as many axes as a weight: that of the channel-wise layer of inpainting has three."""
    net = nn.Sequential(Decoder(16, 4, 16, 8), nn.LayerNorm(3))
    names = {id(p): name for name, p in net.named_parameters()}
    decayed, rest = make_optimizer(net, Optimizer(weight_decay=0.1))["optimizer"].param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    assert any(p.ndim == 3 for p in rest["params"])
    assert len(decayed["params"]) + len(rest["params"]) == len(names)
