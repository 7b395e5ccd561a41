"""Single pictures: reading any of them as 8-bit RGB, writing PNG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import ImageOps

from pretrain.errors import InputError
from pretrain.limits import TooLarge, open_picture
from vidtrack.files import atomic_file
from vidtrack.video.container import reason

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def read_image(path: Path) -> np.ndarray:
    """Read a picture as uint8 `[H, W, 3]` RGB, upright by its EXIF orientation.

    Gray is repeated, palettes are looked up, alpha is dropped; 16 bits are scaled to 8 (65535 -> 255), and
    floating-point values count as 0..1.

    Raises:
        TooLarge: it declares more pixels than are allowed; nothing was decoded.
        InputError: the file can't be read as a picture.
    """
    try:
        with open_picture(path, path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "F":
                levels = np.nan_to_num(np.asarray(picture)).clip(0, 1) * 255
            elif picture.mode.startswith("I"):  # I;16 and its byte orders; I where 16 bits came as 32
                levels = np.asarray(picture).astype(np.int64).clip(0, 65535) / 257
            else:
                return np.array(picture.convert("RGB"))
        return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=2)
    except TooLarge:
        raise
    except Exception as error:  # broken pictures make Pillow raise nearly anything
        raise InputError(f"{path} can't be read as a picture ({reason(error)}): write it again.") from error


def image_size(path: Path) -> tuple[int, int] | None:
    """`(width, height)` upright, from the header alone; None when that can't be read.

    Raises:
        TooLarge: see `read_image`.
    """
    try:
        with open_picture(path, path) as file:
            turned = file.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation on its side
            return (file.height, file.width) if turned else (file.width, file.height)
    except TooLarge:
        raise
    except Exception:  # see read_image
        return None


def save_png(path: Path | str, image: np.ndarray, overwrite: bool = False) -> None:
    """Write uint8 or uint16 `[H, W]` gray, `[H, W, 3]` RGB or `[H, W, 4]` RGBA as PNG, atomically.

    Raises:
        InputError: `path` is not named .png, exists (without `overwrite`), or can't be written.
        ValueError: the array is no such picture.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} is not named .png: frames are written as PNG only.")
    shape = list(image.shape)
    if (
        image.dtype not in (np.uint8, np.uint16)
        or image.ndim not in (2, 3)
        or shape[2:] not in ([], [3], [4])
    ):
        raise ValueError(f"expected uint8 or uint16 [H, W] or [H, W, 3 or 4], got {image.dtype} {shape}")
    if image.ndim == 3:  # OpenCV wants BGR
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise ValueError(f"PNG can't hold a picture of shape {shape}")
    with atomic_file(path, overwrite) as partial:
        try:
            partial.write_bytes(data.tobytes())
        except OSError as error:
            raise InputError(f"{path} can't be written ({reason(error)}): choose another output.") from error
