"""Labels that are finer than the cells that point: each place of a cell goes its way with it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidtrack.labels import Masks
from vidtrack.propagate.masks import FINE, MaskCarrier, coarse
from vidtrack.propagate.propagator import Propagator, from_patches, to_patches
from vidtrack.propagate.settings import Propagation

from .test_propagator import video

PLACES = [(y, x) for y in range(2) for x in range(2)]


def test_patches_are_the_labels_of_each_cell() -> None:
    labels = torch.randn(6, 10, 3)
    patches = to_patches(labels, 2)
    for row in range(3):
        for column in range(5):
            cell = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[row, column], cell.flatten())
    assert torch.equal(from_patches(patches, 2), labels)
    assert torch.equal(to_patches(labels, 1), labels)


def test_each_place_is_carried_as_a_map_of_its_own() -> None:
    settings = Propagation(context=2, radius=4, topk=5, reach=None, margin=None)
    frames = video(6, 12, 16)
    labels = torch.zeros(24, 32, 3)
    labels[5:12, 7:17, 1], labels[14:20, 4:9, 2] = 1, 0.75
    labels[..., 0] = 1 - labels[..., 1:].sum(-1)
    fine, apart = Propagator(settings, fine=2), {place: Propagator(settings) for place in PLACES}
    fine.annotate(0, frames[0], labels)
    for (y, x), one in apart.items():
        one.annotate(0, frames[0], labels[y::2, x::2].contiguous())
    for t in range(1, len(frames)):
        found = fine.step(t, frames[t]).labels
        for (y, x), one in apart.items():
            torch.testing.assert_close(found[y::2, x::2], one.step(t, frames[t]).labels, atol=1e-6, rtol=0)
    assert found[5:12, 17:27, 1].mean() > 0.7  # it moved five cells, ten places


@pytest.mark.parametrize(("y", "x"), PLACES)
def test_a_label_in_one_place_of_a_cell_is_not_overlooked(y: int, x: int) -> None:
    """What is near labels is asked and remembered, wherever in its cell a label lies."""
    settings = Propagation(context=2, radius=4, topk=3, reach=2, margin=3)
    frames = video(5, 14, 18)
    labels = torch.zeros(28, 36, 2)
    labels[..., 0] = 1
    labels[10:18, 12:20][y::2, x::2] = torch.tensor([0.0, 1.0])
    fine, plain = Propagator(settings, fine=2), Propagator(settings)
    fine.annotate(0, frames[0], labels)
    plain.annotate(0, frames[0], labels[y::2, x::2].contiguous())
    for t in range(1, len(frames)):
        region = plain.region()
        assert region is None or torch.equal(region, fine.region())  # type: ignore[arg-type]
        found = fine.step(t, frames[t]).labels
        torch.testing.assert_close(found[y::2, x::2], plain.step(t, frames[t]).labels, atol=1e-6, rtol=0)
    assert found[..., 1].sum() > 8


@pytest.mark.parametrize("size", [(36, 44), (40, 48), (33, 41), (37, 46)])
def test_frames_of_any_size_have_whole_cells(size: tuple[int, int]) -> None:
    """Where half of the last cells lies in the padding, their labels are padded too, and cut off again."""
    rng = torch.Generator().manual_seed(0)
    embedding = F.normalize(torch.randn(-(-size[0] // 8), -(-size[1] // 8), 16, generator=rng), dim=-1)
    ids = np.zeros(size, np.uint8)
    ids[16:, 20:] = 3
    image = np.zeros((*size, 3), np.uint8)
    carrier = MaskCarrier(Propagation(size=None, radius=3, refine=False), 8)
    assert carrier.fine == FINE == 2
    maps = carrier._maps(Masks(ids), embedding)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:2]))  # in the padding, too
    carrier.annotate(0, embedding, size, Masks(ids))
    for t in range(1, 4):
        carried = carrier.step(t, embedding, image)
        assert carried.labels.shape == (2 * embedding.shape[0], 2 * embedding.shape[1], 2)
        assert carried.similarity.shape == embedding.shape[:2]
        masks, _ = carrier.read(carried, image)
        assert (masks.ids == ids).mean() > 0.97
        labels, stride = carrier.soft(carried, size)
        assert stride == 4 and labels.shape == (-(-size[0] // 4), -(-size[1] // 4), 2)


def test_an_edge_inside_of_cells_stays_where_it_was() -> None:
    """The mask ends in the middle of cells: finer labels know where, whole cells can't."""
    rng = torch.Generator().manual_seed(0)
    embedding = F.normalize(torch.randn(8, 10, 16, generator=rng), dim=-1)
    ids = np.zeros((64, 80), np.uint8)
    ids[20:44, 20:60] = 1
    image = np.zeros((64, 80, 3), np.uint8)
    wrong = {}
    for fine in (1, 2):
        carrier = MaskCarrier(Propagation(size=None, radius=3, topk=1, refine=False, foreground=1.0), 8)
        carrier.fine = fine
        carrier._propagator = Propagator(carrier.settings, fine=fine)
        carrier.annotate(0, embedding, (64, 80), Masks(ids))
        for t in range(1, 4):
            masks, _ = carrier.read(carrier.step(t, embedding, image), image)
        wrong[fine] = int((masks.ids != ids).sum())
    assert wrong[2] < 0.5 * wrong[1]


def test_cells_of_odd_size_are_not_divided() -> None:
    assert MaskCarrier(Propagation(), 7).fine == 1 and MaskCarrier(Propagation(), 14).fine == 2
    assert MaskCarrier(Propagation(preset="crw"), 8).fine == 1  # as in the paper's code
    labels = torch.rand(6, 8, 2)
    assert torch.equal(coarse(labels, 1), labels)
    torch.testing.assert_close(coarse(labels, 2)[1, 2], labels[2:4, 4:6].mean(dim=(0, 1)))
