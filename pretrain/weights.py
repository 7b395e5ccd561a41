"""Reading weights: backbone files, and checkpoints that other tools wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from pydantic.types import StringConstraints
from safetensors.torch import save_file
from torch import Tensor

from pretrain.checkpoint import read_checkpoint
from pretrain.errors import InputError
from pretrain.inputs import Input

AVERAGED = re.compile(r"encoder_k|key_enc|momentum|target|ema|teacher")  # the second of two encoders
FIRST = "layer1.0.conv1.weight"
SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class Description(BaseModel):
    """What a backbone file says of its network, as far as that is needed to build it; see `ResNet`, `ViT`.

    `timm` stands in tracker files: the name of a network of timm, which needs nothing else.
    """

    arch: Annotated[str, StringConstraints(max_length=100)] | None = None
    pair: bool = False
    stem: Literal["standard", "small"] = "standard"
    share: FiniteFloat = 1.0
    padding: Literal["zeros", "reflect", "replicate"] = "zeros"
    input: Input = "rgb"
    patch: int = 16
    size: int = 224
    mean: list[FiniteFloat] = []
    std: list[Annotated[FiniteFloat, Field(gt=0)]] = []
    timm: Annotated[str, StringConstraints(max_length=200)] | None = None


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a trunk, by torchvision's names, and the metadata of a backbone file (else empty).

    Foreign checkpoints are unwrapped (see `pretrain.checkpoint.WRAPPERS`) and their prefixes (`module.
    backbone. encoder_q.` ...) removed; of a 3x3 first convolution the stem is said to be "small".

    Raises:
        InputError: see `read_checkpoint`; or metadata that describe no backbone.
    """
    state, metadata = read_checkpoint(path)
    if "backbone" not in metadata:
        return _foreign(state)
    try:
        described = described_backbone(json.loads(metadata["backbone"]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: what it says of itself makes no backbone.") from error
    return (state, described) if described else _foreign(state)


def described_backbone(value: Any) -> dict[str, Any]:
    """The fields of a `Description` that a file has.

    Raises:
        ValueError: it is none; the message is one line.
    """
    try:
        return Description.model_validate(value).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place or 'the whole'}: {first['msg']}".lower()) from error


def write_weights(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, readable by whom other new files are readable by."""
    path.touch()  # safetensors would make it readable by its owner only
    mode = path.stat().st_mode
    kept = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    save_file(kept, str(path), metadata=metadata)
    path.chmod(mode)


def _foreign(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """See `read_weights`."""
    stripped = _strip(_named(state) or state)
    first = stripped.get("conv1.weight")
    return stripped, {"stem": "small"} if first is not None and first.shape[2:] == (3, 3) else {}


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut whatever stands before `conv1.`, `bn1.` and `layerN.`; of two encoders the query one wins."""
    pattern = re.compile(r"^(.*?)((?:conv1|bn1|layer[1-4])\..+)$")
    stripped: dict[str, Tensor] = {}
    for key in sorted(state, key=lambda k: AVERAGED.search(k) is not None):
        match = pattern.match(key)
        if match:
            stripped.setdefault(match[2], state[key])
    return stripped


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With names for the numbers of an `nn.Sequential` of a ResNet's layers, as in lightly's examples."""
    if any(key.endswith(FIRST) for key in state):
        return {}
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.match(r"^(.*?\.)?([014-7])\.(.+)$", key)
        if match:
            named[f"{match[1] or ''}{SEQUENCE[match[2]]}.{match[3]}"] = value
    return named if any(key.endswith(FIRST) for key in named) else {}


def guess_arch(state: Mapping[str, Tensor], path: Path) -> str:
    if "layer1.0.conv3.weight" in state:
        return "resnet50"
    if "layer1.0.conv1.weight" in state:
        return "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    raise InputError(
        f"{path} is not a checkpoint of a ResNet: no tensor named layer1.0.conv1.weight; another kind of "
        f"network is timm:NAME@{path}."
    )
