"""Files of weights as data: nothing in them is run, and nothing is believed before it is checked.

Safetensors hold numbers and text alone. PyTorch's files are pickles, of which torch rebuilds tensors and
plain containers only (`weights_only=True`).
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pretrain.errors import InputError

WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "student", "network")


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, on the CPU, and the metadata of a safetensors file (else empty).

    Tensors of other kinds than plain numbers (sparse, quantized, complex), and those that claim to be larger
    than their file, are left out.

    Args:
        path: safetensors by its suffix, else PyTorch's, whose tensors may lie under one of `WRAPPERS`, of
            several the first, or under the only key that has any.

    Raises:
        InputError: no such file, one that can't be read without running code, or that holds no tensors.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}: give a file of weights.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = dict(file.metadata() or {})
        else:
            _require_stored(path)
            with warnings.catch_warnings(action="ignore"):  # a sentence says it
                value = torch.load(path, map_location="cpu", weights_only=True)
            state, metadata = _unwrap(value, path), {}
        limit = path.stat().st_size
        return {key: value for key, value in state.items() if _is_plain(value, limit)}, metadata
    except InputError:
        raise
    except Exception as error:  # what isn't a checkpoint makes the readers raise nearly anything
        if isinstance(error, UnpicklingError) and "Weights only" in str(error) and _is_pickled(path):
            raise InputError(
                f"{path} holds more than tensors, and nothing in a file is run: give weights, as "
                "torch.save(model.state_dict(), FILE) writes them."
            ) from error
        raise InputError(f"{path} can't be read as weights ({_reason(error)}): give a checkpoint.") from error


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into the module that a file describes; counters of batches may be missing.

    Args:
        module: made from what the file says of itself.
        state: the file's tensors.
        path: for errors.

    Raises:
        InputError: tensors are missing, left over or of another shape, or not finite.
    """
    own = module.state_dict()
    wrong = [
        key
        for key in sorted(own.keys() | state.keys())
        if (key not in state and not key.endswith("num_batches_tracked"))
        or (key in state and (key not in own or own[key].shape != state[key].shape))
    ]
    if wrong:
        raise InputError(
            f"{path} is damaged: {len(wrong)} of its tensors don't fit what it says of itself "
            f"(first: {wrong[0]})."
        )
    require_finite(state, path)
    module.load_state_dict(state)


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Check weights before they are used: with one nan in them all that a network says is nan.

    Raises:
        InputError: a number is nan, infinite or too large for float32, or a variance is negative.
    """
    for key, value in state.items():
        if not value.is_floating_point():
            continue
        numbers = value.float()
        if not torch.isfinite(numbers).all():
            raise InputError(
                f"{path} holds numbers that are not finite ({key}): its training failed or the file is "
                "damaged; give another checkpoint."
            )
        if key.endswith("running_var") and (numbers < 0).any():
            raise InputError(f"{path} is damaged: {key} holds variances below 0; give another checkpoint.")


def _require_stored(path: Path) -> None:
    """Raises InputError if a zip would grow when it is unpacked: torch never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise InputError(f"{path} is compressed, which no checkpoint of torch is: save it with torch.save.")


def _unwrap(value: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if isinstance(value, Mapping) and not any(isinstance(tensor, Tensor) for tensor in value.values()):
        inner = [one for one in value.values() if _holds_tensors(one)]
        value = inner[0] if len(inner) == 1 else value
    if not isinstance(value, Mapping):
        raise InputError(f"{path} holds no weights: a state_dict is expected, not {type(value).__name__}.")
    return {str(key): tensor for key, tensor in value.items() if isinstance(tensor, Tensor)}


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(tensor, Tensor) for tensor in value.values())


def _is_plain(value: Tensor, limit: int) -> bool:
    """Whether a tensor is dense numbers in memory, and no larger than `limit` bytes."""
    return (
        value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
        and value.numel() * value.element_size() <= limit
    )


def _is_pickled(path: Path) -> bool:
    """As `torch.save` writes: an archive, or, long ago, a stream of pickles."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == b"\x80"


def _reason(error: Exception) -> str:
    """What the reader says, without its advice to load the file in a way that runs code."""
    text = (str(error).splitlines() or [""])[0].split(". ")[0]
    return text[:200].rstrip(" .") or type(error).__name__
