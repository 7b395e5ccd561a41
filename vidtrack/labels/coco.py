"""Reading COCO JSON: a data set, an annotation, a run-length mask, or a list of these."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.drawing import Canvas, canvas_size
from vidtrack.labels.masks import MAX_OBJECTS, Masks
from vidtrack.labels.polygons import fill, points_from
from vidtrack.labels.rle import decode


def looks_like_coco(data: Any) -> bool:
    """Whether parsed JSON has the keys of one of the accepted forms."""
    if isinstance(data, list):
        return bool(data) and all(
            isinstance(item, dict) and ("segmentation" in item or "counts" in item) for item in data
        )
    return isinstance(data, dict) and bool({"annotations", "segmentation", "counts"} & data.keys())


def parse_coco(
    data: Any,
    where: str,
    image: int | None = None,
    size: tuple[int, int] | None = None,
    frame: int | None = None,
) -> Masks:
    """Masks from parsed COCO JSON.

    Each annotation is one object, numbered in the order of the file and named by its category; bare
    run-length masks keep their `id`, as `Masks.to_coco` writes them, and annotations their `track_id`, as
    `RleJsonWriter` writes them. Later objects cover earlier ones.

    Args:
        data: see the module.
        where: what the user calls the file, for messages.
        image: id of the image to take from a data set with several.
        size: `(height, width)` to assume where the file has none.
        frame: number of the frame to take, instead of `image`: the image's `frame_index` (`frame_id`) or,
            where the file has neither, its place in the list of images.

    Raises:
        InputError: other JSON, several images, no size, damaged polygons or runs, more than 254 objects.
    """
    if not looks_like_coco(data):
        raise InputError(
            f"{where} is JSON, but neither labelme nor COCO: save the mask in one of these or as PNG."
        )
    annotations = data if isinstance(data, list) else [data]
    names: dict[Any, str] = {}
    info: dict[str, Any] = {}
    if frame is not None:
        image = _image_of_frame(data, where, frame)
    if isinstance(data, dict) and "annotations" in data:
        annotations, info = _of_one_image(data, where, image)
        names = _category_names(data)
    canvas = Canvas(_size(info, annotations, size, where), where)
    kept = _kept_ids(annotations)
    empty, count = 0, Counter[str]()
    for index, item in enumerate(annotations):
        region = _region(item, canvas.size, f"{where}, annotation {index + 1}")
        empty += not region.any()
        name = item.get("name") or names.get(_key(item.get("category_id")))
        object_id = canvas.next_id(index if kept is None else kept[index] - 1, str(name) if name else None)
        canvas.draw(region, object_id)
        if name and kept is None:
            count[str(name)] += 1
            canvas.masks.keys[object_id] = (str(name), str(count[str(name)]))
    if empty:
        canvas.masks.warnings.append(f"{where}: {empty} of {len(annotations)} annotations have no area.")
    return canvas.masks


def images_by_frame(
    data: Any, where: str, names: Mapping[str, int] | None = None, alone: bool = False
) -> dict[int, Any]:
    """Frame number -> id of each image that has annotations, of a data set with several; else nothing.

    The number is the image's `frame_index` (`frame_id`), as `RleJsonWriter` writes it; where no image has
    one, that of the video's picture of the same name; where none has, the last number in its file's name.

    Args:
        data: parsed JSON.
        where: what the user calls the file, for messages.
        names: frame number by the name of a picture, without suffix, of a video that is a folder of pictures.
        alone: a single image counts as well, unless a number in its name is all that it says.

    Raises:
        InputError: images of no frame, or two of one.
    """
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(item, dict) for item in images):
        return {}
    listed = data.get("annotations")
    if not isinstance(listed, list):
        return {}
    wanted = {_key(item.get("image_id")) for item in listed if isinstance(item, dict)}
    labelled = [item for item in images if _key(item.get("id")) in wanted]
    stems = [str(item.get("file_name", "")).rpartition("/")[2].rpartition(".")[0] for item in labelled]
    if len(images) < 2 and not (
        alone and (set(stems) & set(names or {}) or {"frame_index", "frame_id"} & images[0].keys())
    ):
        return {}
    numbers: list[Any] = []
    for key in ("frame_index", "frame_id"):
        if any(key in item for item in labelled):
            numbers = [item.get(key) for item in labelled]
            break
    else:
        numbers = [(names or {}).get(stem) for stem in stems]
        if all(number is None for number in numbers):
            found = [re.search(r"([0-9]{1,9})[^0-9]*$", stem) for stem in stems]
            numbers = [int(match[1]) if match else None for match in found]
    for item, number in zip(labelled, numbers, strict=True):
        if type(number) is not int or number < 0:
            name = str(item.get("file_name") or item.get("id"))
            raise InputError(
                f"{where} has an image {name!r} of no frame: give images a frame_index or names with numbers."
            )
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise InputError(f"{where} has two images of frame {twice}: export it again.")
    return {number: item.get("id") for number, item in zip(numbers, labelled, strict=True)}


def _image_of_frame(data: Any, where: str, frame: int) -> Any:
    """The id of the image that is frame number `frame`."""
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
        raise InputError(f"{where} has no list of images, so frame {frame} can't be found: export it again.")
    for key in ("frame_index", "frame_id"):
        if any(key in item for item in images):
            found = [item for item in images if item.get(key) == frame]
            break
    else:
        found = images[frame : frame + 1] if frame >= 0 else []
    if len(found) != 1:
        count = f"it has {len(found)} of that number" if found else f"it has {len(images)} frames"
        raise InputError(f"{where} has no frame {frame} to take: {count}.")
    return found[0].get("id")


def _of_one_image(
    data: dict[str, Any], where: str, image: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The annotations of the only image, or of the one with id `image`, and what the file says about it."""
    annotations, images = data["annotations"], data.get("images") or []
    for items in (annotations, images):
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(
                f"{where} has images or annotations that aren't lists of objects: export it again."
            )
    ids = {_key(item.get("id")) for item in images} or {_key(item.get("image_id")) for item in annotations}
    if image is not None:
        if _key(image) not in ids:
            raise InputError(f"{where} has no image with id {image}: choose one that it has.")
        images = [item for item in images if _key(item.get("id")) == _key(image)]
    elif len(ids) > 1 or len(images) > 1:
        count = max(len(ids), len(images))
        raise InputError(
            f"{where} has {count} images: export only the annotated frame, with its annotations."
        )
    wanted = _key(image if image is not None else images[0].get("id") if images else None)
    if images or image is not None:
        annotations = [item for item in annotations if _key(item.get("image_id")) in (wanted, _key(None))]
    return annotations, images[0] if images else {}


def _category_names(data: dict[str, Any]) -> dict[Any, str]:
    """Category id -> name, as far as the file has them."""
    categories = data.get("categories")
    items = categories if isinstance(categories, list) else []
    return {_key(c.get("id")): str(c["name"]) for c in items if isinstance(c, dict) and c.get("name")}


def _key(value: Any) -> str:
    """Ids as text: they are usually integers, some tools write text, and damaged files may hold anything."""
    return str(value)


def _size(
    info: dict[str, Any], annotations: list[dict[str, Any]], size: tuple[int, int] | None, where: str
) -> tuple[int, int]:
    """`(height, width)` of the image's entry, else of the first annotation that says it, else `size`."""
    for item in [info, *annotations]:
        rle = item.get("segmentation", item)
        if isinstance(rle, dict) and isinstance(rle.get("size"), list) and len(rle["size"]) == 2:
            return canvas_size(rle["size"][0], rle["size"][1], where)
        if "height" in item and "width" in item:
            return canvas_size(item["height"], item["width"], where)
    if size is None:
        raise InputError(f"{where} doesn't say how large its image is: add an image with height and width.")
    return canvas_size(size[0], size[1], where)


def _kept_ids(annotations: list[dict[str, Any]]) -> list[int] | None:
    """The ids of bare masks, or `track_id`s, if all have one in 1..254 and no two the same; else None."""
    ids = [item.get("track_id") if "segmentation" in item else item.get("id") for item in annotations]
    good = [i for i in ids if type(i) is int and 1 <= i <= MAX_OBJECTS]
    return good if len(good) == len(annotations) == len(set(good)) else None


def _region(item: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    """Mask bool `[H, W]` of one annotation."""
    segmentation = item.get("segmentation", item)
    if isinstance(segmentation, dict):
        counts, own = segmentation.get("counts"), segmentation.get("size")
        if not isinstance(counts, (str, bytes, list)):
            raise InputError(f"{where} has no run lengths: export it again as polygons or RLE.")
        if own is not None and own != list(size):
            raise InputError(f"{where} has the size {own} in an image of {list(size)}: export it again.")
        return decode(counts, size, where)
    if not isinstance(segmentation, list):
        raise InputError(f"{where} has a segmentation that is neither polygons nor RLE: export it again.")
    polygons = [segmentation] if segmentation and not isinstance(segmentation[0], list) else segmentation
    region = np.zeros(size, np.bool_)
    for polygon in polygons:
        points = points_from(polygon)
        if points is None:
            raise InputError(f"{where} has a polygon that can't be read: export it again.")
        region |= fill(points, size)
    return region
