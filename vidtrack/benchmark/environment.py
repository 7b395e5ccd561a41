"""What a result was measured with: versions of the libraries and memory of the process."""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from importlib import metadata

import vidtrack


def versions() -> dict[str, str]:
    """Versions of Python, vidtrack and the libraries that decide a result; nothing is imported for it."""
    libraries = {name: metadata.version(name) for name in ("torch", "numpy", "opencv-python")}
    return {"python": platform.python_version(), "vidtrack": vidtrack.__version__, **libraries}


def memory_mb() -> float | None:
    """Resident memory of this process now, in 10^6 bytes; None where it isn't known."""
    try:
        with open("/proc/self/status", encoding="ascii") as stream:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in stream if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return None


def reset_peak_memory() -> None:
    """Let `peak_memory_mb` begin anew from the memory of now, where the system can do that (Linux)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
        stream.write("5")


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process, in 10^6 bytes; None where it isn't known.

    Since `reset_peak_memory`, or since its start where nothing was reset.
    """
    try:
        # Unlike ru_maxrss, VmHWM doesn't begin with the size of the process that started this one.
        with open("/proc/self/status", encoding="ascii") as stream:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in stream if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
