"""Reading weights: backbone files, and checkpoints that other tools wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.errors import InputError


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
    return (state if meta else _strip(state)), meta


def write_weights(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, readable by whom other new files are readable by."""
    path.touch()  # safetensors would make it readable by its owner only
    mode = path.stat().st_mode
    kept = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    save_file(kept, str(path), metadata=metadata)
    path.chmod(mode)


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


def guess_arch(state: Mapping[str, Tensor], path: Path) -> str:
    if "layer1.0.conv3.weight" in state:
        return "resnet50"
    if "layer1.0.conv1.weight" in state:
        return "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    raise InputError(f"{path} is not a checkpoint of a ResNet: no tensor named layer1.0.conv1.weight.")
