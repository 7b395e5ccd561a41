"""The propagator against the plain recipe written out, and its memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.labels import Masks
from vidtrack.pointers import CANDIDATES, Pointers, bijective
from vidtrack.propagate.annotations import masks_to_cells
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.propagate.motion import Motion
from vidtrack.propagate.propagator import MIN_MASS, Propagator, has_object, reachable
from vidtrack.propagate.readout import winners
from vidtrack.propagate.settings import Propagation


def near_a_label(labels: Tensor, reach: int) -> Tensor:
    """bool `[h, w]`: a cell that is not all background lies within `reach` rows and columns."""
    places = (labels[..., 0] < 1).nonzero()
    y, x = torch.meshgrid(*(torch.arange(n) for n in labels.shape[:2]), indexing="ij")
    near = ((y[..., None] - places[:, 0]).abs() <= reach) & ((x[..., None] - places[:, 1]).abs() <= reach)
    return near.any(dim=-1)


def slow_step(
    query: Tensor,
    memory: list[tuple[Tensor, Tensor]],
    settings: Propagation,
    reach: int | None = None,
    margins: list[int] | None = None,
) -> Tensor:
    """One step with the full affinity of all cells, nothing skipped."""
    height, width, depth = query.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y.flatten(), x.flatten()
    near = ((y[:, None] - y).abs() <= settings.radius) & ((x[:, None] - x).abs() <= settings.radius)
    scores = [query.view(-1, depth) @ e.view(-1, depth).T for e, _ in memory]
    seen = [near for _ in memory]
    if margins is not None:
        pairs = zip(memory, margins, strict=True)
        seen = [near & near_a_label(labels, margin).flatten() for (_, labels), margin in pairs]
    joined = torch.cat([s.masked_fill(~n, -torch.inf) for s, n in zip(scores, seen, strict=True)], dim=1)
    best, index = joined.topk(settings.topk, dim=1)
    weight = (best / settings.temperature).softmax(dim=1).nan_to_num(0)
    values = torch.cat([labels.flatten(0, 1) for _, labels in memory])
    labels = (weight[..., None] * values[index]).sum(dim=1)
    objects = labels[:, 1:] * (labels[:, 1:] >= MIN_MASS)
    background = labels[:, :1]
    background[(labels.sum(dim=1) == 0)] = 1
    labels = torch.cat([background, objects], dim=1)
    labels = (labels / labels.sum(dim=1, keepdim=True)).view(height, width, -1)
    if reach is not None:
        nothing = torch.zeros(labels.shape[-1])
        nothing[0] = 1
        labels = torch.where(near_a_label(memory[-1][1], reach)[..., None], labels, nothing)
    return labels


def video(frames: int, height: int, width: int, seed: int = 0) -> list[Tensor]:
    """Embeddings that move one cell to the right per frame, with noise."""
    rng = torch.Generator().manual_seed(seed)
    base = torch.randn(height, width + frames, 24, generator=rng)
    noise = [0.3 * torch.randn(height, width, 24, generator=rng) for _ in range(frames)]
    return [F.normalize(base[:, frames - t : frames - t + width] + noise[t], dim=-1) for t in range(frames)]


@pytest.mark.parametrize(("reach", "margin"), [(None, None), (None, 3), (2, 3)])
def test_a_sequence_equals_the_slow_recipe(reach: int | None, margin: int | None) -> None:
    """All cells asked and whole frames remembered, and what lies far from the labels left out."""
    settings = Propagation(context=2, radius=4, topk=5, reach=reach, margin=margin)
    frames = video(6, 20, 26)
    labels = torch.zeros(20, 26, 3)
    labels[5:9, 6:11, 1] = 1
    labels[12:17, 3:5, 2] = 1
    labels[..., 0] = 1 - labels[..., 1:].sum(-1)
    fast = Propagator(settings)
    fast.annotate(0, frames[0], labels)
    kept, margins = [(frames[0], labels)], [fast.motion.margin()]
    for t in range(1, len(frames)):
        places = ([0] if t > 2 else []) + list(range(max(0, t - 2), t))
        memory, remembered = [kept[p] for p in places], [margins[p] for p in places]
        allowed = None if reach is None else fast.motion.reach()
        known = None if margin is None else [m for m in remembered if m is not None]
        expected = slow_step(frames[t], memory, settings, allowed, known)
        found = fast.step(t, frames[t]).labels
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        kept.append((frames[t], expected))
        margins.append(fast.motion.margin())
    assert kept[-1][1][5:9, 11:16, 1].mean() > 0.8  # the object moved five cells, and was found


def test_memory_keeps_annotations_and_frames_at_its_distances() -> None:
    memory = Memory((1, 3, 6))

    def kept(index: int) -> Kept:
        return Kept(index, torch.zeros(1), torch.zeros(1), torch.zeros(1))

    def seen() -> list[int]:
        return [k.index for k in memory.frames()]

    memory.annotate(kept(0))
    assert seen() == [0]
    for index in range(1, 10):
        memory.add(kept(index))
    assert seen() == [0, 9, 7, 4]
    memory.look_ahead(kept(20))
    assert seen() == [0, 9, 7, 4]  # the annotation ahead is farther than the one behind
    memory.add(kept(10))
    assert seen() == [0, 10, 8, 5]
    memory.add(kept(11))
    assert seen() == [0, 20, 11, 9, 6]
    memory.annotate(kept(20))
    assert seen() == [20]  # nothing before an annotation matters after it
    for index in range(21, 24):
        memory.add(kept(index))
    assert seen() == [20, 23, 21]
    memory.look_ahead(kept(10))  # a backward pass
    assert not memory.nearer_ahead()
    assert len(memory.recent) <= 6


def test_an_annotation_ahead_is_attended_to_from_half_way_on() -> None:
    """Behind says nothing of the object; ahead shows it: frames near it find it there."""
    frames = video(6, 10, 16)
    empty = torch.zeros(10, 16, 2)
    empty[..., 0] = 1
    shown = empty.clone()
    shown[2:5, 7:10] = torch.tensor([0.0, 1.0])
    settings = Propagation(context=(1,), radius=3, topk=2)
    alone, helped = Propagator(settings), Propagator(settings)
    alone.annotate(0, frames[0], empty)
    helped.annotate(0, frames[0], empty)
    helped.look_ahead(5, frames[5], shown)
    for t in (1, 2, 3):
        assert helped.step(t, frames[t]).labels[..., 1].max() == 0
        alone.step(t, frames[t])
    assert alone.step(4, frames[4]).labels[..., 1].max() == 0
    assert helped.step(4, frames[4]).labels[2:5, 6:9, 1].mean() > 0.4


def test_labels_may_be_any_values() -> None:
    """Without normalising, a step is the weighted mean of what the pointers point to."""
    frames = video(2, 9, 9)
    labels = torch.rand(9, 9, 3) * 100 - 50
    settings = Propagation(context=(1,), radius=4, topk=5)
    propagator = Propagator(settings, finish=lambda rows: rows, labelled=lambda m: torch.ones(9, 9).bool())
    propagator.annotate(0, frames[0], labels)
    found = propagator.step(1, frames[1])
    assert labels.amin() <= found.labels.amin() and found.labels.amax() <= labels.amax()
    torch.testing.assert_close(found.labels[:, 1:], labels[:, :-1], atol=20, rtol=0)
    best = (frames[1].reshape(81, -1) @ frames[0].reshape(81, -1).T).view(9, 9, 9, 9)
    torch.testing.assert_close(found.similarity[4, 4], best[4, 4].max(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("flip", [0, 1])
def test_a_flipped_video_flips_its_labels(flip: int) -> None:
    frames = video(3, 12, 12)
    labels = torch.zeros(12, 12, 2)
    labels[3:7, 2:6, 1] = 1
    labels[..., 0] = 1 - labels[..., 1]
    settings = Propagation(context=(1, 2), radius=4, topk=3)
    straight, turned = Propagator(settings), Propagator(settings)
    straight.annotate(0, frames[0], labels)
    turned.annotate(0, frames[0].flip(flip), labels.flip(flip))
    for t in (1, 2):
        expected = straight.step(t, frames[t]).labels.flip(flip)
        torch.testing.assert_close(turned.step(t, frames[t].flip(flip)).labels, expected)


def test_the_same_frame_again_keeps_its_labels() -> None:
    frame = video(1, 12, 16)[0]
    labels = torch.zeros(12, 16, 2)
    labels[3:9, 4:9, 1] = 1
    labels[..., 0] = 1 - labels[..., 1]
    propagator = Propagator(Propagation(context=(1,), radius=5, topk=1))
    propagator.annotate(0, frame, labels)
    for t in range(1, 4):
        torch.testing.assert_close(propagator.step(t, frame).labels, labels)


def pointing(steps: list[tuple[int, int]], frame: int = 0) -> Pointers:
    """Pointers of cells in the middle of 40 x 60 to cells so many rows and columns away."""
    cells = torch.arange(len(steps)) + 20 * 60 + 20
    index = torch.tensor(
        [[frame * 2400 + int(c) + y * 60 + x] for c, (y, x) in zip(cells, steps, strict=True)]
    )
    ones = torch.ones(len(steps), 1)
    return Pointers(cells, index, ones, ones)


def test_what_can_be_asked_grows_with_the_motion() -> None:
    settings = Propagation(radius=12, reach=3, margin=4, context=(1,))
    motion = Motion(settings, first=1)
    labels = torch.zeros(40, 60, 2)
    labels[10:14, 5:9, 1] = 1
    motion.restart(labels)
    assert motion.lost() and motion.reach() == 12  # the motion is not known yet
    motion.follow(pointing([(0, 0)] * 10), 0, (40, 60))
    assert (motion.step(), motion.reach(), motion.margin()) == (0, 3, 5)
    motion.follow(pointing([(0, 2)] * 9 + [(9, 9)]), 0, (40, 60))
    assert (motion.step(), motion.reach(), motion.margin()) == (2 + 1, 6, 11)  # nine tenths, interpolated
    motion.follow(pointing([(-8, 1)] * 10), 0, (40, 60))
    assert (motion.step(), motion.reach()) == (8, 11)
    motion.follow(pointing([(0, 11)] * 10), 0, (40, 60))
    assert motion.reach() == 12
    motion.follow(pointing([(0, 1)] * 10), 1, (40, 60))  # all point to another frame than the last
    assert motion.lost() and motion.reach() == 12
    motion.follow(pointing([(0, 0)] * 10), 0, (40, 60))
    motion.add(labels * 0.4)
    assert motion.lost()  # most of the object is gone: it may be anywhere
    assert Motion(settings.model_copy(update={"reach": None}), first=1).reach() == 12
    assert Motion(settings.model_copy(update={"margin": None}), first=1).margin() is None


def test_the_first_step_needs_an_annotation() -> None:
    with pytest.raises(ValueError, match="annotate"):
        Propagator(Propagation()).step(0, torch.zeros(2, 2, 3))


def test_faint_labels_are_within_reach_too() -> None:
    labels = torch.zeros(30, 40, 2)
    labels[..., 0] = 1
    labels[10, 20] = torch.tensor([0.99, 0.01])
    found = reachable([Kept(0, torch.zeros(1), labels, has_object(labels))], reach=3)
    assert found[7:14, 17:24].all()
    assert int(found.sum()) == 7 * 7


def test_void_carries_no_label() -> None:
    ids = np.zeros((32, 32), np.uint8)
    ids[:16, :16] = 7
    void = np.zeros((32, 32), bool)
    void[:16, 16:] = True
    maps = masks_to_cells(ids, void, [7], (32, 32), 8)
    assert maps[0, 0].tolist() == [0, 1]
    assert maps[0, 3].tolist() == [0, 0]
    assert maps[3, 3].tolist() == [1, 0]


def test_an_object_of_one_pixel_gets_a_cell() -> None:
    ids = np.zeros((40, 40), np.uint8)
    ids[39, 0] = 3
    ids[:20] = 4
    maps = masks_to_cells(ids, None, [3, 4], (40, 40), 8)
    assert maps[4, 0].tolist() == [0, 1, 0]
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(5, 5))


def test_tiny_objects_in_one_cell_all_stay() -> None:
    ids = np.zeros((40, 40), np.uint8)
    ids[8:15, 8:15] = 1  # most of one cell
    ids[15, 15], ids[15, 14] = 2, 3
    maps = masks_to_cells(ids, None, [1, 2, 3], (40, 40), 8)
    winner = maps.argmax(dim=-1)
    for channel in (1, 2, 3):
        (cell,) = (winner == channel).nonzero().tolist()
        assert max(abs(cell[0] - 1), abs(cell[1] - 1)) <= 1
    assert winner[1, 1] == 1


@pytest.mark.parametrize("size", [(482, 857), (720, 1280), (1000, 333)])
def test_shrinking_leaves_no_trace_of_a_label_in_the_background(size: tuple[int, int]) -> None:
    ids = np.zeros(size, np.uint8)
    ids[:8, :8] = 1
    maps = masks_to_cells(ids, None, [1], (240, 240 * size[1] // size[0]), 8)
    assert ((maps[..., 0] == 1) | (maps[..., 1] > 0)).all()


@pytest.mark.parametrize("original", [(48, 64), (51, 70), (96, 128)])
def test_winners_equal_the_argmax_of_all_channels(original: tuple[int, int]) -> None:
    from vidtrack.geometry import to_pixels

    rng = torch.Generator().manual_seed(1)
    labels = torch.rand(6, 8, 4, generator=rng) * (torch.rand(6, 8, 4, generator=rng) > 0.6)
    labels[..., 0] += 0.1
    labels[:2, :, 3] = 0
    labels = labels / labels.sum(-1, keepdim=True)
    dense = to_pixels(labels.permute(2, 0, 1).contiguous(), (48, 64), 8, original)
    ids, confidence = winners(labels, (48, 64), 8, original)
    best = dense.max(dim=0)
    sure = best.values - dense.topk(2, dim=0).values[1] > 1e-5
    assert torch.equal(ids[sure], best.indices[sure].to(torch.uint8))
    for channel, value in confidence.items():
        assert abs(value - float(dense[channel][ids == channel].mean())) < 1e-4


def test_nothing_left_is_background() -> None:
    labels = torch.zeros(4, 4, 2)
    labels[..., 0] = 1
    ids, confidence = winners(labels, (32, 32), 8, (32, 32))
    assert not ids.any()
    assert confidence == {}


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_masks_are_carried_by_pointers_that_yield(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell chooses among more candidates than it keeps, by the strength of the settings."""
    seen = []

    def spied(candidates: Pointers, *arguments: float) -> Pointers:
        seen.append((candidates.index.shape[1], *arguments))
        return bijective(candidates, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("vidtrack.propagate.propagator.bijective", spied)
    plain = Propagation(size=None, radius=3, topk=2, context=(1,), temperature=0.1, annotated=0)
    settings = plain.model_copy(update={"bijective": strength})
    carrier = MaskCarrier(settings, 8)
    first, second = F.normalize(torch.randn(2, 6, 6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    ids = np.zeros((48, 48), np.uint8)
    ids[16:32, 16:32] = 1
    carrier.annotate(0, first, (48, 48), Masks(ids))
    carrier.step(1, second, np.zeros((48, 48, 3), np.uint8))
    assert seen == ([(CANDIDATES * 2, 0.5, 2, 0.1, None)] if strength else [])
