"""Small scenes to make videos of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

Scene = Callable[..., list[np.ndarray]]
Film = Callable[..., Path]


def make_scene(
    seed: int, frames: int, speed: float = 1.0, size: tuple[int, int] = (96, 64)
) -> list[np.ndarray]:
    """A view into a soft random landscape that moves right and down; uint8 `[h, w, 3]` each."""
    width, height = size
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 255, (12, 60, 3)).astype(np.uint8)
    land = cv2.resize(grid, (width * 6, height * 2), interpolation=cv2.INTER_CUBIC)
    places = [(int(i * speed / 3), int(i * speed)) for i in range(frames)]
    return [land[y : y + height, x : x + width].copy() for y, x in places]


def write_film(path: Path, pictures: Sequence[np.ndarray], rate: int = 12, **options: str) -> Path:
    """Encode pictures as H.264 (or as the codec in `options`)."""
    codec = options.pop("codec", "libx264")
    with av.open(str(path), "w") as output:
        fast = {"threads": "1"} | ({"preset": "veryfast"} if "264" in codec else {}) | options
        stream = output.add_stream(codec, rate=Fraction(rate), options=fast)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def scene() -> Scene:
    """The function `make_scene`."""
    return make_scene


@pytest.fixture(scope="session")
def film() -> Film:
    """The function `write_film`."""
    return write_film
