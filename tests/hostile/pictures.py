"""Folders of strange frames, and files that are no good masks; see `corpus`."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

Made = tuple[str, Path, str, Literal["video", "mask"], int | None]  # the fields of a case
FLIPS = 4  # copies of each kind of mask file with bits turned over


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of a few bytes that declares a large size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """A picture as the content of a file."""
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def animation(format_: str, frames: int = 3) -> bytes:
    """A film that is a picture file."""
    images = [Image.fromarray(np.full((54, 96), 60 * i, np.uint8)) for i in range(frames)]
    return encoded(images[0], format_, save_all=True, append_images=images[1:], lossless=True)


def folders(folder: Path, clip: list[np.ndarray], seed: int) -> Iterator[Made]:
    """Folders of four frames, the third of them strange."""
    size = (clip[0].shape[1], clip[0].shape[0])
    image = Image.fromarray(clip[2])
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    good: dict[str, tuple[str, bytes]] = {
        "CMYK": ("2.jpg", encoded(image.convert("CMYK"), "JPEG")),
        "16 bit": ("2.png", encoded(deep, "PNG")),
        "palette": ("2.png", encoded(image.quantize(16), "PNG")),
        "alpha": ("2.png", encoded(image.convert("RGBA"), "PNG")),
        "gray": ("2.png", encoded(image.convert("L"), "PNG")),
        "one bit": ("2.png", encoded(image.convert("1"), "PNG")),
        "16 bit tiff": ("2.tif", encoded(deep, "TIFF")),
        "wrong extension": ("2.png", encoded(image, "JPEG")),
        "animated gif": ("2.png", animation("GIF")),
        "animated webp": ("2.webp", animation("WEBP")),
        "animated png": ("2.png", animation("PNG")),
    }
    whole = encoded(image, "PNG")
    broken: dict[str, tuple[str, bytes]] = {
        "no byte": ("2.png", b""),
        "truncated": ("2.png", whole[: len(whole) // 2]),
        "truncated jpeg": ("2.jpg", encoded(image, "JPEG")[:600]),
        "text": ("2.png", b"hello"),
        "postscript": ("2.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 54\nshowpage\n"),
    }
    large: dict[str, tuple[str, bytes]] = {
        "bomb": ("2.png", bomb()),
        "smaller bomb": ("2.png", bomb(10_000, 10_000)),
        "another size": ("2.png", encoded(image.resize((50, 40)), "PNG")),
    }
    for kind, files in (("strange frame", good), ("damaged frame", broken), ("frame of another size", large)):
        for name, (file, content) in files.items():
            path = _frames(folder / f"{kind} {name}", clip)
            (path / file).write_bytes(content)
            yield f"folder with {name}", path, kind, "video", 4 if files is good else None
    path = _frames(folder / "things", clip)
    (path / "2.png").mkdir()
    os.mkfifo(path / "2.jpg")
    (path / "2.bmp").symlink_to(path / "gone.bmp")
    yield "folder with a folder, a pipe and a dead link", path, "directory", "video", 3
    path = folder / "first is a bomb"
    _frames(path, clip)
    (path / "0.png").write_bytes(bomb())
    yield "folder whose first frame is a bomb", path, "huge size", "video", None
    for small in ((1, 1), (2, 3)):
        path = _frames(folder / f"{small}", [np.asarray(Image.fromarray(one).resize(small)) for one in clip])
        Image.new("RGB", small).save(path / "2.png")
        yield f"folder of {small[0]}x{small[1]}", path, "odd size", "video", 4
    path = folder / "latin"
    path.mkdir()
    Image.new("RGB", size).save(path / os.fsdecode(b"caf\xe9.png"))
    yield "folder with a name that is no text", path, "names", "video", None


def _frames(folder: Path, clip: list[np.ndarray]) -> Path:
    """Frames 0, 1 and 3."""
    folder.mkdir()
    for number in (0, 1, 3):
        Image.fromarray(clip[number]).save(folder / f"{number}.png")
    return folder


def masks(folder: Path, clip: list[np.ndarray], seed: int) -> Iterator[Made]:
    """Files that are given as a mask; none of them is one."""
    image, array = _mask(clip)
    header = array.getvalue().replace(b"(54, 96)", b"(99999, 99999)")
    files: dict[str, tuple[str, bytes]] = {
        "bomb": ("huge size", bomb()),
        "smaller bomb": ("huge size", bomb(10_000, 10_000)),
        "gif bomb": ("huge size", b"GIF89a" + b"\xff" * 4 + encoded(image, "GIF")[10:]),
        "array bomb": ("huge size", header),
        "animated gif": ("animation", animation("GIF")),
        "animated webp": ("animation", animation("WEBP")),
        "animated png": ("animation", animation("PNG")),
        "many frames": ("animation", animation("GIF", 2) + animation("GIF", 2)[-200:] * 5000),
        "no byte": ("zero length", b""),
        "cmyk": ("wrong format", encoded(Image.fromarray(clip[0]).convert("CMYK"), "JPEG")),
    }
    for name, (kind, content) in files.items():
        path = folder / f"{name}.png"
        path.write_bytes(content)
        yield f"mask {name}", path, kind, "mask", None
    path = folder / "pipe.png"
    os.mkfifo(path)
    yield "mask that is a pipe", path, "named pipe", "mask", None
    path = folder / "folder.png"
    path.mkdir()
    yield "mask that is a folder", path, "directory", "mask", None
    yield "mask whose name is too long", folder / f"{'long' * 2000}.png", "names", "mask", None


def damaged_masks(folder: Path, clip: list[np.ndarray], seed: int) -> Iterator[Made]:
    """Masks with bits turned over, half of them cut off too."""
    image, array = _mask(clip)
    rng = np.random.default_rng(seed)
    encoders: dict[str, Callable[[], bytes]] = {
        "png": lambda: encoded(image, "PNG"),
        "gif": lambda: encoded(image, "GIF"),
        "tif": lambda: encoded(image, "TIFF"),
        "bmp": lambda: encoded(image, "BMP"),
        "webp": lambda: encoded(image, "WEBP", lossless=True),
        "npy": array.getvalue,
    }
    for name, encode in encoders.items():
        data = encode()
        for number in range(FLIPS):
            damaged = bytearray(data[: int(rng.integers(1, len(data)))] if number % 2 else data)
            for place in rng.integers(0, len(damaged), 4):
                damaged[place] ^= 1 << int(rng.integers(8))
            path = folder / f"{number}.{name}"
            path.write_bytes(damaged)
            yield f"mask {name} damaged {number}", path, "damaged mask", "mask", None


def _mask(clip: list[np.ndarray]) -> tuple[Image.Image, io.BytesIO]:
    """A good mask, and its `.npy` file."""
    ids = np.zeros(clip[0].shape[:2], np.uint8)
    ids[10:40, 20:70] = 1
    array = io.BytesIO()
    np.save(array, ids)
    return Image.fromarray(ids), array
