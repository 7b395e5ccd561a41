"""Tiled top-k pointers against the slow, obvious definition."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidtrack.pointers import as_keys, read, topk


def slow_topk(
    query: Tensor, memory: list[Tensor], radius: int, k: int, temperature: float
) -> tuple[list[list[int]], list[list[float]]]:
    """Every query cell against every memory cell of its window, one by one."""
    height, width, _ = query.shape
    indices, weights = [], []
    for y in range(height):
        for x in range(width):
            found = []
            for m, frame in enumerate(memory):
                for v in range(max(0, y - radius), min(height, y + radius + 1)):
                    for u in range(max(0, x - radius), min(width, x + radius + 1)):
                        score = float(query[y, x].double() @ frame[v, u].double())
                        found.append((score, (m * height + v) * width + u))
            found = sorted(found, reverse=True)[:k]
            w = torch.tensor([s for s, _ in found], dtype=torch.float64) / temperature
            indices.append([i for _, i in found])
            weights.append(w.softmax(0).tolist())
    return indices, weights


def embeddings(count: int, height: int, width: int, channels: int = 16, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(height, width, channels, generator=rng), dim=-1) for _ in range(count)]


@given(
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    frames=st.integers(1, 3),
    radius=st.integers(1, 5),
    k=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_equals_the_slow_definition(
    height: int, width: int, frames: int, radius: int, k: int, seed: int
) -> None:
    query, *memory = embeddings(frames + 1, height, width, seed=seed)
    found = topk(query, [as_keys(frame, radius) for frame in memory], radius, k, 0.05)
    indices, weights = slow_topk(query, memory, radius, k, 0.05)
    assert sorted(found.cells.tolist()) == list(range(height * width))
    for cell, index, weight in zip(found.cells.tolist(), found.index, found.weight, strict=True):
        count = len(indices[cell])  # a small window holds fewer than k cells
        assert index[:count].tolist() == indices[cell]
        torch.testing.assert_close(weight[:count], torch.tensor(weights[cell]), atol=1e-5, rtol=0)
        assert not weight[count:].any()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, *memory = embeddings(4, 30, 41)
    keys = [as_keys(frame, 6) for frame in memory]
    whole = topk(query, keys, 6, 10, 0.07)
    monkeypatch.setattr("vidtrack.pointers.tiles.CHUNK_BYTES", 1)
    parts = topk(query, keys, 6, 10, 0.07)
    assert torch.equal(whole.index, parts.index)
    assert torch.equal(whole.weight, parts.weight)


def test_only_active_tiles_are_computed() -> None:
    query, *memory = embeddings(3, 20, 30)
    keys = [as_keys(frame, 3) for frame in memory]
    active = torch.zeros(20, 30, dtype=torch.bool)
    active[17, 29] = True
    part = topk(query, keys, 3, 5, 0.05, active)
    assert sorted(part.cells.tolist()) == [y * 30 + x for y in range(16, 20) for x in range(24, 30)]
    whole = topk(query, keys, 3, 5, 0.05)
    place = {cell: n for n, cell in enumerate(whole.cells.tolist())}
    order = [place[cell] for cell in part.cells.tolist()]
    assert torch.equal(part.index, whole.index[order])
    none = topk(query, keys, 3, 5, 0.05, torch.zeros_like(active))
    assert none.index.shape == (0, 5)


def test_negative_scores_never_lose_to_what_lies_outside() -> None:
    """Every valid score is -1: the border and the window's outside must still not be chosen."""
    one = F.normalize(torch.ones(9, 9, 4), dim=-1)
    found = topk(one, [as_keys(-one, 2)], 2, 25, 1.0)
    for cell, index, weight in zip(found.cells.tolist(), found.index, found.weight, strict=True):
        y, x = divmod(cell, 9)
        chosen = [divmod(i, 9) for i, w in zip(index.tolist(), weight.tolist(), strict=True) if w > 0]
        assert all(abs(v - y) <= 2 and abs(u - x) <= 2 for v, u in chosen)
        window = (min(y, 2) + min(8 - y, 2) + 1) * (min(x, 2) + min(8 - x, 2) + 1)
        assert len(set(chosen)) == window


def test_bfloat16_is_close() -> None:
    query, *memory = embeddings(4, 24, 24, channels=64)
    values = torch.rand(3 * 24 * 24, 5)
    exact = topk(query, [as_keys(frame, 5) for frame in memory], 5, 10, 0.05)
    half = topk(query.bfloat16(), [as_keys(frame.bfloat16(), 5) for frame in memory], 5, 10, 0.05)
    torch.testing.assert_close(read(half, values), read(exact, values), atol=0.06, rtol=0)


def test_reading_is_the_weighted_mean() -> None:
    query, *memory = embeddings(3, 10, 12)
    values = torch.rand(2 * 10 * 12, 3)
    pointers = topk(query, [as_keys(frame, 4) for frame in memory], 4, 6, 0.05)
    expected = torch.stack(
        [
            sum(w * values[i] for i, w in zip(index.tolist(), weight, strict=True))
            for index, weight in zip(pointers.index, pointers.weight, strict=True)
        ]
    )
    torch.testing.assert_close(read(pointers, values), expected)
