"""Hard cuts: one step between two neighbouring frames that is far above the steps around it.

A fast pan has many large steps in a row; after a flash the picture is again what it was before; light that
goes on or off changes the brightness but not what is brighter than what; a fade has no large step. None of
them is a cut. With the choice between a cut that is missed and a shot that is torn, the first is taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat

from vidtrack.learn.index.looks import Look
from vidtrack.learn.index.signatures import dhash, step

AROUND = 5  # looks before and after a step that it is compared with
FAR = 4.0  # times the steps around; if all are known, the largest is left out: another cut may be near
BESIDE = 4  # looks before and after a cut of which none may resemble one of the other side
FEWEST = 3  # of them that there must be: at the ends of a video nothing can be compared
BITS = 10  # of 64 that must differ


def mark_cuts(looks: Iterable[Look], least: float) -> Iterator[tuple[Look, bool]]:
    """Each look, and whether a hard cut lies right before it; reads `AROUND` looks ahead.

    Args:
        looks: in order of time.
        least: how far a cut must stand above `FAR` times the steps around it, in gray levels, see
            `vidtrack.learn.index.signatures.step`.
    """
    recent: deque[Look | None] = deque([None] * (2 * AROUND + 1), maxlen=2 * AROUND + 1)
    steps: deque[float | None] = deque([None] * (2 * AROUND + 1), maxlen=2 * AROUND + 1)
    for look in chain(looks, repeat(None, AROUND)):
        last = recent[-1]
        steps.append(step(last.thumb, look.thumb) if look and last and look.follows else None)
        recent.append(look)
        if (middle := recent[AROUND]) is not None:
            yield middle, _is_cut(list(recent), list(steps), least)


def _is_cut(recent: Sequence[Look | None], steps: Sequence[float | None], least: float) -> bool:
    """Whether the step in the middle is a cut."""
    height = steps[AROUND]
    before = [look.thumb for look in recent[AROUND - BESIDE : AROUND] if look is not None]
    after = [look.thumb for look in recent[AROUND : AROUND + BESIDE] if look is not None]
    if height is None or height < least or min(len(before), len(after)) < FEWEST:
        return False
    around = sorted(value for place, value in enumerate(steps) if place != AROUND and value is not None)
    if len(around) < FEWEST:
        return False
    other = around[-2] if len(around) == 2 * AROUND else around[-1]
    if height < least + FAR * other:
        return False
    if min(step(one, other) for one in before for other in after) < height / 2:
        return False
    hashes = dhash(before[-1].image), dhash(after[0].image)
    return hashes[0] is None or hashes[1] is None or (hashes[0] ^ hashes[1]).bit_count() >= BITS
