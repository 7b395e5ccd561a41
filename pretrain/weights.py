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

    Foreign checkpoints are unwrapped (`model`, `state_dict`, `student`, `teacher`, or bare) and their
    prefixes (`module. backbone. encoder_q.` ...) removed.

    Raises:
        InputError: see `read_checkpoint`; or metadata that describe no backbone.
    """
    state, metadata = read_checkpoint(path)
    if "backbone" not in metadata:
        return _strip(state), {}
    try:
        described = described_backbone(json.loads(metadata["backbone"]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: what it says of itself makes no backbone.") from error
    return (state if described else _strip(state)), described


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


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut whatever stands before `conv1.`, `bn1.` and `layerN.`; of two encoders the query one wins."""
    pattern = re.compile(r"^(.*?)((?:conv1|bn1|layer[1-4])\..+)$")
    stripped: dict[str, Tensor] = {}
    for key in sorted(state, key=lambda k: "encoder_k" in k or "teacher" in k):
        match = pattern.match(key)
        if match:
            stripped.setdefault(match[2], state[key])
    return stripped


def guess_arch(state: Mapping[str, Tensor], path: Path) -> str:
    if "layer1.0.conv3.weight" in state:
        return "resnet50"
    if "layer1.0.conv1.weight" in state:
        return "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    raise InputError(f"{path} is not a checkpoint of a ResNet: no tensor named layer1.0.conv1.weight.")
