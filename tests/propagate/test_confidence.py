"""Confidence of masks: evidence against its definition, cell by cell, and what every use of it keeps."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.labels import Masks
from vidtrack.propagate.confidence import (
    CALIBRATION,
    JOINED,
    MaskConfidence,
    expected,
    joined,
    looks,
)
from vidtrack.propagate.fusion import FLOOR
from vidtrack.propagate.masks import MaskCarrier
from vidtrack.propagate.propagator import Carried
from vidtrack.propagate.settings import Propagation

HEIGHT, WIDTH = 9, 12


def embedding(seed: int) -> Tensor:
    return F.normalize(torch.randn(HEIGHT, WIDTH, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


def label_map(seed: int, objects: int = 2) -> Tensor:
    """Soft labels of objects in the middle; the border is background."""
    labels = torch.zeros(HEIGHT, WIDTH, 1 + objects)
    soft = torch.rand(HEIGHT - 4, WIDTH - 4, objects + 1, generator=torch.Generator().manual_seed(seed))
    labels[2:-2, 2:-2] = (4 * soft).softmax(dim=-1)
    labels[..., 0] = 1 - labels[..., 1:].sum(dim=-1)
    return labels


def pieces(inside: np.ndarray) -> list[int]:
    """Sizes of the parts that hang together over edges and corners."""
    left, sizes = {tuple(place) for place in np.argwhere(inside).tolist()}, []
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    stack.append(near)
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("ahead", [False, True])
def test_evidence_by_its_definition(ahead: bool) -> None:
    frames, maps = [embedding(n) for n in range(3)], [label_map(n) for n in range(3)]
    frames[2] = F.normalize(frames[1] + 0.5 * frames[2], dim=-1)  # more like the annotation ahead
    confidence = MaskConfidence()
    confidence.annotate(frames[0], maps[0])
    if ahead:
        confidence.look_ahead(frames[1], maps[1])
    found = confidence.evidence(frames[2], maps[2])
    for k in (1, 2):
        means = []
        for frame, labels in zip(frames, maps, strict=True):
            total = sum(labels[y, x, k] * frame[y, x] for y in range(HEIGHT) for x in range(WIDTH))
            means.append(total / total.norm())
        p = maps[2][..., k].flatten().tolist()
        alike = max(float(means[2] @ mean) for mean in means[: 1 + ahead])
        parts = pieces((maps[2][..., k] > 0.5).numpy())
        wanted = [sum(v * v for v in p) / sum(p), min(max(alike, 0), 1), max(parts) / sum(parts)]
        assert found[k - 1].tolist() == pytest.approx(wanted, abs=1e-5)


def test_an_object_without_a_label_has_no_evidence() -> None:
    confidence, labels = MaskConfidence(), label_map(0)
    confidence.annotate(embedding(0), labels)
    gone = labels.clone()
    gone[..., 0] += gone[..., 2]
    gone[..., 2] = 0
    assert confidence.evidence(embedding(0), gone)[1].tolist() == pytest.approx([FLOOR, 0, 0])
    assert confidence(embedding(0), gone)[1] < 0.05
    assert looks(embedding(0), gone)[1].norm() == 0


def test_embeddings_beside_the_labels_do_not_matter() -> None:
    confidence, labels, frame = MaskConfidence(), label_map(0), embedding(1)
    confidence.annotate(embedding(0), labels)
    unknown = frame.clone()
    unknown[labels[..., 0] >= 1] = float("nan")
    assert torch.equal(confidence(unknown, labels), confidence(frame, labels))


def test_more_evidence_is_more_confidence() -> None:
    assert all(weight > 0 for weight in CALIBRATION[1:])
    low, high = torch.tensor([0.0, 0, 0]), torch.tensor([1.0, 1, 1])
    assert expected(low, CALIBRATION) < 0.05 and expected(high, CALIBRATION) > 0.85
    assert expected(torch.zeros(4, 2, 3), CALIBRATION).shape == (4, 2)


def test_what_two_passes_hold_together_by_its_mean_probability() -> None:
    found = [joined(value) for value in (0.4, 0.6, 0.8, 1.0)]
    assert found == sorted(found) and found[0] < 0.15 and found[-1] > 0.9
    assert found[1] == pytest.approx(1 / (1 + math.exp(-(JOINED[0] + JOINED[1] * 0.6))), abs=1e-6)


def carrier_and_frames() -> tuple[MaskCarrier, list[np.ndarray], list[Tensor], Masks]:
    """A square of one look on a ground of another, at rest; in the last frame the ground covers it."""
    ids = np.zeros((72, 96), np.uint8)
    ids[24:48, 32:64] = 3
    look = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    cells = torch.from_numpy(ids[::8, ::8] // 3).long()
    frames = [F.normalize(look[cells] + 0.2 * embedding(n), dim=-1) for n in range(3)]
    frames.append(F.normalize(look[cells * 0] + 0.2 * embedding(9), dim=-1))
    images = [np.ascontiguousarray(np.repeat(ids[..., None] * 80, 3, axis=-1))] * len(frames)
    carrier = MaskCarrier(Propagation(size=None, radius=3, reach=None, margin=None), 8)
    return carrier, images, frames, Masks(ids)


def test_a_carrier_reads_out_the_expected_j() -> None:
    carrier, images, frames, masks = carrier_and_frames()
    carrier.annotate(0, frames[0], (72, 96), masks)
    assert carrier.given(masks) == {3: 1.0}
    good, bad = (carrier.step(n, frames[n], images[n]) for n in (1, 3))
    assert good.confidence is not None and bad.confidence is not None
    _, told = carrier.read(good, images[1])
    assert told == {3: float(good.confidence[0])}
    assert good.confidence[0] > 0.8 > bad.confidence[0] + 0.3
    masks, probability = carrier.shown(good, images[1])
    inside = masks.ids == 3
    up = torch.nn.functional.interpolate(good.labels[..., 1][None, None], size=(72, 96), mode="nearest")[0, 0]
    assert probability[3] == pytest.approx(float(up[torch.from_numpy(inside)].mean()), abs=0.1)
    plain = Carried(good.labels, good.similarity)  # as two passes join
    assert carrier.read(plain, images[1])[1] == {3: joined(probability[3])}


def test_passes_are_laid_aside_with_their_confidence_and_join_without() -> None:
    carrier, images, frames, masks = carrier_and_frames()
    carrier.annotate(0, frames[0], (72, 96), masks)
    one, two = (carrier.step(n, frames[n], images[n]) for n in (1, 2))
    assert one.confidence is not None and two.confidence is not None
    back = carrier.unpack(carrier.pack(two))
    assert back.confidence is not None
    assert back.confidence.tolist() == pytest.approx(two.confidence.tolist(), abs=5e-4)
    fused = carrier.fuse(one, back, 0.5)
    assert fused.confidence is None
    apart = Carried(one.labels.roll(3, dims=1), one.similarity, one.confidence)
    told, less = (carrier.read(carrier.fuse(one, by, 0.5), images[1])[1][3] for by in (back, apart))
    assert told > less + 0.05
    plain = Carried(two.labels, two.similarity)
    assert carrier.unpack(carrier.pack(plain)).confidence is None


def test_the_pass_of_the_larger_expected_j_has_the_say() -> None:
    left, right = torch.zeros(2, 6, 8, 2)
    left[..., 0] = right[..., 0] = 1
    for labels, columns in ((left, slice(0, 3)), (right, slice(5, 8))):
        labels[2:4, columns] = torch.tensor([0.0, 1.0])
    seen = torch.ones(6, 8)
    sure, unsure = torch.tensor([0.9]), torch.tensor([0.2])
    carrier = MaskCarrier(Propagation(), 8, [1])
    for one, other, wanted in ((sure, unsure, left), (unsure, sure, right)):
        fused = carrier.fuse(Carried(left, seen, one), Carried(right, seen, other), 0.5)
        assert torch.equal(fused.labels.argmax(dim=-1), wanted.argmax(dim=-1))
    # Without that knowledge both count the same, and neither object is more than even.
    plain = carrier.fuse(Carried(left, seen), Carried(right, seen), 0.5)
    assert float(plain.labels[..., 1].max()) == pytest.approx(0.5)
