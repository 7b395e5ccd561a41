"""Embeddings on disk: exact, bounded, and never a reason to fail."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidtrack import cache as module
from vidtrack.cache import EmbeddingCache, default_folder, embedding_key, video_hash, weights_hash
from vidtrack.tracker import load

KEYS = [f"{n:064x}" for n in range(1, 5)]
LARGE = 10**9


def embedding(seed: int, dtype: torch.dtype = torch.bfloat16, shape: tuple[int, ...] = (3, 4, 8)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.filterwarnings("error")  # torch warns of memory that it may not write to
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_is_read_is_what_was_put(tmp_path: Path, dtype: torch.dtype) -> None:
    special = torch.tensor([float("nan"), float("inf"), -0.0, 1e-38]).to(dtype).view(1, 2, 2)
    cache = EmbeddingCache(tmp_path / "new" / "folder", KEYS[0], LARGE)
    assert cache.get(7) is None
    for index, value in enumerate([embedding(0, dtype), special, embedding(1, dtype).transpose(0, 1)]):
        cache.put(index, value)
        for reader in (cache, EmbeddingCache(tmp_path / "new" / "folder", KEYS[0], 0)):
            found = reader.get(index)
            assert found is not None and found.dtype == dtype and found.shape == value.shape
            bits = torch.int16 if dtype == torch.bfloat16 else torch.int32
            assert torch.equal(found.view(bits), value.contiguous().view(bits))
            found += 1  # may be written to, and changes nothing
    assert cache.warnings == []


class Reference:
    """The rules of the cache in memory: keys in order of use, frames of equal size, a limit in frames."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.keys: dict[str, dict[int, int]] = {}  # the last one was used last

    def open(self, key: str) -> None:
        self.keys[key] = self.keys.pop(key, {})

    def get(self, key: str, index: int) -> int | None:
        found = self.keys.get(key, {}).get(index)
        if found is not None:
            self.open(key)
        return found

    def put(self, key: str, index: int, value: int) -> None:
        new = index not in self.keys.get(key, {})
        while new and sum(map(len, self.keys.values())) >= self.limit:
            oldest = next((k for k in self.keys if k != key), None)
            if oldest is None:
                return
            del self.keys[oldest]
        self.open(key)
        self.keys[key][index] = value


operations = st.lists(
    st.tuples(st.sampled_from(["open", "get", "put", "put"]), st.integers(0, 3), st.integers(0, 5)),
    max_size=40,
)


