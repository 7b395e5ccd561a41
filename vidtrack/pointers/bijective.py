"""Pointers that respect each other: a memory cell belongs first to the query cell that it matches best.

A query cell points to whatever looks most like it, however often others point there: background that
resembles an object takes its labels, and the object grows. Bijective matching (Cho et al. 2022, arXiv
2110.01644) lets each memory cell choose its queries first, and forbids all others. Objects that come nearer
need more than one query per memory cell, so that here the others are marked down and not forbidden.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vidtrack.pointers.tiles import Pointers

CANDIDATES = 4  # pointers to choose from, for each that is kept


def bijective(
    pointers: Pointers, strength: float, k: int, temperature: float, bonus: Tensor | None = None
) -> Pointers:
    """The k best pointers of each cell by `score - strength * best + bonus`, softmax-weighted.

    `best` is the highest score with which any query cell points to the same memory cell.

    Args:
        pointers: of the cells of one frame, `CANDIDATES * k` or so for each.
        strength: 0 (as `topk` has them) to 1.
        k: number of pointers to keep.
        temperature: of the softmax over the k.
        bonus: float32, for each memory cell how much it is preferred; None: all alike.

    Returns:
        `[n, k]` pointers, those of the highest score first; `score` are the cosines, as before.
    """
    score, index = pointers.score, pointers.index  # [n, c]
    k = min(k, score.shape[1])
    if not score.numel():
        return replace(pointers, index=index[:, :k], weight=pointers.weight[:, :k], score=score[:, :k])
    best = score.new_full((int(index.max()) + 1,), float("-inf"))
    best.scatter_reduce_(0, index.flatten(), score.flatten(), "amax")
    there = score.isfinite()
    marked = score - strength * best[index]
    if bonus is not None:
        marked = marked + bonus[index]
    marked = marked.masked_fill(~there, float("-inf"))
    value, place = marked.topk(k, dim=1)
    weight = (value / temperature).softmax(dim=1).nan_to_num(0)  # nan: nothing to point to at all
    place, order = place.sort(dim=1)  # candidates come with the highest score first
    return replace(
        pointers,
        index=index.gather(1, place),
        weight=weight.gather(1, order),
        score=score.gather(1, place),
    )
