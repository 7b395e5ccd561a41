"""Data sets, lists and results of whatever content: a value or one sentence; a cache is made anew."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.boxes_task import find_boxes
from vidtrack.benchmark.compare import compare, load_results
from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.generic import find_generic
from vidtrack.benchmark.jhmdb import find_jhmdb
from vidtrack.benchmark.layout import find_frames
from vidtrack.benchmark.parts import find_parts
from vidtrack.benchmark.pose_task import find_pose
from vidtrack.cache import EmbeddingCache
from vidtrack.learn.frames import list_videos
from vidtrack.learn.index.films import Film, Kept
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.shots import Shot
from vidtrack.learn.packs import _load as load_pack
from vidtrack.learn.stills import _Kept as KeptStills

from .garbage import ANY, ODD, changed, damaged, table

FUZZ = settings(settings.get_profile("hostile"))
LINES = st.lists(
    st.sampled_from(["cat", "../cat", "/JPEGImages/480p/cat/00000.jpg", "JPEGImages/480p/../00000.jpg", *ODD])
    | st.text(max_size=9),
    max_size=4,
).map("\n".join)
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
META = {"videos": {"cat": {"objects": {"1": {"category": "cat", "frames": ["00000", "00002"]}}}}}
RESULTS = {
    "schema": 2,
    "benchmark": "davis",
    "title": "x",
    "keys": ["J", "F"],
    "lower": [],
    "data_sha256": "0",
    "protocol": {"name": "y"},
    "rows": [
        {"name": "a", "scores": {"J": 1.0}, "sequences": {n: {"scores": {"J": 0.5, "F": 1}} for n in "pqr"}}
    ],
}


def draw(path: Path, value: int = 0) -> None:
    """A small picture: a frame, or a mask of one object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.pad(np.full((4, 6), value, np.uint8), 2)).save(path)


@contextlib.contextmanager
def davis() -> Iterator[Path]:
    """A folder in DAVIS layout of one sequence, `cat`, in a folder of its own."""
    with tempfile.TemporaryDirectory() as above:
        root = Path(above) / "data"
        for frame in range(3):
            draw(root / "JPEGImages" / "480p" / "cat" / f"{frame:05d}.jpg")
            draw(root / "Annotations" / "480p" / "cat" / f"{frame:05d}.png", 1)
        (root / "ImageSets" / "2017").mkdir(parents=True)
        yield root


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(LINES)
def test_lists_of_sequences(text: str) -> None:
    with davis() as root:
        written(root / "ImageSets" / "2017" / "val.txt", text)
        for find in (
            lambda: DavisSet.find(root, 2017, "val").sequences,
            lambda: find_generic(root, "val").items,
        ):
            with contextlib.suppress(InputError):
                assert [item.name for item in find()] == ["cat"]
        shutil.move(root / "Annotations" / "480p", root / "Category_ids")
        shutil.move(root / "JPEGImages" / "480p", root / "Images")
        written(root / "lists" / "val_videos.txt", text)
        with contextlib.suppress(InputError):
            assert [item.name for item in find_parts(root, "val").items] == ["cat"]


@FUZZ
@given(changed(META) | ANY)
def test_meta_of_youtube_vos(value: Any) -> None:
    with davis() as root:
        written(root / "meta.json", json.dumps(value))
        with contextlib.suppress(InputError):
            assert find_generic(root, None).items


@FUZZ
@given(table(["1", "2", "3", "4", "1,2,3,4"]), LINES)
def test_boxes_of_otb_and_vot(text: str, names: str) -> None:
    with davis() as root:
        for name, part in (("groundtruth_rect.txt", "img"), ("groundtruth.txt", "color")):
            sequence = root / "set" / "cat"
            shutil.copytree(root / "JPEGImages" / "480p" / "cat", sequence / part)
            written(sequence / name, text)
            written(root / "set" / "list.txt", names)
            with contextlib.suppress(InputError):
                assert [item.name for item in find_boxes(root / "set").items] == ["cat"]
            shutil.rmtree(root / "set")


@FUZZ
@given(LINES.map(lambda text: text.replace("\n", " 2\n") + " 2"), st.binary(max_size=300))
def test_lists_and_joints_of_jhmdb(text: str, joints: bytes) -> None:
    with davis() as root:
        written(root / "splits" / "jump_test_split1.txt", text)
        shutil.copytree(root / "JPEGImages" / "480p", root / "Rename_Images" / "jump")
        mat = root / "joint_positions" / "jump" / "cat" / "joint_positions.mat"
        written(mat, "")
        mat.write_bytes(b"MATLAB".ljust(124) + b"\0\1IM" + joints)
        with contextlib.suppress(InputError):
            find_jhmdb(root)


