"""The sampler and the schedule are pure functions of the seed and the step."""

import numpy as np
import pytest

from pretrain.engine import Optimizer, cosine_warmup
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
