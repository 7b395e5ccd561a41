"""Settings of the propagation, stored in the tracker file and changed by options."""

from __future__ import annotations

from pydantic import Field

from pretrain.config import Config


class Propagation(Config):
    """How labels are carried.

    Attributes:
        size: short side in pixels at which embeddings are computed; None keeps the frame's size.
        context: number of previous frames that are kept beside the first annotation.
        radius: half the side of the square window in cells: |dx|, |dy| <= radius.
        topk: number of pointers that a cell keeps.
        temperature: of the softmax over the kept pointers.
        refine: snap the masks to the frame's edges (guided filter); off: bilinear up-sampling alone.
        foreground: weight of the objects against the background in the final argmax. Soft labels that are
            fed back wear convex objects away; LIIR (Li et al. 2022) uses 1.05 in its code.
    """

    size: int | None = Field(default=480, ge=16)
    context: int = Field(default=7, ge=1, le=100)
    radius: int = Field(default=12, ge=1, le=64)
    topk: int = Field(default=5, ge=1, le=500)
    temperature: float = Field(default=0.05, gt=0)
    refine: bool = True
    foreground: float = Field(default=1.2, gt=0, le=10)
