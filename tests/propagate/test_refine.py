"""The guided filter against its definition, and what it is for."""

import numpy as np
import pytest
import torch

from vidtrack.propagate.readout import winners
from vidtrack.propagate.refine import COARSE, EPSILON, WINDOW, Guide


def picture(height: int, width: int, edge: int) -> np.ndarray:
    """Two textured halves that meet at column `edge`."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 25, (height, width, 3))
    image[:, :edge] += np.array([180, 60, 30])
    image[:, edge:] += np.array([40, 90, 150])
    return image.astype(np.uint8)


def slow_filter(colours: np.ndarray, label: np.ndarray) -> np.ndarray:
    """He et al. 2010, equations 19-21, one window after the other, all in float64."""
    height, width = label.shape
    pad = WINDOW // 2

    def window(y: int, x: int) -> tuple[slice, slice]:
        return slice(max(0, y - pad), y + pad + 1), slice(max(0, x - pad), x + pad + 1)

    slope, offset = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            i = colours[window(y, x)].reshape(-1, 3)
            p = label[window(y, x)].reshape(-1)
            covariance = np.cov(i.T, bias=True) + EPSILON * np.eye(3)
            slope[y, x] = np.linalg.solve(covariance, (i * p[:, None]).mean(0) - i.mean(0) * p.mean())
            offset[y, x] = p.mean() - slope[y, x] @ i.mean(0)
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            a, b = slope[window(y, x)].reshape(-1, 3).mean(0), offset[window(y, x)].mean()
            out[y, x] = a @ colours[y, x] + b
    return out


def test_equals_the_definition_on_coarse_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidtrack.propagate.refine.COARSE", 1)
    image = np.random.default_rng(1).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    label = torch.rand(16, 24)
    found = Guide(torch.from_numpy(image), (16, 24)).refine(label, 1, slice(0, 16), slice(0, 24))
    expected = slow_filter(image / 255.0, label.numpy().astype(np.float64))
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_it_is_linear_and_keeps_constants() -> None:
    guide = Guide(torch.from_numpy(picture(96, 128, 70)), (96, 128))
    all_ = slice(0, 96), slice(0, 128)
    ones = guide.refine(torch.ones(12, 16), 8, *all_)
    torch.testing.assert_close(ones, torch.ones(96, 128), atol=1e-3, rtol=0)
    map_ = torch.rand(12, 16)
    both = guide.refine(map_, 8, *all_) + guide.refine(1 - map_, 8, *all_)
    torch.testing.assert_close(both, ones, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_mask_snaps_to_the_edge(scale: int) -> None:
    """Cells can't say where in a cell the object ends; the colours can."""
    edge = 65
    image = picture(96, 128, edge).repeat(scale, 0).repeat(scale, 1)
    labels = torch.zeros(12, 16, 2)
    labels[:, :8, 1] = 1
    labels[:, 8, 1] = 0.6  # pixels 64..71: the plain border lies at 68.8, the true one at 65
    labels[..., 0] = 1 - labels[..., 1]
    truth = torch.zeros(96 * scale, 128 * scale, dtype=torch.uint8)
    truth[:, : edge * scale] = 1
    original = (96 * scale, 128 * scale)
    plain, _ = winners(labels, (96, 128), 8, original)
    snapped, confidence = winners(labels, (96, 128), 8, original, torch.from_numpy(image))
    assert (snapped != truth).float().mean() < 0.5 * (plain != truth).float().mean()
    assert 0.5 < confidence[1] <= 1


def test_a_faint_edge_is_followed() -> None:
    """A tenth of the range of brightness between object and background is enough."""
    image = np.full((96, 128, 3), 100, np.uint8)
    image[:, :65] += 25
    labels = torch.zeros(12, 16, 2)
    labels[:, :8, 1] = 1
    labels[:, 8, 1] = 0.6
    labels[..., 0] = 1 - labels[..., 1]
    ids, _ = winners(labels, (96, 128), 8, (96, 128), torch.from_numpy(image))
    assert int((ids[48] == 1).sum()) in (64, 65, 66)  # plain up-sampling says 69


