"""Tiled top-k pointers against the slow, obvious definition."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidtrack.pointers import as_keys, read, topk
from vidtrack.pointers.search import Search
from vidtrack.pointers.tiles import cover


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


@pytest.mark.parametrize("partly", [False, True])
def test_batches_equal_single_tiles(partly: bool) -> None:
    """The two ways of searching, for accelerators and for processors, agree."""
    query, *memory = embeddings(4, 30, 41)
    valid = torch.zeros(30, 41, dtype=torch.bool)
    valid[4:20, 7:30] = True
    valid[9, 12] = False
    keys = [as_keys(frame, 6, valid if partly else None) for frame in memory]
    search = Search(query, keys, 6, 10)
    tiles = torch.tensor([[0, 0], [3, 17], [22, 33], [12, 20]])
    score, cell = search.batched(tiles)
    score_cropped, cell_cropped = search(tiles)
    inside = score > -1
    torch.testing.assert_close(score_cropped[inside], score[inside])
    assert torch.equal(cell_cropped[inside], cell[inside])
    assert (score_cropped[~inside] < -1).all()


def test_only_active_cells_are_computed() -> None:
    query, *memory = embeddings(3, 20, 30)
    keys = [as_keys(frame, 3) for frame in memory]
    active = torch.rand(20, 30) > 0.9
    part = topk(query, keys, 3, 5, 0.05, active)
    assert part.cells.tolist() == active.flatten().nonzero()[:, 0].tolist()
    whole = topk(query, keys, 3, 5, 0.05)
    assert whole.cells.tolist() == list(range(600))
    assert torch.equal(part.index, whole.index[part.cells])
    none = topk(query, keys, 3, 5, 0.05, torch.zeros_like(active))
    assert none.index.shape == (0, 5)


@given(seed=st.integers(0, 500), share=st.floats(0, 1), height=st.integers(1, 30), width=st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_tiles_cover_each_active_cell_once(seed: int, share: float, height: int, width: int) -> None:
    active = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    covered = torch.zeros(height + 8, width + 8, dtype=torch.long)
    for top, left in cover(active).tolist():
        covered[top : top + 8, left : left + 8] += 1
    assert (covered[:height, :width][active] == 1).all()
    assert covered.max() <= 1


def test_only_valid_cells_are_pointed_to() -> None:
    query, first, second = embeddings(3, 17, 23)
    valid = torch.rand(17, 23) > 0.7
    nothing = torch.zeros(17, 23, dtype=torch.bool)
    found = topk(query, [as_keys(first, 4, valid), as_keys(second, 4, nothing)], 4, 6, 0.05)
    for cell, index, weight in zip(found.cells.tolist(), found.index, found.weight, strict=True):
        y, x = divmod(cell, 23)
        window = torch.zeros_like(valid)
        window[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = True
        allowed = (window & valid).flatten().nonzero()[:, 0]
        scores = first.view(-1, 16)[allowed] @ query[y, x]
        best = allowed[scores.topk(min(6, len(allowed))).indices]
        assert index[weight > 0].tolist() == best[: int((weight > 0).sum())].tolist()
        assert len(best) == int((weight > 0).sum())
        assert abs(float(weight.sum()) - (len(best) > 0)) < 1e-5


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


def test_products_have_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN compiles a product for each combination of sizes and strides, and keeps it for ever."""
    seen: list[tuple[torch.Size, tuple[int, ...]]] = []
    multiply = torch.mm

    def noted(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        seen.append((out.shape, out.stride()))
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", noted)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        query, *memory = embeddings(4, 33, 45)
        valid = torch.zeros(33, 45, dtype=torch.bool)
        valid[3:29, 4:41] = True
        topk(query, [as_keys(memory[0], 6), *(as_keys(frame, 6, valid) for frame in memory[1:])], 6, 4, 0.05)
    finally:
        torch.set_num_threads(threads)
    shapes, strides = {shape for shape, _ in seen}, {stride for _, stride in seen}
    assert len(seen) > 60 and 4 < len(shapes) <= (20 // 4) ** 2  # windows of 20 cells, cut at multiples of 4
    assert len(strides) == 1
