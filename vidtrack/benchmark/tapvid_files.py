"""Reading the files of TAP-Vid (Doersch et al. 2022, arXiv 2211.03726) and RoboTAP (2308.15975).

| layout | published as |
|---|---|
| pickle: dict of sequences by name | TAP-Vid-DAVIS (`tapvid_davis.pkl`), RoboTAP (`robotap_split0.pkl` ...) |
| pickle: list of sequences | TAP-Vid-RGB-Stacking, TAP-Vid-Kinetics (`0000_of_0010.pkl` ...) |
| npz: one sequence, named as the file | by others, and easy to make |

Data are one such file, or a folder of them. A sequence has

- `video`: uint8 `[T, H, W, 3]` RGB, or T pictures as JPEG bytes;
- `points` (or `tracks`): `[N, T, 2]`, (x, y) as fractions of the frame: (0, 0) is the upper left corner of
  the upper left pixel, (1, 1) the lower right corner of the lower right one;
- `occluded` bool `[N, T]` (or `visibility`, its opposite).

Everything but the pixels of JPEG pictures is checked when a set is read, before any work is done with it.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain.errors import InputError
from pretrain.limits import open_picture
from vidtrack.benchmark.davis import require_names
from vidtrack.labels.npz import open_npz
from vidtrack.pickles import read_pickle
from vidtrack.video.container import reason
from vidtrack.video.folder import natural_key

Entry = dict[str, Any]

PICKLES, ARCHIVES = (".pkl", ".pickle"), (".npz",)
# Points lie in the frame, but half a frame beside it is still tolerated: an annotator's curve may leave it.
# What is refused are places in pixels.
SLACK = 0.5
_FORMATS = ("JPEG", "PNG")
LARGEST = 1 << 34  # bytes of an archive's arrays: ten minutes at 256 x 256


@dataclass(frozen=True, eq=False)
class PointSequence:
    """One sequence with its tracks: N points, T frames.

    Pickled, it is small: the frames stay in the file, and are read again where they are asked for.

    Attributes:
        name: unique in the set; it can be a folder's.
        file: where it lies.
        key: its key in the dict of the file, or its index in the list; "" in an npz file.
        frames: T.
        size: `(height, width)` in pixels.
        points: float64 `[N, T, 2]`, (x, y) as fractions of the frame, see the top of this file; finite where
            the point is visible.
        occluded: bool `[N, T]`.
        sha256: of frames, points and occlusion, in hexadecimal digits.
    """

    name: str
    file: Path
    key: str | int
    frames: int
    size: tuple[int, int]
    points: NDArray[np.float64]
    occluded: NDArray[np.bool_]
    sha256: str

    def image(self, index: int) -> NDArray[np.uint8]:
        """The picture of a frame, RGB uint8 `[H, W, 3]`.

        Raises:
            InputError: A JPEG picture can't be decoded.
        """
        where = f"{self.file}, sequence {self.name}"
        return _decoded(_entries(self.file)[self.key]["video"][index], where, index, self.size)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """The pictures of all frames, in order; see `image`."""
        where = f"{self.file}, sequence {self.name}"
        for index, picture in enumerate(_entries(self.file)[self.key]["video"]):
            yield _decoded(picture, where, index, self.size)


def read_sequences(data: Path) -> tuple[PointSequence, ...]:
    """Read and check all sequences of a file or folder, in the order of files and entries.

    Sequences of a list are named by their number over all files: 00000, 00001, ...

    Raises:
        InputError: There is nothing to read, a file can't be read, or a sequence is not as described at the
            top of this file; names the file and sequence.
    """
    sequences: dict[str, PointSequence] = {}
    for file in _files(data):
        for key, entry in _entries(file).items():
            name = _name(file, key, len(sequences))
            sequence = _checked(file, key, name, entry)
            if other := sequences.get(name.lower()):
                raise InputError(
                    f"{file} has a sequence named {name}, and so has {other.file}: rename one of them."
                )
            sequences[name.lower()] = sequence
    return tuple(sequences.values())


def _files(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise InputError(f"{data} does not exist: give a TAP-Vid pickle, npz file or a folder of them.")
    visible = [path for path in data.iterdir() if path.is_file() and not path.name.startswith(".")]
    pickles = [path for path in visible if path.suffix.lower() in PICKLES]
    archives = [path for path in visible if path.suffix.lower() in ARCHIVES]
    if not pickles and not archives:
        raise InputError(f"{data} holds no .pkl and no .npz file: give a folder of TAP-Vid files.")
    if pickles and archives:
        raise InputError(
            f"{data} holds both {pickles[0].name} and {archives[0].name}: keep one kind of file."
        )
    files = sorted(pickles or archives, key=lambda path: natural_key(path.name))
    _require_all_shards(data, files)
    return files


def _require_all_shards(data: Path, files: list[Path]) -> None:
    """Raises InputError if of files like `0003_of_0010.pkl` one is missing: the scores would be of a part."""
    names = {file.name for file in files}
    for file in files:
        if parts := re.fullmatch(r"(.*?)(\d+)(_of_)(\d+)(\.\w+)", file.name):
            start, number, of, count, suffix = parts.groups()
            if int(count) > 100_000:  # no count of shards
                continue
            for index in range(int(count)):
                needed = f"{start}{index:0{len(number)}}{of}{count}{suffix}"
                if needed not in names:
                    raise InputError(f"{data / needed} is missing: {file.name} is one of {int(count)} parts.")


def _entries(file: Path) -> dict[str | int, Entry]:
    """The sequences of a file as they are there, by key; the last file that was read stays in memory."""
    try:
        state = file.stat()
    except OSError as error:
        raise InputError(f"{file} can't be read ({reason(error)}): check that it is there.") from error
    return _read(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _read(file: Path, size: int, changed: int) -> dict[str | int, Entry]:
    """See `_entries`; size and time of change make a new file of an old name a new one."""
    if not size:
        raise InputError(f"{file} is empty: get the file again.")
    try:
        with file.open("rb") as stream:
            zipped = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise InputError(f"{file} can't be read ({reason(error)}): check its permissions.") from error
    if zipped:
        return {"": _read_npz(file)}
    content = read_pickle(file)
    if isinstance(content, dict):
        entries = dict(content)
    elif isinstance(content, (list, tuple)):
        entries = dict(enumerate(content))
    else:
        raise InputError(
            f"{file} holds one {type(content).__name__}: a TAP-Vid pickle holds a dict or list of sequences."
        )
    if not entries:
        raise InputError(f"{file} holds no sequence: get the file again.")
    return entries


def _read_npz(file: Path) -> Entry:
    try:
        with open_npz(file, LARGEST) as content:
            wanted = ("video", "points", "tracks", "occluded", "visibility")
            return {key: content[key] for key in wanted if key in content}
    except InputError:
        raise
    except Exception as error:  # broken archives raise nearly anything
        raise InputError(f"{file} can't be read as npz ({reason(error)}): write it again.") from error


def _name(file: Path, key: str | int, number: int) -> str:
    """The name of a sequence; what can't be in the name of a folder becomes `_`."""
    if isinstance(key, int):
        return f"{number:05d}"
    if not isinstance(key, str):
        raise InputError(f"{file} names a sequence {key!r}: its keys must be texts.")
    name = re.sub(r"[^\w.-]", "_", key or file.stem)
    return require_names([name if name.strip(".") else name.replace(".", "_") or "_"], file)[0]


