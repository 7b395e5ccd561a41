"""The pretext tasks, one file each."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from pretrain.errors import InputError

METHODS = {
    "simclr": "SimCLR",
    "moco": "MoCo",
    "mae": "MAE",
    "rotation": "Rotation",
    "colorization": "Colorization",
    "split_brain": "SplitBrain",
    "inpainting": "Inpainting",
    "jigsaw": "Jigsaw",
    "relative_patch": "RelativePatch",
}


def require_method(name: str) -> None:
    """Check a name, without loading anything heavy.

    Raises:
        InputError: there is no method of that name; the nearest is named.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(METHODS)}."
        raise InputError(f"there is no method {name!r}; {hint}")


def method_class(name: str) -> Any:
    """The class of a method, a subclass of `pretrain.methods.base.Method`.

    Raises:
        InputError: see `require_method`.
    """
    require_method(name)
    return getattr(import_module(f"pretrain.methods.{name}"), METHODS[name])