@given(operations=operations, limit=st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_behaves_as_the_reference(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    size = 20 + 2 * 3 * 4 * 8
    reference, open_ = Reference(limit), {}
    for step, (what, number, index) in enumerate(operations):
        key = KEYS[number]
        if what == "open" or key not in reference.keys or key not in open_:
            open_ = {key: EmbeddingCache(folder, key, limit * size)}  # one at a time, as processes do
            reference.open(key)
        if what == "get":
            found, expected = open_[key].get(index), reference.get(key, index)
            assert (found is None) == (expected is None)
            assert expected is None or torch.equal(found, embedding(expected))
        elif what == "put":
            open_[key].put(index, embedding(step))
            reference.put(key, index, step)
        assert disk_bytes(folder) == size * sum(map(len, reference.keys.values())) <= size * limit
        assert {p.name for p in folder.iterdir()} == set(reference.keys)


def test_the_limit_is_kept_between_looks_at_the_disk(tmp_path: Path) -> None:
    size = 20 + 2 * 3 * 4 * 8
    old = EmbeddingCache(tmp_path, KEYS[0], 100 * size)
    for index in range(49):
        old.put(index, embedding(0))
    new = EmbeddingCache(tmp_path, KEYS[1], 100 * size)
    for index in range(110):
        new.put(index, embedding(0))
        assert disk_bytes(tmp_path) == size * (index + 50 if index < 51 else min(100, index + 1))
    assert [new.get(index) is not None for index in (99, 100)] == [True, False]


def test_reading_counts_as_use(tmp_path: Path) -> None:
    first, second, third = (EmbeddingCache(tmp_path, key, 2 * 212) for key in KEYS[:3])
    first.put(0, embedding(0))
    second.put(0, embedding(0))
    assert first.get(0) is not None
    third.put(0, embedding(0))
    assert second.get(0) is None and first.get(0) is not None


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-1],
    "cut in the head": lambda data: data[:11],
    "longer": lambda data: data + b"\0",
    "one bit": lambda data: data[:-5] + bytes([data[-5] ^ 4]) + data[-4:],
    "kind": lambda data: data[:4] + b"\7" + data[5:],
    "text": lambda data: b"hello, I am a file of somebody else\n" * 9,
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_and_foreign_files_are_replaced(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path, KEYS[0], LARGE)
    cache.put(3, embedding(0))
    file = next((tmp_path / KEYS[0]).iterdir())
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    assert cache.get(3) is None
    cache.put(3, embedding(1))
    found = cache.get(3)
    assert found is not None and torch.equal(found, embedding(1))
    assert cache.warnings == []


def test_a_file_of_another_frame_or_key_is_foreign(tmp_path: Path) -> None:
    first, second = (EmbeddingCache(tmp_path, key, LARGE) for key in KEYS[:2])
    first.put(0, embedding(0))
    data = next(first.folder.iterdir()).read_bytes()
    for cache, index in ((first, 1), (second, 0)):
        (cache.folder / f"{index:08d}.bin").write_bytes(data)
        assert cache.get(index) is None
    (first.folder / "00000005.bin").mkdir()  # not even a file
    assert first.get(5) is None


def test_others_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(bytes(5000))
    (tmp_path / "note.txt").write_bytes(bytes(5000))
    cache = EmbeddingCache(tmp_path, KEYS[0], 3 * 212)
    for index in range(5):
        cache.put(index, embedding(index))
    assert [cache.get(i) is not None for i in range(5)] == [True, True, True, False, False]
    assert (tmp_path / "photos" / "a.jpg").stat().st_size == 5000 and (tmp_path / "note.txt").exists()


def test_what_was_left_in_the_making_is_removed(tmp_path: Path) -> None:
    (tmp_path / KEYS[0]).mkdir()
    old, fresh = tmp_path / KEYS[0] / ".00000001.bin.77", tmp_path / KEYS[0] / ".00000002.bin.78"
    removed = tmp_path / f".removed-{KEYS[1]}-77"
    removed.mkdir()
    for path in (old, fresh, removed / "x"):
        path.write_bytes(b"part")
    for path in (old, removed):
        os.utime(path, (time.time() - 2 * module.STALE,) * 2)
    EmbeddingCache(tmp_path, KEYS[0], LARGE)
    assert not old.exists() and not removed.exists() and fresh.exists()


@pytest.mark.parametrize("what", ["a file", "a link to nothing", "a file of the key's name"])
def test_something_else_where_the_folder_should_be(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "cache"
    if what == "a file":
        folder.write_text("not a folder")
    elif what == "a link to nothing":
        folder.symlink_to(tmp_path / "nothing")
    else:
        folder.mkdir()
        (folder / KEYS[0]).write_text("not a folder")
    cache = EmbeddingCache(folder, KEYS[0], LARGE)
    for index in range(3):
        cache.put(index, embedding(0))
        assert cache.get(index) is None
    assert len(cache.warnings) == 1 and str(folder) in cache.warnings[0]


def test_a_folder_that_goes_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mkdir` finds it there, and another process removes it before `mkdir` looks whether it is a folder."""
    (tmp_path / KEYS[0]).mkdir()
    is_dir = Path.is_dir

    def gone(self: Path, **options: Any) -> bool:
        monkeypatch.setattr(Path, "is_dir", is_dir)
        self.rmdir()
        return False

    monkeypatch.setattr(Path, "is_dir", gone)
    cache = EmbeddingCache(tmp_path, KEYS[0], LARGE)
    assert cache.warnings == [] and not cache.folder.exists()
    cache.put(0, embedding(0))
    assert cache.get(0) is not None


def test_a_cache_that_cannot_write_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = EmbeddingCache(tmp_path / "cache", KEYS[0], LARGE)
    full.put(0, embedding(0))

    def no_room(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    for index in range(1, 4):
        full.put(index, embedding(0))
    assert len(full.warnings) == 1 and "No space left" in full.warnings[0]
    assert [p.name for p in full.folder.iterdir()] == ["00000000.bin"]  # no part of a frame is left
    assert full.get(0) is not None


def test_some_room_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESERVE", 2**62)
    cache = EmbeddingCache(tmp_path, KEYS[0], LARGE)
    cache.put(0, embedding(0))
    assert cache.get(0) is None and "nearly full" in cache.warnings[0]


def test_two_share_a_key_and_one_may_lose_its_folder(tmp_path: Path) -> None:
    one, two = (EmbeddingCache(tmp_path, KEYS[0], 4 * 212) for _ in range(2))
    one.put(0, embedding(0))
    found = two.get(0)
    assert found is not None and torch.equal(found, embedding(0))
    other = EmbeddingCache(tmp_path, KEYS[1], 4 * 212)
    for index in range(4):
        other.put(index, embedding(index))
    assert one.get(0) is None  # its folder was the oldest
    one.put(1, embedding(1))
    assert one.get(1) is not None and one.warnings == []
    assert disk_bytes(tmp_path) <= 4 * 212


class Counting:
    """An embedder that counts what it computes."""

    device, stride, precision = torch.device("cpu"), 8, "float32"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: np.ndarray, size: int | None) -> Tensor:
        self.calls += 1
        return torch.full((2, 2, 3), float(image[0, 0, 0]) + (size or 0))


def test_wrap_reads_or_computes(tmp_path: Path) -> None:
    embedder = Counting()
    image = np.full((4, 4, 3), 9, np.uint8)
    for limit, calls in ((LARGE, 1), (0, 1)):
        embed = EmbeddingCache(tmp_path, KEYS[0], limit).wrap(embedder, 5)
        for _ in range(2):
            assert torch.equal(embed(2, image), torch.full((2, 2, 3), 14.0))
        assert embedder.calls == calls
    EmbeddingCache(tmp_path, KEYS[1], 0).wrap(embedder, 5)(2, image)
    assert embedder.calls == 2


def test_programming_mistakes(tmp_path: Path) -> None:
    for key, limit in (("../../home", 1), (KEYS[0][:-1], 1), (KEYS[0], -1)):
        with pytest.raises(ValueError, match="64 hexadecimal"):
            EmbeddingCache(tmp_path, key, limit)
    for value in (embedding(0).half(), embedding(0)[0]):
        with pytest.raises(ValueError, match="no embedding"):
            EmbeddingCache(tmp_path, KEYS[0], LARGE).put(0, value)
    with pytest.raises(ValueError, match="without an embedder"):
        embedding_key(tmp_path, load("copy"))


def test_the_key_tells_everything_apart(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"content")
    (tmp_path / "copy.mp4").write_bytes(b"content")
    lab = load("lab", device="cpu")
    same = embedding_key(video, lab)
    assert same == embedding_key(tmp_path / "copy.mp4", load("lab", device="cpu", radius=3, topk=2))
    (tmp_path / "other.mp4").write_bytes(b"contend")
    random = load("random:resnet18", device="cpu")
    keys = [
        same,
        embedding_key(tmp_path / "other.mp4", lab),
        embedding_key(video, lab, "gray"),
        embedding_key(video, load("lab", device="cpu", size=100)),
        embedding_key(video, load("lab", device="cpu", size="native")),
        embedding_key(video, random),
        *(embedding_key(video, load(device="cpu", precision=p)) for p in ("float32", "bfloat16")),
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 64 for key in keys)
    before = weights_hash(random.embedder)
    assert before == weights_hash(load("random:resnet18", device="cpu").embedder)
    network = next(part for part in vars(random.embedder).values() if isinstance(part, torch.nn.Module))
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    assert weights_hash(random.embedder) != before
    assert embedding_key(video, random) not in keys


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_large_video_has_a_quick_hash(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 70 * module._SAMPLE
    path = file = tmp_path / "v.mp4"
    if kind == "folder":
        path = tmp_path / "frames"
        path.mkdir()
        file = path / "0.png"
    file.write_bytes(bytes(size))
    exact = video_hash(path)
    monkeypatch.setattr(module, "EXACT", size - 1)
    quick = video_hash(path)
    assert quick == video_hash(path) != exact
    about = file.stat()
    os.utime(file, ns=(about.st_mtime_ns, about.st_mtime_ns + 1))
    assert video_hash(path) != quick  # the time alone
    if kind == "folder":
        return
    for place in (0, (size - module._SAMPLE) * 20 // 63 + 3, size - 1):  # first, 21st and last piece
        file.write_bytes(bytes(place) + b"x" + bytes(size - place - 1))
        os.utime(file, ns=(about.st_mtime_ns, about.st_mtime_ns))
        assert video_hash(path) != quick  # the content alone


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "embeddings"
    monkeypatch.delenv("VIDTRACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for platform, base in (("linux", "xdg"), ("darwin", "Library/Caches"), ("win32", "local")):
        monkeypatch.setattr(module.sys, "platform", platform)
        assert default_folder() == tmp_path / base / "vidtrack" / "embeddings"