def _checked(file: Path, key: str | int, name: str, entry: Any) -> PointSequence:
    where = f"{file}, sequence {name}"
    if not isinstance(entry, dict):
        raise InputError(
            f"{where} is a {type(entry).__name__}: it must be a dict of video, points, occluded."
        )
    video = _field(where, entry, "video")
    frames, size = _video_size(where, video)
    points = _points(where, _field(where, entry, "points", "tracks"))
    if "occluded" in entry:
        occluded = _flags(where, "occluded", entry["occluded"])
    else:
        occluded = ~_flags(where, "visibility", _field(where, entry, "visibility", instead="occluded"))
    if occluded.shape != points.shape[:2]:
        raise InputError(
            f"{where} has {_shape(points)} points, but {_shape(occluded)} flags of occlusion: each point "
            "needs one in each frame."
        )
    if points.shape[1] != frames:
        raise InputError(f"{where} has {frames} frames, but points of {points.shape[1]}: they must agree.")
    bad = ~occluded & ~((points >= -SLACK) & (points <= 1 + SLACK)).all(-1)  # nan compares False
    if bad.any():
        n, t = np.argwhere(bad)[0]
        x, y = points[n, t]
        raise InputError(
            f"{where} has the visible point {n} at ({x:g}, {y:g}) in frame {t}: x and y must be fractions of "
            "the frame, from 0 to 1."
        )
    digest = hashlib.sha256(f"{_shape(points)} {size}".encode())
    if isinstance(video, np.ndarray) and video.ndim == 4:
        for picture in video:
            digest.update(picture.tobytes())
    else:
        for picture in video:
            digest.update(f"{len(picture)}:".encode() + bytes(picture))
    digest.update(points.tobytes() + occluded.tobytes())
    return PointSequence(name, file, key, frames, size, points, occluded, digest.hexdigest())


