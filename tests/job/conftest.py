"""A small clip with two squares that move, and their labels of every kind."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.tracker import Tracker, load
from vidtrack.video import VideoWriter

FRAMES, HEIGHT, WIDTH = 14, 48, 64


def box(t: int) -> tuple[int, int, int, int]:
    return 4 + 2 * t, 8, 20 + 2 * t, 24


def masks(t: int, objects: tuple[int, ...] = (1, 7)) -> Masks:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = box(t)
    if 1 in objects:
        ids[top:bottom, left:right] = 1
    if 7 in objects:
        ids[30:44, 44 - 2 * t : 58 - 2 * t] = 7
    return Masks(ids, names={1: "red"})


def labels(kind: type[Any], t: int, off: int = 0) -> Any:
    """Labels of frame `t`; `off` makes other ones."""
    left, top, right, bottom = box(t)
    if kind is Masks:
        return masks(t + off)
    if kind is Boxes:
        return Boxes.from_xyxy(
            [(left + off + 0.125, top, right + 0.3, bottom), (44.7 - 2 * t, 30, 58 - 2 * t, 44)]
        )
    if kind is Keypoints:
        points = [(left + off + 0.1, top), (right - 1.3, bottom), (float("nan"),) * 2]
        return Keypoints.from_points(points, ["a", "b", "c"], ((0, 1),))
    values = np.where(masks(t).ids == 1, np.float32(3.7 + off), np.float32(-1.2)).astype(np.float32)
    values[:4] = np.nan
    return Maps(np.stack([values, values * 2], axis=-1))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "video.mp4"
    back = np.random.default_rng(0).integers(90, 160, (6, 8, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(12)) as writer:
        for t in range(FRAMES):
            image = back.astype(np.uint8)
            ids = masks(t).ids
            image[ids == 1], image[ids == 7] = (220, 30, 30), (30, 30, 220)
            writer.write(image)
    return path


@pytest.fixture(scope="session")
def lab() -> Tracker:
    return load("lab", device="cpu", size=None)
