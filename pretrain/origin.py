"""What a result was made with: versions of libraries, and the commit of the source tree."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("torch", "lightning", "numpy", "av", "opencv-python")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def git_commit() -> str | None:
    """The commit of the source tree, with `+` if it has changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        ask = ["git", "-C", str(here)]
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*ask, "status", "--porcelain", "-uno"], capture_output=True, text=True)
        return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
