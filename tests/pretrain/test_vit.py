"""Vision transformers: feature maps of timm's own, other sizes, files, and other networks of timm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pretrain.backbones import save_backbone
from pretrain.catalogue import build_any
from pretrain.errors import InputError
from pretrain.inputs import IMAGENET_MEAN, IMAGENET_STD
from pretrain.vit import TimmFeatures, ViT


def made(patch: int = 8, size: int = 32, **options: Any) -> ViT:
    torch.manual_seed(0)
    net = ViT("vit_tiny", patch, size, **options).eval()
    torch.nn.init.normal_(net.vit.cls_token)  # as if trained: timm begins with almost nothing
    return net


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 24), (30, 45)])
def test_maps_are_those_of_timm(height: int, width: int) -> None:
    net, images = made(), torch.rand(2, 3, height, width)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    seen = (images - mean) / std
    final, expected = net.vit.forward_intermediates(seen)
    maps = net(images)
    grid = (-(-height // 8), -(-width // 8))
    assert list(maps) == list(net.channels) == [f"block{n}" for n in range(1, 13)]
    for found, one in zip(list(maps.values())[:-1], expected[:-1], strict=True):
        assert found.shape == (2, 192, *grid)
        torch.testing.assert_close(found, one)
    last = final[:, 1:].transpose(1, 2).unflatten(2, grid)  # after the final norm
    torch.testing.assert_close(maps["block12"], last)


def test_all_patches_encoded_are_the_last_map() -> None:
    net, images = made(), torch.rand(2, 3, 40, 32)
    tokens, grid = net.patches(images)
    assert tokens.shape == (2, 20, 192) and grid == (5, 4)
    encoded = net.encode(tokens)
    assert encoded.shape == (2, 21, 192)
    torch.testing.assert_close(encoded[:, 1:], net(images)["block12"].flatten(2).transpose(1, 2))
    torch.testing.assert_close(encoded, net.vit.forward_features(net.normalised(images)))


def test_incomplete_patches_are_padded() -> None:
    net, images = made(), torch.rand(1, 3, 29, 32)
    whole = F.pad(net.normalised(images), (0, 0, 0, 3)) * net.std + net.mean
    torch.testing.assert_close(net(images)["block12"], net(whole)["block12"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"patch": 4}, {"patch": 16, "size": 64, "input": "l"}])
def test_a_file_gives_the_same_network(tmp_path: Path, options: Any) -> None:
    net = made(**options)
    net.vit.pos_embed.requires_grad_(False)
    save_backbone(net, tmp_path / "backbone.safetensors")
    again = build_any(str(tmp_path)).eval()
    assert again.description() == net.description()
    images = torch.rand(2, 3, 48, 32)
    before, after = net(images), again(images)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(("arch", "width"), [("vit_tiny", 192), ("vit_small", 384)])
def test_attributes_say_what_comes(arch: str, width: int) -> None:
    net = ViT(arch, 16, 32)
    assert set(net.channels.values()) == {width} and set(net.strides.values()) == {16}
    assert net.channels.keys() == net.strides.keys()


def test_what_is_no_transformer_is_said() -> None:
    with pytest.raises(InputError, match="no transformer 'vit_huge': choose one of vit_tiny"):
        ViT("vit_huge", 16, 32)
    with pytest.raises(InputError, match="30 pixels don't consist of whole patches of 4"):
        ViT("vit_tiny", 4, 30)


@pytest.mark.parametrize(
    ("name", "size", "word"),
    [("test_resnet", 64, "layer"), ("test_convnext", 64, "layer"), ("test_vit", 48, "block")],
)
def test_networks_of_timm_are_what_they_say(name: str, size: int, word: str) -> None:
    torch.manual_seed(0)
    backbone = TimmFeatures(name, pretrained=False).eval()
    images = torch.rand(2, 3, size, size)
    maps = backbone(images)
    assert list(maps) == list(backbone.channels) == list(backbone.strides)
    assert all(key.startswith(word) for key in maps)
    for key, found in maps.items():
        cells = size // backbone.strides[key]
        assert found.shape == (2, backbone.channels[key], cells, cells)
    # In a ViT, that of the deepest block is timm's own output; in a CNN its last stage's.
    seen = (images - backbone.mean) / backbone.std
    final = backbone.net.forward_features(seen)
    if word == "block":
        cells = size // backbone.strides["block1"]
        final = final[:, backbone.net.num_prefix_tokens :].transpose(1, 2).unflatten(2, (cells, cells))
    torch.testing.assert_close(list(maps.values())[-1], final, atol=1e-5, rtol=1e-4)


def test_names_that_timm_has_not() -> None:
    with pytest.raises(InputError, match=r"timm:resnet0 can't be built \(.+\)\."):
        TimmFeatures("resnet0", pretrained=False)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"transformers need timm: pip install 'vidtrack\[timm\]'"):
        ViT("vit_tiny", 16, 32)
    with pytest.raises(InputError, match=r"timm:test_vit needs timm: pip install 'vidtrack\[timm\]'"):
        TimmFeatures("test_vit", pretrained=False)
