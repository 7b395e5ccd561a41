"""Mask files by content: images of all kinds, arrays of numpy, labelme and COCO JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from pretrain.limits import TooLarge, open_picture, require_pixels
from vidtrack.labels.masks import MAX_OBJECTS, Masks
from vidtrack.labels.npz import open_npz
from vidtrack.labels.values import masks_from_values

# PIL looks at the content and tries only these: lossless formats, and the lossy ones to name them.
_FORMATS = ("PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG", "AVIF")
_ARRAYS = ("masks", "mask", "segmentation")  # names in archives
_SOLID = 250  # alpha from which on a pixel is opaque, for all that programs round
_PAINTED = 0.5  # share of pixels in the middle of a flat colour below which a picture is a photo
_NEARLY_BLACK = [
    (red, 0, blue) for red in range(1, 17) for blue in range(17)
]  # more than objects: one is free
_LOSSY = {"JPEG": "a JPEG", "MPO": "a JPEG", "AVIF": "an AVIF image"}


def read_mask(path: Path, void: int | None, size: tuple[int, int] | None) -> Masks:
    """Masks of a file at the file's own size, not yet checked for objects; arguments as in `Masks.load`.

    Raises:
        InputError: the file can't be read as a mask.
    """
    head = _head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        values, warnings = _array(path, head.startswith(b"PK"))
        result = masks_from_values(values, str(path), void)
        result.warnings = warnings + result.warnings
        return result
    if head.startswith((b"{", b"[")):
        data = read_json(path)
        if isinstance(data, dict) and "shapes" in data:
            from vidtrack.labels.labelme import parse_labelme

            return parse_labelme(data, str(path), size)
        from vidtrack.labels.coco import parse_coco

        return parse_coco(data, str(path), size=size)
    return _masks_from_image(path, void)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: no such file, or not JSON.
    """
    _head(path)
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} looks like JSON but can't be read: export it again.") from error


def _head(path: Path) -> bytes:
    """The first bytes of a file: a video given by mistake must not be read whole."""
    if not os.path.exists(path):  # a Path raises for names that are too long
        raise InputError(f"{path} doesn't exist: give the path of a mask (PNG, labelme or COCO JSON, .npy).")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of one mask file.")
    if not path.is_file():  # reading a pipe would wait, perhaps for ever
        raise InputError(f"{path} is a pipe or a device: give the path of one mask file.")
    try:
        with path.open("rb") as stream:
            return stream.read(256)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): choose another file.") from error


def _array(path: Path, archive: bool) -> tuple[np.ndarray, list[str]]:
    """Integers or bool `[H, W]` of a `.npy` file or of an archive of such arrays, and warnings.

    Of bool `[N, H, W]`, which Segment Anything gives, each is an object; later ones cover earlier ones.
    """
    try:
        if archive:
            with open_npz(path) as content:
                names = [name for name in _ARRAYS if name in content.files] or content.files
                values = content[names[0]] if len(names) == 1 else None
        else:
            names = []
            values = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: its header may say anything
    except InputError:
        raise
    except Exception as error:  # numpy raises many kinds of errors for damaged headers
        kind, save = (".npz", "savez") if archive else (".npy", "save")
        raise InputError(f"{path} is a damaged {kind} file: save it again with numpy.{save}.") from error
    if values is None:
        listed = ", ".join(names) or "none"
        raise InputError(f"{path} holds the arrays {listed}: name the one with the masks {_ARRAYS[0]}.")
    stacked = values.ndim == 3 and values.dtype.kind == "b"
    if (values.ndim != 2 and not stacked) or not values.size or values.dtype.kind not in "biu":
        raise InputError(
            f"{path} holds {values.dtype} {list(values.shape)}: save integer ids [height, width], or bool "
            "[objects, height, width]."
        )
    require_pixels(values.shape[-1], values.shape[-2], path)
    if not stacked:
        return np.array(values), []
    if len(values) > MAX_OBJECTS:
        raise InputError(f"{path} has {len(values)} objects, but at most 254 fit: merge some.")
    ids = np.zeros(values.shape[1:], np.uint8)
    for number, region in enumerate(values, 1):
        ids[region] = number
    several = int((np.count_nonzero(values, axis=0) > 1).sum())
    warnings = [
        f"{path}: {several} pixels are of several of its {len(values)} objects, and went to the last: "
        "of masks that are alternatives for one object, save the best alone."
    ]
    return ids, warnings if several else []


def _masks_from_image(path: Path, void: int | None) -> Masks:
    """Masks of an image; PIL's mode decides how its pixels are read."""
    image, warnings = _image(path)
    where = str(path)
    image = _without_transparent(image, void)
    if image.mode == "P":
        result = _from_palette(image, where, void)
    elif image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        result = masks_from_values(_integers(np.asarray(image), where), where, void)
    elif image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        result = _from_alpha(np.asarray(image.convert("RGBA")), where, void)
    else:
        result = _colors(np.asarray(image.convert("RGB")), where, void)
    result.warnings = warnings + result.warnings
    return result


def _image(path: Path) -> tuple[Any, list[str]]:
    """A decoded PIL image, upright, and warnings about it."""
    from PIL import ImageOps, UnidentifiedImageError

    try:
        image = open_picture(path, path, _FORMATS)
    except TooLarge:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is neither an image nor JSON that holds a mask: save the mask as PNG."
        ) from error
    except Exception as error:  # PIL raises a dozen kinds of errors for damaged files
        raise InputError(f"{path} can't be read as an image ({error}): save the mask as PNG.") from error
    with image:
        lossy = _LOSSY.get(image.format or "") or _lossy_inside(path, image)
        if lossy:
            raise InputError(f"{path} is {lossy}, whose compression destroys ids: save the mask as PNG.")
        warnings = []
        try:
            if getattr(image, "is_animated", False):
                if image.format != "TIFF":
                    raise InputError(f"{path} is an animation: save the mask of one frame as PNG.")
                warnings.append(f"{path} has several pages, and the first was used.")
            image.load()
            return ImageOps.exif_transpose(image), warnings
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{path} is damaged ({error}): save the mask again as PNG.") from error


