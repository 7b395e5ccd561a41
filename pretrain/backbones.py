"""Backbones: ResNet trunks that return feature maps, their files, and foreign checkpoints.

A trunk keeps torchvision's parameter names, so any standard ResNet checkpoint loads unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pretrain.errors import InputError
from pretrain.resnet import BLOCKS, initialise, layers, stem

Layer = Literal["layer1", "layer2", "layer3", "layer4"]
LAYERS: tuple[Layer, ...] = ("layer1", "layer2", "layer3", "layer4")
ARCHES = tuple(BLOCKS)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ResNet(nn.Module):
    """A ResNet trunk (He et al. 2016, arXiv 1512.03385) that stops at `last` and returns feature maps.

    Args:
        arch: "resnet18", "resnet34" or "resnet50".
        last: the last layer that is built.
        stride_one: layers whose down-sampling is turned off (their weights stay compatible); with
            `("layer3",)` the stride of layer3 is 8 instead of 16.
        input: "rgb", or "l": the lightness of Lab, one channel.
        zero_init: the last batch norm of each block starts at zero, so that a block starts as identity.

    Attributes:
        channels: layer name to number of channels.
        strides: layer name to pixels per cell.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str = "resnet18",
        last: Layer = "layer4",
        stride_one: tuple[str, ...] = (),
        input: Literal["rgb", "l"] = "rgb",
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if arch not in ARCHES:
            raise InputError(f"there is no backbone {arch!r}: choose one of {', '.join(ARCHES)}.")
        self.arch, self.input, self.last, self.stride_one = arch, input, last, tuple(stride_one)
        self.conv1, self.bn1, self.relu = stem(), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        made = layers(arch)
        initialise(self.conv1, made, zero_init)
        if input == "l":
            self.conv1 = stem(1)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        stride = 4
        for name, layer in zip(LAYERS[: LAYERS.index(last) + 1], made, strict=False):
            if name in stride_one:
                _keep_resolution(layer)
            elif name != "layer1":
                stride *= 2
            setattr(self, name, layer)
            self.strides[name] = stride
            block: Any = layer[-1]
            self.channels[name] = (block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if input == "rgb" else ((0.5,), (0.25,))
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB images float `[N, 3, H, W]` in 0..1 to `{layer: float [N, C, h, w]}`."""
        x = (self.convert(images) - self.mean) / self.std
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [N, 64, H/4, W/4]
        maps = {}
        for name in self.channels:
            x = getattr(self, name)(x)
            maps[name] = x
        return maps

    def convert(self, images: Tensor) -> Tensor:
        """RGB in 0..1 to this backbone's input: the same, or `[N, 1, H, W]` lightness in 0..1."""
        if self.input == "rgb":
            return images
        from kornia.color import rgb_to_lab

        return rgb_to_lab(images.float())[:, :1].to(images.dtype) / 100


def _keep_resolution(layer: nn.Module) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)


def save_backbone(backbone: ResNet, path: Path | str) -> None:
    """Write a backbone file: safetensors with everything that `build` needs in its metadata."""
    meta = {
        "arch": backbone.arch,
        "stem": "standard",
        "input": backbone.input,
        "strides": backbone.strides,
        "channels": backbone.channels,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
    }
    state = {k: v.detach().cpu().contiguous() for k, v in backbone.state_dict().items()}
    save_file(state, str(path), metadata={"backbone": json.dumps(meta)})


def build(
    spec: str,
    last: Layer = "layer4",
    stride_one: tuple[str, ...] = (),
    input: Literal["rgb", "l"] = "rgb",
    zero_init: bool = False,
) -> ResNet:
    """Build a backbone from its name (random weights), a backbone file, or a foreign checkpoint.

    Args:
        spec: "resnet18", "resnet34", "resnet50", or the path of a safetensors or PyTorch file.
        last, stride_one, input, zero_init: see `ResNet`. A backbone file knows its own input.

    Raises:
        InputError: unknown name, unreadable file, or weights that don't fit a ResNet.
    """
    if spec in ARCHES:
        return ResNet(spec, last, stride_one, input, zero_init)
    path = Path(spec)
    if not path.is_file():
        raise InputError(f"there is no backbone or file {spec!r}: give a path or one of {', '.join(ARCHES)}.")
    state, meta = read_weights(path)
    arch = meta.get("arch") or _guess_arch(state, path)
    backbone = ResNet(arch, last, stride_one, meta.get("input", input))
    own = backbone.state_dict()
    kept = {key: value for key, value in state.items() if key in own}
    missing = [key for key in own if key not in kept and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in kept.items() if value.shape != own[key].shape]
    if missing or wrong:
        raise InputError(
            f"{path} doesn't fit {arch}: {len(missing)} tensors missing, {len(wrong)} of another shape "
            f"(first: {(missing + wrong)[0]}); give a checkpoint of a standard {arch}."
        )
    backbone.load_state_dict(kept, strict=False)
    for name in ("mean", "std"):
        if name in meta:
            getattr(backbone, name).copy_(torch.tensor(meta[name]).view(-1, 1, 1))
    return backbone


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a trunk, by torchvision's names, and the metadata of a backbone file (else empty).

    Foreign checkpoints are unwrapped (`model`, `state_dict`, `student`, `teacher`, or bare) and their
    prefixes (`module. backbone. encoder_q.` ...) removed; pickles load with `weights_only=True`.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                meta = json.loads((file.metadata() or {}).get("backbone", "{}"))
        else:
            state, meta = _unwrap(torch.load(path, map_location="cpu", weights_only=True), path), {}
    except InputError:
        raise
    except Exception as error:  # what isn't a checkpoint makes the readers raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} can't be read as weights ({reason}): give a checkpoint.") from error
    return _strip(state), meta


def _unwrap(value: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model", "student", "teacher", "network"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping):
        raise InputError(f"{path} holds no weights: a state_dict is expected, not {type(value).__name__}.")
    return {str(k): v for k, v in value.items() if isinstance(v, Tensor)}


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut whatever stands before `conv1.`, `bn1.` and `layerN.`; of two encoders the query one wins."""
    pattern = re.compile(r"^(.*?)((?:conv1|bn1|layer[1-4])\..+)$")
    stripped: dict[str, Tensor] = {}
    for key in sorted(state, key=lambda k: "encoder_k" in k or "teacher" in k):
        match = pattern.match(key)
        if match:
            stripped.setdefault(match[2], state[key])
    return stripped


def _guess_arch(state: Mapping[str, Tensor], path: Path) -> str:
    if "layer1.0.conv3.weight" in state:
        return "resnet50"
    if "layer1.0.conv1.weight" in state:
        return "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    raise InputError(f"{path} is not a checkpoint of a ResNet: no tensor named layer1.0.conv1.weight.")
