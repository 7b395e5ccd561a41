"""MoCo against the papers' formulas: loss, momentum rule, queue, shuffled keys."""

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
from pretrain.methods.moco import MoCo, MoCoSettings, queue_loss
from pretrain.settings import schema
from pretrain.split_norm import SplitBatchNorm2d
from pretrain.views import Views

from .tiny import Tiny, patterns

CONFIGS = Path(__file__).parents[3] / "configs"


def method(norm: bool = True, size: int = 16, **settings: Any) -> MoCo:
    torch.manual_seed(0)
    return MoCo(Tiny(norm), MoCoSettings(**({"queue": 10, "projection": 6} | settings)), size)


def train(made: MoCo, images: Tensor, steps: int, lr: float = 3e-3) -> list[dict[str, float]]:
    """Optimise; every other step sees the other half of the images."""
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=lr)
    half, history = len(images) // 2, []
    for step in range(steps):
        batch = images[:half] if step % 2 else images[half:]
        found = made.loss(made.views(batch, Draws(0, step, half)))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        made.after_step(step + 1, steps)
        history.append({key: value.item() for key, value in found.items()})
    return history


def slow_loss(queries: Tensor, own: Tensor, queue: Tensor, temperature: float) -> float:
    total = 0.0
    for q, k in zip(F.normalize(queries, dim=1), own, strict=True):
        positive = math.exp(float(q @ k) / temperature)
        negatives = [math.exp(float(q @ key) / temperature) for key in queue]
        total -= math.log(positive / (positive + sum(negatives)))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
@pytest.mark.parametrize("count", [1, 4])
def test_the_loss_is_the_formula(count: int, temperature: float) -> None:
    torch.manual_seed(count)
    queries = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    own, queue = (F.normalize(torch.randn(n, 5, dtype=torch.float64), dim=1) for n in (count, 7))
    loss, scores = queue_loss(queries, own, queue, temperature)
    assert loss.item() == pytest.approx(slow_loss(queries.detach(), own, queue, temperature))
    # As the authors write it: l_pos beside l_neg, the positive is column 0.
    unit = F.normalize(queries, dim=1)
    columns = torch.cat([(unit * own).sum(dim=1, keepdim=True), unit @ queue.T], dim=1) / temperature
    written = F.cross_entropy(columns, torch.zeros(count, dtype=torch.int64))
    assert torch.allclose(loss, written)
    assert torch.allclose(torch.autograd.grad(loss, queries)[0], torch.autograd.grad(written, queries)[0])
    assert scores.shape == (count, count + 7)
    assert int(scores.isneginf().sum()) == count * (count - 1)


def test_a_step_of_the_loss_is_the_formula() -> None:
    made = method(norm=False, temperature=0.3)
    views = made.views(torch.rand(4, 3, 20, 20), Draws(0, 0, 4))
    found = made.loss(views)
    queries = made.head(pooled(made.backbone(views["queries"]))).detach().double()
    keys = F.normalize(made.key_head(pooled(made.key_backbone(views["keys"]))), dim=1).double()
    assert found["loss"].item() == pytest.approx(slow_loss(queries, keys, made.queue.double(), 0.3), rel=1e-5)
    unit = F.normalize(queries, dim=1)
    right = (unit * keys).sum(dim=1) > (unit @ made.queue.double().T).amax(dim=1)
    assert found["accuracy"].item() == pytest.approx(right.double().mean().item())


def test_gradients_flow_through_queries_only() -> None:
    made = method()
    made.loss(made.views(torch.rand(4, 3, 16, 16), Draws(0, 0, 4)))["loss"].backward()
    for query, key in made.pairs():
        assert query.requires_grad and query.grad is not None
        assert not key.requires_grad and key.grad is None
    assert len(list(made.pairs())) == len(list(made.backbone.parameters())) + 4
    assert made.fresh is not None and not made.fresh.requires_grad
    (group,) = made.groups()
    assert {id(p) for p in group["params"]} == {id(query) for query, _ in made.pairs()}


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_the_momentum_rule(momentum: float) -> None:
    made = method(momentum=momentum)
    before = [(query.clone(), key.clone()) for query, key in made.pairs()]
    assert all(torch.equal(query, key) for query, key in before)
    train(made, torch.rand(8, 3, 16, 16), 1)
    for (query, key), (_, old) in zip(made.pairs(), before, strict=True):
        assert torch.allclose(key, momentum * old + (1 - momentum) * query, atol=1e-7)
        if momentum == 0:
            assert torch.equal(key, query)
    assert any(not torch.equal(query, old) for (query, _), (old, _) in zip(made.pairs(), before, strict=True))


