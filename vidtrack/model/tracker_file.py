"""Tracker files: one safetensors file that alone rebuilds a tracker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.backbones import ARCHES
from pretrain.checkpoint import load_exactly
from pretrain.errors import InputError
from pretrain.weights import described_backbone
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
        InputError: no such file, not a tracker file, one of a newer format, or one whose weights and
            description don't fit each other or can't be used.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no tracker file {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = (file.metadata() or {}).get("vidtrack")
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError, and what torch says to types that it can't convert
        raise InputError(f"{path} is not a tracker file (safetensors made by vidtrack train).") from error
    if metadata is None:
        raise InputError(f"{path} holds weights but no tracker: give a file made by vidtrack train.")
    record = _record(metadata, path)
    try:
        model = VideoColorizer(record.model, record.trunks())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path} is damaged: it doesn't say the {error.args[0]} of its network.") from error
    for name in ("backbone", "companion"):
        for key in getattr(getattr(model, name), "cut", ()):
            state.pop(f"{name}.{key}", None)
    load_exactly(model, state, path)
    return TrackerFile(model.eval(), record.propagation, record.training)


class _Record(BaseModel):
    """The metadata of a tracker file. Files of before there were other backbones have no `described`."""

    model: Model
    described: dict[Literal["backbone", "companion"], dict[str, Any]] | None = Field(None, alias="trunks")
    propagation: dict[str, Any]
    training: dict[str, Any]

    def trunks(self) -> dict[str, Any] | None:
        """What the file says of each network.

        Raises:
            InputError: of one it says nothing, or something that is no description: what its name means on
                this machine must not count.
        """
        if self.described is None and self.model.backbone in ARCHES and self.model.companion is None:
            return None
        needed = ["backbone"] if self.model.companion is None else ["backbone", "companion"]
        try:
            return {name: described_backbone((self.described or {})[name]) for name in needed}  # type: ignore[index]
        except ValueError as error:
            raise InputError(f"it is damaged: {error}.") from error


def _record(metadata: str, path: Path) -> _Record:
    """Raises InputError unless the metadata are those of a tracker, of this format."""
    try:
        value = json.loads(metadata)
        if value["format"] > FORMAT:
            number = str(value["format"])[:9]
            raise InputError(f"{path} was made by a newer vidtrack (format {number}): update vidtrack.")
        return _Record.model_validate(value)
    except InputError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is damaged: {place}: {first['msg'].lower()}.") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is damaged: what it says of itself is no tracker.") from error
