"""One number for one object in all annotated frames, where files only count their colours or names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.masks import MAX_OBJECTS, Key, Masks


def agree(masks: Mapping[int, Masks]) -> dict[int, Masks]:
    """The masks of some frames, renumbered so that what has the same colour or name has the same id.

    The ids of the first frame stay. Ids that a file says itself stay in all frames; so does that of a colour
    or name which no frame before has, unless another one has it: then it takes the lowest that is free.

    Args:
        masks: by frame number; see `Masks.keys`.

    Raises:
        InputError: more than 254 objects.
    """
    fixed = {i for one in masks.values() for i in one.objects if i not in one.keys}
    known: dict[Key, int] = {}
    return {number: next_agrees(masks[number], known, fixed) for number in sorted(masks)}


def next_agrees(masks: Masks, known: dict[Key, int], fixed: Set[int] = frozenset()) -> Masks:
    """The masks of a frame, renumbered so that they agree with those before, see `agree`.

    Args:
        masks: of the frame.
        known: the id of each colour or name so far; new ones are added.
        fixed: ids that files say themselves, which no new colour or name takes.
    """
    table = {i: known.get(masks.keys[i]) if i in masks.keys else i for i in masks.objects}
    for own, given in table.items():
        if given is None:
            taken = {*known.values(), *(i for i in table.values() if i is not None)}
            table[own] = number = own if own not in taken else _free(taken | fixed)
            known[masks.keys[own]] = number
    return renumbered(masks, {own: i for own, i in table.items() if i is not None})


def renumbered(masks: Masks, table: Mapping[int, int]) -> Masks:
    """Masks in which object `i` is `table[i]`; the others keep their ids."""
    if all(own == new for own, new in table.items()):
        return masks
    ids = np.arange(256, dtype=np.uint8)
    for own, new in table.items():
        ids[own] = new
    return Masks(
        ids[masks.ids],
        masks.void,
        {table.get(i, i): name for i, name in masks.names.items()},
        {table.get(i, i): color for i, color in masks.colors.items()},
        list(masks.warnings),
        {table.get(i, i): key for i, key in masks.keys.items()},
    )


def left_out(masks: Mapping[int, Masks]) -> list[str]:
    """A sentence where annotated frames lack objects that earlier ones have: they end there."""
    names = {i: name for number in sorted(masks) for i, name in masks[number].names.items()}
    seen: set[int] = set()
    endings: list[tuple[int, list[int], list[int]]] = []
    for number in sorted(masks):
        now = set(masks[number].objects)
        if now and seen - now:  # a mask of nothing says so
            endings.append((number, sorted(seen - now), sorted(now - seen)))
        seen |= now
    if not endings:
        return []
    number, gone, new = endings[0]
    instead = f", and has {_listed(new, names)}, which no frame before has" if new else ""
    others = " (later ones leave out objects, too)" if len(endings) > 1 else ""
    return [
        f"the annotation of frame {number} leaves out {_listed(gone, names)}{instead}{others}: it says all "
        "about its frame, so what it leaves out is not seen from there on; draw it, too, to keep it."
    ]


def _listed(ids: Iterable[int], names: Mapping[int, str], shown: int = 3) -> str:
    every = [f"{i} ({names[i]})" if i in names else str(i) for i in ids]
    more = f" and {len(every) - shown} more" if len(every) > shown else ""
    return f"object{'s' * (len(every) > 1)} {', '.join(every[:shown])}{more}"


def _free(taken: set[int]) -> int:
    for i in range(1, MAX_OBJECTS + 1):
        if i not in taken:
            return i
    raise InputError("the annotated frames have more than 254 objects together: keep at most 254.")