def test_the_key_encoder_has_its_own_running_statistics() -> None:
    made = method(momentum=0.0, batch_norm="sync")
    views = made.views(torch.rand(6, 3, 16, 16), Draws(0, 0, 6))
    made.loss(views)
    made.after_step(1, 2)
    seen = made.key_backbone.net[0](views["keys"] - 0.5).mean(dim=(0, 2, 3))  # type: ignore[operator, index]
    norms = [encoder.net[1] for encoder in (made.backbone, made.key_backbone)]  # type: ignore[index]
    assert torch.allclose(norms[1].running_mean, 0.1 * seen, atol=1e-6)  # type: ignore[union-attr]
    assert not torch.equal(norms[0].running_mean, norms[1].running_mean)  # type: ignore[union-attr]


def test_the_queue_is_first_in_first_out() -> None:
    made = method(queue=10)
    expected = made.queue.clone()
    assert torch.allclose(expected.norm(dim=1), torch.ones(10)) and int(made.pointer) == 0
    waiting = [row.tolist() for row in expected]  # oldest first
    for number, count in enumerate([4, 4, 4, 3, 10, 1, 7, 23, 10, 2]):
        keys = torch.arange(count * 6).view(count, 6) + 1000.0 * (number + 1)
        made.enqueue(keys)
        waiting = (waiting + keys.tolist())[-10:]
        oldest = int(made.pointer)
        assert made.queue.roll(-oldest, dims=0).tolist() == waiting
    assert made.queue.shape == (10, 6)


def test_keys_are_queued_once_a_step() -> None:
    made = method(queue=10)
    views = made.views(torch.rand(4, 3, 16, 16), Draws(0, 0, 4))
    before = made.queue.clone()
    made.loss(views)
    assert torch.equal(made.queue, before)  # not before the step is made
    keys = made.fresh
    assert keys is not None and torch.allclose(keys.norm(dim=1), torch.ones(4))
    made.after_step(1, 9)
    assert torch.equal(made.queue[:4], keys) and torch.equal(made.queue[4:], before[4:])
    assert int(made.pointer) == 4
    made.after_step(2, 9)  # nothing new
    with torch.no_grad():
        made.loss(views)
        made.pictures(torch.rand(3, 3, 16, 16), Draws(0, 0, 3))
    made.eval()
    made.loss(views)
    made.after_step(3, 9)
    assert int(made.pointer) == 4


def test_the_queue_is_part_of_the_state() -> None:
    made, other = method(), method()
    assert torch.equal(made.queue, other.queue)  # random, but of the run's seed
    train(made, torch.rand(6, 3, 16, 16), 3)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.queue, made.queue) and int(other.pointer) == int(made.pointer) == 9
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(made.pairs(), other.pairs(), strict=True))
    assert not any(key.startswith("key") for key in other.trunk().state_dict())


def test_shuffled_keys_come_back_to_their_queries() -> None:
    shuffled, plain = method(norm=True).eval(), method(norm=True, batch_norm="sync").eval()
    assert shuffled.shuffled and not plain.shuffled
    images = torch.rand(9, 3, 16, 16)
    order = Draws(0, 0, 9).batch_order()
    assert order.tolist() != list(range(9))
    # In evaluation batch norm treats every image alike: only its place could differ.
    assert torch.allclose(shuffled.keys(images, order), plain.keys(images, order), atol=1e-6)


def test_shuffled_keys_are_normalised_in_other_parts() -> None:
    made = method(splits=3)
    images, order = torch.rand(6, 3, 16, 16), torch.tensor([4, 0, 5, 1, 3, 2])
    expected = torch.empty(6, 6)
    for part in order.split(2):  # an ordinary batch norm sees the parts one after the other
        features = pooled(method(batch_norm="sync").key_backbone(images[part]))
        expected[part] = F.normalize(made.key_head(features), dim=1)
    assert torch.allclose(made.keys(images, order), expected, atol=1e-5)
    unshuffled = method(splits=3, batch_norm="split")
    assert not torch.allclose(unshuffled.keys(images, order), expected, atol=1e-3)
    in_order = method(splits=3).keys(images, torch.arange(6))
    assert torch.allclose(unshuffled.keys(images, order), in_order, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_norm", "splits", "shuffled"), [("shuffle", 8, True), ("split", 8, False), ("sync", 0, False)]
)
def test_batch_norms(batch_norm: str, splits: int, shuffled: bool) -> None:
    made = method(batch_norm=batch_norm)
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 2  # of the query and of the key encoder
    assert all(isinstance(norm, SplitBatchNorm2d) == (splits > 0) for norm in norms)
    assert all(getattr(norm, "splits", 0) == splits for norm in norms)
    assert made.shuffled == shuffled
    assert not method(norm=False, batch_norm=batch_norm).shuffled  # there is nothing to hide


