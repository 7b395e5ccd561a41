"""Frozen features against the backbone called by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.device import fast_dtype
from pretrain.errors import InputError
from pretrain.probe.features import extract, to_input

from .tiny import Tiny, coloured

CPU = torch.device("cpu")
# Of computing in bfloat16, where this machine does.
LOOSE = 0.05 if fast_dtype(CPU) == torch.bfloat16 else 1e-5


@pytest.mark.parametrize("pool", [1, 2])
def test_they_are_the_means_of_the_maps(pool: int) -> None:
    backbone, images = Tiny(), coloured(7)
    found = extract(backbone, images, batch=3, pool=pool)
    assert list(found) == ["a", "b"]
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.from_numpy(images.images).permute(0, 3, 1, 2) / 255)
    for name, values in found.items():
        side = maps[name].shape[-1] // pool
        slow = torch.stack(
            [
                maps[name][:, :, side * i : side * (i + 1), side * j : side * (j + 1)].mean((2, 3))
                for i in range(pool)
                for j in range(pool)
            ],
            dim=2,
        ).flatten(1)
        assert values.dtype == torch.float32 and not values.requires_grad
        torch.testing.assert_close(values, slow, atol=LOOSE, rtol=LOOSE)


def test_the_batch_size_changes_nothing_and_progress_is_told() -> None:
    images, told = coloured(5).images, []
    whole = extract(Tiny(), images, layers=["b"])
    parts = extract(Tiny(), images, batch=2, layers=["b"], progress=lambda *values: told.append(values))
    assert list(whole) == ["b"] and told == [(2, 5), (4, 5), (5, 5)]
    torch.testing.assert_close(whole["b"], parts["b"], atol=LOOSE, rtol=LOOSE)


def test_each_module_keeps_its_mode_and_batch_norm_its_statistics() -> None:
    backbone = Tiny().train()
    backbone.second.eval()
    mean = backbone.norm.running_mean.clone()
    extract(backbone, coloured(4))
    assert backbone.training and backbone.norm.training and not backbone.second.training
    assert torch.equal(backbone.norm.running_mean, mean)


def test_images_are_resized() -> None:
    images = coloured(3, side=16).images
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    small = F.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    by_hand = (small * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    torch.testing.assert_close(
        extract(Tiny(), images, size=8)["b"], extract(Tiny(), by_hand)["b"], atol=0.05, rtol=0.05
    )


def test_bytes_become_0_to_1() -> None:
    images = coloured(2).images
    images[0, 0, 0], images[1, 3, 2] = (255, 0, 51), (0, 102, 255)
    x = to_input(images, CPU)
    assert x.shape == (2, 3, 16, 16) and x.dtype == torch.float32
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([1, 0, 0.2]))
    torch.testing.assert_close(x[1, :, 3, 2], torch.tensor([0, 0.4, 1]))


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(InputError, match="no layer 'c': choose from a, b"):
        extract(Tiny(), coloured(2), layers=["a", "c"])


def test_features_that_are_not_finite_are_refused() -> None:
    backbone = Tiny()
    torch.nn.init.constant_(backbone.second.weight, float("nan"))
    with pytest.raises(InputError, match="b of the backbone gives features that are not finite"):
        extract(backbone, np.zeros((2, 8, 8, 3), np.uint8))
