"""The walk in cycles: its formula with loops, perfect embeddings, and shortcuts that don't pay."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from vidtrack.learn.clips import nearest_cells
from vidtrack.learn.objectives.base import Draw
from vidtrack.learn.objectives.cycle import DROPPED, Cycle, cycle_loss, near, transition

WINDOWS = torch.tensor([[0.2, 0.3, 0.5, 1.0], [0.4, 0.0, 0.6, 0.0]])


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-3)


def seeded(seed: int = 0) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda *rest: torch.rand(len(WINDOWS), *rest, generator=generator)


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_loss_equals_its_formula(frames: int) -> None:
    torch.manual_seed(4)
    batch, cells, temperature = 2, 3, 0.3
    count = cells**2
    first, second = unit(batch, frames, 5, cells, cells), unit(batch, frames - 1, 5, cells, cells)
    found = cycle_loss(first, second, WINDOWS, Cycle(temperature=temperature, dropout=0), seeded())
    truth = nearest_cells(WINDOWS, cells)
    losses, right = [], []
    for k in range(1, frames):
        for b in range(batch):
            path = [second[b, t] for t in range(k)] + [first[b, t] for t in range(k, -1, -1)]
            maps = [x.flatten(1) for x in path]
            for start in range(count):
                chance = torch.zeros(count)
                chance[start] = 1
                for here, there in pairwise(maps):
                    after = torch.zeros(count)
                    for i in range(count):
                        scores = torch.stack([here[:, i] @ there[:, j] / temperature for j in range(count)])
                        after = after + chance[i] * scores.softmax(0)
                    chance = after
                target = int(truth[b, start])
                losses.append(-chance[target].log())
                end = int(chance.argmax())
                apart = max(abs(end // cells - target // cells), abs(end % cells - target % cells))
                right.append(float(apart <= 1))
    torch.testing.assert_close(found["loss"], torch.stack(losses).mean())
    torch.testing.assert_close(found["accuracy"], torch.tensor(right).mean())


def walk(content: bool) -> dict[str, torch.Tensor]:
    """The loss where each cell is told by what it shows, or by where it lies."""
    cells, frames = 4, 3
    one = torch.eye(cells**2)[None, None]  # [1, 1, D, n]: each cell its own direction
    first = one.expand(len(WINDOWS), frames, -1, -1)
    second = first[:, 1:]
    if content:
        seen = nearest_cells(WINDOWS, cells)[:, None, None].expand(-1, frames - 1, cells**2, -1)
        second = second.gather(3, seen)
    first, second = (x.unflatten(3, (cells, cells)) for x in (first, second))
    return cycle_loss(first, second, WINDOWS, Cycle(dropout=0), seeded())


def test_perfect_embeddings_come_home_and_places_do_not() -> None:
    found = walk(content=True)
    assert float(found["loss"]) < 1e-3 and float(found["accuracy"]) == 1
    shortcut = walk(content=False)
    chance = math.log(16)
    assert float(shortcut["loss"]) > 2 * chance  # worse than to know nothing


def test_edges_are_dropped_before_the_softmax() -> None:
    torch.manual_seed(5)
    here, there = (F.normalize(torch.randn(2, 6, 50), dim=1) for _ in range(2))
    found = transition(here, there, Cycle(dropout=0.3, temperature=0.5), seeded(9))
    scores = here.transpose(1, 2) @ there / 0.5
    dropped = seeded(9)(50, 50) < 0.3
    expected = torch.where(dropped, torch.tensor(DROPPED), scores).softmax(dim=2)
    torch.testing.assert_close(found, expected)
    assert 0.25 < float((found == 0).float().mean()) < 0.35
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 50))


def test_each_view_learns() -> None:
    first, second = unit(2, 3, 5, 3, 3).requires_grad_(), unit(2, 2, 5, 3, 3).requires_grad_()
    cycle_loss(first, second, WINDOWS, Cycle(), seeded())["loss"].backward()
    for given in (first, second):
        assert given.grad is not None and bool((given.grad.abs().sum(dim=(0, 2, 3, 4)) > 0).all())


def test_near() -> None:
    """Neighbours across the end of a row are far apart."""
    found, truth = torch.tensor([5, 0, 4, 3, 15]), torch.tensor([0, 0, 3, 7, 13])
    assert near(found, truth, 4).tolist() == [True, True, False, True, False]
