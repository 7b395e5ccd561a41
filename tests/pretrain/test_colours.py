"""Colours as classes, against skimage and slow formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import Tensor

from pretrain.colours import (
    ColourBins,
    annealed_mean,
    coarse_lab,
    gamut,
    join,
    soft_cross_entropy,
    with_colours,
)


@pytest.fixture(scope="module")
def bins() -> ColourBins:
    return ColourBins()


def lab_of(images: Tensor) -> Tensor:
    """skimage's Lab `[N, 3, H, W]`."""
    return torch.from_numpy(rgb2lab(images.permute(0, 2, 3, 1).double().numpy())).permute(0, 3, 1, 2)


def test_the_bins_are_those_of_the_srgb_gamut() -> None:
    centres = gamut()
    assert len(centres) == 261 and len(centres.unique(dim=0)) == 261
    known = {tuple(centre) for centre in centres.tolist()}
    colours = np.random.default_rng(0).random((40_000, 1, 3))
    ab = rgb2lab(colours)[:, 0, 1:]
    found = {tuple(cell) for cell in (np.round(ab / 10) * 10 + 0.0).tolist()}
    assert found <= known and len(found) > 200  # random colours seldom hit the outermost bins
    side = np.linspace(0, 1, 80)
    square = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    surface = np.concatenate([np.insert(square, c, v, axis=1) for c in range(3) for v in (0, 1)])
    ab = torch.from_numpy(rgb2lab(surface[:, None])[:, 0, 1:])
    # Each bin has a colour within 5 of its centre in a and in b, up to the coarseness of the colours here.
    off = (centres[:, None] - ab).abs().amax(dim=2).amin(dim=1)
    assert off.max() < 5.5


def test_the_nearest_bins_are_those_of_a_full_search(bins: ColourBins) -> None:
    ab = 250 * torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) - 125
    found, distance = bins.nearest(ab.view(40, 100, 2), 5)
    assert found.shape == distance.shape == (40, 100, 5)
    every = torch.cdist(ab.double(), bins.centres.double()).square()
    expected = every.topk(5, dim=1, largest=False)
    torch.testing.assert_close(distance.view(-1, 5).double(), expected.values, atol=2e-2, rtol=1e-5)
    torch.testing.assert_close(every.gather(1, found.view(-1, 5)), expected.values, atol=2e-2, rtol=1e-5)


def test_colours_far_outside_count_as_the_limit(bins: ColourBins) -> None:
    far, near = torch.tensor([[1e4, -3e3]]), torch.tensor([[125.0, -125.0]])
    assert torch.equal(bins.nearest(far, 5)[0], bins.nearest(near, 5)[0])


def test_soft_classes_are_a_gaussian_of_five(bins: ColourBins) -> None:
    ab = torch.tensor([[3.0, 4.0], [-63.0, 52.5], [81.0, 67.5], [0.0, 0.0]])
    found, shares = bins.encode(ab)
    for colour, classes, share in zip(ab.tolist(), found.tolist(), shares.tolist(), strict=True):
        squares = [(a - colour[0]) ** 2 + (b - colour[1]) ** 2 for a, b in bins.centres.tolist()]
        nearest = sorted(range(len(squares)), key=squares.__getitem__)[:5]
        heights = {k: math.exp(-squares[k] / (2 * 5**2)) for k in nearest}
        assert set(classes) == set(nearest) and squares[classes[0]] == min(squares)
        for k, value in zip(classes, share, strict=True):
            assert value == pytest.approx(heights[k] / sum(heights.values()), abs=1e-5)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))


