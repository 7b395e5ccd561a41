"""vidtrack learns to track from raw, unlabelled video and then carries labels through videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "Masks", "Result", "Session", "Tracker", "__version__", "load"]

if TYPE_CHECKING:
    from pretrain.errors import InputError
    from vidtrack.labels.masks import Masks
    from vidtrack.tracker import Result, Session, Tracker, load

_HOME = {
    "InputError": "pretrain.errors",
    "Masks": "vidtrack.labels.masks",
    "Result": "vidtrack.tracker",
    "Session": "vidtrack.tracker",
    "Tracker": "vidtrack.tracker",
    "load": "vidtrack.tracker",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `vidtrack --help` never waits for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'vidtrack' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
