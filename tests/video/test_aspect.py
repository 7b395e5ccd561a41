"""Pixels that are not square: what is written is stretched as the video is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrack.video import CutoutWriter, VideoWriter, probe

from .conftest import encode_video

WIDE = Fraction(64, 45)


@pytest.mark.parametrize(
    ("told", "rotation", "aspect"),
    [
        (None, 0, Fraction(1)),
        (WIDE, 0, WIDE),
        (WIDE, 90, 1 / WIDE),
        (WIDE, 180, WIDE),
        (Fraction(99), 0, Fraction(1)),
    ],
)
def test_what_a_file_says_of_its_pixels(
    tmp_path: Path, told: Fraction | None, rotation: int, aspect: Fraction
) -> None:
    encode_video(tmp_path / "a.mp4", frames=2, aspect=told, rotation=rotation)
    assert probe(tmp_path / "a.mp4").pixel_aspect == aspect


@pytest.mark.parametrize("aspect", [Fraction(1), WIDE])
def test_what_is_written_says_the_same(tmp_path: Path, aspect: Fraction) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, Fraction(25), pixel_aspect=aspect) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    with CutoutWriter(tmp_path / "a.webm", 64, 48, Fraction(25), pixel_aspect=aspect) as cutout:
        cutout.write(np.zeros((48, 64, 4), np.uint8))
    shapes = []
    for name in ("a.mp4", "a.webm"):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            shapes.append(stream.width * (stream.sample_aspect_ratio or 1) / stream.height)
    assert abs(shapes[0] - 64 * aspect / 48) < 1e-9 and abs(shapes[1] - shapes[0]) < 0.03