def _field(where: str, entry: Entry, *names: str, instead: str | None = None) -> Any:
    for name in names:
        if name in entry:
            return entry[name]
    raise InputError(f"{where} has no {instead or names[0]}: it must have video, points and occluded.")


def _video_size(where: str, video: Any) -> tuple[int, tuple[int, int]]:
    """Number of frames and `(height, width)` of a video of either form."""
    if isinstance(video, np.ndarray) and video.dtype == np.uint8:
        if video.ndim != 4 or video.shape[3] != 3 or not video.size:
            raise InputError(f"{where} has a video of shape {_shape(video)}: it must be [T, H, W, 3].")
        return video.shape[0], (video.shape[1], video.shape[2])
    pictures = isinstance(video, (list, tuple)) or (
        isinstance(video, np.ndarray) and video.ndim == 1 and video.dtype.kind in "SO"
    )
    if not pictures or not all(isinstance(picture, bytes) for picture in video):
        kind = f"{video.dtype} array" if isinstance(video, np.ndarray) else type(video).__name__
        raise InputError(
            f"{where} has a video that is a {kind}: it must be a uint8 array or a list of JPEG pictures."
        )
    if not len(video):
        raise InputError(f"{where} has a video without frames: get the file again.")
    first: tuple[int, int] | None = None
    for index, picture in enumerate(video):
        size = _picture_size(where, picture, index)
        first = first or size
        if size != first:
            raise InputError(
                f"{where} has {size[1]}x{size[0]} pixels in frame {index}, but {first[1]}x{first[0]} in "
                "frame 0: all frames must be of one size."
            )
    assert first is not None
    return len(video), first


def _picture_size(where: str, picture: bytes, index: int) -> tuple[int, int]:
    try:
        with open_picture(io.BytesIO(picture), f"{where}, frame {index}", _FORMATS) as image:
            return image.height, image.width
    except InputError:
        raise
    except Exception as error:  # broken pictures make Pillow raise nearly anything
        raise _unreadable(where, index) from error


def _decoded(picture: Any, where: str, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    if isinstance(picture, np.ndarray):
        return picture
    try:
        with open_picture(io.BytesIO(picture), f"{where}, frame {index}", _FORMATS) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # as above
        raise _unreadable(where, index) from error


def _unreadable(where: str, index: int) -> InputError:
    return InputError(f"{where} has no readable JPEG picture as frame {index}: get the file again.")


def _points(where: str, points: Any) -> NDArray[np.float64]:
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "fiu":
        raise InputError(f"{where} has points that are no array of numbers: they must be [N, T, 2].")
    if points.ndim != 3 or points.shape[2] != 2 or not points.size:
        raise InputError(f"{where} has points of shape {_shape(points)}: they must be [N, T, 2].")
    return points.astype(np.float64)


def _flags(where: str, name: str, flags: Any) -> NDArray[np.bool_]:
    if isinstance(flags, np.ndarray) and flags.dtype.kind in "biuf" and flags.ndim == 2:
        values = flags.astype(np.bool_)
        if (values == flags).all():
            return values
    raise InputError(f"{where} has {name} that is no array [N, T] of true and false.")


def _shape(array: NDArray[Any]) -> str:
    return str(list(array.shape))
