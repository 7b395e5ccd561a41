"""Freezing, and learning rates of stages."""

import pytest
import torch
from torch import nn

from pretrain.engine import Optimizer, make_optimizer
from pretrain.errors import InputError
from vidtrack.learn.transfer import Transfer, frozen_modules, rate_groups
from vidtrack.model.colorizer import Model, VideoColorizer


def model() -> VideoColorizer:
    torch.manual_seed(0)
    return VideoColorizer(Model(head=(16, 8)))


@pytest.mark.parametrize(("freeze", "learns"), [(0, True), (2, True), (4, False), (-1, False)])
def test_frozen_stages_stay_as_they_are(freeze: int, learns: bool) -> None:
    net = model()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    frozen = frozen_modules(net, Transfer(freeze=freeze))
    net.train()
    for module in frozen:
        module.eval()
    optimizer = make_optimizer(net, Optimizer(learning_rate=0.1, weight_decay=0.1, warmup_steps=0))[
        "optimizer"
    ]
    (net(torch.rand(2, 3, 32, 32)) * torch.rand(8, 1, 1)).sum().backward()
    optimizer.step()
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    names = ["backbone.conv1", "backbone.bn1", "backbone.layer1"]
    assert any(key.startswith("head.") for key in changed)
    assert any(key.startswith("backbone.") for key in changed) == learns
    if freeze == 2:
        assert not any(key.startswith(tuple(names)) for key in changed)
        assert any(key.startswith("backbone.layer2") for key in changed)
    if freeze == 0:
        assert any(key.startswith("backbone.bn1.running") for key in changed)


def test_rates_fall_towards_the_input() -> None:
    net = model()
    root = nn.ModuleDict({"model": net, "other": nn.Linear(2, 2)})
    groups = rate_groups(root, net, Transfer(rate_decay=0.5), 0.8)
    assert groups is not None
    rates = {id(p): group.get("lr", 0.8) for group in groups for p in group["params"]}
    assert len(rates) == len(list(root.parameters())) == sum(len(group["params"]) for group in groups)
    expected = {"conv1": 0.05, "bn1": 0.05, "layer1": 0.1, "layer2": 0.2, "layer3": 0.4}
    for name, parameter in net.backbone.named_parameters():
        assert rates[id(parameter)] == pytest.approx(expected[name.partition(".")[0]])
    assert {rates[id(p)] for p in [*net.head.parameters(), *root["other"].parameters()]} == {0.8}
    made = make_optimizer(root, Optimizer(learning_rate=0.8, warmup_steps=0), groups)["optimizer"]
    assert {round(group["lr"], 6) for group in made.param_groups} == {0.05, 0.1, 0.2, 0.4, 0.8}
    assert rate_groups(root, net, Transfer(), 0.8) is None


def test_a_network_without_stages_learns_as_a_whole() -> None:
    pytest.importorskip("timm")
    net = VideoColorizer(Model(backbone="random:poolformer_s12", head=(16, 8)))
    assert frozen_modules(net, Transfer()) == [] and rate_groups(net, net, Transfer(), 0.8) is None
    with pytest.raises(InputError, match="doesn't say what the stages of poolformer_s12 are"):
        frozen_modules(net, Transfer(freeze=1))


def test_more_stages_than_there_are() -> None:
    with pytest.raises(InputError, match=r"transfer.freeze=5: resnet18 has 4 stages"):
        frozen_modules(model(), Transfer(freeze=5))
