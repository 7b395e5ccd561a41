"""Patches of a whole batch at once, against one at a time."""

import pytest
import torch
import torch.nn.functional as F

from pretrain.backbones import ResNet
from pretrain.patches import arrange, as_input, cut, frame, normalise


@pytest.mark.parametrize("each_channel", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_cut_is_a_loop_over_slices(each_channel: bool, channels_last: bool) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 11, 14)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    shape = (3, 5, 3) if each_channel else (3, 5)
    top, left = torch.randint(11 - 4 + 1, shape), torch.randint(14 - 4 + 1, shape)
    top[0], left[0], top[1], left[1] = 0, 0, 7, 10  # corners
    found = cut(images, top, left, 4)
    assert found.shape == (3, 5, 3, 4, 4)
    for n in range(3):
        for p in range(5):
            for c in range(3):
                y, x = (int(t[n, p, c] if each_channel else t[n, p]) for t in (top, left))
                assert torch.equal(found[n, p, c], images[n, c, y : y + 4, x : x + 4])


def test_normalised_patches_have_mean_0_and_spread_1() -> None:
    torch.manual_seed(0)
    patches = torch.rand(2, 4, 3, 8, 8) * torch.rand(2, 4, 3, 1, 1) + torch.rand(2, 4, 3, 1, 1)
    found = normalise(patches)
    torch.testing.assert_close(found.mean(dim=(-2, -1)), torch.zeros(2, 4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=(-2, -1), correction=0), torch.ones(2, 4, 3))
    torch.testing.assert_close(normalise(patches * 0.5 + 0.2), found, atol=1e-4, rtol=1e-4)


def test_flat_patches_become_zero_and_noise_stays_small() -> None:
    assert normalise(torch.full((1, 3, 4, 4), 0.3)).abs().max() < 1e-4
    assert normalise(0.3 + 1e-4 * torch.rand(1, 3, 4, 4)).abs().max() < 0.05


def test_the_first_layer_gets_what_is_meant() -> None:
    normalised = torch.randn(5, 3, 6, 6)
    backbone = ResNet("resnet18", share=0.125)
    torch.testing.assert_close(backbone.normalised(as_input(backbone, normalised)), normalised)


def test_arranged_patches_lie_row_by_row() -> None:
    patches = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(2, 9, 3, 2, 2)
    found = arrange(patches, gap=1, white=-1)
    assert found.shape == (2, 3, 8, 8)
    a, b, c, w = [0] * 2, [1] * 2, [2] * 2, [-1]
    row = [*a, *w, *b, *w, *c]
    assert found[1, 2, 0].tolist() == row and found[0, 0, 1].tolist() == row
    assert found[0, 0, 2].tolist() == [-1] * 8
    assert found[0, 0, 7].tolist() == [6, 6, -1, 7, 7, -1, 8, 8]


def test_a_frame_leaves_the_inside() -> None:
    image = torch.rand(3, 7, 9)
    before = image.clone()
    found = frame(image, (1.0, 0.0, 0.5), width=2)
    assert torch.equal(found[:, 2:-2, 2:-2], image[:, 2:-2, 2:-2]) and torch.equal(image, before)
    outside = F.pad(torch.zeros(3, 5), (2, 2, 2, 2), value=1).bool()
    assert found[:, outside].unique(dim=1).flatten().tolist() == [1.0, 0.0, 0.5]
