"""Result masks of any tool: one file or one folder per frame becomes ids, and a whole folder is checked.

    MASKS/<sequence>/<frame>.png          ids (palette, gray, or colours of the DAVIS palette), or 0/255
    MASKS/<sequence>/<frame>.npy          ids [H, W], or one map per object [K, H, W]
    MASKS/<sequence>/<id>/<frame>.png     one binary mask per object (SAM 2's `--per_obj_png_file`, SA-V)
    MASKS/<sequence>/<frame>/<id>.png     likewise, objects within frames

`<frame>` is the stem of the frame's file, and leading zeros of `<id>` don't count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from pretrain.limits import open_picture
from vidtrack.benchmark.davis import require_size
from vidtrack.benchmark.task import Task
from vidtrack.labels.palette import PALETTE

Ids = NDArray[np.uint8]

BACKGROUND = 0
WHITE = 255  # the object of binary masks, void in others


@runtime_checkable
class _Checked(Protocol):
    def check(self, folder: Path) -> None:
        """Raise `InputError` if the masks of a scored frame in `folder` can't be used."""


def check_results(task: Task, masks: Path | str) -> None:
    """Check a folder of result masks of any tool, before it is scored: the masks of all scored frames.

    Args:
        task: a benchmark of masks: its items are of `vidtrack.benchmark.mask_items`.
        masks: a folder that has a folder for each sequence.

    Raises:
        InputError: A folder or mask is missing, can't be read, has another size than its frame, or an id
            that is no object of its sequence.
        ValueError: The task is not one of masks.
    """
    masks = Path(masks)
    if not masks.is_dir():
        raise InputError(f"{masks} is not a folder: give the folder that has the masks of each sequence.")
    for item in task.items:
        if not isinstance(item, _Checked):
            raise ValueError(f"{task.benchmark} has no masks to check")
        folder = masks / item.name
        if not folder.is_dir():
            deeper = sorted(path.parent for path in masks.glob(f"*/{item.name}") if path.is_dir())
            hint = f" (there is {deeper[0] / item.name}: give {deeper[0]})" if deeper else ""
            raise InputError(f"{folder} is missing: the masks of each sequence need a folder{hint}.")
        item.check(folder)


def has_result(path: Path) -> bool:
    """Whether there is anything that `read_result` can read for a frame; see there for `path`."""
    return _file(path) is not None or any(True for _ in _per_object(path))


def read_result(
    path: Path | str,
    size: tuple[int, int],
    objects: Collection[int],
    void: int | None = None,
    *,
    binary: bool = False,
    optional: Collection[int] = (),
) -> Ids:
    """Read the masks of one frame.

    Args:
        path: a file, or FOLDER/<stem of the frame> for whatever FOLDER has for this frame, see above.
        size: `(height, width)` of the frame.
        objects: the ids that may occur, 1..255, and that per-object files must have.
        void: a value that counts as background where it isn't the object of a binary mask.
        binary: any value but 0 is the object 1, as in DAVIS-2016.
        optional: objects whose file may be missing where each has one of its own.

    Returns:
        uint8 `[H, W]`: 0 or one of `objects`.
        - A mask of 0 and 255 is the object, if there is only one.
        - Palette files give their indices; colours are looked up in the DAVIS / PASCAL VOC palette where the
          file has no palette, or one that puts black, the background, somewhere else than at 0.
        - Gray values are ids; where these are unknown, they are colours of the palette (128 is that of id 7).
        - `.npy` `[K, H, W]`: the maps of `objects`, ascending, or those of background and `objects`. Floats
          are scores: the largest wins, without a background those above 0.5. Of overlapping masks the
          lowest id wins, as in SAM 2.

    Raises:
        InputError: The mask is missing, can't be read, has another size, an unknown id or an unknown colour.
    """
    path = Path(path)
    known = sorted(set(objects))
    file = path if path.is_file() else _file(path)
    if file is None:
        ids = _read_objects(path, size, known, set(optional), binary)
    elif file.suffix.lower() == ".npy":
        ids = _read_array(file, size, known, binary, void)
    else:
        ids = _read_image(file, size, known, binary, void)
    return ids


def _file(path: Path) -> Path | None:
    for suffix in (".png", ".npy"):
        file = path.with_name(path.name + suffix)  # a stem may have dots of its own
        if file.is_file():
            return file
    return None


def _per_object(path: Path) -> Iterator[tuple[int, Path]]:
    """Id and file of each object that has its own mask of the frame `path`."""
    if path.is_dir():
        for file in path.glob("*.png"):
            if file.stem.isdecimal():
                yield int(file.stem), file
    elif path.parent.is_dir():
        for folder in path.parent.iterdir():
            file = folder / f"{path.name}.png"
            if folder.name.isdecimal() and file.is_file():
                yield int(folder.name), file


def _read_objects(
    path: Path, size: tuple[int, int], known: list[int], optional: set[int], binary: bool
) -> Ids:
    files: dict[int, Path] = {}
    for id_, file in _per_object(path):
        if id_ in files:
            raise InputError(f"{files[id_]} and {file} are both of object {id_}: remove one.")
        files[id_] = file
    if not files:
        raise InputError(f"{path}.png is missing: each scored frame needs a mask.")
    if binary and len(files) == 1:
        files = {1: next(iter(files.values()))}
    for id_, file in files.items():
        if id_ not in known:
            raise _unknown(file, id_, known)
    for id_ in known:
        if id_ not in files and id_ not in optional:
            example = next(iter(files.values()))
            raise InputError(f"{path} has no mask of object {id_}, only of others, such as {example}.")
    ids = np.zeros(size, np.uint8)
    for id_, file in sorted(files.items(), reverse=True):
        values = _open(file)[0]
        require_size(file, _size(values), size)
        ids[(values if values.ndim == 2 else values.any(-1)) != 0] = id_
    return ids


def _read_array(path: Path, size: tuple[int, int], known: list[int], binary: bool, void: int | None) -> Ids:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: its header may say anything
    except Exception as error:  # numpy raises many kinds of errors for damaged headers
        raise InputError(f"{path} can't be read as an array: write it again with numpy.save.") from error
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3) or values.dtype.kind not in "buif":
        raise InputError(f"{path} has no masks: save ids [H, W] or one map per object [K, H, W].")
    require_size(path, (values.shape[-2], values.shape[-1]), size)
    if values.ndim == 2:
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 255:
            raise InputError(f"{path} has values that are no ids: save whole numbers 0..254.")
        bits = values.dtype == bool
        return _as_ids(path, [values.astype(np.uint8)], known, binary, void, bits)
    channels = [BACKGROUND, *known] if len(values) == len(known) + 1 else known
    if len(values) != len(channels):
        raise InputError(f"{path} has {len(values)} maps, but its sequence has {len(known)} objects.")
    if values.dtype.kind != "f":
        values = values != 0
    elif not np.isfinite(values).all():
        raise InputError(f"{path} has values that are not finite.")
    elif len(values) == len(known):
        if values.min() < 0 or values.max() > 1:
            raise InputError(f"{path} has scores without a background outside 0..1: save masks instead.")
        values = np.concatenate([np.full((1, *size), 0.5, values.dtype), values])
        channels = [BACKGROUND, *known]
    if values.dtype == bool and channels[0] == BACKGROUND:
        values, channels = values[1:], channels[1:]  # whatever the background says, masks win
    if values.dtype == bool:
        values = np.concatenate([~values.any(0, keepdims=True), values])
        channels = [BACKGROUND, *channels]
    return np.array(channels, np.uint8)[values.argmax(0)]


def _read_image(path: Path, size: tuple[int, int], known: list[int], binary: bool, void: int | None) -> Ids:
    values, mode, palette = _open(path)
    require_size(path, _size(values), size)
    if binary and mode != "P":
        return ((values if values.ndim == 2 else values.any(-1)) != 0).astype(np.uint8)
    meanings: list[Ids] = []
    if mode == "P":
        used = _used(values)
        colors = palette[used[used < len(palette)]]
        moved = len(palette) > 0 and palette[0].any() and not colors.any(axis=1).all()
        if not moved:
            meanings.append(values)
        if moved and used.max() < len(palette):
            named = _palette_ids(palette[used])
            if named is None:
                raise InputError(f"{path} has its own palette: save ids as indices, with black at 0.")
            table = np.zeros(256, np.uint8)
            table[used] = named
            meanings.append(table[values])
    elif values.ndim == 2:
        meanings += [values, *_gray_colors(values)]
    elif (values == values[..., :1]).all():
        meanings += [values[..., 0], *_gray_colors(values[..., 0])]
    else:
        colors, where = np.unique(values.reshape(-1, 3), axis=0, return_inverse=True)
        named = _palette_ids(colors)
        if named is None:
            raise InputError(f"{path} has colours that are not of the DAVIS palette: save ids as indices.")
        meanings.append(named[where.reshape(size)])
    return _as_ids(path, meanings, known, binary, void, mode == "1")


def _open(path: Path) -> tuple[NDArray[np.uint8], str, NDArray[np.uint8]]:
    """Values `[H, W]` or `[H, W, 3]` of an image without its alpha, its mode, and its palette `[N, 3]`."""
    try:
        with open_picture(path, path) as image:
            mode, values = image.mode, np.asarray(image)
            palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    except InputError:
        raise
    except Exception as error:  # broken pictures make Pillow raise nearly anything
        raise InputError(f"{path} can't be read as a mask: {error}") from error
    if mode not in ("P", "L", "1", "LA", "RGB", "RGBA"):
        raise InputError(f"{path} has pixels of type {mode}: save it as a palette or 8-bit gray PNG.")
    if values.ndim == 3:
        values = values[..., 0] if mode == "LA" else values[..., :3]
    return values.astype(np.uint8), mode, palette


def _gray_colors(values: Ids) -> list[Ids]:
    """What gray values mean as colours of the palette, if all of them are."""
    used = _used(values)
    named = _palette_ids(np.repeat(used[:, None], 3, axis=1).astype(np.uint8))
    if named is None:
        return []
    table = np.zeros(256, np.uint8)
    table[used] = named
    return [table[values]]


def _palette_ids(colors: NDArray[np.uint8]) -> Ids | None:
    """The ids `[N]` of colours `[N, 3]` in the DAVIS palette; None if one isn't there."""
    colors = np.where(colors == 191, np.uint8(192), colors)  # the files of DAVIS have 191 for 192
    same = (colors[:, None] == PALETTE[None]).all(-1)  # [N, 256]
    return same.argmax(1).astype(np.uint8) if same.any(1).all() else None


def _as_ids(
    path: Path, meanings: list[Ids], known: list[int], binary: bool, void: int | None, bits: bool
) -> Ids:
    """The first meaning of a mask's values whose ids are all known."""
    first: Ids | None = None
    for ids in meanings:
        if binary:
            return (ids != BACKGROUND).astype(np.uint8)
        present = set(_used(ids).tolist()) - {BACKGROUND}
        if len(known) == 1 and WHITE not in known and (present == {WHITE} or (bits and present == {1})):
            return np.where(ids != BACKGROUND, np.uint8(known[0]), np.uint8(BACKGROUND))
        if void is not None and void not in known and void in present:
            ids, present = np.where(ids == void, np.uint8(BACKGROUND), ids), present - {void}
        if present <= set(known):
            return ids
        first = ids if first is None else first
    if first is None:
        raise InputError(f"{path} has indices that its palette doesn't have: save it again.")
    unknown = np.setdiff1d(np.unique(first), [BACKGROUND, *known])
    raise _unknown(path, int(unknown[0]), known)


def _unknown(path: Path, id_: int, known: list[int]) -> InputError:
    objects = ", ".join(map(str, known))
    return InputError(f"{path} has the id {id_}, but the objects of its sequence are {objects}.")


def _used(values: Ids) -> NDArray[np.intp]:
    """The values that occur, ascending."""
    return np.flatnonzero(np.bincount(values.ravel(), minlength=256))


def _size(values: NDArray[np.uint8]) -> tuple[int, int]:
    return values.shape[0], values.shape[1]
