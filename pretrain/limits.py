"""How large a picture may be: one that declares more pixels is refused before memory is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from pretrain.errors import InputError

MAX_PIXELS = 2**26  # 8192 x 8192; as RGB 200 MB
# What pictures may be. Pillow would look for more, and start other programs to read some of them (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")

_allowed = MAX_PIXELS


class TooLarge(InputError):
    """A picture or video declares more pixels than are allowed."""


def max_pixels() -> int:
    """Width times height that pictures and the frames of videos may have at most."""
    return _allowed


def set_max_pixels(number: int) -> None:
    """Allow pictures of so many pixels in this process, instead of `MAX_PIXELS`.

    Pillow's own limit is replaced by this one.

    Raises:
        InputError: not above 0.
    """
    global _allowed
    if number < 1:
        raise InputError(f"--max-pixels {number}: give a number above 0.")
    _allowed = number
    Image.MAX_IMAGE_PIXELS = None


def require_pixels(width: int, height: int, what: object) -> None:
    """Raise `TooLarge` if a picture of this size is more than is allowed; `what` names it."""
    if width * height > _allowed:
        raise TooLarge(
            f"{what} has {width} x {height} pixels, more than the {_allowed} that are allowed: make it "
            "smaller, or raise --max-pixels."
        )


def open_picture(source: Path | BinaryIO, what: object, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """A picture of which only the header was read, not larger than is allowed; the caller closes it.

    Args:
        source: a file, or its content.
        what: names it in errors.
        formats: what it may be, in Pillow's words.

    Raises:
        TooLarge: it declares too many pixels.
        Exception: whatever Pillow raises for what it can't read.
    """
    Image.init()
    try:
        # Builds of Pillow differ in the formats that they have, and one that is missing would be a KeyError.
        picture = Image.open(source, formats=[name for name in formats if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise TooLarge(
            f"{what} has more than the {_allowed} pixels that are allowed: make it smaller, or raise "
            "--max-pixels."
        ) from error
    try:
        require_pixels(picture.width, picture.height, what)
    except TooLarge:
        picture.close()
        raise
    return picture
