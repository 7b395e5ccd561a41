"""Matroska whose pictures begin after its clock does: it is as long as its pictures are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidtrack.video import VideoReader, probe

from .conftest import encode_video


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.ts"])
@pytest.mark.parametrize("late", [0, 33, 250])
def test_pictures_that_begin_late(tmp_path: Path, name: str, late: int) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = encode_video(tmp_path / name, codec, frames=20, pts=range(late, late + 20))
    info = probe(path)
    if name != "a.ts":  # its length is an estimate
        assert info.frames is not None and abs(info.frames - 20) <= 1
    with VideoReader(path) as reader:
        assert len(list(reader)) == 20
        assert not reader.warnings
