"""What carriers of every kind of label have in common: identities, joining of passes, laying aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.geometry import cells
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.propagate.carrier import Carrier
from vidtrack.propagate.fusion import FLOOR, decidedness
from vidtrack.propagate.points import AGREE, CarriedPoints
from vidtrack.propagate.propagator import Carried, from_patches
from vidtrack.propagate.settings import Propagation
from vidtrack.session import make_carrier

HEIGHT, WIDTH, STRIDE = 96, 128, 8
FRAME = (HEIGHT, WIDTH)
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
# One pointer with all the weight: what it finds is what is there.
SETTINGS = Propagation(
    size=None, context=(1,), point_context=(1,), topk=1, point_topk=1, radius=5, refine=False, foreground=1
)
KINDS = (Masks, Keypoints, Boxes, Maps)
LEFT, TOP, RIGHT, BOTTOM = 40, 24, 80, 64  # on the edges of cells


def scene(right: int = 0) -> Tensor:
    """Embedding `[h, w, C]` of a random texture, moved by cells to the right."""
    height, width = cells(HEIGHT, STRIDE), cells(WIDTH, STRIDE)
    texture = torch.randn(height, 3 * width, 32, generator=torch.Generator().manual_seed(0))
    return F.normalize(texture[:, width - right : 2 * width - right], dim=-1).contiguous()


def labels(kind: type[Any], right: int = 0) -> Any:
    """A square with a point in each half, moved by pixels to the right."""
    ids = np.zeros(FRAME, np.uint8)
    ids[TOP:BOTTOM, LEFT + right : RIGHT + right] = 4
    if kind is Masks:
        return Masks(ids)
    if kind is Boxes:
        return Boxes.from_xyxy([(LEFT + right, TOP, RIGHT + right, BOTTOM)])
    if kind is Keypoints:
        return Keypoints.from_points([(LEFT + 11.3 + right, TOP + 9.8), (RIGHT - 12 + right, BOTTOM - 8.5)])
    values = np.stack([np.where(ids, 7.5, -3), np.where(ids, -1, 2)], axis=-1)
    return Maps(values.astype(np.float32))


def flip(found: Any) -> Any:
    """Labels of the frame seen in a mirror."""
    if isinstance(found, Masks):
        return Masks(found.ids[:, ::-1].copy())
    if isinstance(found, Maps):
        return Maps(found.values[:, ::-1].copy())
    if isinstance(found, Boxes):
        edges = found.xyxy.copy()
        edges[:, [2, 0]] = WIDTH - found.xyxy[:, [0, 2]]
        return replace(found, xyxy=edges)
    return replace(found, xy=np.stack([WIDTH - 1 - found.xy[..., 0], found.xy[..., 1]], axis=-1))


def close(found: Any, wanted: Any, pixels: float = 0.01) -> bool:
    """The same labels; places may differ by some pixels, or some pixels beside edges."""
    known = (slice(None), slice(4 * STRIDE, None))  # what comes into view on the left has no true labels
    if isinstance(found, Masks):
        return bool(np.mean(found.ids[known] != wanted.ids[known]) <= 5e-3)  # corners are rounded
    if isinstance(found, Maps):
        around = np.ones((2 * STRIDE + 1, 2 * STRIDE + 1))
        flat = cv2.dilate(wanted.values, around) == cv2.erode(wanted.values, around)  # away from edges
        near = np.abs(found.values - wanted.values) < 0.01
        return bool(near[known][flat[known]].all())
    name = "xyxy" if isinstance(found, Boxes) else "xy"
    return bool(np.abs(getattr(found, name) - getattr(wanted, name)).max() <= pixels)


def start(kind: type[Any], given: Any, embedding: Tensor) -> Carrier[Any, Any]:
    carrier = make_carrier(kind, SETTINGS, STRIDE)
    carrier.annotate(0, embedding, FRAME, given)
    return carrier


def step(carrier: Carrier[Any, Any], index: int, embedding: Tensor) -> Any:
    return carrier.read(carrier.step(index, embedding, IMAGE), IMAGE)[0]


# How far a point that was drawn on cells and read again may lie, and a box whose edges are pixels.
NEAR = {Keypoints: 1.0, Boxes: 1.0, Masks: 0, Maps: 0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_frame_has_the_same_labels(kind: type[Any]) -> None:
    carrier = start(kind, labels(kind), scene())
    for index in (1, 2, 3):
        assert close(step(carrier, index, scene()), labels(kind), NEAR[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_that_moved_by_a_cell_moves_its_labels(kind: type[Any]) -> None:
    carrier = start(kind, labels(kind), scene())
    for index in (1, 2, 3):
        wanted = labels(kind, STRIDE * index)
        assert close(step(carrier, index, scene(index)), wanted, NEAR[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_video_has_mirrored_labels(kind: type[Any]) -> None:
    straight = start(kind, labels(kind), scene())
    mirrored = start(kind, flip(labels(kind)), scene().flip(1))
    for index in (1, 2):
        one = step(straight, index, scene(index))
        two = step(mirrored, index, scene(index).flip(1))
        assert close(flip(two), one, 0.01 if kind is Keypoints else 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_laid_aside_reads_the_same(kind: type[Any]) -> None:
    carrier = start(kind, labels(kind), scene())
    carried = carrier.step(1, scene(1), IMAGE)
    again = carrier.unpack(carrier.pack(carried))
    assert close(carrier.read(again, IMAGE)[0], carrier.read(carried, IMAGE)[0], 0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_beside_an_annotation_its_own_pass_decides(kind: type[Any]) -> None:
    """At either end only one pass counts; in the middle two equal ones stay as they are."""
    carrier, other = (start(kind, labels(kind, at), scene(at // 8)) for at in (0, 24))
    one, two = carrier.step(1, scene(1), IMAGE), other.step(1, scene(), IMAGE)
    first, second, middle = (carrier.fuse(one, b, s) for b, s in ((two, 0.0), (two, 1.0), (one, 0.5)))
    for found, wanted in ((first, one), (second, two), (middle, one)):
        for name in ("xy", "confidence") if kind is Keypoints else ("labels",):
            a, b = getattr(found, name), getattr(wanted, name)
            if name != "confidence" or wanted is not two:
                torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    name = "xy" if kind is Keypoints else "labels"
    assert (getattr(first, name) - getattr(second, name)).abs().max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_joining_does_not_know_which_way_time_goes(kind: type[Any], share: float) -> None:
    carrier, other = (start(kind, labels(kind, at), scene(at // 8)) for at in (0, 8))
    one, two = carrier.step(1, scene(1), IMAGE), other.step(1, scene(), IMAGE)
    a, b = carrier.fuse(one, two, share), carrier.fuse(two, one, 1 - share)
    name = "xy" if kind is Keypoints else "labels"
    torch.testing.assert_close(getattr(a, name), getattr(b, name))


def slow_masks(a: Carried, b: Carried, share: float) -> Tensor:
    """`MaskCarrier.fuse`, number by number."""
    height, width, channels = a.labels.shape
    out = torch.zeros_like(a.labels)

    def trust(carried: Carried, y: int, x: int, k: int) -> float:
        values = carried.labels[..., k].flatten().tolist()
        decided = max(FLOOR, sum(v * v for v in values) / max(1e-6, sum(values)))
        best = max(carried.labels[y, x].tolist())
        return (best * max(0.0, float(carried.similarity[y, x])) + 1e-3) * decided**2

    for y in range(height):
        for x in range(width):
            for k in range(1, channels):
                one, two = (1 - share) * trust(a, y, x, k), share * trust(b, y, x, k)
                out[y, x, k] = (one * a.labels[y, x, k] + two * b.labels[y, x, k]) / (one + two)
            out[y, x, 1:] /= max(1.0, float(out[y, x, 1:].sum()))
            out[y, x, 0] = 1 - out[y, x, 1:].sum()
    return out


def carried(seed: int, channels: int = 3) -> Carried:
    rng = torch.Generator().manual_seed(seed)
    soft = (3 * torch.randn(5, 6, channels, generator=rng)).softmax(dim=-1)
    return Carried(soft, 2 * torch.rand(5, 6, generator=rng) - 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_masks_are_joined_as_the_formula_says(share: float) -> None:
    carrier: Any = make_carrier(Masks, SETTINGS, STRIDE, (1, 2))
    a, b = carried(0), carried(1)
    found = carrier.fuse(a, b, share)
    torch.testing.assert_close(found.labels, slow_masks(a, b, share), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.labels.sum(dim=-1), torch.ones(5, 6))
    assert torch.equal(found.similarity, torch.maximum(a.similarity, b.similarity))


@pytest.mark.parametrize("kind", [Masks, Boxes])
def test_a_pass_that_lost_an_object_does_not_take_it_from_the_other(kind: type[Any]) -> None:
    """Halfway, one pass has the object clearly and the other has nothing but background."""
    carrier: Any = make_carrier(kind, SETTINGS, STRIDE, (1,))
    there = torch.zeros(8, 8, 2)
    there[2:5, 2:5, 1] = 0.8
    there[..., 0] = 1 - there[..., 1]
    gone = torch.zeros(8, 8, 2)
    gone[..., 0] = 1
    similar = torch.full((8, 8), 0.9)
    for pair in ((there, gone), (gone, there)):
        found = carrier.fuse(*(Carried(labels, similar) for labels in pair), 0.5).labels
        assert found[3, 3, 1] > 0.7 and found[6, 6, 1] == 0
    assert carrier.fuse(Carried(there, similar), Carried(gone, similar), 0.999).labels[3, 3, 1] < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_no_label_at_all_is_carried(kind: type[Any]) -> None:
    carrier = make_carrier(kind, SETTINGS, STRIDE)
    carrier.annotate(0, scene(), FRAME, carrier.empty(FRAME))
    found, sure = carrier.read(carrier.step(1, scene(1), IMAGE), IMAGE)
    assert not (found.objects if kind is Masks else found.labelled.any()) and (kind is Maps or not sure)
    carrier.annotate(2, scene(2), FRAME, labels(kind, 16))
    assert close(step(carrier, 3, scene(3)), labels(kind, 24), NEAR[kind])


@pytest.mark.parametrize("side", [1, 3, 5, 7, 10, 15])
@pytest.mark.parametrize("center", [(64, 48), (67, 50), (3, 2), (125, 94)])
def test_a_box_smaller_than_a_cell_stays(side: int, center: tuple[int, int]) -> None:
    corners = [c + sign * side / 2 for sign in (-1, 1) for c in center]
    given = Boxes.from_xyxy([corners])
    carrier = start(Boxes, given, scene())
    for index in (1, 2, 3):
        found = step(carrier, index, scene())
    wanted = given.xyxy.clip(0, [WIDTH, HEIGHT] * 2)
    assert np.abs(found.xyxy - wanted).max() <= (STRIDE // 2 if side > 4 else STRIDE)
    assert found.confidence[0] > 0.5


def test_a_tiny_box_that_only_the_later_annotation_has_is_read_where_both_passes_join() -> None:
    first = Boxes.from_xyxy([(LEFT, TOP, RIGHT, BOTTOM)])
    both = Boxes.from_xyxy([(LEFT, TOP, RIGHT, BOTTOM), (101, 81, 103, 83)])
    number = both.ids[1]
    forward, backward = (make_carrier(Boxes, SETTINGS, STRIDE, both.ids) for _ in range(2))
    forward.annotate(0, scene(), FRAME, first)
    forward.look_ahead(4, scene(), FRAME, both)
    backward.annotate(4, scene(), FRAME, both)
    behind, ahead = (carrier.step(2, scene(), IMAGE) for carrier in (forward, backward))
    alone, joined = backward.read(ahead, IMAGE), forward.read(forward.fuse(behind, ahead, 0.5), IMAGE)
    np.testing.assert_allclose(joined[0].xyxy[1], alone[0].xyxy[1], atol=1)
    assert np.isfinite(joined[0].xyxy).all()
    assert number in joined[1] and number not in forward.read(behind, IMAGE)[1]


def test_a_box_reaches_the_edge_of_a_frame_that_ends_within_a_cell() -> None:
    carrier: Any = make_carrier(Boxes, SETTINGS, STRIDE)
    frame = (HEIGHT - 7, WIDTH - 7)
    given = Boxes.from_xyxy([(80, 40, frame[1], frame[0])])
    carrier.annotate(0, scene(), frame, given)
    patches = carrier._propagator.memory.frames()[0].patches
    assert (from_patches(patches, carrier.fine)[40 // 4 :, 80 // 4 :, 1] == 1).all()  # padding, too
    found = carrier.read(carrier.step(1, scene(), IMAGE), np.zeros((*frame, 3), np.uint8))[0]
    np.testing.assert_allclose(found.xyxy, given.xyxy, atol=0.5)


def test_boxes_cover_the_cells_that_their_pixels_lie_in() -> None:
    carrier: Any = make_carrier(Boxes, SETTINGS, STRIDE)
    carrier.annotate(0, scene(), FRAME, Boxes.from_xyxy([(13, 7, 58, 31), (-20, 60, 6, 96)]))
    found = carrier._propagator.memory.frames()[0].patches
    found = from_patches(found, carrier.fine)
    for k, (x0, y0, x1, y1) in enumerate([(13, 7, 58, 31), (0, 60, 6, 96)], start=1):
        filled = torch.zeros(1, 1, HEIGHT, WIDTH)
        filled[..., y0:y1, x0:x1] = 1
        wanted = F.avg_pool2d(filled, STRIDE // carrier.fine)[0, 0]
        torch.testing.assert_close(found[..., k], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("refine", [False, True])
def test_values_beside_a_hole_are_not_mixed_with_it(refine: bool) -> None:
    values = np.full((*FRAME, 2), (100, -4), np.float32)
    values[: HEIGHT // 2, :, 0] = 20
    values[:, WIDTH // 2 :] = np.nan
    carrier = make_carrier(Maps, SETTINGS.model_copy(update={"refine": refine}), STRIDE)
    carrier.annotate(0, scene(), FRAME, Maps(values))
    found = step(carrier, 1, scene())
    assert found.labelled[:, : WIDTH // 2].all() and not found.labelled[:, WIDTH // 2 + STRIDE :].any()
    for rows, value in ((slice(HEIGHT // 2 - 4 * STRIDE), 20), (slice(HEIGHT // 2 + 4 * STRIDE, None), 100)):
        there = found.values[rows][found.labelled[rows]]
        np.testing.assert_allclose(there, [[value, -4]] * len(there), rtol=1e-3)


def test_decidedness() -> None:
    labels = torch.zeros(4, 4, 4)
    labels[0, :2, 0] = 1
    labels[..., 1] = 0.5
    labels[1, 1, 2] = 0.01
    assert decidedness(labels).tolist() == pytest.approx([1, 0.5, FLOOR, FLOOR])


@dataclass
class Case:
    """Places and confidences of a point in two passes, the share, and where it must be."""

    one: tuple[float, float]
    two: tuple[float, float]
    share: float
    wanted: float


@pytest.mark.parametrize(
    "case",
    [
        Case((10, 0.8), (12, 0.8), 0.5, 11),  # near each other: the mean
        Case((10, 0.9), (12, 0.3), 0.5, 10.5),
        Case((10, 0.5), (12, 0.5), 0.25, 10 + 2 * 1 / 28),  # 0.75 ** 3 against 0.25 ** 3
        Case((10, 0.5), (10 + AGREE + 1, 0.5), 0.49, 10),  # far from each other: the better one
        Case((10, 0.5), (10 + AGREE + 1, 0.5), 0.51, 10 + AGREE + 1),
        Case((10, 0.1), (20, 0.9), 0.4, 20),
        Case((10, 0.4), (20, 0.9), 0.3, 10),  # nearer, but less sure
        Case((10, 0.1), (float("nan"), 0), 0.99, 10),  # known to one annotation only
        Case((float("nan"), 0), (20, 0.1), 0.01, 20),
        Case((float("nan"), 0), (float("nan"), 0), 0.5, float("nan")),
        Case((10, 0), (20, 0), 0.4, 10),  # found by neither
    ],
)
def test_points_are_joined_where_they_agree(case: Case) -> None:
    carrier = make_carrier(Keypoints, SETTINGS, STRIDE)
    one, two = (
        CarriedPoints(torch.tensor([[float(x), x - x + 3]]), torch.tensor([float(sure)]))
        for x, sure in (case.one, case.two)
    )
    found = carrier.fuse(one, two, case.share)
    assert found.xy[0, 0].item() == pytest.approx(case.wanted, abs=0.01, nan_ok=True)
    assert np.isnan(case.wanted) or found.xy[0, 1].item() == pytest.approx(3, abs=1e-5)
    sure = {x: c for x, c in (case.one, case.two) if x == case.wanted}  # of the place that was taken
    wanted = sure.get(case.wanted, max(case.one[1], case.two[1]))
    assert found.confidence.item() == pytest.approx(wanted, abs=1e-6)
