"""The stages of every kind of trunk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.backbones import save_backbone
from pretrain.catalogue import Backbone, make_backbone
from pretrain.errors import InputError
from vidtrack.model.stages import stages
from vidtrack.model.trunk import last_map, make_trunk


def trunk_of(kind: str, folder: Path) -> nn.Module:
    if kind in ("resnet10t", "convnext_femto"):
        pytest.importorskip("timm")
        return make_trunk(f"random:{kind}")
    options: dict[str, Any] = {"pair": True} if kind == "pair" else {}
    if kind == "vit_tiny":
        pytest.importorskip("timm")
    arch = "resnet18" if kind == "pair" else kind
    save_backbone(make_backbone(Backbone(arch=arch), 128, **options), folder / "b.safetensors")
    return make_trunk(str(folder / "b.safetensors"))


KINDS = [
    ("resnet18", 4),
    ("resnet50", 4),
    ("pair", 4),
    ("vit_tiny", 13),
    ("resnet10t", 4),
    ("convnext_femto", 5),
]


@pytest.mark.parametrize(("kind", "count"), KINDS)
def test_each_parameter_is_in_one_stage(kind: str, count: int, tmp_path: Path) -> None:
    trunk = trunk_of(kind, tmp_path)
    found = stages(trunk)
    assert len(found) == count
    ids = [id(p) for stage in found for p in stage.parameters]
    assert sorted(ids) == sorted(id(p) for p in trunk.parameters())
    for stage in found:  # the modules are those of the parameters
        inside = {id(p) for module in stage.modules for p in module.parameters()}
        own = {id(p) for p in stage.parameters}
        assert inside <= own
        assert all(p.ndim > 1 for p in stage.parameters if id(p) not in inside)  # positions, class tokens


@pytest.mark.parametrize("kind", ["resnet18", "pair", "resnet10t"])
def test_stages_in_evaluation_mode_keep_their_statistics(kind: str, tmp_path: Path) -> None:
    trunk = trunk_of(kind, tmp_path).train()
    found = stages(trunk)
    for stage in found[:2]:
        for module in stage.modules:
            module.eval()
    norms = {id(m) for stage in found[:2] for part in stage.modules for m in part.modules()}
    last_map(trunk, torch.rand(2, 3, 32, 32))
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            changed = bool((module.running_mean != 0).any())  # type: ignore[union-attr]
            assert not (changed and id(module) in norms)
    assert any(bool((m.running_mean != 0).any()) for m in trunk.modules() if isinstance(m, nn.BatchNorm2d))  # type: ignore[union-attr]


def test_a_network_whose_stages_timm_does_not_tell() -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match="doesn't say what the stages of poolformer_s12 are"):
        stages(make_trunk("random:poolformer_s12"))


def test_the_order_is_from_the_input_on(tmp_path: Path) -> None:
    first, *_, last = stages(trunk_of("resnet18", tmp_path))
    assert first.parameters[0].shape == (64, 3, 7, 7)
    assert last.parameters[0].shape[0] == 256
