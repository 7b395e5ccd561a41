"""A backbone for other libraries: weights that load strictly into torchvision's or timm's model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pretrain.backbones import LAYERS, ResNet
from pretrain.errors import InputError
from pretrain.pair import Pair
from pretrain.vit import TimmFeatures, ViT

LIBRARIES = ("torchvision", "timm")
SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, eq=False)
class Export:
    """Weights for a model of another library.

    Attributes:
        state: what `load_state_dict(strict=True)` of the model takes; float32, on the CPU.
        make: Python that makes the model and leaves it as `model`, without a classifier.
        mean, std: of the model's input, RGB in 0..1: the caller normalises it, as is usual there.
    """

    state: dict[str, Tensor]
    make: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def load(self, path: Path) -> str:
        """Python that makes the model and loads the weights from a file written by `write`."""
        if path.suffix == ".safetensors":
            read = f"safetensors.torch.load_file({str(path)!r})"
        else:
            read = f"torch.load({str(path)!r}, weights_only=True)"
        return f"{self.make}; model.load_state_dict({read}, strict=True)"


def export(backbone: Any, library: str, name: str) -> Export:
    """What another library needs of a backbone.

    Args:
        backbone: see `pretrain.catalogue.build_any`.
        library: "torchvision" or "timm".
        name: of the backbone, for errors.

    Raises:
        InputError: an unknown library, or one that has no model of this kind: it must see RGB, and be a
            ResNet with the standard stem and all four layers or, for timm, a transformer.
    """
    if library not in LIBRARIES:
        raise InputError(f"--to {library} is unknown: choose {' or '.join(LIBRARIES)}.")
    if isinstance(backbone, TimmFeatures):
        raise InputError(f"{name} is timm's own: timm.create_model makes it without any file.")
    if isinstance(backbone, Pair):
        raise _refused(name, library, "consists of two half-networks")
    if backbone.input != "rgb":
        seen = {"l": "lightness", "ab": "the colours ab", "lab": "Lab"}[backbone.input]
        raise _refused(name, library, f"sees {seen}, not RGB")
    mean, std = (tuple(part.flatten().tolist()) for part in (backbone.mean, backbone.std))
    if isinstance(backbone, ViT):
        if library == "torchvision":
            raise InputError(
                f"{name} is a transformer of timm: torchvision has no such model; use --to timm."
            )
        make = (
            f'model = timm.create_model("{backbone.arch}_patch16_224", img_size={backbone.image_size}, '
            f"patch_size={backbone.patch}, num_classes=0)"
        )
        return Export(_plain(backbone.vit), make, mean, std)
    _require_standard(backbone, library, name)
    if library == "timm":
        make = f'model = timm.create_model("{backbone.arch}", num_classes=0)'
    else:
        make = f"model = torchvision.models.{backbone.arch}(); model.fc = torch.nn.Identity()"
    return Export(_plain(backbone), make, mean, std)


def write(path: Path, exported: Export) -> None:
    """Write the weights: a plain dict of tensors by torch.save, or safetensors, by the suffix.

    Raises:
        InputError: see `require_suffix`.
    """
    require_suffix(path)
    if path.suffix == ".safetensors":
        path.touch()  # safetensors would make it readable by its owner only
        mode = path.stat().st_mode
        save_file(exported.state, str(path), metadata={"format": "pt"})
        path.chmod(mode)
    else:
        torch.save(exported.state, path)


def require_suffix(path: Path) -> None:
    """Check that a file has a name that `write` knows.

    Raises:
        InputError: it has not.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: give a file name that ends in .pth or .safetensors.")


def _require_standard(backbone: ResNet, library: str, name: str) -> None:
    if tuple(backbone.channels) != LAYERS:
        raise _refused(name, library, f"ends at {backbone.last}")
    if backbone.stem_kind != "standard":
        raise _refused(name, library, "begins with the small stem, a 3x3 convolution for small images")
    if backbone.padding != "zeros":
        how = {"reflect": "reflects", "replicate": "repeats"}[backbone.padding]
        raise _refused(name, library, f"{how} the image beyond its edge instead of adding zeros")
    if backbone.share != 1:
        raise _refused(name, library, f"has {backbone.share:g} of the usual channels")


def _refused(name: str, library: str, why: str) -> InputError:
    return InputError(
        f"{name} {why}, which no model of {library} does: only backbones that see RGB and have the standard "
        "stem can be exported; pretrain.catalogue.build_any loads this one."
    )


def _plain(module: Any) -> dict[str, Tensor]:
    return {
        key: value.detach().to("cpu", copy=True).contiguous() for key, value in module.state_dict().items()
    }