def _lossy_inside(path: Path, image: Any) -> str | None:
    """WebP and TIFF are lossless or not, file by file."""
    if image.format == "TIFF" and "jpeg" in str(image.info.get("compression", "")):
        return "a TIFF compressed as JPEG"
    if image.format != "WEBP":
        return None
    data = path.read_bytes()
    position = 12  # after RIFF, size, WEBP: a list of chunks (name, length, content padded to even)
    while position + 8 <= len(data):
        if data[position : position + 4] == b"VP8 ":  # VP8L is the lossless one
            return "a lossy WebP image"
        position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        position += position % 2
    return None


def _without_transparent(image: Any, void: int | None) -> Any:
    """A picture without alpha, in which values that it calls transparent are background.

    Ids stay ids. With alpha come pictures in which colours count: of mode RGB; those whose background has
    another palette entry than 0; and those in which, beside what is transparent, only 0 is used.
    """
    from PIL import Image

    value = image.info.get("transparency")
    if value is None or image.mode not in ("P", "L", "RGB"):
        return image
    pixels = np.asarray(image)
    if image.mode == "RGB":
        return image.convert("RGBA") if (pixels == value).all(axis=2).any() else image
    alpha = np.full(256, 255)
    if isinstance(value, bytes):  # of the first entries of a palette
        alpha[: len(value)] = list(value[:256])
    elif value < 256:
        alpha[value] = 0
    used = {int(number) for number in np.unique(pixels)}
    through = {number for number in used if alpha[number] == 0 and number != void}
    if not through:
        return image
    colored = image.mode == "P" and any((image.getpalette("RGB") or [0])[:3])
    left = used - through
    if left == {0} or (colored and (0 in left or _colors_count(image))):
        return image.convert("RGBA")
    made = Image.fromarray(np.where(np.isin(pixels, list(through)), np.uint8(0), pixels))
    if image.mode == "P":
        made.putpalette(image.getpalette("RGB"))
    return made


def _integers(values: np.ndarray, where: str) -> np.ndarray:
    """Whole numbers as they are; floats if they are whole."""
    if values.dtype.kind != "f":
        return values
    whole = np.isfinite(values).all() and (values == np.rint(values)).all() and (np.abs(values) < 2**31).all()
    if not whole:
        raise InputError(f"{where} holds fractions: save whole ids 1 to 254, or 0 and 255.")
    return values.astype(np.int64)


def _from_palette(image: Any, where: str, void: int | None) -> Masks:
    """Indices are ids, unless `_colors_count`."""
    if _colors_count(image):
        return _colors(np.asarray(image.convert("RGB")), where, void)
    return masks_from_values(np.asarray(image), where, void)


def _colors_count(image: Any) -> bool:
    """Whether black, the background, is used in a picture with a palette, but isn't its index 0."""
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    colors = palette[used[used < len(palette)]]
    return bool(len(palette) and palette[0].any() and not colors.any(axis=1).all())


def _from_alpha(rgba: np.ndarray, where: str, void: int | None) -> Masks:
    """Alpha above half of the highest is opaque; the same alpha everywhere is ignored, unless it is 0.

    A single colour, or a photo (cut out of its background), under the opaque pixels: they are object 1.
    Otherwise the colours under them are the objects; black, too, if less of the picture is black than
    transparent.
    """
    from vidtrack.labels.colors import codes
    from vidtrack.labels.neighbours import flat

    rgb, alpha = rgba[..., :3], rgba[..., 3]
    if alpha.min() == alpha.max() > 0:
        return _colors(rgb, where, void)
    highest = int(alpha.max())
    opaque = alpha > highest // 2
    warnings = []
    if 0 < highest < _SOLID:
        warnings = [f"{where} is nowhere opaque, and what has more than half of its highest alpha is taken."]
    painted = codes(rgb)
    distinct = np.unique(painted[opaque])
    if len(distinct) == 1:
        red, green, blue = (int(v) for v in rgb[opaque][0])
        color = {1: (red, green, blue)}
        return Masks(opaque.astype(np.uint8), colors=color, warnings=warnings, keys=dict(color))
    if len(distinct) > MAX_OBJECTS and (share := flat(painted)[opaque].mean()) < _PAINTED:
        warnings.append(
            f"{where} shows a photo, or very soft strokes, where it is opaque ({len(distinct)} colours, "
            f"{share:.0%} of it flat): that is one object; paint several with a harder brush."
        )
        return Masks(opaque.astype(np.uint8), warnings=warnings)
    stand_in = None
    if 0 < np.count_nonzero(opaque & (painted == 0)) < np.count_nonzero(~opaque):
        stand_in = next(color for color in _NEARLY_BLACK if codes(np.array(color)) not in distinct)
        rgb = np.where((painted == 0)[..., None], np.array(stand_in, np.uint8), rgb)
    result = _colors(np.where(opaque[..., None], rgb, np.uint8(0)), where, void)
    for colors in (result.colors, result.keys):
        for number in [i for i, color in colors.items() if color == stand_in]:
            colors[number] = (0, 0, 0)
    result.warnings = warnings + result.warnings
    return result


def _colors(rgb: np.ndarray, where: str, void: int | None) -> Masks:
    from vidtrack.labels.colors import masks_from_colors

    return masks_from_colors(rgb, where, void)
