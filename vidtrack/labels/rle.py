"""COCO run-length masks: runs of 0 and 1 in turn, down the columns, starting with 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretrain.errors import InputError


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths `{size: [H, W], counts: str}` of a bool mask `[H, W]`."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(s) for s in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode(counts: str | bytes | list[Any], size: tuple[int, int], where: str) -> np.ndarray:
    """Mask bool `[H, W]` of compressed (text) or plain (list) run lengths.

    pycocotools reads uninitialised memory when runs are too short for the image, so a user's file never
    goes to its decoder.

    Raises:
        InputError: the runs don't fill `size` (height, width) exactly.
    """
    runs = counts if isinstance(counts, list) else _runs(counts)
    valid = runs is not None and all(type(run) is int and run >= 0 for run in runs)
    if runs is None or not valid or sum(runs) != size[0] * size[1]:
        raise InputError(
            f"{where} has run lengths that don't fill {size[1]}x{size[0]} pixels: write the file again."
        )
    bits = np.arange(len(runs)) % 2 == 1
    return np.repeat(bits, np.array(runs, np.int64)).reshape(size[1], size[0]).T


def _runs(counts: str | bytes) -> list[int] | None:
    """Run lengths of COCO's text code, or None if it isn't one.

    Each character holds five bits, lowest first, its bit 5 says that more follow, and bit 4 of the last one
    is the sign; from the fourth number on, the difference to the number two before is stored.
    """
    data = counts.encode("utf-8") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs
