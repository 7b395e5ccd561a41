"""COCO keypoints JSON: images, annotations with [x, y, v] for each keypoint, a category with their names.

COCO (Lin et al. 2014, arXiv 1405.0312) calls its keypoints 0-indexed pixel positions, as ours are: they are
read and written as they are, without half a pixel. v is 0 for a point that isn't labelled, 1 for an occluded
and 2 for a visible one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.files import atomic_file
from vidtrack.labels.keypoints import Keypoints, same_layout
from vidtrack.labels.pointtable import PointTable
from vidtrack.labels.textfiles import LARGEST, frames_of_pictures, number_in_name


def parse_coco_keypoints(
    data: Any, where: str, pictures: Mapping[str, int] | None = None, size: tuple[int, int] | None = None
) -> dict[int, Keypoints]:
    """Keypoints from parsed COCO JSON.

    Frame numbers: `frame_index` (`frame_id`) of the images where all have one, as `write_coco` does. Else
    those of the video's pictures of the same names; where none has, the last number in the file name, or the
    place in the order of these numbers if the file lists as many images as the video has pictures. In the
    order of their ids, from 0, where a name has no number or two have the same. Images without keypoints
    are not in the result. Instances: `instance` of the annotations, else `track_id` (also among CVAT's
    `attributes`), else counted in each image. Confidence: `scores`, one for each keypoint, else `score`,
    else 1.

    Args:
        data: an object with `images`, `annotations` and `categories`.
        where: what the user calls the file, for messages.
        pictures: frame number by the name of each picture, without suffix, of a video that is a folder.
        size: `(height, width)` of the video, where images must have it if they say their own.

    Raises:
        InputError: other JSON, no keypoints, several kinds of keypoints, damaged entries, images of another
            size.
    """
    if not isinstance(data, dict) or not {"images", "annotations"} <= data.keys():
        raise InputError(f"{where} has no images and annotations: export it as COCO keypoints JSON.")
    images, annotations = _objects(data, "images", where), _objects(data, "annotations", where)
    annotations = [item for item in annotations if "keypoints" in item]
    if not annotations:
        raise InputError(f"{where} has no annotation with keypoints: export it as COCO keypoints JSON.")
    names, skeleton = _category(data, annotations, where)
    labelled = {str(item.get("image_id")) for item in annotations}
    frames = _frame_numbers(images, labelled, where, pictures or {})
    if size is not None:
        _require_size(images, labelled, size, where)
    table = PointTable(where)
    for name in names:
        table.add_name(name)
    counted: dict[int, int] = {}
    named = all(_instance(item) is not None for item in annotations)
    for place, item in enumerate(annotations, 1):
        here = f"{where}, keypoint annotation {place}"
        frame_number = frames.get(str(item.get("image_id")))
        if frame_number is None:
            raise InputError(f"{here} belongs to an image that isn't in the file: export it again.")
        counted[frame_number] = counted.get(frame_number, -1) + 1
        instance = _instance(item) if named else str(counted[frame_number])
        values, scores = _points(item, len(names), here), _scores(item, len(names), here)
        for name, (x, y, v), score in zip(names, values, scores, strict=True):
            point = (x, y) if v else (math.nan, math.nan)
            sure = 1.0 if score is None else score
            if not v and "scores" not in item:
                sure = 0.0  # the score of the instance says nothing about a point that it doesn't have
            table.add(frame_number, str(instance), name, point, v == 2, sure, here)
    return table.result(skeleton)


def write_coco(
    path: Path | str,
    frames: Iterable[tuple[int, str, Keypoints]],
    size: tuple[int, int],
    *,
    overwrite: bool = False,
) -> None:
    """Write the keypoints of a video as COCO JSON, atomically; `Keypoints.load` gives the same back.

    One annotation for each instance and frame; where all its points are lost it has `num_keypoints` 0, which
    COCO's evaluation ignores. `bbox` is the tight box round the points, in their coordinates; `score` is the
    mean confidence of the points that have a place, `scores` has that of each point.
    Beyond COCO: `frame_index` of images; `instance`, `track_id` (from 1) and `scores` of annotations.

    Args:
        path: of the file.
        frames: frame number, name and keypoints, all with the same names and instances; the name becomes
            `file_name`.
        size: `(height, width)` of the frames.
        overwrite: replace a file that exists.

    Raises:
        InputError: `path` exists and `overwrite` is False, or it can't be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category: dict[str, Any] = {}
    for index, name, keypoints in same_layout(frames):
        image = len(images) + 1
        images.append(
            {"id": image, "file_name": name, "height": size[0], "width": size[1], "frame_index": index}
        )
        for i in range(len(keypoints.instances)):
            head = {"id": len(annotations) + 1, "image_id": image, "category_id": 1}
            annotations.append({**head, **_annotation(keypoints, i)})
        category = category or {
            "id": 1,
            "name": "object",
            "supercategory": "object",
            "keypoints": list(keypoints.names),
            "skeleton": [[a + 1, b + 1] for a, b in keypoints.skeleton],
        }
    data = {"images": images, "annotations": annotations, "categories": [category]}
    with atomic_file(path, overwrite) as partial:
        partial.write_text(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _annotation(keypoints: Keypoints, i: int) -> dict[str, Any]:
    """What COCO's annotation says about instance `i`."""
    labelled = keypoints.labelled[i]
    v = np.where(labelled, np.where(keypoints.visible[i], 2, 1), 0)
    points = keypoints.xy[i]
    flat = [
        value
        for (x, y), flag in zip(points, v.tolist(), strict=True)
        for value in ((_decimal(x), _decimal(y), flag) if flag else (0, 0, 0))
    ]
    box, score = [0.0, 0.0, 0.0, 0.0], 0.0
    if labelled.any():
        low, high = points[labelled].min(axis=0), points[labelled].max(axis=0)
        box = [_decimal(value) for value in (*low, *(high - low))]
        score = _decimal(keypoints.confidence[i][labelled].mean())
    return {
        "keypoints": flat,
        "num_keypoints": int(labelled.sum()),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "score": score,
        "scores": [_decimal(value) for value in keypoints.confidence[i]],
        "track_id": i + 1,
        "instance": keypoints.instances[i],
    }


def _decimal(value: np.floating) -> float:
    """The float whose shortest digits are those of the float32: 0.1, not 0.10000000149."""
    return float(str(value))


def _objects(data: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """The list of objects under `key`."""
    items = data[key]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where} has {key} that aren't a list of objects: export it again.")
    return items


def _category(
    data: dict[str, Any], annotations: list[dict[str, Any]], where: str
) -> tuple[list[str], tuple[tuple[int, int], ...]]:
    """Names of the keypoints and the skeleton, from 0, of the category that the annotations belong to."""
    used = {str(item.get("category_id")) for item in annotations}
    items = data.get("categories")
    known = [
        item
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, dict) and isinstance(item.get("keypoints"), list)
    ]
    known = [item for item in known if str(item.get("id")) in used]
    if any(item["keypoints"] != known[0]["keypoints"] for item in known[1:]):
        raise InputError(f"{where} has several kinds of keypoints: export the annotations of one category.")
    if not known:  # some tools leave the names out
        length = len(annotations[0]["keypoints"]) // 3 if isinstance(annotations[0]["keypoints"], list) else 0
        return [f"point{i}" for i in range(length)], ()
    names = [str(name) for name in known[0]["keypoints"]]
    if len(set(names)) != len(names):
        raise InputError(f"{where} has two keypoints of the same name: rename one.")
    pairs = known[0].get("skeleton") or []
    ends = range(1, len(names) + 1)
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(type(end) is int and end in ends for end in p)
        for p in pairs
    ):
        raise InputError(f"{where} has a skeleton that isn't pairs of keypoint numbers from 1: export again.")
    return names, tuple((a - 1, b - 1) for a, b in pairs)


def _require_size(
    images: list[dict[str, Any]], labelled: Collection[str], size: tuple[int, int], where: str
) -> None:
    for item in images:
        own = (item.get("height"), item.get("width"))
        said = all(type(side) is int and side > 0 for side in own)
        if said and own != size and str(item.get("id")) in labelled:
            raise InputError(
                f"{where} is of images of {own[1]} x {own[0]} pixels, and the video has {size[1]} x "
                f"{size[0]}: label frames of that size."
            )


def _frame_numbers(
    images: list[dict[str, Any]], labelled: Collection[str], where: str, pictures: Mapping[str, int]
) -> dict[str, int]:
    """Image id as text -> frame number, see `parse_coco_keypoints`."""
    ids = [str(item.get("id")) for item in images]
    if len(set(ids)) != len(ids):
        raise InputError(f"{where} has two images of the same id: export it again.")
    for key in ("frame_index", "frame_id"):
        given: list[Any] = [item.get(key) for item in images]
        if all(type(index) is int and 0 <= index < LARGEST for index in given):
            if len(set(given)) != len(given):
                raise InputError(f"{where} has two images of the same {key}: export it again.")
            return dict(zip(ids, given, strict=True))
    names = [str(item.get("file_name", "")) for item in images]
    named = {key: name for key, name in zip(ids, names, strict=True) if key in labelled}
    own = frames_of_pictures(list(named.values()), pictures, where)
    if own is not None:
        if len(set(own)) < len(own):
            raise InputError(f"{where} has two images of the same name: keep one.")
        return dict(zip(named, own, strict=True))
    numbers = [number_in_name(name) for name in names]
    by_id = [(len(key), key) if key.isdecimal() else (math.inf, key) for key in ids]
    nameless = None in numbers or len(set(numbers)) < len(numbers)
    if not nameless and len(images) != len(pictures):
        return {key: number for key, number in zip(ids, numbers, strict=True) if number is not None}
    keys: list[Any] = by_id if nameless else numbers
    order = sorted(range(len(images)), key=lambda place: keys[place])
    return {ids[place]: frame for frame, place in enumerate(order)}


def _instance(item: dict[str, Any]) -> str | None:
    """The name by which an annotation can be told apart in other images, if it has one."""
    attributes = item.get("attributes")
    inner = attributes.get("track_id") if isinstance(attributes, dict) else None
    for value in (item.get("instance"), item.get("track_id"), inner):
        if isinstance(value, (str, int)) and value != "":
            return str(value)
    return None


def _points(item: dict[str, Any], count: int, where: str) -> list[tuple[float, float, int]]:
    """`count` triples x, y, v of an annotation."""
    values = item["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * count:
        length = len(values) if isinstance(values, list) else "no"
        raise InputError(f"{where} has {length} values for {count} keypoints of x, y, v: export it again.")
    if not all(_is_number(value) for value in values) or not set(values[2::3]) <= {0, 1, 2}:
        raise InputError(f"{where} has keypoints that aren't numbers x, y and v 0, 1 or 2: export it again.")
    return [(values[i], values[i + 1], int(values[i + 2])) for i in range(0, len(values), 3)]


def _scores(item: dict[str, Any], count: int, where: str) -> list[float | None]:
    """The confidence of each keypoint, None where the file has none."""
    scores, score = item.get("scores"), item.get("score")
    if scores is None:
        scores = [score] * count
    if not isinstance(scores, list) or len(scores) != count:
        raise InputError(f"{where} has scores, but not one for each keypoint: export it again.")
    if not all(value is None or (_is_number(value) and 0 <= value <= 1) for value in scores):
        raise InputError(f"{where} has a score that isn't a number from 0 to 1: export it again.")
    return scores


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
