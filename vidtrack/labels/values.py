"""What the values of a gray, palette or array mask mean: ids, the binary 0/255, void."""

from __future__ import annotations

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.masks import MAX_OBJECTS, Masks
from vidtrack.labels.neighbours import WIDTHS, extremes, flat

_FEW, _MANY = 3, 24  # values up to which they are ids: beside 255, which is no id; and below it
_NEAR = 0.9  # of the edges that must be near both background and core


def masks_from_values(values: np.ndarray, where: str, void: int | None) -> Masks:
    """Ids from the values of a mask image.

    Only 0 and 255 (or 0 and 65535 in 16 bit): the bright pixels are object 1. Otherwise each value is an id,
    kept as it is, except `void`, which marks pixels without a label.

    Args:
        values: integers or bool `[H, W]`.
        where: what the user calls the file, for messages.
        void: the value of pixels without a label, or None.

    Raises:
        InputError: a value that can't be an id.
    """
    unlabelled = None if void is None else values == void
    labelled = values if unlabelled is None else np.where(unlabelled, 0, values)
    present = [int(v) for v in np.unique(labelled)]
    objects = [v for v in present if v != 0]
    if void == 255 and not objects and (values == 255).any():
        raise InputError(
            f"{where} has no object: 255 is void, everything else background; without --void 255, 255 is"
            " the object."
        )
    if objects in ([255], [65535]):
        return Masks((labelled != 0).astype(np.uint8), unlabelled)
    if len(objects) > MAX_OBJECTS and objects != list(range(1, 256)):
        raise InputError(f"{where} has {len(objects)} ids, but at most 254 objects fit: merge some.")
    if present[0] < 0 or (objects and objects[-1] > 255):
        bad = present[0] if present[0] < 0 else objects[-1]
        raise InputError(f"{where} holds the value {bad}: renumber the objects to ids 1 to 254.")
    if unlabelled is None and objects and _is_soft(labelled.astype(np.uint8), objects):
        peak = objects[-1]
        pixels = int(((labelled > 0) & (labelled < peak)).sum())
        warning = f"{where} has soft edges: {pixels} pixels went to the nearer of 0 and {peak}."
        return Masks((labelled > peak / 2).astype(np.uint8), warnings=[warning])
    if objects and objects[-1] == 255:
        raise InputError(
            f"{where} holds 255 beside other ids: add --void 255 if 255 marks pixels without a label,"
            " renumber the objects to ids 1 to 254, or, if this is one object with soft edges, use only 0 and"
            " 255."
        )
    return Masks(labelled.astype(np.uint8), unlabelled)


def _is_soft(values: np.ndarray, objects: list[int]) -> bool:
    """Whether values beside 0 and the largest are the soft edges of one object.

    That is 255, or so many values below it that they are hardly ids. Ids that happen to lie between
    background and a void border are told apart by being flat in more than a tenth of their pixels (a square
    of 3x3 is in 1/9), or by being few. Parts that are thinner than the brush is wide have no core nearby.
    """
    peak = objects[-1]
    if len(objects) <= (_FEW if peak == 255 else _MANY):
        return False
    between = (values > 0) & (values < peak)
    even = flat(values)
    if even[between].mean() >= 0.1 or not even[values == peak].any():
        return False
    low, high = extremes(values, WIDTHS[-1])
    return bool(((low == 0) & (high == peak))[between].mean() >= _NEAR)