def test_the_annealed_mean_lies_between_mode_and_mean(bins: ColourBins) -> None:
    scores = 3 * torch.randn(2, len(bins), 2, 3, generator=torch.Generator().manual_seed(1))
    found = bins.decode(scores, 0.38)
    for n, y, x in np.ndindex(2, 2, 3):
        chance = scores[n, :, y, x].double().softmax(dim=0)
        sharp = chance.log().div(0.38).exp()  # the paper's formula
        sharp = sharp / sharp.sum()
        expected = (sharp[:, None] * bins.centres).sum(dim=0)
        torch.testing.assert_close(found[n, :, y, x].double(), expected, atol=1e-3, rtol=1e-4)
    mode = bins.centres[scores.argmax(dim=1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(bins.decode(scores, 1e-4), mode)
    mean = torch.einsum("nqhw,qc->nchw", scores.softmax(dim=1), bins.centres)
    torch.testing.assert_close(bins.decode(scores, 1.0), mean)
    assert annealed_mean(scores.bfloat16(), bins.centres).dtype == torch.float32


def test_encoding_and_decoding_come_back_near(bins: ColourBins) -> None:
    images = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(2))
    ab = coarse_lab(images, (20, 20))[:, 1:]
    classes, shares = bins.encode(ab.permute(0, 2, 3, 1))
    chance = torch.zeros(1, 20, 20, len(bins)).scatter_(-1, classes, shares)
    back = bins.decode(chance.clamp(min=1e-9).log().permute(0, 3, 1, 2), 1.0)
    assert (back - ab).norm(dim=1).mean() < 3


@pytest.mark.parametrize("mix", [0.5, 0.1, 1.0])
def test_class_weights(bins: ColourBins, mix: float) -> None:
    counts = torch.randint(0, 50, (len(bins),), generator=torch.Generator().manual_seed(3))
    counts[100] = 100_000
    found = bins.weights(counts, mix)
    centres = bins.centres.double()
    smooth = torch.zeros(len(bins), dtype=torch.double)
    for place in range(len(bins)):
        spread = (-(centres - centres[place]).square().sum(dim=1) / 50).exp()
        smooth += spread / spread.sum() * float(counts[place]) / float(counts.sum())
    assert float(smooth.sum()) == pytest.approx(1)
    raw = torch.stack([1 / ((1 - mix) * p + mix / len(bins)) for p in smooth])
    expected = raw / sum(float(p * w) for p, w in zip(smooth, raw, strict=True))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)
    assert found.argmin() == 100 or mix == 1
    if mix == 1:
        torch.testing.assert_close(found, torch.ones(len(bins)))


def test_counted_are_the_nearest_bins(bins: ColourBins) -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    counts = bins.count(images, (4, 4))
    ab = lab_of(F.avg_pool2d(images, 2))[:, 1:].permute(0, 2, 3, 1).reshape(-1, 1, 2)
    expected = torch.zeros(len(bins))
    for colour in ab:
        expected[(bins.centres - colour).norm(dim=1).argmin()] += 1
    assert counts.sum() == 48 and torch.equal(counts.float(), expected)


def test_soft_cross_entropy_is_torchs_with_all_classes_written_out() -> None:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 11, generator=generator, requires_grad=True)
    classes = torch.rand(2, 3, 11, generator=generator).argsort(dim=2)[..., :4]
    shares = torch.rand(2, 3, 4, generator=generator).softmax(dim=2)
    full = torch.zeros(2, 3, 11).scatter_(2, classes, shares)
    expected = F.cross_entropy(scores.flatten(0, 1), full.flatten(0, 1), reduction="none").view(2, 3)
    found = soft_cross_entropy(scores, classes, shares)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), scores)[0], torch.autograd.grad(expected.sum(), scores)[0]
    )


def test_coarse_lab_is_that_of_the_mean_colours() -> None:
    images = torch.rand(2, 3, 12, 8, generator=torch.Generator().manual_seed(6))
    expected = lab_of(F.avg_pool2d(images, 4))
    torch.testing.assert_close(coarse_lab(images, (3, 2)).double(), expected, atol=2e-2, rtol=0)


def test_the_own_colours_give_the_image_back() -> None:
    images = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(7))
    ab = coarse_lab(images, (9, 7))[:, 1:]
    torch.testing.assert_close(with_colours(images, ab), images, atol=2e-3, rtol=0)


def test_other_colours_keep_the_lightness_inside_the_gamut() -> None:
    generator = torch.Generator().manual_seed(8)
    images = 0.2 + 0.6 * torch.rand(1, 3, 16, 16, generator=generator)
    ab = 80 * torch.rand(1, 2, 4, 4, generator=generator) - 40
    found = with_colours(images, ab)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    inside = ((found > 0) & (found < 1)).all(dim=1)
    assert inside.float().mean() > 0.7
    torch.testing.assert_close(lab_of(found)[:, 0][inside], lab_of(images)[:, 0][inside], atol=0.05, rtol=0)
    wide = F.interpolate(ab, size=(16, 16), mode="bilinear", align_corners=False).double()
    assert (lab_of(found)[:, 1:] - wide).abs().amax(dim=1)[inside].max() < 0.1


def test_join_of_lightness_without_colours_is_gray() -> None:
    light = torch.linspace(0, 100, 6).view(1, 1, 2, 3)
    rgb = join(light, torch.zeros(1, 2, 2, 3))
    assert (rgb.amax(dim=1) - rgb.amin(dim=1)).max() < 1e-2
    torch.testing.assert_close(lab_of(rgb)[:, :1].float(), light, atol=0.05, rtol=0)
