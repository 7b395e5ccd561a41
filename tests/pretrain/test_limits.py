"""Pictures that declare too many pixels are refused by their header."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain import limits
from pretrain.errors import InputError
from pretrain.images import read_images
from pretrain.limits import TooLarge, max_pixels, open_picture, require_pixels, set_max_pixels


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limits, "_allowed", limits.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    yield


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_the_limit_itself_is_allowed() -> None:
    require_pixels(8192, 8192, "it")
    with pytest.raises(TooLarge, match=r"^it has 8193 x 8192 pixels, more than the 67108864 that are .*\.$"):
        require_pixels(8193, 8192, "it")
    set_max_pixels(60)
    assert max_pixels() == 60
    assert open_picture(io.BytesIO(png(10, 6)), "it").size == (10, 6)
    with pytest.raises(TooLarge, match="10 x 7"):
        open_picture(io.BytesIO(png(10, 7)), "it")
    with pytest.raises(InputError, match="--max-pixels 0"):
        set_max_pixels(0)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 12_000, 100_000])  # Pillow is silent, warns, or raises
def test_a_bomb_is_refused_and_a_larger_limit_holds(side: int) -> None:
    with pytest.raises(
        TooLarge, match=r"^it has .* pixels.* allowed: make it smaller, or raise --max-pixels\.$"
    ):
        open_picture(io.BytesIO(bomb(side, side)), "it")
    set_max_pixels(side * side)
    assert open_picture(io.BytesIO(bomb(side, side)), "it").size == (side, side)


def test_nothing_but_pictures_is_opened() -> None:
    """Pillow would start Ghostscript for this one."""
    with pytest.raises(Image.UnidentifiedImageError):
        open_picture(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 54\nshowpage\n"), "it")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"a.png": png(9, 9), "b.png": bomb(10_000, 10_000), "c.png": png(30, 30)}.items():
        (tmp_path / name).write_bytes(content)
    found = read_images(tmp_path, 8)
    assert found.names == ("a.png", "c.png")
    assert [name for name, _ in found.skipped] == ["b.png"] and "10000 x 10000" in found.skipped[0][1]
    set_max_pixels(100)
    monkeypatch.setattr("pretrain.images.BATCH_BYTES", 1)  # each file is a batch of its own
    assert read_images(tmp_path, 8).names == ("a.png",)
