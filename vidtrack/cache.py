"""Embeddings on disk: a video that was tracked before, or is tracked in both directions, is embedded once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidtrack import __version__
from vidtrack.ahead import Embed
from vidtrack.files import sha256
from vidtrack.model.embedder import Embedder
from vidtrack.tracker import Tracker

EXACT = 2**30  # bytes up to which the whole content of a video is hashed: under a second
RESERVE = 2**30  # bytes of the disk that are left free: the results need room too
STALE = 3600  # seconds after which a frame in the making was abandoned
_SAMPLES, _SAMPLE = 64, 2**16  # pieces of a large video that are hashed, and their bytes
_KEY = re.compile(r"[0-9a-f]{64}")
_FORMAT = 2  # of the files and of how frames are embedded; part of the key
_DTYPES: dict[torch.dtype, np.dtype[Any]] = {  # numpy knows no bfloat16
    torch.bfloat16: np.dtype("<u2"),
    torch.float32: np.dtype("<f4"),
}


class EmbeddingCache:
    """The embeddings of one video and one way to embed it, by frame number.

    One folder per key and one file per frame, in the type of the embedding (bfloat16 or float32): what is
    read is what was computed, to the bit. Files appear at once and whole, carry a checksum that covers key
    and frame number, and are believed only where it fits: anything else counts as absent and is replaced.

    All keys together stay under `limit_bytes`: where they would not, the folders that were not used for the
    longest time are removed, and this one stops growing when it is alone and full. Processes may share the
    cache, each knowing of the others' files through the disk; where several write at the same moment, the
    limit can be exceeded by a 32nd of it for each. The cache is no reason to lose a result: a disk that is
    full or read-only leaves what is there to be read, and is told in `warnings`.

    Args:
        folder: holds the folders of all keys; see `default_folder`.
        key: 64 hexadecimal digits, see `embedding_key`.
        limit_bytes: of all keys together; 0 keeps nothing.

    Attributes:
        warnings: one sentence, if nothing more can be written.

    Raises:
        ValueError: `key` is no such number, or `limit_bytes` is negative.
    """

    def __init__(self, folder: Path | str, key: str, limit_bytes: int) -> None:
        if not _KEY.fullmatch(key) or limit_bytes < 0:
            raise ValueError("a cache needs a key of 64 hexadecimal digits and a limit of at least 0 bytes")
        self.root, self.key, self.limit = Path(folder), key, limit_bytes
        self.folder = self.root / key
        self.warnings: list[str] = []
        self._writes = limit_bytes > 0
        self._total = 0  # bytes of all keys, as far as is known
        self._unseen = limit_bytes  # bytes written since the disk was looked at; at first it was not
        self._alone = False  # no other key was left at that time
        if self._writes:
            try:
                self._make_folder()
                self._sweep()
            except OSError as error:
                self._stop(error)
        self._touch()

    def get(self, index: int) -> Tensor | None:
        """The embedding `[h, w, C]` of a frame on the CPU, or None where it isn't known."""
        try:
            data = self._path(index).read_bytes()
        except OSError:
            return None
        embedding = _decode(data, self._seed(index))
        if embedding is not None:
            self._touch()
        return embedding

    def put(self, index: int, embedding: Tensor) -> None:
        """Keep the embedding of a frame, if there is room.

        Args:
            index: frame number.
            embedding: bfloat16 or float32 `[h, w, C]`, on any device.

        Raises:
            ValueError: another type or shape.
        """
        if embedding.ndim != 3 or embedding.dtype not in _DTYPES:
            raise ValueError(f"no embedding: {embedding.dtype} {list(embedding.shape)}")
        if not self._writes:
            return
        data = _encode(embedding, self._seed(index))
        path = self._path(index)
        partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            before = _bytes(path)
            if not self._make_room(len(data) - before):
                return
            self._make_folder()
            try:
                partial.write_bytes(data)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            self._total += len(data) - before
            self._unseen += len(data)
            self._touch()
        except FileNotFoundError:
            pass  # another process has just removed the folder: this frame is not kept
        except OSError as error:
            self._stop(error)

    def wrap(self, embedder: Embedder, size: int | None) -> Embed:
        """A function from frame number and image to embedding, for `Passes(embed=...)`: read, else computed.

        It always embeds whole frames, whatever region of them the labels of one run need.

        Args:
            embedder: what the key was made for.
            size: short side at which it computes, see `Propagation`.
        """

        def embed(index: int, image: np.ndarray, region: Tensor | None = None) -> Tensor:
            known = self.get(index)
            if known is not None:
                return known.to(embedder.device)
            embedding = embedder(image, size)
            self.put(index, embedding)
            return embedding

        return embed

    def _make_folder(self) -> None:
        """Make the folder of this key, which another process may remove at any moment, even while it is made.

        Raises:
            OSError: it can't be made; FileExistsError where something that is no folder has its name.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # also where it was there first, and gone when mkdir looked what it is
            for path in (self.folder, *self.folder.parents):
                with contextlib.suppress(FileNotFoundError):
                    if not stat.S_ISDIR(path.lstat().st_mode) and not path.is_dir():
                        raise

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:08d}.bin"

    def _seed(self, index: int) -> int:
        return zlib.crc32(f"{self.key} {index}".encode())

    def _touch(self) -> None:
        """Note that this key is in use: the folder's time decides which one goes first."""
        try:
            now = time.time_ns()
            os.utime(self.folder, ns=(now, now))
        except OSError:
            pass  # read-only, or removed by another process

    def _make_room(self, size: int) -> bool:
        """Remove the oldest other keys until `size` more bytes fit; False if they never will."""
        full = self._total + size > self.limit
        if (full and not self._alone) or self._unseen > self.limit // 32:
            sizes = self._look()
            others = sorted((used, folder) for folder, (_, used) in sizes.items() if folder != self.folder)
            while others and self._total + size > self.limit:
                folder = others.pop(0)[1]
                _remove(folder)
                self._total -= sizes[folder][0]
            self._alone = not others
            if shutil.disk_usage(self.root).free < RESERVE + size:
                raise OSError(None, "the disk is nearly full")
        return self._total + size <= self.limit

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Bytes and time of last use of the folder of each key."""
        found = {}
        for entry in os.scandir(self.root):
            if _KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                try:
                    size = sum(_bytes(file) for file in _files(Path(entry.path)))
                    found[Path(entry.path)] = size, entry.stat().st_mtime_ns
                except FileNotFoundError:
                    continue  # another process removed it just now
        self._total, self._unseen = sum(size for size, _ in found.values()), 0
        return found

    def _sweep(self) -> None:
        """Remove what stopped processes left in the making."""
        before = time.time() - STALE
        for entry in os.scandir(self.root):
            if entry.name.startswith(".removed-") and _changed(Path(entry.path)) < before:
                shutil.rmtree(entry.path, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # another process has just removed the folder
            for file in _files(self.folder):
                if file.name.startswith(".") and _changed(file) < before:
                    file.unlink(missing_ok=True)

    def _stop(self, error: OSError) -> None:
        self._writes = False
        self.warnings.append(
            f"embeddings are no longer kept in {self.root} ({error.strerror or error}): the result is the "
            "same, but the next run of this video computes them again."
        )


def default_folder() -> Path:
    """Where embeddings are kept: `$VIDTRACK_CACHE`, else in the platform's own folder for caches."""
    if chosen := os.environ.get("VIDTRACK_CACHE"):
        return Path(chosen).expanduser() / "embeddings"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "vidtrack" / "embeddings"


