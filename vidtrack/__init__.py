"""vidtrack learns to track from raw, unlabelled video and then carries labels through videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "Boxes",
    "InputError",
    "Keypoints",
    "Maps",
    "Masks",
    "Result",
    "Session",
    "Tracker",
    "__version__",
    "load",
]

if TYPE_CHECKING:
    from pretrain.errors import InputError
    from vidtrack.labels import Boxes, Keypoints, Maps, Masks
    from vidtrack.session import Result, Session
    from vidtrack.tracker import Tracker, load

_HOME = {
    "InputError": "pretrain.errors",
    "Boxes": "vidtrack.labels",
    "Keypoints": "vidtrack.labels",
    "Maps": "vidtrack.labels",
    "Masks": "vidtrack.labels",
    "Result": "vidtrack.session",
    "Session": "vidtrack.session",
    "Tracker": "vidtrack.tracker",
    "load": "vidtrack.tracker",
}


def __dir__() -> list[str]:
    """For the completion of names in notebooks."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `vidtrack --help` never waits for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'vidtrack' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
