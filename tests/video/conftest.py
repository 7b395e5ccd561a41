"""Tiny videos made on the spot: frame `i` is a flat gray of level `20 + 5 * i`, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

Encode = Callable[..., Path]


def gray(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Picture number `index`, uint8 `[H, W, 3]`."""
    return np.full((height, width, 3), 20 + 5 * index, np.uint8)


def encode_video(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    frames: int | Sequence[np.ndarray] = 20,
    rate: Fraction = Fraction(25),
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    title: str | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Encode `frames` (a number, or RGB pictures) with PyAV alone."""
    pictures = [gray(i) for i in range(frames)] if isinstance(frames, int) else frames
    fast = {"threads": "1"}  # tiny pictures: starting threads takes longer than encoding
    if "vpx" in codec:
        fast |= {"cpu-used": "8", "deadline": "realtime"}
    if "264" in codec:
        fast |= {"preset": "veryfast"}
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=fast | (options or {}))
        if title is not None:
            output.metadata["title"] = title
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts = i if pts is None else pts[i]
            if time_base is not None:
                frame.time_base = time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def doubtful_video(path: Path) -> Path:
    """40 pictures in groups of ten: 13 and 28 are damaged, so that 14 to 19 and 29 may show it."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 6, 8, 3), np.uint8)
    groups = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0"}  # key frames are 0, 10, 20, 30
    encode_video(path, frames=list(noise.repeat(16, axis=1).repeat(16, axis=2)), options=groups)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number, parts in ((13, 3), (28, 2)):
        place, size = packets[number]
        spoilt = slice(place + size // parts, place + size)
        data[spoilt] = bytes(255 - byte for byte in data[spoilt])
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def encode() -> Encode:
    """The function `encode_video`."""
    return encode_video


@pytest.fixture(scope="session")
def textured() -> list[np.ndarray]:
    """40 noisy pictures `[48, 64, 3]`: their packets are large enough to be damaged one by one."""
    noise = np.random.default_rng(0).integers(0, 80, (40, 48, 64, 3))
    return [(gray(0) + 3 * i + picture).astype(np.uint8) for i, picture in enumerate(noise)]


@pytest.fixture(scope="session")
def level() -> Callable[[np.ndarray], int]:
    """The index of which a gray picture is the picture."""
    return lambda image: round((float(image.mean()) - 20) / 5)