def embedding_key(video: Path | str, tracker: Tracker, what: str = "frames") -> str:
    """The key of everything that decides the embeddings of a video, 64 hexadecimal digits.

    Args:
        video: video file or folder of frames.
        tracker: with an embedder.
        what: of the video is embedded: its "frames", or another word for frames that were changed first.

    Raises:
        ValueError: a tracker that only copies has no embeddings.
    """
    embedder = tracker.embedder
    if embedder is None:
        raise ValueError("a tracker without an embedder has nothing to keep")
    parts = (
        *(str(_FORMAT), __version__, video_hash(video), what),
        *(type(embedder).__name__, tracker.weights or weights_hash(embedder)),
        *(str(tracker.settings.size), embedder.precision, embedder.device.type, torch.__version__),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def video_hash(path: Path | str) -> str:
    """What tells a video from all others: SHA-256 of its content, or a quick stand-in for a large one.

    Up to `EXACT` bytes the whole content is hashed, at 1.5 GB/s on a processor with instructions for it. Of a
    larger file, its size, its time of change to the nanosecond, and 64 pieces of 64 KiB spread over it;
    of a larger folder, the names, sizes and times of its files. The stand-in errs on the safe side: a copy
    or a touched file is computed again; another video of the same size, made at the same nanosecond, would
    have to agree in all pieces to be mistaken for this one.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(_files(path))
    if sum(_bytes(file) for file in files) <= EXACT:
        return sha256(path)
    digest = hashlib.sha256(b"large")
    for file in files:
        about = file.stat()
        name = file.relative_to(path).as_posix()  # "." for the file itself: it may be moved
        digest.update(os.fsencode(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0"))
    if path.is_file():
        last = max(0, path.stat().st_size - _SAMPLE)
        with path.open("rb") as stream:
            for number in range(_SAMPLES):
                stream.seek(last * number // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def weights_hash(embedder: Embedder) -> str:
    """SHA-256 of the numbers that an embedder computes with; of nothing for one without a network."""
    digest = hashlib.sha256()
    networks = [part for part in vars(embedder).values() if isinstance(part, nn.Module)]
    for name, value in (item for network in networks for item in network.state_dict().items()):
        digest.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _encode(embedding: Tensor, seed: int) -> bytes:
    """A checksum, the type, the shape, and the numbers."""
    values = embedding.detach().cpu().contiguous()
    numbers = values.view(torch.uint16) if values.dtype == torch.bfloat16 else values
    kind = list(_DTYPES).index(values.dtype)
    head = np.array([kind, *values.shape], "<u4").tobytes()
    body = head + numbers.numpy().astype(_DTYPES[values.dtype], copy=False).tobytes()
    return zlib.crc32(body, seed).to_bytes(4, "little") + body


def _decode(data: bytes, seed: int) -> Tensor | None:
    """Inverse of `_encode`; None for anything else."""
    if len(data) < 20 or zlib.crc32(memoryview(data)[4:], seed) != int.from_bytes(data[:4], "little"):
        return None
    kind, *shape = (int(number) for number in np.frombuffer(data, "<u4", 4, offset=4))
    dtype, stored = list(_DTYPES.items())[kind]
    numbers = np.frombuffer(data, stored, offset=20).reshape(shape).copy()  # writable, as torch wants it
    values = torch.from_numpy(numbers.astype(stored.newbyteorder("="), copy=False))
    return values.view(torch.bfloat16) if dtype == torch.bfloat16 else values


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder."""
    return (file for file in folder.rglob("*") if file.is_file())


def _bytes(path: Path) -> int:
    """Size of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed(path: Path) -> float:
    """When a file or folder was changed; infinity where there is none any more."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _remove(folder: Path) -> None:
    """Remove a folder; no other process ever sees it half gone."""
    away = folder.with_name(f".removed-{folder.name}-{os.getpid()}-{time.monotonic_ns()}")
    try:
        os.rename(folder, away)
    except FileNotFoundError:
        return  # another process was faster
    for _ in range(3):  # a frame that was just being written may have come along
        shutil.rmtree(away, ignore_errors=True)
        if not away.exists():
            return
