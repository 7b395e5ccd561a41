"""The setting of random crops that methods share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

Share = Annotated[float, Field(gt=0, le=1)]


def _ascending(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] > scale[1]:
        raise ValueError("the first share must not be above the second")
    return scale


Scale = Annotated[tuple[Share, Share], AfterValidator(_ascending)]  # area of a crop, as a share of the image
