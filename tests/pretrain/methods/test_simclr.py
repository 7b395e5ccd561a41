"""SimCLR against its formula, and chunks against the whole batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.catalogue import Backbone, make_backbone
from pretrain.config import load_config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.methods.base import pooled
from pretrain.methods.simclr import SimCLR, SimCLRSettings, nt_xent
from pretrain.settings import schema

from .tiny import Tiny, patterns

CONFIGS = Path(__file__).parents[3] / "configs"


def method(norm: bool = False, size: int = 16, **settings: Any) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(Tiny(norm), SimCLRSettings(**settings), size)


def slow_nt_xent(embedded: Tensor, temperature: float) -> float:
    rows = embedded.tolist()
    half, total = len(rows) // 2, 0.0

    def similar(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
        return dot / (math.hypot(*rows[i]) * math.hypot(*rows[j]))

    for i in range(len(rows)):
        partner = i + half if i < half else i - half
        below = sum(math.exp(similar(i, k) / temperature) for k in range(len(rows)) if k != i)
        total -= math.log(math.exp(similar(i, partner) / temperature) / below)
    return total / len(rows)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_double_loop(count: int, temperature: float) -> None:
    torch.manual_seed(count)
    embedded = torch.randn(2 * count, 5, dtype=torch.float64)
    loss, scores, positive = nt_xent(embedded, temperature)
    assert float(loss) == pytest.approx(slow_nt_xent(embedded, temperature))
    assert scores.diagonal().isneginf().all() and int(scores.isneginf().sum()) == 2 * count
    assert positive.tolist() == [*range(count, 2 * count), *range(count)]
    # The gradient flows through both sides, the view that looks and the one that is found.
    assert torch.autograd.gradcheck(lambda x: nt_xent(x, temperature)[0], embedded.requires_grad_())


def test_equal_views_are_found() -> None:
    views = F.normalize(torch.randn(6, 32), dim=1)
    made = method(head="none", temperature=0.1)
    _, scores, positive = nt_xent(torch.cat([views, views]), 0.1)
    assert bool((scores.argmax(dim=1) == positive).all())
    images = torch.rand(2, 3, 16, 16)
    found = made.loss({"images": torch.cat([images, images]), "order": torch.arange(4)})
    assert float(found["accuracy"]) == 1.0


@pytest.mark.parametrize("head", ["none", "linear", "mlp"])
@pytest.mark.parametrize("head_norm", [False, True])
def test_heads(head: str, head_norm: bool) -> None:
    made = method(head=head, head_norm=head_norm, projection=7).eval()
    images = torch.rand(6, 3, 16, 16)
    features = pooled(made.backbone(images))
    layers = {"none": 0, "linear": 1, "mlp": 2}[head]
    assert sum(isinstance(part, nn.Linear) for part in made.head.modules()) == layers
    normed = any(isinstance(part, nn.BatchNorm1d) for part in made.head.modules())
    assert normed == (head_norm and head == "mlp")
    assert made.head(features).shape == (6, 7 if layers else 12)
    loss = made.loss({"images": images, "order": torch.arange(6)})["loss"]
    embedded = made.head(features).double()
    assert loss.item() == pytest.approx(slow_nt_xent(embedded, 0.5), rel=1e-5)


def same_gradients(one: nn.Module, other: nn.Module) -> None:
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert first.grad is not None and second.grad is not None and bool(first.grad.any())
        assert torch.allclose(first.grad, second.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("chunk", [2, 3, 5, 8])
def test_chunks_give_the_loss_and_gradients_of_the_whole(chunk: int) -> None:
    whole, parts = method(), method(chunk=chunk)
    images = torch.rand(5, 3, 20, 20)
    found, expected = (made.loss(made.views(images, Draws(0, 0, 5))) for made in (parts, whole))
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert float(found["accuracy"]) == float(expected["accuracy"])
    found["loss"].backward()
    expected["loss"].backward()
    same_gradients(parts, whole)


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 9])
@pytest.mark.parametrize("chunk", [2, 3, 4, 5, 8])
def test_no_chunk_is_larger_than_asked_for_or_a_single_view(count: int, chunk: int) -> None:
    made, sizes = method(norm=True, chunk=chunk), list[int]()
    made.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    with torch.no_grad():
        made.features(torch.rand(2 * count, 3, 16, 16), torch.randperm(2 * count))
    assert sum(sizes) == 2 * count and min(sizes) >= 2 and max(sizes) <= chunk


def test_each_chunk_is_normalised_by_itself_and_counted_once() -> None:
    made, plain = method(norm=True, chunk=4), method(norm=True)
    views = made.views(torch.rand(6, 3, 20, 20), Draws(0, 0, 6))
    made.loss(views)["loss"].backward()
    order = views["order"]
    features = [pooled(plain.backbone(part)) for part in views["images"][order].split(4)]
    loss = nt_xent(plain.head(torch.cat(features)[order.argsort()]), plain.temperature)[0]
    loss.backward()
    same_gradients(made, plain)
    expected = dict(plain.named_buffers())
    assert list(expected) == [name for name, _ in made.named_buffers()]
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, expected[name]), name
    assert int(made.backbone.net[1].num_batches_tracked) == 3  # type: ignore[index, union-attr]


def test_chunks_need_the_memory_of_one() -> None:
    images = torch.rand(32, 3, 16, 16)
    kept = {}
    for chunk in (None, 8):
        made, sizes = method(chunk=chunk), list[int]()
        views = made.views(images, Draws(0, 0, 32))

        def count(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            made.features(views["images"], views["order"])
        kept[chunk] = sum(sizes)
    # What is left are the views that the chunks begin from, and their order.
    assert kept[8] == views["images"].numel() + len(views["order"]) < 0.5 * kept[None]


def test_chunks_mix_the_views_of_all_images() -> None:
    order = method().views(torch.rand(64, 3, 16, 16), Draws(0, 0, 64))["order"]
    assert order.sort().values.tolist() == list(range(128))
    assert 10 < int((order[:64] < 64).sum()) < 54


def test_views_are_a_function_of_the_draws_and_split_over_processes() -> None:
    made, images = method(), torch.rand(6, 3, 20, 20)
    whole = made.views(images, Draws(3, 5, 6))
    again = made.views(images, Draws(3, 5, 6))
    assert whole["images"].shape == (12, 3, 16, 16)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not torch.equal(whole["images"], made.views(images, Draws(3, 6, 6))["images"])
    first, second = whole["images"].tensor_split(2)
    assert not torch.equal(first, second)
    for rank in (0, 1):
        own = slice(3 * rank, 3 * rank + 3)
        part = made.views(images[own], Draws(3, 5, 3, rank, 2))["images"]
        assert torch.equal(part, torch.cat([first[own], second[own]]))


def test_it_learns_a_few_images() -> None:
    made, images = method(norm=True, temperature=0.2, strength=0.0, scale=(0.5, 1.0)), patterns(8)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    losses, accuracies = [], []
    for step in range(80):
        found = made.loss(made.views(images, Draws(0, step, 8)))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(found["loss"].item())
        accuracies.append(float(found["accuracy"]))
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.backbone.parameters())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert sum(accuracies[-5:]) / 5 > 0.6  # by chance: 1 of 15


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny"])
def test_backbones_and_sizes(arch: str, size: int) -> None:
    backbone = make_backbone(Backbone(arch=arch), size)
    made = SimCLR(backbone, SimCLRSettings(chunk=2), size)
    small = size == 32
    assert made.temperature == (0.5 if small else 0.1)
    assert made.view.blur_p == (0.0 if small else 0.5)
    assert made.view.amounts[0] == pytest.approx(0.4 if small else 0.8)
    images = torch.rand(2, 3, size, size)
    views = made.views(images, Draws(0, 0, 2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(views)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and bool(loss.isfinite())
    assert all(p.grad is not None for p in made.head.parameters())


def test_settings_reach_the_views() -> None:
    view = SimCLRSettings(scale=(0.3, 0.9), strength=1.0, blur=0.25).view(32)
    assert (view.scale, view.blur_p, view.amounts[3]) == ((0.3, 0.9), 0.25, 0.2)


def test_pictures() -> None:
    made = method().eval()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    (picture,) = made.pictures(torch.rand(6, 3, 16, 16), Draws(0, 0, 6))
    assert picture.image.dtype == "uint8" and picture.image.shape == (2 * 18 - 2, 9 * 18 - 2, 3)
    assert "of 6 right" in picture.caption
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_one_image_has_nothing_to_differ_from() -> None:
    made = method()
    with pytest.raises(InputError, match=r"optimizer\.batch=2 or more"):
        made.loss(made.views(torch.rand(1, 3, 16, 16), Draws(0, 0, 1)))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("temperature=0", "simclr.temperature: Input should be greater than 0"),
        ("head=deep", "simclr.head: Input should be 'none', 'linear' or 'mlp'"),
        ("projection=0", "simclr.projection"),
        ("chunk=1", "simclr.chunk: Input should be greater than or equal to 2"),
        ("scale=[0.9,0.1]", "scale must go from a smaller to a larger share"),
        ("blur=2", "simclr.blur"),
        ("strenght=1", "did you mean simclr.strength"),
    ],
)
def test_wrong_settings(override: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        load_config(schema("simclr"), "pretrain/simclr", [f"simclr.{override}"], CONFIGS)
    assert "\n" not in str(error.value)
