"""The stages of a trunk, from the input to the output: what fine-tuning freezes, or lets learn slower."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pretrain.backbones import ResNet
from pretrain.errors import InputError
from vidtrack.model.trunk import Halves, Tokens


@dataclass
class Stage:
    """A part of a trunk.

    Attributes:
        parameters: what it learns.
        modules: what must be put into evaluation mode, so that it also stays as it is.
    """

    parameters: list[nn.Parameter] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)


def stages(trunk: nn.Module) -> list[Stage]:
    """The stages of a trunk, see `vidtrack.model.trunk`; together they hold all its parameters, each once.

    - ResNets: the first convolution with its norm, then each layer; of half-networks both together.
    - ViTs: the embedding of patches with positions, then each block, the last with the final norm.
    - Networks of timm: as timm itself groups them for layer-wise learning rates.

    Raises:
        InputError: timm doesn't say how it groups this network.
    """
    if isinstance(trunk, ResNet):
        parts: list[list[nn.Module]] = [[trunk.conv1, trunk.bn1]]
        parts += [[trunk.get_submodule(name)] for name in trunk.channels]
        return [_stage(modules) for modules in parts]
    if isinstance(trunk, Halves):
        both = zip(stages(trunk.light), stages(trunk.colour), strict=True)
        return [Stage(a.parameters + b.parameters, a.modules + b.modules) for a, b in both]
    if isinstance(trunk, Tokens):
        vit = trunk.vit.vit
        first = Stage([vit.cls_token, vit.pos_embed, *vit.patch_embed.parameters()], [vit.patch_embed])
        *blocks, last = vit.blocks
        return [first, *(_stage([block]) for block in blocks), _stage([last, vit.norm])]
    return _of_timm(trunk)


def _stage(modules: list[nn.Module]) -> Stage:
    return Stage([p for module in modules for p in module.parameters()], modules)


def _of_timm(trunk: Any) -> list[Stage]:
    from timm.models import group_parameters

    model: nn.Module = trunk.model
    if not hasattr(model, "group_matcher"):
        raise InputError(
            f"timm doesn't say what the stages of {trunk.name} are: it can be trained as a whole alone, "
            "without transfer.* or adapt."
        )
    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]
    named = dict(model.named_parameters())
    made = [Stage() for _ in range(max(groups.values()) + 1)]
    homes: dict[str, int] = {}
    for name, number in groups.items():
        made[number].parameters.append(named[name])
        homes[name.rpartition(".")[0]] = number
    for home, number in homes.items():
        if home:  # what the network itself holds has no mode of its own
            made[number].modules.append(model.get_submodule(home))
    return [stage for stage in made if stage.parameters]
