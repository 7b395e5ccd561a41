"""Draws are a function of seed, step and the sample's place in the whole batch, however it is divided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pretrain.draws import Draws

Ask = Callable[[Draws], Tensor]
KINDS: dict[str, Ask] = {
    "uniform": lambda draws: draws.uniform(3, low=-2.0, high=5.0),
    "normal": lambda draws: draws.normal(2, 2),
    "integers": lambda draws: draws.integers(100, 3),
    "chance": lambda draws: draws.chance(0.3),
    "permutations": lambda draws: draws.permutations(6),
    "batch_order": lambda draws: draws.batch_order(),
}
SHAPES = {
    "uniform": (4, 3),
    "normal": (4, 2, 2),
    "integers": (4, 3),
    "chance": (4,),
    "permutations": (4, 6),
    "batch_order": (4,),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def all_of(draws: Draws) -> dict[str, Tensor]:
    return {name: ask(draws) for name, ask in KINDS.items()}


@kinds
def test_same_seed_and_step_same_numbers(kind: str) -> None:
    found = KINDS[kind](Draws(3, 7, 4))
    assert found.shape == SHAPES[kind]
    torch.manual_seed(99)  # the global generator has no say, and nothing to fear
    state = torch.get_rng_state()
    assert torch.equal(found, KINDS[kind](Draws(3, 7, 4)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("other", [(4, 7), (3, 8), (7, 3)])
def test_another_seed_or_step_other_numbers(other: tuple[int, int]) -> None:
    first, second = Draws(3, 7, 64), Draws(*other, 64)
    for name, ask in KINDS.items():
        assert not torch.equal(ask(first), ask(second)), name


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_rows_of_one_batch(world: int) -> None:
    whole = all_of(Draws(0, 5, 4 * world))
    parts = [all_of(Draws(0, 5, 4, rank, world)) for rank in range(world)]
    for name, expected in whole.items():
        if name == "batch_order":  # the same in every process
            assert all(torch.equal(part[name], expected) for part in parts)
        else:
            assert torch.equal(torch.cat([part[name] for part in parts]), expected), name


def test_one_draw_after_another_differs() -> None:
    draws = Draws(0, 0, 16)
    for name, ask in KINDS.items():
        assert not torch.equal(ask(draws), ask(draws)), name


def test_numbers_are_distributed_as_they_say() -> None:
    draws = Draws(1, 1, 20_000)
    uniform = draws.uniform(low=-2.0, high=5.0)
    assert uniform.min() >= -2 and uniform.max() < 5 and abs(float(uniform.mean()) - 1.5) < 0.05
    normal = draws.normal()
    assert abs(float(normal.mean())) < 0.03 and abs(float(normal.std()) - 1) < 0.03
    counts = draws.integers(5).bincount(minlength=5)
    assert len(counts) == 5 and counts.min() > 3700
    assert abs(float(draws.chance(0.3).float().mean()) - 0.3) < 0.02
    assert not draws.chance(0.0).any() and draws.chance(1.0).all()
    orders = draws.permutations(4)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(20_000, 4))
    assert (orders[:, 0].bincount(minlength=4) > 4700).all()
    assert torch.equal(draws.batch_order().sort().values, torch.arange(20_000))


def test_steps_and_seeds_are_not_the_samplers() -> None:
    """Neighbouring seeds and steps are unrelated, and large seeds are taken."""
    rows = torch.stack([Draws(seed, step, 4000).uniform() for seed in (0, 1) for step in (0, 1, 2)])
    assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.08
    assert Draws(2**40, 10**6, 2).uniform().shape == (2,)
