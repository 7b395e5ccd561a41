"""MAE: patches, what is encoded, the loss by a slow formula, what is learned, pictures, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretrain.backbones import ResNet
from pretrain.catalogue import Backbone
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.masking import KINDS, draw_mask, take, visible_first
from pretrain.methods.mae import (
    MAE,
    MAESettings,
    masked_error,
    patchify,
    plain_attention,
    rgb,
    unpatchify,
)
from pretrain.methods.mae_decoder import Decoder, positions
from pretrain.run import make_method
from pretrain.settings import schema
from pretrain.vit import ViT

CONFIGS = Path(__file__).parents[3] / "configs"


def made(size: int = 32, patch: int = 8, input: Any = "rgb", **options: Any) -> MAE:
    """With an encoder of two blocks."""
    torch.manual_seed(0)
    backbone = ViT("vit_tiny", patch, size, input)
    backbone.vit.blocks = backbone.vit.blocks[:2]
    names = ("block1", "block2")
    backbone.channels = {name: backbone.channels[name] for name in names}
    settings = MAESettings(**{"decoder_width": 32, "decoder_blocks": 1, "decoder_heads": 2, **options})
    return MAE(backbone, settings, size)


def smooth(count: int, size: int) -> Tensor:
    """Images with few frequencies: what is hidden follows from what is visible."""
    torch.manual_seed(1)
    coarse = torch.rand(count, 3, 3, 3)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def config(*overrides: str) -> Any:
    return load_config(schema("mae"), "pretrain/mae", overrides, CONFIGS)


@pytest.mark.parametrize(("channels", "patch", "values"), [(3, 16, 768), (1, 16, 256), (3, 4, 48)])
def test_patches_and_back(channels: int, patch: int, values: int) -> None:
    images = torch.rand(2, channels, 3 * patch, 5 * patch)
    patches = patchify(images, patch)
    assert patches.shape == (2, 15, values)
    assert torch.equal(unpatchify(patches, patch, (3, 5)), images)
    for row in range(3):
        for column in range(5):
            one = images[:, :, row * patch : row * patch + patch, column * patch : column * patch + patch]
            assert torch.equal(patches[:, 5 * row + column], one.permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize(("channels", "values"), [("rgb", 768), ("l", 256)])
def test_the_last_layer_gives_all_values_of_a_patch(channels: str, values: int) -> None:
    method = make_method(config(f"mae.channels={channels}", "mae.decoder_blocks=1"))
    assert isinstance(method, MAE) and method.backbone.patch == 16
    assert method.backbone.input == channels and method.decoder.pixels.out_features == values
    views = method.views(torch.rand(2, 3, 160, 160), Draws(0, 0, 2))
    assert views["images"].shape == (2, 3, 128, 128) and views["mask"].shape == (2, 64)
    assert method.reconstruct(views["images"], views["mask"]).shape == (2, 64, values)
    assert method.loss(views)["loss"].isfinite()


def slow_loss(method: MAE, images: Tensor, mask: Tensor) -> float:
    """Mean square error, patch by patch and value by value."""
    prediction = method.reconstruct(images, mask).detach().double().numpy()
    seen = method.backbone.normalised(images).double().numpy()
    p, (_, columns) = method.patch, method.grid
    errors = []
    for number in range(len(images)):
        for place in range(mask.shape[1]):
            if not mask[number, place]:
                continue
            y, x = place // columns * p, place % columns * p
            truth = seen[number, :, y : y + p, x : x + p].transpose(1, 2, 0).flatten()
            if method.settings.norm_pix_loss:
                variance = ((truth - truth.mean()) ** 2).sum() / (len(truth) - 1)
                truth = (truth - truth.mean()) / np.sqrt(variance + 1e-6)
            errors += [(a - b) ** 2 for a, b in zip(prediction[number, place], truth, strict=True)]
    return float(np.mean(errors))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"norm_pix_loss": False}, {"input": "l"}])
def test_the_loss_is_the_slow_formula(kind: Any, options: Any) -> None:
    method = made(masking=kind, **options)
    views = method.views(torch.rand(3, 3, 40, 40), Draws(0, 1, 3))
    found = method.loss(views)["loss"].item()
    assert found == pytest.approx(slow_loss(method, views["images"], views["mask"]), rel=1e-4)


def test_targets_of_visible_patches_dont_count() -> None:
    mask = draw_mask("random", Draws(0, 0, 2), 4, 4, 0.75)
    prediction, target = torch.rand(2, 16, 12), torch.rand(2, 16, 12)
    loss = masked_error(prediction, target, mask)
    assert torch.equal(masked_error(prediction, target.masked_fill(~mask[:, :, None], 9.0), mask), loss)
    assert masked_error(prediction, target.masked_fill(mask[:, :, None], 9.0), mask) > loss + 1


def test_hidden_pixels_change_nothing_that_is_predicted() -> None:
    method = made()
    images, mask = torch.rand(2, 3, 32, 32), draw_mask("random", Draws(0, 0, 2), 4, 4, 0.75)
    where = unpatchify(mask[:, :, None].expand(-1, -1, 64), 8, (4, 4))  # [N, 1, 32, 32]
    before = method.reconstruct(images, mask)
    assert torch.equal(method.reconstruct(images.masked_fill(where, 0.3), mask), before)
    assert not torch.allclose(method.reconstruct(images.masked_fill(~where, 0.3), mask), before)


def test_only_visible_patches_are_encoded() -> None:
    method = made()
    images, mask = torch.rand(3, 3, 32, 32), draw_mask("random", Draws(0, 0, 3), 4, 4, 0.75)
    seen: list[tuple[int, ...]] = []
    for block in method.backbone.vit.blocks:
        block.register_forward_pre_hook(lambda _module, args: seen.append(tuple(args[0].shape)))
    method.loss({"images": images, "mask": mask})
    assert seen == [(3, 1 + 4, 192)] * 2
    # Each of them with the position of its own place.
    tokens, _ = method.backbone.patches(images)
    order, _ = visible_first(mask)
    encoded, _ = method.encode(images, mask)
    torch.testing.assert_close(encoded, method.backbone.encode(take(tokens, order[:, :4])))
    for number in range(3):
        alone = method.backbone.encode(tokens[number : number + 1, ~mask[number]])
        torch.testing.assert_close(encoded[number : number + 1], alone, atol=1e-5, rtol=1e-4)


def test_with_nothing_masked_the_encoder_is_the_backbone() -> None:
    method = made()
    images = torch.rand(2, 3, 32, 32)
    encoded, restore = method.encode(images, torch.zeros(2, 16, dtype=torch.bool))
    assert restore.tolist() == [list(range(16))] * 2
    torch.testing.assert_close(encoded[:, 1:], method.trunk()(images)["block2"].flatten(2).transpose(1, 2))
    assert method.trunk() is method.backbone


def test_positions_are_fixed_sines_and_cosines() -> None:
    method = made(64, 8)
    table = method.backbone.vit.pos_embed
    assert not table.requires_grad and not table[0, 0].any()
    frequencies = [10000 ** (-i / 48) for i in range(48)]
    for place in (0, 5, 42):
        angles = [coordinate * f for coordinate in divmod(place, 8) for f in frequencies]
        expected = np.concatenate([np.sin(angles), np.cos(angles)])
        np.testing.assert_allclose(table[0, 1 + place].numpy(), expected, atol=1e-5)
    assert torch.equal(method.decoder.positions, positions((8, 8), 32))
    oblong = positions((2, 3), 8).view(2, 3, 2, 2, 2)  # sine or cosine, row or column, frequency
    assert (oblong[:, :, :, 0] == oblong[:, :1, :, 0]).all() and (
        oblong[:, :, :, 1] == oblong[:1, :, :, 1]
    ).all()
    assert len(oblong.flatten(2).flatten(0, 1).unique(dim=0)) == 6
    assert all(p is not table for group in method.groups() for p in group["params"])


def test_the_decoder_puts_tokens_back_in_their_places() -> None:
    torch.manual_seed(0)
    decoder = Decoder(16, (3, 3), 5, 8, 1, 2)
    decoder.blocks = torch.nn.Sequential()
    mask = draw_mask("random", Draws(0, 0, 2), 3, 3, 0.6)
    order, restore = visible_first(mask)
    encoded = torch.randn(2, 1 + 4, 16)
    found = decoder(encoded, restore)
    for number in range(2):
        for place in range(9):
            if mask[number, place]:
                token = decoder.mask_token[0, 0]
            else:
                token = decoder.embed(encoded[number, 1 + order[number, :4].tolist().index(place)])
            expected = decoder.pixels(decoder.norm(token + decoder.positions[place]))
            torch.testing.assert_close(found[number, place], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_pure_and_split_over_processes(kind: Any) -> None:
    method, images = made(masking=kind), torch.rand(4, 3, 40, 40)
    whole = method.views(images, Draws(2, 7, 4))
    assert whole["images"].shape == (4, 3, 32, 32) and whole["mask"].sum(dim=1).tolist() == [12] * 4
    for rank in (0, 1):
        own = slice(2 * rank, 2 * rank + 2)
        part = method.views(images[own], Draws(2, 7, 2, rank, 2))
        assert torch.equal(part["mask"], whole["mask"][own])
        torch.testing.assert_close(part["images"], whole["images"][own])


def test_it_learns_a_few_images_and_gradients_reach_every_part() -> None:
    method, images = made(norm_pix_loss=False, decoder_width=64), smooth(8, 32)
    mask = draw_mask("random", Draws(0, 0, 8), 4, 4, 0.75)
    optimizer = torch.optim.AdamW(method.groups()[0]["params"], lr=2e-3)
    losses = []
    for step in range(70):
        loss = method.loss({"images": images, "mask": mask})["loss"]
        optimizer.zero_grad()
        loss.backward()
        if not step:
            for name, parameter in method.named_parameters():
                assert (parameter.grad is not None) == parameter.requires_grad, name
                assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name
        optimizer.step()
        losses.append(float(loss.detach()))
    mean = float(method.targets(images).var())  # the error of saying the same of each patch
    assert losses[-1] < 0.6 * mean and losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("options", [{}, {"norm_pix_loss": False}, {"input": "l"}])
def test_targets_are_undone_to_the_image(options: Any) -> None:
    method, images = made(**options), torch.rand(2, 3, 32, 32)
    images[0, :, :8, :8] = 0.25  # a flat patch
    found = method.pixels(method.targets(images), images)
    torch.testing.assert_close(found, rgb(method.backbone.convert(images)), atol=2e-3, rtol=0)
    if "input" in options:
        assert (found.amax(dim=1) - found.amin(dim=1)).max() < 2e-3  # gray
        gray = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        torch.testing.assert_close(rgb(method.backbone.convert(gray)), gray, atol=2e-3, rtol=0)
    else:
        torch.testing.assert_close(found, images, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("count", "shown"), [(10, 8), (3, 3), (1, 1)])
def test_pictures(count: int, shown: int) -> None:
    method, images = made(), torch.rand(count, 3, 32, 32)
    first, second = method.pictures(images, Draws(0, 0, count))
    assert first.image.shape == (3 * 34 - 2, shown * 34 - 2, 3)
    few = max(1, shown // 2)
    assert second.image.shape == (3 * 34 - 2, 2 * few * 34 - 2, 3)
    assert "25% of the patches are visible" in first.caption and "random, block, grid" in second.caption
    truth = (images[0] * 255).round().permute(1, 2, 0).numpy()
    masked, filled, original = (first.image[34 * row : 34 * row + 32, :32].astype(int) for row in range(3))
    assert abs(original - truth).max() <= 1
    hidden = draw_mask("random", Draws(0, 0, count), 4, 4, 0.75)[0].view(4, 4)
    where = hidden.repeat_interleave(8, 0).repeat_interleave(8, 1).numpy()
    assert (masked[where] == 128).all() and (masked[~where] == original[~where]).all()
    assert (filled[~where] == original[~where]).all()  # visible patches are pasted
    assert abs(filled[where] - original[where]).max() > 5
    assert (second.image[:32, :32] == masked).all()


def test_a_picture_of_perfect_predictions_is_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    method, images = made(), torch.rand(2, 3, 32, 32)
    monkeypatch.setattr(MAE, "reconstruct", lambda self, images, mask: self.targets(images))
    first, _ = method.pictures(images, Draws(0, 0, 2))
    assert (abs(first.image[34:66].astype(int) - first.image[68:100]) <= 1).all()


def test_plain_attention_is_only_another_way_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    method, views = made(), {"images": torch.rand(2, 3, 32, 32)}
    views["mask"] = draw_mask("random", Draws(0, 0, 2), 4, 4, 0.75)
    layers: list[Any] = [b.attn for b in (*method.backbone.vit.blocks, *method.decoder.blocks)]
    assert all(layer.fused_attn for layer in layers)
    with plain_attention(method, views["mask"]):
        assert not any(layer.fused_attn for layer in layers)
        plain = method.loss(views)["loss"]
    assert all(layer.fused_attn for layer in layers)
    monkeypatch.setattr("pretrain.methods.mae.FEW", 0)
    with plain_attention(method, views["mask"]):
        assert all(layer.fused_attn for layer in layers)
        torch.testing.assert_close(method.loss(views)["loss"], plain)


@pytest.mark.parametrize(("size", "patch", "grid"), [(32, 4, 8), (128, 16, 8)])
def test_the_config_fits_both_beds(size: int, patch: int, grid: int) -> None:
    method = make_method(config(f"data.size={size}"))
    assert isinstance(method, MAE) and (method.patch, method.grid) == (patch, (grid, grid))
    views = method.views(torch.rand(2, 3, size, size), Draws(0, 0, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(views)["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(method.loss(views)["loss"].item(), rel=0.02)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["mae.ratio=1.0"], "mae.ratio: .*less than 1"),
        (["mae.ratio=0"], "mae.ratio: .*greater than 0"),
        (["mae.ratio=0.001"], "mae.ratio=0.001 masks 0 of 64 patches"),
        (["mae.ratio=0.999"], "mae.ratio=0.999 masks 64 of 64 patches"),
        (["mae.masking=stripes"], "mae.masking: .*'random', 'block' or 'grid'"),
        (["mae.channels=lab"], "mae.channels"),
        (["mae.scale=[0.9, 0.2]"], "scale must go from"),
        (["mae.decoder_width=66"], "mae.decoder_width=66 must be a multiple of 4 and of mae.decoder_heads=4"),
        (["mae.decoder_width=66", "mae.decoder_heads=3"], "mae.decoder_width=66 must be a multiple of 4"),
        (["mae.decoder_width=100", "mae.decoder_heads=3"], "mae.decoder_width=100 must be a multiple of 4"),
        (["backbone.arch=resnet18"], "set backbone.arch=vit_tiny"),
        (["data.size=100"], "100 pixels don't consist of whole patches of 16"),
        (["data.size=8", "backbone.patch=1"], "one pixel have no spread: set mae.norm_pix_loss=false"),
        (["mae.norm_pix=true"], "did you mean mae.norm_pix_loss"),
    ],
)
def test_settings_that_cant_work_are_said(overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        make_method(config(*overrides))
    assert "\n" not in str(error.value)


def test_a_backbone_to_go_on_from_may_be_of_another_size() -> None:
    backbone = ViT("vit_tiny", 8, 32)
    method = MAE(backbone, MAESettings(decoder_width=32, decoder_blocks=1), 48)
    views = method.views(torch.rand(2, 3, 48, 48), Draws(0, 0, 2))
    assert views["mask"].shape == (2, 36) and method.loss(views)["loss"].isfinite()
    with pytest.raises(InputError, match=r"data.size=44 doesn't consist of whole patches of 8"):
        MAE(backbone, MAESettings(), 44)
    with pytest.raises(InputError, match="vision transformers only"):
        MAE(ResNet(), MAESettings(), 32)
    assert Backbone().arch == "resnet18"  # what a config without a backbone would give
