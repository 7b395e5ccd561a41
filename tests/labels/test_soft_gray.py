"""Soft edges of gray masks: one object, however wide the brush; and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vidtrack.labels import Masks


def load(tmp_path: Path, values: np.ndarray) -> Masks:
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "mask.png")
    return Masks.load(tmp_path / "mask.png")


@pytest.mark.parametrize("peak", [255, 250, 180])
@pytest.mark.parametrize("blur", [1.0, 2.0, 5.0])
def test_a_wide_soft_brush_in_gray_is_one_object(tmp_path: Path, blur: float, peak: int) -> None:
    picture = np.zeros((120, 160), np.uint8)
    cv2.circle(picture, (70, 60), 40, 255, -1)
    soft = cv2.GaussianBlur(picture, (0, 0), blur).astype(float) * peak / 255
    masks = load(tmp_path, soft.round())
    assert masks.objects == [1] and np.mean(masks.ids != (picture > 127)) < 0.01
    assert len(masks.warnings) == 1 and f"nearer of 0 and {peak}" in masks.warnings[0]


def test_a_thin_part_of_a_soft_brush(tmp_path: Path) -> None:
    picture = np.zeros((160, 240), np.uint8)
    cv2.circle(picture, (60, 60), 45, 255, -1)
    picture[60:62, 100:150] = 255  # a tail
    soft = cv2.GaussianBlur(picture, (0, 0), 2)
    assert soft[60, 130] < 120
    assert load(tmp_path, soft).objects == [1]


def test_thin_objects_are_no_soft_edges(tmp_path: Path) -> None:
    lines = np.zeros((60, 60), np.uint8)
    lines[np.arange(10) * 2] = np.arange(1, 11)[:, None]
    lines[24:30] = 11
    assert load(tmp_path, lines).objects == list(range(1, 12))


def test_many_ids_are_no_soft_edges(tmp_path: Path) -> None:
    rows = np.repeat(np.repeat(np.arange(1, 65).reshape(8, 8), 5, axis=0), 5, axis=1)
    assert len(load(tmp_path, rows).objects) == 64
