"""Bijective matching against a loop over all pairs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.pointers import CANDIDATES, Pointers, as_keys, bijective, topk

SIZE, RADIUS, K, TEMPERATURE = (9, 11), 2, 3, 0.1


def found(seed: int, valid: float = 1.0, k: int = CANDIDATES * K) -> Pointers:
    generator = torch.Generator().manual_seed(seed)
    query, first, second = F.normalize(torch.randn(3, *SIZE, 8, generator=generator), dim=-1)
    seen = torch.rand(SIZE, generator=generator) < valid
    return topk(query, [as_keys(first, RADIUS), as_keys(second, RADIUS, seen)], RADIUS, k, TEMPERATURE)


def slow(
    pointers: Pointers, strength: float, bonus: list[float]
) -> tuple[list[list[int]], list[dict[int, float]]]:
    """Memory cells of each query cell by falling cosine, and the weights of the same."""
    best: dict[int, float] = {}
    rows: list[list[tuple[float, int]]] = []
    for scores, cells in zip(pointers.score.tolist(), pointers.index.tolist(), strict=True):
        rows.append([(s, c) for s, c in zip(scores, cells, strict=True) if math.isfinite(s)])
        for score, cell in rows[-1]:
            best[cell] = max(best.get(cell, -2.0), score)
    order, weights = [], []
    for row in rows:
        marked = {c: s - strength * best[c] + bonus[c] for s, c in row}
        kept = sorted(row, key=lambda pair: marked[pair[1]], reverse=True)[:K]
        shares = {c: math.exp(marked[c] / TEMPERATURE) for _, c in kept}
        order.append([c for _, c in sorted(kept, reverse=True)])
        weights.append({c: share / sum(shares.values()) for c, share in shares.items()})
    return order, weights


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("valid", [1.0, 0.3])
@pytest.mark.parametrize("preferred", [False, True])
def test_it_is_the_slow_search(strength: float, valid: float, preferred: bool) -> None:
    candidates = found(1, valid)
    bonus = torch.zeros(2 * SIZE[0] * SIZE[1])
    if preferred:
        bonus.uniform_(0, 0.3, generator=torch.Generator().manual_seed(3))
    result = bijective(candidates, strength, K, TEMPERATURE, bonus if preferred else None)
    order, weights = slow(candidates, strength, bonus.tolist())
    assert torch.equal(result.cells, candidates.cells)
    assert result.index.tolist() == order
    for cells, weight, expected in zip(result.index.tolist(), result.weight.tolist(), weights, strict=True):
        assert weight == pytest.approx([expected[cell] for cell in cells], abs=1e-5)
    assert bool((result.score.diff(dim=1) <= 0).all())


def test_without_strength_it_is_the_plain_search() -> None:
    plain, result = found(2, k=K), bijective(found(2), 0, K, TEMPERATURE)
    assert torch.equal(result.index, plain.index)
    assert torch.allclose(result.weight, plain.weight, atol=1e-6)
    assert torch.equal(result.score, plain.score)


def pointers(scores: list[list[float]], index: list[list[int]]) -> Pointers:
    score: Tensor = torch.tensor(scores)
    return Pointers(torch.arange(len(scores)), torch.tensor(index), score.softmax(dim=1), score)


def test_a_place_that_another_cell_matches_better_is_left_to_it() -> None:
    """Cell 1 looks a little more like place 7, which is cell 0's, than like 8, which nobody else wants."""
    crowded = pointers([[0.99, 0.2], [0.80, 0.78]], [[7, 8], [7, 8]])
    assert bijective(crowded, 0.0, 1, 0.1).index.tolist() == [[7], [7]]
    assert bijective(crowded, 0.25, 1, 0.1).index.tolist() == [[7], [8]]
    assert bijective(crowded, 0.25, 1, 0.1).score[1].item() == pytest.approx(0.78)  # still the cosine


def test_windows_with_few_keys_and_none_at_all() -> None:
    nothing = float("-inf")
    result = bijective(pointers([[0.5, nothing], [nothing, nothing]], [[3, 0], [0, 0]]), 0.25, 2, 0.1)
    assert result.weight.tolist() == [[1, 0], [0, 0]]
    assert result.index[0, 0].item() == 3
    none = torch.zeros(0, 8)
    empty = Pointers(none[:, 0].long(), none.long(), none, none)
    assert bijective(empty, 0.25, 2, 0.1).index.shape == (0, 2)
