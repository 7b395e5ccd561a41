"""What a reader hands out: frames, and what is known of the video before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

DEFAULT_RATE = Fraction(25)  # of folders of frames, and of files that don't tell theirs


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: 0-based number in presentation order.
        time: seconds since the start of the video stream, exact, from the presentation timestamp; strictly
            increasing. In a folder of frames `index / 25`.
        image: uint8 `[H, W, 3]` RGB, upright; the caller owns it and may draw on it.
        damaged: the frame could not be decoded (then `image` repeats the frame before it) or only in part.
        name: five digits of the index (six when needed); in a folder of frames the file's stem.
        captured: of a live source, `time.monotonic()` when the frame had been received; else None.
        doubtful: decoded, but perhaps from a damaged frame before it: no key picture came since.
    """

    index: int
    time: Fraction
    image: np.ndarray
    damaged: bool
    name: str
    captured: float | None = None
    doubtful: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video, folder of frames or live source without reading all of it.

    Attributes:
        path: as given; of a live source see `address`.
        kind: "video" for a file, "folder" for a folder of frames, "live" for a camera or an address.
        width: pixels of the upright picture.
        height: pixels of the upright picture.
        rate: average frames per second, exact; 25 for folders and where it is unknown.
        frames: number of frames: exact for a folder, the container's word for a file, None when unknown
            or live.
        duration: seconds, None when unknown.
        codec: name of the decoder; for a folder the suffix of its first image.
        rotation: degrees counter-clockwise (0, 90, 180, 270) by which frames are turned to be upright.
        has_audio: the file has a stream of sound.
        pixel_aspect: width of a pixel of the upright picture in its heights; 1 where it isn't told.
        address: of a live source, as it is shown: a path would lose one of its slashes.
    """

    path: Path
    kind: Literal["video", "folder", "live"]
    width: int
    height: int
    rate: Fraction
    frames: int | None
    duration: float | None
    codec: str
    rotation: int
    has_audio: bool
    pixel_aspect: Fraction = Fraction(1)
    address: str | None = None

    @property
    def shown(self) -> str:
        """What messages and reports call it."""
        return self.address if self.address is not None else str(self.path)


def frame_name(index: int) -> str:
    """`00007` for frame 7: five digits, more from 100,000 on."""
    return f"{index:05d}"
