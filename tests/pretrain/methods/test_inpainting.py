"""Inpainting: masks, losses and who gets which gradient, against slow obvious formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pretrain.backbones import ResNet
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.engine import Optimizer, make_optimizer
from pretrain.errors import InputError
from pretrain.inputs import IMAGENET_MEAN
from pretrain.methods import method_class
from pretrain.methods.inpainting import (
    Inpainting,
    InpaintingSettings,
    central_square,
    constant,
    random_blocks,
)
from pretrain.methods.inpainting_networks import ChannelWise, Decoder, Discriminator
from pretrain.settings import schema


class Small(nn.Module):
    """A backbone of two convolutions with stride 4, which sees nothing but its input."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {"layer1": 8, "layer2": 16}
        self.strides = {"layer1": 2, "layer2": 4}
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.seen = images.detach()
        first = self.first(images - 0.5).relu()
        return {"layer1": first, "layer2": self.second(first).relu()}


def small(size: int = 16, **options: Any) -> Inpainting:
    torch.manual_seed(0)
    chosen = {"decoder_width": 16, "discriminator_width": 4, **options}
    return Inpainting(Small(), InpaintingSettings(**chosen), size)


def pictures_of(count: int, size: int, seed: int = 0) -> Tensor:
    """Smooth images in 0..1, each another."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def gradients(method: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in method.named_parameters()
    }


# views


@pytest.mark.parametrize("masks", ["central", "random"])
def test_views_are_pure_and_split_over_processes(masks: str) -> None:
    method, images = small(masks=masks), pictures_of(6, 20)
    whole, again = (method.views(images, Draws(0, 5, 6)) for _ in range(2))
    other = method.views(images, Draws(0, 6, 6))
    halves = [method.views(images[3 * rank : 3 * rank + 3], Draws(0, 5, 3, rank, 2)) for rank in range(2)]
    for name in ("images", "masks"):
        assert torch.equal(whole[name], again[name])
        assert torch.equal(whole[name], torch.cat([half[name] for half in halves]))
    assert not torch.equal(whole["images"], other["images"])
    assert whole["images"].shape == (6, 3, 16, 16) and whole["masks"].shape == (6, 1, 16, 16)


def test_backbone_sees_the_mean_colour_in_the_holes_and_nothing_of_what_was_there() -> None:
    method, images = small(), pictures_of(3, 16)
    masks = random_blocks(Draws(0, 0, 3), 16)
    method.paint(images, masks)
    seen: Any = method.backbone.seen
    expected = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(3, -1, 16, 16)
    assert torch.equal(seen[masks.expand(-1, 3, -1, -1)], expected[masks.expand(-1, 3, -1, -1)])
    assert torch.equal(seen[~masks.expand(-1, 3, -1, -1)], images[~masks.expand(-1, 3, -1, -1)])


def test_prepare_takes_the_mean_colour_into_a_buffer() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3)).astype(np.uint8)
    images[..., 2] //= 4
    method = small()
    method.prepare(images, seed=0)
    mean = images.reshape(-1, 3).mean(axis=0) / 255
    assert method.colour.flatten().tolist() == pytest.approx(mean.tolist(), abs=1e-6)
    assert torch.equal(method.state_dict()["colour"], method.colour)


# networks


def test_channel_wise_layer_is_a_loop_over_channels() -> None:
    torch.manual_seed(0)
    layer, maps = ChannelWise(3, 6), torch.randn(2, 3, 2, 3)
    nn.init.normal_(layer.bias)
    found = layer(maps)
    for channel in range(3):
        slow = maps[:, channel].reshape(2, 6) @ layer.weight[channel] + layer.bias[channel]
        torch.testing.assert_close(found[:, channel].reshape(2, 6), slow)
    assert layer.weight.numel() == 3 * 6**2


@pytest.mark.parametrize(
    ("stride", "size", "side"), [(1, 6, 6), (2, 8, 4), (8, 32, 4), (32, 128, 4), (32, 100, 4), (16, 40, 3)]
)
def test_decoder_paints_the_whole_image(stride: int, size: int, side: int) -> None:
    decoder = Decoder(8, stride, size, 16)
    last: Any = decoder.layers[-1]
    nn.init.normal_(last.weight)
    painted = decoder(torch.randn(2, 8, side, side))
    assert painted.shape == (2, 3, size, size) and 0.9 < painted.abs().max() <= 1


@pytest.mark.parametrize("size", [4, 5, 8, 15, 16, 50, 64, 128])
def test_discriminator_gives_one_score(size: int) -> None:
    scores = Discriminator(size, 4)(torch.randn(3, 3, size, size))
    assert scores.shape == (3,) and scores.dtype == torch.float32


# losses


@pytest.mark.parametrize(
    ("masks", "overlap", "ring"),
    [("random", None, 0), ("random", 2, 2), ("central", None, 1), ("central", 3, 3)],
)
def test_reconstruction_is_a_slow_loop(masks: str, overlap: int | None, ring: int) -> None:
    method = small(masks=masks, overlap=overlap, border_weight=7.0)
    holes = method.masks(Draws(0, 0, 2))
    painted, target = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    losses = []
    for sample in range(2):
        total, pixels = 0.0, 0
        for y in range(16):
            for x in range(16):
                around = holes[sample, 0, max(0, y - ring) : y + ring + 1, max(0, x - ring) : x + ring + 1]
                if not around.any():
                    continue
                weight = 1.0 if holes[sample, 0, y, x] else 7.0
                difference = painted[sample, :, y, x] - target[sample, :, y, x]
                total, pixels = total + weight * float((difference**2).sum()), pixels + 1
        losses.append(total / (3 * pixels))
    assert float(method.reconstruction(painted, target, holes)) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(("size", "overlap"), [(128, 7), (32, 2), (224, 12)])
def test_overlap_of_the_paper_scales_with_the_image(size: int, overlap: int) -> None:
    assert Inpainting(ResNet(), InpaintingSettings(masks="central"), size).overlap == overlap


@pytest.mark.parametrize("masks", ["central", "random"])
@torch.no_grad()
def test_losses_are_those_of_the_paper(masks: str) -> None:
    method = small(masks=masks)
    views = method.views(pictures_of(4, 16), Draws(0, 0, 4))
    found = method.loss(views)
    painted, target = method.paint(views["images"], views["masks"]), 2 * views["images"] - 1
    filled = torch.where(views["masks"], painted, target)
    if masks == "central":
        target, filled = target[..., 4:12, 4:12], filled[..., 4:12, 4:12]
        assert torch.equal(filled, painted[..., 4:12, 4:12])
    assert method.discriminator is not None
    real, fake = method.discriminator(target).sigmoid(), method.discriminator(filled).sigmoid()
    assert float(found["discriminator"]) == pytest.approx(
        float(-real.log().mean() - (1 - fake).log().mean()), rel=1e-4
    )
    assert float(found["generator"]) == pytest.approx(float(-fake.log().mean()), rel=1e-4)
    total = 0.999 * found["reconstruction"] + 0.001 * found["generator"] + found["discriminator"]
    assert float(found["loss"]) == pytest.approx(float(total), rel=1e-6)


def test_without_discriminator() -> None:
    method = small(adversarial=False)
    found = method.loss(method.views(pictures_of(4, 16), Draws(0, 0, 4)))
    assert set(found) == {"loss", "reconstruction"} and found["loss"] == found["reconstruction"]
    assert not any("discriminator" in name for name, _ in method.named_parameters())
    assert len(method.groups()) == 1


# gradients: one step updates both networks, each by its own loss


def test_no_loss_reaches_the_other_network() -> None:
    method = small()
    views = method.views(pictures_of(4, 16), Draws(0, 0, 4))
    for name in ("generator", "discriminator", "reconstruction"):
        method.zero_grad()
        method.loss(views)[name].backward()
        judge = name == "discriminator"
        for parameter, gradient in gradients(method).items():
            if parameter.startswith("discriminator.") != judge:
                assert not gradient.any(), (name, parameter)
            elif parameter.endswith("weight"):
                assert gradient.any(), (name, parameter)


@pytest.mark.parametrize("masks", ["central", "random"])
def test_gradients_are_those_of_two_separate_passes(masks: str) -> None:
    method = small(masks=masks)
    views = method.views(pictures_of(4, 16), Draws(0, 0, 4))
    method.loss(views)["loss"].backward()
    together = gradients(method)
    method.zero_grad()
    judge = method.discriminator
    assert judge is not None
    target = 2 * views["images"] - 1
    painted = method.paint(views["images"], views["masks"])
    filled = torch.where(views["masks"], painted, target)
    crop = slice(4, 12) if masks == "central" else slice(None)
    real, filled = target[..., crop, crop], filled[..., crop, crop]
    judge.requires_grad_(False)
    generator = 0.001 * -judge(filled).sigmoid().log().mean()
    (0.999 * method.reconstruction(painted, target, views["masks"]) + generator).backward()
    judge.requires_grad_(True)
    scores = judge(real).sigmoid(), judge(filled.detach()).sigmoid()
    (-scores[0].log().mean() - (1 - scores[1]).log().mean()).backward()
    for name, gradient in gradients(method).items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-4, atol=1e-6)


def test_gradients_reach_the_backbone_under_autocast() -> None:
    method = small()
    views = method.views(pictures_of(4, 16), Draws(0, 0, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method.loss(views)
    assert all(value.dtype == torch.float32 for value in losses.values())
    losses["loss"].backward()
    assert all(gradient.isfinite().all() for gradient in gradients(method).values())
    first: Any = method.backbone.first
    assert first.weight.grad.abs().sum() > 0


def test_constant_leaves_running_statistics_alone() -> None:
    judge, images = Discriminator(16, 4).train(), torch.randn(4, 3, 16, 16, requires_grad=True)
    before = {name: buffer.clone() for name, buffer in judge.named_buffers()}
    assert before  # there are batch norms
    scores = constant(judge, images)
    assert all(torch.equal(buffer, before[name]) for name, buffer in judge.named_buffers())
    torch.testing.assert_close(scores, judge(images))
    scores.sum().backward()
    assert images.grad is not None and images.grad.any()
    assert all(p.grad is None and p.requires_grad for p in judge.parameters())


def test_discriminator_learns_at_its_own_rate() -> None:
    method = small(discriminator_rate=3e-5)
    made = make_optimizer(method, Optimizer(learning_rate=1e-3, warmup_steps=0), method.groups())
    rates = {id(p): group["initial_lr"] for group in made["optimizer"].param_groups for p in group["params"]}
    assert len(rates) == len(list(method.parameters()))
    for name, parameter in method.named_parameters():
        expected = 3e-5 if name.startswith("discriminator.") else 1e-3
        assert rates[id(parameter)] == pytest.approx(expected), name


# as a whole


@pytest.mark.parametrize("masks", ["central", "random"])
def test_a_tiny_set_is_learned_by_heart(masks: str) -> None:
    method = small(masks=masks, scale=(1.0, 1.0), flip=0.0)
    images = pictures_of(8, 16)
    optimizer = torch.optim.AdamW(method.groups(), lr=1e-2)
    errors = []
    for step in range(80):
        loss = method.loss(method.views(images, Draws(0, step, 8)))
        optimizer.zero_grad()
        loss["loss"].backward()
        optimizer.step()
        errors.append(float(loss["reconstruction"].detach()))
    assert np.mean(errors[-5:]) < 0.3 * np.mean(errors[:3])


@pytest.mark.parametrize(
    ("size", "stem", "masks"),
    [(32, "small", "central"), (128, "standard", "random"), (100, "standard", "central")],
)
def test_both_beds(size: int, stem: Any, masks: str) -> None:
    method = Inpainting(ResNet(stem_kind=stem), InpaintingSettings(masks=masks), size)  # type: ignore[arg-type]
    loss = method.loss(method.views(pictures_of(2, size + 4), Draws(0, 0, 2)))
    assert loss["loss"].isfinite()
    assert method.trunk() is method.backbone


def test_transformers_too() -> None:
    pytest.importorskip("timm")
    from pretrain.vit import ViT

    method = Inpainting(ViT("vit_tiny", 8, 32), InpaintingSettings(), 32)
    assert method.loss(method.views(pictures_of(2, 32), Draws(0, 0, 2)))["loss"].isfinite()


def test_pictures_show_hole_filling_and_truth() -> None:
    method, images = small(masks="central").eval(), pictures_of(4, 16)
    (picture,) = method.pictures(images, Draws(0, 0, 4))
    assert picture.image.shape == (2 * 18 - 2, 6 * 18 - 2, 3)
    blanked, filled, truth = (picture.image[:16, start : start + 16] for start in (0, 18, 36))
    original = images[0].permute(1, 2, 0).mul(255).round().byte().numpy()
    assert (truth == original).all()
    hole = central_square(16)[0, 0].numpy()
    assert (blanked[~hole] == original[~hole]).all() and (filled[~hole] == original[~hole]).all()
    assert (blanked[hole] == np.round(255 * np.array(IMAGENET_MEAN)).astype(np.uint8)).all()
    painted = method.paint(images, central_square(16).expand(4, -1, -1, -1))[0].permute(1, 2, 0)
    shown = ((painted + 1) / 2).mul(255).round().byte().numpy()
    assert (filled[hole] == shown[hole]).all()
    errors = images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    mean = math.sqrt(float(errors[..., 4:12, 4:12].square().mean()))
    assert f"{mean:.3f}." in picture.caption


@pytest.mark.parametrize(
    ("options", "size", "stride", "sentence"),
    [
        ({"masks": "central", "overlap": 5}, 16, 4, "inpainting.overlap=5 reaches beyond .* at most 4"),
        ({}, 256, 8, "data.size=256 the deepest map has 32 x 32 places"),
        ({}, 36, 12, "a stride of 12 pixels is no power of two"),
    ],
)
def test_mistakes(options: dict[str, Any], size: int, stride: int, sentence: str) -> None:
    backbone = Small()
    backbone.strides = {"layer1": 2, "layer2": stride}
    with pytest.raises(InputError, match=sentence):
        Inpainting(backbone, InpaintingSettings(**options), size)


@pytest.mark.parametrize(
    "options",
    [
        {"masks": "diagonal"},
        {"overlap": -1},
        {"adversarial_weight": 1.0},
        {"discriminator_rate": 0},
        {"scale": (0.2, 1.5)},
        {"flip": -0.5},
    ],
)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InpaintingSettings(**options)


def test_the_bundled_config() -> None:
    from vidtrack.files import bundled_configs

    config = load_config(schema("inpainting"), "pretrain/inpainting", ["data.size=32"], bundled_configs())
    assert method_class(config.method) is Inpainting
    options = config.of_method()
    assert options.discriminator_rate == pytest.approx(config.optimizer.learning_rate / 10)
