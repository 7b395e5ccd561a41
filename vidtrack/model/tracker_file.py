"""Tracker files: one safetensors file that alone rebuilds a tracker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.model.colorizer import Model, VideoColorizer

FORMAT = 1


@dataclass
class TrackerFile:
    """What a tracker file holds: the model, the propagation settings and how it was trained."""

    model: VideoColorizer
    propagation: dict[str, Any]
    training: dict[str, Any]


def save_tracker(
    path: Path | str,
    model: VideoColorizer,
    propagation: dict[str, Any],
    training: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a tracker file atomically, replacing an existing one.

    Args:
        path: ends in .safetensors.
        model: its weights and settings.
        propagation: settings of the propagation, see `vidtrack.propagate.settings`.
        training: free-form record of config, data, command and time.
        dtype: floating-point type of the stored weights; batch-norm statistics stay float32.
    """
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        stored = value.detach().cpu()
        if value.is_floating_point():
            stored = stored.to(torch.float32 if "running_" in key else dtype)
        state[key] = stored.contiguous()
    trunks = {
        name: trunk.description()
        for name in ("backbone", "companion")
        if (trunk := getattr(model, name)) is not None
    }
    names = {  # no paths
        name: described.get("arch") or f"timm:{described['timm']}" for name, described in trunks.items()
    }
    metadata = {
        "vidtrack": json.dumps(
            {
                "format": FORMAT,
                "model": model.settings.model_copy(update=names).model_dump(mode="json"),
                "trunks": trunks,
                "propagation": propagation,
                "training": training,
            }
        )
    }
    with atomic_file(path, overwrite=True) as partial:
        partial.touch()  # safetensors would make it readable by its owner only
        mode = partial.stat().st_mode
        save_file(state, str(partial), metadata=metadata)
        partial.chmod(mode)


def is_tracker_file(path: Path | str) -> bool:
    """Whether a file says of itself that it is a tracker: other weights are foreign checkpoints."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return "vidtrack" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_tracker(path: Path | str) -> TrackerFile:
    """Read a tracker file; the model comes back in float32 on the CPU, in evaluation mode.

    Raises:
        InputError: no such file, not a tracker file, or one of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no tracker file {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = (file.metadata() or {}).get("vidtrack")
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a tracker file (safetensors made by vidtrack train).") from error
    if metadata is None:
        raise InputError(f"{path} holds weights but no tracker: give a file made by vidtrack train.")
    record = json.loads(metadata)
    if record["format"] > FORMAT:
        raise InputError(f"{path} was made by a newer vidtrack (format {record['format']}): update vidtrack.")
    try:
        model = VideoColorizer(Model.model_validate(record["model"]), record.get("trunks"))
        model.load_state_dict(state)
    except (ValidationError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}.") from error
    return TrackerFile(model.eval(), record["propagation"], record["training"])
