"""Archives of arrays (`.npz`), which may unpack to a thousand times their size: up to a bound."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError

MOST = 1 << 31  # bytes: a frame of 4K with 60 values for each pixel


def open_npz(path: Path, most: int = MOST) -> Any:
    """The arrays of an archive by name, as `numpy.load` opens them; a context manager.

    Args:
        path: the file.
        most: bytes that all arrays may have together.

    Raises:
        InputError: it would unpack to more.
        Exception: of many kinds, where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > most:
        raise InputError(
            f"{path} unpacks to {size:,} bytes, but {most:,} are the most: save less in one file."
        )
    return np.load(path, allow_pickle=False)
