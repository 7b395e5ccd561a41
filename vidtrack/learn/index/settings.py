"""Settings of the index of raw footage."""

from __future__ import annotations

from pydantic import Field

from pretrain.config import Config


class Index(Config):
    """What the index does with raw footage; null turns a part off.

    `cuts`: a video is split where a step between two frames stands so many gray levels (0..255) above those
    around it, see `vidtrack.learn.index.cuts`.
    `static`: a shot is dropped if nothing in it changes by more gray levels than this, see
    `vidtrack.learn.index.signatures.change`.
    `bars`: borders up to this gray level in all frames are cropped, see `vidtrack.learn.index.bars`.
    `duplicates`: a shot is dropped if most of its pictures differ by at most so many of 64 bits from those of
    another in step with them, see `vidtrack.learn.index.duplicates`.
    """

    cuts: float | None = Field(default=6.0, gt=0)
    static: float | None = Field(default=3.0, ge=0)
    bars: int | None = Field(default=24, ge=0, le=128)
    duplicates: int | None = Field(default=6, ge=0, le=20)
