"""How far pointers to annotated frames are preferred: a loop over cells, and whole carriers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.labels import Masks
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.propagate.preference import preference
from vidtrack.propagate.propagator import to_patches
from vidtrack.propagate.settings import Propagation

HEIGHT, WIDTH, FINE = 6, 7, 2


def kept(index: int, sizes: dict[int, int], objects: int = 2) -> tuple[Kept, Tensor]:
    """A frame in which object k has `sizes[k]` cells of the fine label map, one after the other."""
    ids = torch.zeros(FINE * HEIGHT * FINE * WIDTH, dtype=torch.long)
    begin = 3
    for number, size in sizes.items():
        ids[begin : begin + size] = number
        begin += size
    labels = F.one_hot(ids, objects + 1).float().view(FINE * HEIGHT, FINE * WIDTH, -1)
    return Kept(index, None, to_patches(labels, FINE), torch.ones(HEIGHT, WIDTH) > 0), labels  # type: ignore[arg-type]


def slow(then: Tensor, now: Tensor, strength: float) -> list[float]:
    """Of each cell, by its fine labels one by one."""
    alike = [0.0] * then.shape[-1]
    there = []
    for k in range(1, len(alike)):
        a, b = float(then[..., k].sum()), float(now[..., k].sum())
        alike[k] = min(a, b) / max(a, b) if max(a, b) else 0.0
        there += [alike[k]] if a else []
    alike[0] = sum(there) / len(there) if there else 0.0
    rows = []
    for row in range(HEIGHT):
        for column in range(WIDTH):
            patch = then[FINE * row : FINE * row + FINE, FINE * column : FINE * column + FINE].reshape(4, -1)
            mean = patch.mean(dim=0).tolist()
            rows.append(strength * sum(share * one for share, one in zip(mean, alike, strict=True)))
    return rows


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({1: 20, 2: 9}, {1: 20, 2: 9}),
        ({1: 20, 2: 9}, {1: 50, 2: 3}),
        ({1: 20, 2: 9}, {1: 20}),  # lost
        ({1: 20}, {1: 10, 2: 9}),  # it has come since
        ({}, {}),
        ({}, {1: 4}),
    ],
)
def test_it_is_the_slow_one(then: dict[int, int], now: dict[int, int]) -> None:
    memory = Memory((1, 2))
    first, labels = kept(0, then)
    memory.annotate(first)
    memory.add(kept(1, {1: 1})[0])
    newest, later = kept(2, now)
    memory.add(newest)
    found = preference(memory, FINE, 0.02)
    cells = HEIGHT * WIDTH
    assert found.shape == (3 * cells,) and found.dtype == torch.float32
    assert found[:cells].tolist() == pytest.approx(slow(labels, later, 0.02), abs=1e-6)
    assert not found[cells:].any()


def test_of_two_annotations_each_has_its_own() -> None:
    memory = Memory((1,))
    behind, ahead = kept(0, {1: 20}), kept(4, {1: 30, 2: 8})
    memory.annotate(behind[0])
    memory.look_ahead(ahead[0])
    now = kept(3, {1: 25})
    memory.add(now[0])
    parts = preference(memory, FINE, 0.1).view(3, -1)
    assert parts[0].tolist() == pytest.approx(slow(behind[1], now[1], 0.1), abs=1e-6)
    assert parts[1].tolist() == pytest.approx(slow(ahead[1], now[1], 0.1), abs=1e-6)
    assert not parts[2].any()


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_a_mask_prefers_its_annotation(strength: float) -> None:
    """The annotated frame matches a little worse than the one in between, whose labels are worn."""
    generator = torch.Generator().manual_seed(0)
    frame = F.normalize(torch.randn(6, 6, 16, generator=generator), dim=-1)
    old = F.normalize(frame + 0.05 * torch.randn(6, 6, 16, generator=generator), dim=-1)
    settings = Propagation(
        size=None, context=(1,), radius=1, topk=1, margin=None, reach=None, bijective=0, annotated=strength
    )
    carrier = MaskCarrier(settings, 8)
    ids = np.zeros((48, 48), np.uint8)
    ids[8:40, 8:40] = 1
    carrier.annotate(0, old, (48, 48), Masks(ids))
    truth = carrier._propagator.memory.frames()[0].patches
    worn = torch.zeros(12, 12, 2)
    worn[2:10, 2:10, 1] = 0.9  # as large, less sure
    worn[..., 0] = 1 - worn[..., 1]
    carrier._propagator.remember(1, frame, worn)
    carried = carrier.step(2, frame, np.zeros((48, 48, 3), np.uint8))
    right = to_patches(carried.labels, 2) == truth
    assert bool(right.all()) == bool(strength)
    assert float(carried.similarity.max()) <= 1 + 1e-5  # cosines, without what was added