@FUZZ
@given(table(["frame", "keypoint", "x", "y", "0", "a"]), changed({"image_size": [10, 8]}))
def test_keypoints_and_their_size(text: str, meta: Any) -> None:
    with davis() as root:
        written(root / "Keypoints" / "cat.csv", f"frame,keypoint,x,y\n0,a,1,2\n1,a,2,3\n{text}")
        with contextlib.suppress(InputError):
            find_pose(root)
        written(root / "Keypoints" / "cat.meta.json", json.dumps(meta))
        with contextlib.suppress(InputError):
            assert find_frames(root / "Keypoints" / "cat.csv").size == (8, 10)


@FUZZ
@given(changed(RESULTS) | ANY)
def test_results_that_are_compared(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder) / "table.json", json.dumps(value))
        with contextlib.suppress(InputError):
            found = load_results(Path(folder))
            compare(found, found, samples=100)


@FUZZ
@given(table(["file", "split", "train", "a.mp4", "sub/a.mp4", "../a.mp4", "/a.mp4"]), st.binary(max_size=9))
def test_clips_csv(text: str, more: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        written(root / "clips.csv", f"file,split\n{text}")
        for content in (b"", more):
            with (root / "clips.csv").open("ab") as stream:
                stream.write(content)
            with contextlib.suppress(InputError):
                assert all(path.resolve().is_relative_to(root.resolve()) for path in list_videos(root, None))


def film(path: Path) -> dict[str, Any]:
    """What the index keeps of a video."""
    shot = Shot(path, "a", 0, 3, (1, 2, 3, 4), (9, 8), 25, 3.5, (None, 7))  # type: ignore[arg-type]
    Kept(path, Index()).save([(Film(path, "a", (shot,)), [1, 2])])
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@FUZZ
@given(st.data())
def test_index_of_videos(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.json"
        good = film(path)
        assert Kept(path, Index()).film(path, "a", [1, 2]) is not None
        content = json.dumps(data.draw(changed(good))).encode()
        path.write_bytes(data.draw(st.just(content) | damaged(content)))
        found = Kept(path, Index()).film(path, "a", [1, 2])
        assert found is None or all(isinstance(shot, Shot) for shot in found.shots)


@FUZZ
@given(changed([[2, 1, 2, 3], "it is broken"]) | ANY, st.binary(max_size=20))
def test_decoded_frames_and_stills(shapes: Any, raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "frames-0"
        stem.with_suffix(".json").write_text(json.dumps(shapes))
        stem.with_suffix(".raw").write_bytes(raw)
        found = load_pack(stem)
        assert found is None or sum(part.size for part in found if not isinstance(part, str)) == len(raw)
        kept = KeptStills(Path(folder), "0" * 64)
        kept.table.write_text(json.dumps(shapes))
        kept.images.write_bytes(raw)
        assert kept.load() is None


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"videos":' * 50_000])
def test_deep_json(tmp_path: Path, deep: str) -> None:
    with davis() as root:
        written(root / "meta.json", deep)
        written(root / "a.meta.json", deep)
        written(root / "a.csv", "frame,keypoint,x,y\n0,a,1,2\n")
        with pytest.raises(InputError, match=r"meta\.json can't be read"):
            find_generic(root, None)
        with pytest.raises(InputError, match=r"a\.meta\.json can't be read"):
            find_frames(root / "a.csv", root / "JPEGImages" / "480p" / "cat")
        with pytest.raises(InputError, match="can't be read as JSON"):
            load_results(root / "meta.json")
    (tmp_path / "frames-0.json").write_text(deep)
    (tmp_path / "frames-0.raw").write_bytes(b"")
    assert load_pack(tmp_path / "frames-0") is None
    assert Kept(tmp_path / "frames-0.json", Index()).film(tmp_path, "a", [1]) is None


@FUZZ
@given(st.data())
def test_embeddings(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder, "0" * 64, 10**6)
        cache.put(3, torch.rand(2, 3, 4))
        path = next(Path(folder).rglob("*.bin"))
        good = path.read_bytes()
        bad = data.draw(damaged(good) | st.binary(max_size=40))
        path.write_bytes(bad)
        assert (cache.get(3) is None) == (bad != good)
