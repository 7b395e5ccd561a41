"""Attention of the class token, which timm's fused attention doesn't return."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pretrain.attention import attention, class_attention, weights_and_values
from pretrain.backbones import ResNet
from pretrain.vit import TimmFeatures, ViT


def small() -> ViT:
    torch.manual_seed(0)
    net = ViT("vit_tiny", 8, 32)
    net.vit.blocks = net.vit.blocks[:2]
    net.channels = {name: net.channels[name] for name in ("block1", "block2")}
    for parameter in net.parameters():  # so that attention differs from place to place
        parameter.data.mul_(3)
    return net.eval()


@pytest.mark.parametrize("plain", [False, True])
def test_weights_and_values_give_what_the_block_gives(plain: bool) -> None:
    layer: Any = small().vit.blocks[1].attn
    if plain:
        layer.fused_attn = False
    x = torch.randn(3, 10, 192)
    weights, values = weights_and_values(layer, layer.qkv(x))
    again = layer.proj(layer.norm((weights @ values).transpose(1, 2).flatten(2)))
    torch.testing.assert_close(again, layer(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(3, 3, 10))
    first, _ = weights_and_values(layer, layer.qkv(x), rows=1)
    torch.testing.assert_close(first, weights[:, :, :1])


def test_maps_are_the_class_tokens_row_of_the_last_block() -> None:
    net = small()
    images = torch.rand(2, 3, 24, 40)
    given: list[Tensor] = []
    handle = net.vit.blocks[-1].register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    net(images)
    handle.remove()
    block = net.vit.blocks[-1]
    q, k, _ = block.attn.qkv(block.norm1(given[0])).chunk(3, dim=2)
    found = class_attention(net, images)
    assert found.shape == (2, 3, 3, 5)
    for head in range(3):  # 64 channels each
        part = slice(64 * head, 64 * head + 64)
        scores = (q[:, :1, part] * k[:, :, part]).sum(dim=2) / 8
        expected = scores.softmax(dim=1)[:, 1:].view(2, 3, 5)
        torch.testing.assert_close(found[:, head], expected, atol=1e-5, rtol=1e-4)
    assert (found.sum(dim=(2, 3)) < 1).all()


def test_the_picture_shows_each_head_and_leaves_the_network_alone() -> None:
    net = small().train()
    images = torch.rand(10, 3, 32, 32)
    picture = attention(net, images)
    assert net.training and not net.vit.blocks[-1].attn.qkv._forward_hooks
    # Eight images in four rows, each with three heads beside it.
    assert picture.image.shape == (4 * 34 - 2, 8 * 34 - 2, 3)
    assert abs(picture.image[:32, :32].astype(int) - (images[0] * 255).permute(1, 2, 0).numpy()).max() <= 1
    maps = class_attention(net, images[:1])[0]
    for head in range(3):
        tile = picture.image[:32, 34 * (head + 1) : 34 * (head + 1) + 32].astype(int).sum(axis=2)
        brightest = tile[4::8, 4::8]  # one value for each patch
        assert brightest.flatten().argmax() == int(maps[head].argmax())


def test_registers_are_no_patches() -> None:
    torch.manual_seed(0)
    backbone = TimmFeatures("vit_small_patch14_reg4_dinov2", pretrained=False)
    backbone.net.blocks = backbone.net.blocks[:1]
    backbone.channels = {"block1": 384}
    torch.nn.init.normal_(backbone.net.reg_token)
    images = torch.rand(1, 3, 28, 42)
    kept: list[Tensor] = []
    layer: Any = backbone.net.blocks[0].attn
    handle = layer.qkv.register_forward_hook(lambda _module, _args, out: kept.append(out))
    maps = class_attention(backbone, images)
    handle.remove()
    weights, _ = weights_and_values(layer, kept[0])
    assert maps.shape == (1, 6, 2, 3)
    assert torch.allclose(maps.flatten(2), weights[:, :, 0, 5:])  # after the class token and four registers


def test_networks_without_class_token_are_refused() -> None:
    for net in (ResNet("resnet18"), TimmFeatures("test_resnet", pretrained=False)):
        with pytest.raises(ValueError, match="no vision transformer with a class token"):
            attention(net, torch.rand(1, 3, 32, 32))
