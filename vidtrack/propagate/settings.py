"""Settings of the propagation, stored in the tracker file and changed by options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pretrain.config import Config


def _as_gaps(value: object) -> object:
    """7 means the seven frames before; "1,3,6" and [1, 3, 6] name them."""
    if isinstance(value, str):
        parts = value.split(",")
        value = int(value) if len(parts) == 1 and value.isdecimal() else parts
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_CONTEXT:
            raise ValueError(f"give a number of frames from 1 to {MAX_CONTEXT}")
        return tuple(range(1, value + 1))
    return value


MAX_CONTEXT = 100
Preset = Literal["crw", "dino", "vfs"]
Gaps = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_CONTEXT)], ...], BeforeValidator(_as_gaps)]


class Propagation(Config):
    """How labels are carried.

    Attributes:
        size: short side in pixels at which embeddings are computed; smaller frames are enlarged, see
            `vidtrack.geometry.working_size`. None keeps the frame's size.
        context: the frames before that are attended to beside the annotations, by their distance in
            frames; a number N stands for 1..N.
        radius: half the side of the square window in cells: |dx|, |dy| <= radius.
        reach: cells around every label of the last frame within which the next frame's labels are looked
            for; what lies farther is background without being asked. The motion of the last step comes on
            top, up to `radius`. None: all cells with a label in their window are asked.
        margin: cells around every label of a frame that are remembered with it, more when things move fast;
            what lies beyond can't be pointed to, and is not even embedded. None: whole frames.
        topk: number of pointers that a cell keeps.
        point_context, point_topk: the same as `context` and `topk` for keypoints, whose labels don't blur on
            their way, so that they can come from farther back.
        temperature: of the softmax over the kept pointers.
        refine: snap the masks to the frame's edges (guided filter); off: bilinear up-sampling alone.
        foreground: weight of the objects against the background in the final argmax. Soft labels that are
            fed back wear convex objects away; LIIR (Li et al. 2022) uses 1.05 in its code.
        bijective: how much a pointer of a mask is marked down where another cell of the frame matches the
            same place of the memory better, see `vidtrack.pointers.bijective`; 0: not at all.
        annotated: how much a pointer of a mask to an annotated frame is preferred to one to a carried frame,
            added to its cosine while objects keep their size, see `vidtrack.propagate.preference`; annotated
            frames also follow the objects then, see `vidtrack.propagate.following`. 0: neither.
        drop_entering: what comes in at the edge of the frame away from the mask of an object is no piece of
            it, see `vidtrack.propagate.entering`.
        preset: carry labels exactly as the code of a paper does, see `vidtrack.propagate.presets`; then
            `reach`, `margin`, `refine`, `foreground`, `bijective`, `annotated` and `drop_entering` have no
            effect, and `context` counts frames.
    """

    size: int | None = Field(default=480, ge=16, le=8192)
    context: Gaps = (1, 3, 6)
    radius: int = Field(default=12, ge=1, le=64)
    reach: int | None = Field(default=4, ge=1, le=64)
    margin: int | None = Field(default=6, ge=1, le=200)
    topk: int = Field(default=4, ge=1, le=500)
    point_context: Gaps = (1, 2, 4, 8, 16)
    point_topk: int = Field(default=5, ge=1, le=500)
    temperature: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    refine: bool = True
    foreground: float = Field(default=1.3, gt=0, le=10)
    bijective: float = Field(default=0.25, ge=0, le=1, allow_inf_nan=False)
    annotated: float = Field(default=0.012, ge=0, le=1, allow_inf_nan=False)
    drop_entering: bool = True
    preset: Preset | None = None

    @model_validator(mode="after")
    def _some_context(self) -> Propagation:
        for gaps in (self.context, self.point_context):
            if not gaps or sorted(set(gaps)) != list(gaps):
                raise ValueError("context: give one or more distances in rising order, like 1,3,6")
        return self


# What --quality changes; it never changes weights. "default" takes the tracker file's settings as they are.
QUALITIES: dict[str, dict[str, Any]] = {
    "fast": {"size": 480, "radius": 12, "context": (1, 4), "reach": 4, "margin": 6},
    "default": {},
    "best": {"reach": None, "margin": None},  # nothing in the window is left out
}
