"""One network of timm as a map from images to features, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import resnet
from torch import Tensor, nn

from pretrain.backbones import IMAGENET_MEAN, IMAGENET_STD
from pretrain.errors import InputError
from pretrain.timm_networks import create, first_line

# Transformers for images of any size, other networks that check the size, and the rest.
CHOICES: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
    {},
)
PROBE = (11, 13)  # cells of the trial image: no network's own size


class TimmBackbone(nn.Module):
    """The feature map of a timm network (Wightman, github.com/huggingface/pytorch-image-models).

    - Vision transformers (`dynamic_img_size`): the patch tokens of the last block after the final norm,
      without class and register tokens; the stride is the patch size, and position embeddings are
      interpolated to each frame.
    - timm's plain ResNets: layer3, its down-sampling turned off, so that its stride is 8 (Jabri et al. 2020,
      arXiv 2006.14613).
    - Everything else: the deepest feature map of stride <= 8 if there is one, else of stride <= 16.

    What lies behind the map is cut off: it would learn nothing, and lie in each tracker file.

    Args:
        name: as in `timm.list_models()`, with or without a tag.
        pretrained: load timm's own weights, unless there is a path.
        path: a local checkpoint, see `pretrain.checkpoint.read_checkpoint`; prefixes of its tensors
            (`module. backbone.` ...) are removed.

    Attributes:
        stride: pixels per cell.
        channels: number of channels.
        cut: names of the tensors that were cut off; tracker files of vidtrack until 0.3 have them.
        foldable: whether a batch norm named like a convolution follows it: not in each family of timm.

    Raises:
        InputError: the weights can't be had or don't fit, or the network can't take images of any size.
    """

    mean: Tensor
    std: Tensor
    input = "rgb"
    foldable = False

    def __init__(self, name: str, pretrained: bool = False, path: Path | None = None) -> None:
        super().__init__()
        self.name = name
        self.model, choice = create(name, pretrained, path, CHOICES)
        self.transformer = choice == 0
        config: Mapping[str, Any] = getattr(self.model, "pretrained_cfg", None) or {}
        mean, std = config.get("mean") or IMAGENET_MEAN, config.get("std") or IMAGENET_STD
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        if self.transformer:
            self.index, self.stride = 1, _patch(self.model, name)  # index 1: the last block
        else:
            self.index, self.stride = _deepest(self.model, name)
        names = set(self.state_dict())
        cut: Any = getattr(self.model, "prune_intermediate_layers", None)
        if cut is not None:
            indices = self.index if self.transformer else [self.index]
            cut(indices, prune_norm=not self.transformer, prune_head=True)
        self.cut = frozenset(names - set(self.state_dict()))
        self.channels = self._probe()

    def forward(self, images: Tensor) -> Tensor:
        """RGB `[N, 3, H, W]` in 0..1, H and W multiples of the stride, to `[N, C, H/stride, W/stride]`."""
        x = (images - self.mean) / self.std
        indices = self.index if self.transformer else [self.index]
        found: list[Tensor] = self.model.forward_intermediates(  # type: ignore[operator]
            x, indices=indices, norm=self.transformer, stop_early=True, intermediates_only=True
        )
        return found[-1]

    def description(self) -> dict[str, Any]:
        """What a tracker file says of it."""
        return {"timm": self.name}

    @torch.no_grad()
    def _probe(self) -> int:
        """Number of channels, by running a small image of an unusual size."""
        image = torch.rand(
            1, 3, *(n * self.stride for n in PROBE), generator=torch.Generator().manual_seed(0)
        )
        try:
            shape = tuple(self.eval()(image).shape)
        except Exception as error:  # each family refuses foreign sizes in its own way
            size = f"{image.shape[3]} x {image.shape[2]}"
            raise InputError(
                f"timm:{self.name} can't track: it refuses an image of {size} pixels ({first_line(error)})."
            ) from error
        if shape[2:] != PROBE:
            raise InputError(
                f"timm:{self.name} can't track: its features are not a grid of {self.stride}-pixel cells."
            )
        return shape[1]


def _patch(model: nn.Module, name: str) -> int:
    height, width = model.patch_embed.feat_ratio(as_scalar=False)  # type: ignore[operator, union-attr]
    if height != width:
        raise InputError(f"timm:{name} can't track: its patches of {height} x {width} pixels are not square.")
    return int(height)


def _deepest(model: nn.Module, name: str) -> tuple[int, int]:
    """Index among the model's feature maps, and stride, of the map to use."""
    if not hasattr(model, "feature_info") or not hasattr(model, "forward_intermediates"):
        raise InputError(f"timm:{name} can't track: timm gives no feature maps of it.")
    if isinstance(model, resnet.ResNet) and _keep_layer3_resolution(model):
        return 3, 8  # stem, layer1, layer2, layer3
    strides = [int(entry["reduction"]) for entry in model.feature_info]  # type: ignore[union-attr]
    for limit in (8, 16):
        fitting = [index for index, stride in enumerate(strides) if stride <= limit]
        if fitting:
            return fitting[-1], strides[fitting[-1]]
    raise InputError(
        f"timm:{name} can't track: its finest cells have {min(strides)} pixels, 16 is the limit."
    )


def _keep_layer3_resolution(model: resnet.ResNet) -> bool:
    """Turn layer3's down-sampling off, if it is made of plain strides alone."""
    layer3 = model.layer3
    assert isinstance(layer3, nn.Module)
    blocks: list[Any] = list(layer3.children())
    plain = all(type(block) in (resnet.BasicBlock, resnet.Bottleneck) for block in blocks)
    if not plain or not all(isinstance(block.aa, nn.Identity) for block in blocks):
        return False
    for module in list(layer3.modules()):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
        for child_name, child in module.named_children():  # ResNet-D pools before a 1x1 convolution
            if isinstance(child, nn.AvgPool2d):
                setattr(module, child_name, nn.Identity())
    return True
