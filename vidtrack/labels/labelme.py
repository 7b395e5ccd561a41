"""labelme JSON: named shapes on one image."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from pretrain.errors import InputError
from pretrain.limits import TooLarge, open_picture
from vidtrack.labels.drawing import Canvas, canvas_size
from vidtrack.labels.masks import Masks
from vidtrack.labels.polygons import circle, fill, points_from

_BACKGROUND, _IGNORE = "_background_", "__ignore__"  # the names that labelme's own converters treat so
_NOT_AREAS = ("line", "linestrip", "point", "points")


def parse_labelme(data: dict[str, Any], where: str, size: tuple[int, int] | None = None) -> Masks:
    """Masks from parsed labelme JSON.

    Each pair of label and `group_id` is one object, numbered by first appearance; later shapes cover earlier
    ones. `_background_` erases, `__ignore__` is void. Lines and points have no area and are left out with a
    warning.

    Args:
        data: an object with `shapes`, `imageHeight` and `imageWidth`.
        where: what the user calls the file, for messages.
        size: `(height, width)` to assume where the file has none.

    Raises:
        InputError: a shape that can't be drawn, no size, more than 254 objects.
    """
    height, width = data.get("imageHeight"), data.get("imageWidth")
    if height is None and width is None and size is not None:
        height, width = size
    canvas = Canvas(canvas_size(height, width, where), where)
    shapes = data["shapes"]
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(f"{where} has no list of shapes: save it again with labelme.")
    ids: dict[tuple[str, str], int] = {}
    groups: dict[str, set[str]] = {}
    skipped: set[str] = set()
    for number, shape in enumerate(shapes, 1):
        label = str(shape.get("label") or "object")
        if (kind := shape.get("shape_type") or "polygon") in _NOT_AREAS:
            skipped.add(kind)
            continue
        region = _region(shape, kind, canvas.size, f"{where}, shape {number} ({label})")
        if label == _BACKGROUND:
            canvas.draw(region, 0)
        elif label == _IGNORE:
            canvas.draw_void(region)
        else:
            key = (label, repr(shape.get("group_id")))
            if key not in ids:
                ids[key] = canvas.next_id(len(ids), label)
                groups.setdefault(label, set()).add(key[1])
                canvas.masks.keys[ids[key]] = (label, "1" if key[1] == "None" else key[1])
            canvas.draw(region, ids[key])
    for (label, group), object_id in ids.items():
        if len(groups[label]) > 1 and group != "None":
            canvas.masks.names[object_id] = f"{label} {group}"
    if skipped:
        kinds = ", ".join(sorted(skipped))
        canvas.masks.warnings.append(f"{where}: shapes without area were left out: {kinds}.")
    return canvas.masks


def _region(shape: dict[str, Any], kind: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Mask bool `[H, W]` of one shape."""
    points = points_from(shape.get("points"))
    if points is None or (kind in ("rectangle", "circle", "mask") and len(points) != 2):
        raise InputError(f"{where} has points that can't be read: draw the shape again.")
    if kind == "polygon":
        return fill(points, size)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return fill(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), size)
    if kind == "circle":
        return circle(points[0], points[1], size)
    if kind == "mask":
        return _pasted(shape.get("mask"), points, size, where)
    raise InputError(f"{where} has the unknown type {kind!r}: draw it as a polygon.")


def _pasted(encoded: Any, points: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """A bitmap in base64 PNG, its first pixel at the first point; what lies outside the image is cut off."""
    try:
        with open_picture(io.BytesIO(base64.b64decode(encoded)), where, ("PNG",)) as image:
            bitmap = np.asarray(image.convert("L")) > 0
    except TooLarge:
        raise
    except Exception as error:  # PIL raises a dozen kinds of errors for damaged files
        raise InputError(f"{where} has a bitmap that can't be read: draw the shape again.") from error
    region = np.zeros(size, np.bool_)
    x, y = (round(float(v)) for v in points.min(axis=0))
    part = bitmap[max(0, -y) : max(0, size[0] - y), max(0, -x) : max(0, size[1] - x)]
    y, x = max(0, y), max(0, x)
    region[y : y + part.shape[0], x : x + part.shape[1]] = part
    return region