def test_versions() -> None:
    first, second = MoCoSettings(version=1), MoCoSettings()
    assert first.view(128) == Views.moco_v1(128) and second.view(128) == Views.moco_v2(128)
    assert second.view(128).blur_p == 0.5 and second.view(32).blur_p == 0.0
    one, two = method(version=1, size=128), method(size=128)
    assert one.temperature == 0.07 and isinstance(one.head, nn.Linear)
    assert two.temperature == 0.2 and isinstance(two.head, nn.Sequential)
    mixed = MoCoSettings(version=1, head="mlp", temperature=0.1, augmentation=2, blur=0.25)
    made = MoCo(Tiny(norm=True), mixed, 64)
    assert made.temperature == 0.1 and isinstance(made.head, nn.Sequential)
    assert made.view == Views.moco_v2(64, blur_p=0.25)
    assert method(head="none").queue.shape == (10, 12)


def test_views_are_a_function_of_the_draws_and_split_over_processes() -> None:
    made, images = method(), torch.rand(6, 3, 20, 20)
    whole = made.views(images, Draws(3, 5, 6))
    again = made.views(images, Draws(3, 5, 6))
    assert whole["queries"].shape == whole["keys"].shape == (6, 3, 16, 16)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not torch.equal(whole["queries"], whole["keys"])
    assert not torch.equal(whole["keys"], made.views(images, Draws(3, 6, 6))["keys"])
    for rank in (0, 1):
        own = slice(3 * rank, 3 * rank + 3)
        part = made.views(images[own], Draws(3, 5, 3, rank, 2))
        assert torch.equal(part["queries"], whole["queries"][own])
        assert torch.equal(part["keys"], whole["keys"][own])
        assert torch.equal(part["order"], whole["order"])


def test_it_learns_a_few_images() -> None:
    # The queue holds the other half of the images: no key in it belongs to a query.
    made = method(queue=4, momentum=0.9, projection=16, batch_norm="sync")
    made.view = Views.moco_v2(16, scale=(0.5, 1), jitter=0.1, gray_p=0)
    history = train(made, patterns(8), 100)
    assert sum(found["loss"] for found in history[-10:]) < 0.6 * sum(found["loss"] for found in history[:10])
    assert sum(found["accuracy"] for found in history[-10:]) / 10 > 0.6  # by chance: 1 of 5
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.backbone.parameters())


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny"])
def test_backbones_and_sizes(arch: str, size: int) -> None:
    made = MoCo(make_backbone(Backbone(arch=arch), size), MoCoSettings(queue=16), size)
    views = made.views(torch.rand(4, 3, size, size), Draws(0, 0, 4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(views)["loss"]
    loss.backward()
    made.after_step(1, 1)
    assert loss.dtype == made.queue.dtype == torch.float32 and bool(loss.isfinite())
    assert all(p.grad is not None for p in made.head.parameters())
    assert made.trunk().state_dict().keys() == make_backbone(Backbone(arch=arch), size).state_dict().keys()


def test_pictures() -> None:
    made = method().eval()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    (picture,) = made.pictures(torch.rand(6, 3, 16, 16), Draws(0, 0, 6))
    assert picture.image.dtype == "uint8" and picture.image.shape == (2 * 18 - 2, 9 * 18 - 2, 3)
    assert "of 6 right" in picture.caption
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("version=3", "moco.version: Input should be 1 or 2"),
        ("temperature=-1", "moco.temperature: Input should be greater than 0"),
        ("queue=0", "moco.queue: Input should be greater than or equal to 1"),
        ("momentum=1", "moco.momentum: Input should be less than 1"),
        ("batch_norm=plain", "moco.batch_norm: Input should be 'shuffle', 'split' or 'sync'"),
        ("splits=0", "moco.splits"),
        ("head=deep", "moco.head"),
        ("momentun=0.9", "did you mean moco.momentum"),
    ],
)
def test_wrong_settings(override: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        load_config(schema("moco"), "pretrain/moco", [f"moco.{override}"], CONFIGS)
    assert "\n" not in str(error.value)