def test_a_small_support_changes_nothing() -> None:
    """Objects are refined only where they can have mass; the whole frame gives the same."""
    image = torch.from_numpy(picture(160, 240, 100))
    guide = Guide(image, (160, 240))
    labels = torch.zeros(20, 30, 3)
    labels[8:12, 11:14, 1] = 1
    labels[2:5, 20:28, 2] = 0.8
    labels[..., 0] = 1 - labels[..., 1:].sum(-1)
    ids, _ = winners(labels, (160, 240), 8, (160, 240), image)
    all_ = slice(0, 160), slice(0, 240)
    dense = torch.stack([guide.refine(labels[..., k], 8, *all_) for k in range(3)])
    best, second = dense.topk(2, dim=0).values
    sure = best - second > 1e-3
    assert torch.equal(ids[sure], dense.argmax(dim=0)[sure].to(torch.uint8))
    assert sure.float().mean() > 0.99


def test_an_object_of_one_cell_is_not_smoothed_away() -> None:
    labels = torch.zeros(12, 16, 2)
    labels[5, 7, 1] = 1
    labels[..., 0] = 1 - labels[..., 1]
    image = torch.from_numpy(picture(96, 128, 70))
    ids, confidence = winners(labels, (96, 128), 8, (96, 128), image)
    assert bool(ids[44, 60])
    assert 1 in confidence


def test_foreground_weighs_objects_against_the_background() -> None:
    labels = torch.tensor([[[0.54, 0.46], [0.54, 0.46]], [[0.56, 0.44], [0.56, 0.44]]])
    assert not winners(labels, (16, 16), 8, (16, 16))[0].any()
    ids, _ = winners(labels, (16, 16), 8, (16, 16), foreground=1.2)
    assert not ids.any()  # 0.46 * 1.2 > 0.54, but nothing of it is sure
    sure = torch.cat([torch.tensor([[[0.4, 0.6]] * 2] * 2), labels])
    ids, _ = winners(sure, (32, 16), 8, (32, 16), foreground=1.2)
    assert ids[:20].all() and not ids[-1].any()


@pytest.mark.parametrize("refined", [True, False])
@pytest.mark.parametrize(("label", "there"), [(0.52, True), (0.47, False)])
def test_an_object_that_is_less_likely_than_the_background_is_nowhere(
    label: float, there: bool, refined: bool
) -> None:
    """Another object, beside it, loses nothing; one sure cell is not enough."""
    labels = torch.zeros(12, 16, 3)
    labels[:, 8:, 1] = label
    labels[5, 12, 1] = 0.9
    labels[2:6, 1:5, 2] = 1
    labels[..., 0] = 1 - labels[..., 1:].sum(dim=-1)
    image = torch.from_numpy(picture(96, 128, 70)) if refined else None
    ids, confidence = winners(labels, (96, 128), 8, (96, 128), image, foreground=1.3)
    assert bool((ids == 1).any()) == there == (1 in confidence)
    assert bool((ids[24:40, 16:32] == 2).all())


def test_an_object_among_others_needs_no_majority() -> None:
    """It is the most probable of three, and the background is less probable than it."""
    labels = torch.tensor([0.25, 0.4, 0.35]).expand(4, 4, 3).contiguous()
    ids, confidence = winners(labels, (32, 32), 8, (32, 32))
    assert bool((ids == 1).all())
    assert confidence == {1: pytest.approx(0.4, abs=1e-4)}  # nothing about one that has no pixels


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (9, 5)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    image = torch.zeros(*size, 3, dtype=torch.uint8)
    labels = torch.ones(-(-size[0] // 8), -(-size[1] // 8), 2)
    labels[..., 0] = 0
    ids, _ = winners(labels, size, 8, size, image)
    assert ids.shape == size
    assert bool((ids == 1).all())
    assert COARSE == 4
