"""Nothing is read beside the data that is given, nothing is written beside `--out`: whatever names say."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from pretrain.images import read_images
from vidtrack.benchmark.boxes_task import find_boxes
from vidtrack.benchmark.davis import DavisSet
from vidtrack.benchmark.davis_task import davis_task
from vidtrack.benchmark.generic import find_generic
from vidtrack.benchmark.jhmdb import find_jhmdb
from vidtrack.benchmark.parts import find_parts
from vidtrack.benchmark.rows import Row
from vidtrack.benchmark.runner import run
from vidtrack.benchmark.tapvid_files import read_sequences
from vidtrack.job import LabelOptions, Plan, propagate_video, read_annotations
from vidtrack.learn.frames import list_videos
from vidtrack.tracker import load

BAD = ["..", "../cat", "/etc", ".", "...", "a\0b", "x" * 300, "..\\cat", "\x1b[2J"]
SAVES = {"mask": {"rle"}, "keypoints": {"h5"}, "boxes": set[str]()}


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.pad(np.full((16, 24), value, np.uint8), 8)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sequence, `cat`, in the layouts of DAVIS, VIP, JHMDB and VOT; and one beside the data."""
    root = tmp_path / "above" / "data"
    for base in (root, root.parent):
        for frame in range(3):
            for folder in ("JPEGImages/480p/cat", "Images/cat", "Rename_Images/jump/cat", "cat/color"):
                picture(base / folder / f"{frame:05d}.jpg")
            for folder in ("Annotations/480p/cat", "Category_ids/cat"):
                picture(base / folder / f"{frame:05d}.png", 1)
    return root


def listed(root: Path, name: str) -> Callable[[str], Any]:
    """What reads a list of sequences; `write` puts a name into it."""

    def write(path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())

    def find(kind: str) -> Any:
        if kind == "davis":
            write("ImageSets/2017/val.txt", name)
            return DavisSet.find(root, 2017, "val")
        if kind == "generic":
            write("ImageSets/val.txt", name)
            return find_generic(root, "val")
        if kind == "parts":
            (root / "Annotations").rename(root / "gone")
            write("lists/val_videos.txt", name)
            return find_parts(root, "val")
        if kind == "jhmdb":
            (root / "joint_positions").mkdir(exist_ok=True)
            write("splits/jump_test_split1.txt", f"{name}.avi 2")
            return find_jhmdb(root)
        write("list.txt", name)
        write("cat/groundtruth.txt", "1,1,5,5\n" * 3)
        return find_boxes(root)

    return find


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", ["davis", "generic", "parts", "jhmdb", "vot"])
def test_lists_that_lead_elsewhere(data: Path, kind: str, name: str) -> None:
    if name == "../cat" and kind in ("generic", "parts"):  # lists of paths, of which the last part counts
        (item,) = listed(data, name)(kind).items
        assert item.name == "cat" and all(file.is_relative_to(data) for file in item.files)
        return
    with pytest.raises(InputError):
        listed(data, name)(kind)


@pytest.mark.parametrize("file", ["../a.mp4", "/etc/passwd", "", "a/../../b.mp4", "a\0.mp4"])
def test_clips_that_lie_elsewhere(tmp_path: Path, file: str) -> None:
    (tmp_path / "clips.csv").write_bytes(f"file,split\n{file},train\n".encode())
    with pytest.raises(InputError, match=r"clips\.csv|no video files"):
        list_videos(tmp_path, "train")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Path]:
    """A folder to write into; what stands around it is as it was at the end."""
    inside = tmp_path / "a" / "b" / "work"
    inside.mkdir(parents=True)
    (tmp_path / "a" / "b" / "kept").write_text("kept")
    before = sorted(p for p in tmp_path.rglob("*") if inside not in p.parents)
    yield inside
    assert sorted(p for p in tmp_path.rglob("*") if inside not in p.parents) == before
    assert (tmp_path / "a" / "b" / "kept").read_text() == "kept"


def named_labels(folder: Path, kind: str, name: str) -> LabelOptions:
    """Labels whose objects, keypoints or individuals have a name."""
    if kind == "mask":
        polygon = [[8, 8], [20, 8], [20, 20], [8, 20]]
        content = {"imageHeight": 32, "imageWidth": 40, "shapes": [{"label": name, "points": polygon}]}
        (folder / "m.json").write_text(json.dumps(content))
        return LabelOptions(mask=(str(folder / "m.json"),))
    content = {
        "images": [{"id": 1, "file_name": name, "frame_index": 0}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": [9, 9, 2], "instance": name}],
        "categories": [{"id": 1, "keypoints": [name]}],
    }
    (folder / "k.json").write_text(json.dumps(content))
    return LabelOptions(keypoints=folder / "k.json")


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/evil", "..", "a/b", "nul\0", "x" * 400, "a\nb,c", "con"]
)
@pytest.mark.parametrize("kind", ["mask", "keypoints"])
def test_names_of_objects_and_keypoints(guarded: Path, kind: str, name: str) -> None:
    for frame in range(3):
        picture(guarded / "video" / f"{frame}.png")
    options = named_labels(guarded, kind, name)
    out = guarded / "out"
    given = read_annotations(options, (32, 40))
    propagate_video(
        guarded / "video", given, load("copy"), out, Plan(saves=frozenset(SAVES[kind]), overlay=True)
    )
    assert sorted(p.name for p in guarded.iterdir()) == sorted(
        ["video", "out", (options.mask and "m.json") or "k.json"]
    )


def test_keys_of_sets_of_points(guarded: Path) -> None:
    entry = {
        "video": np.zeros((2, 16, 16, 3), np.uint8),
        "points": np.full((1, 2, 2), 0.5),
        "occluded": np.zeros((1, 2), bool),
    }
    names = ["../../evil", "/evil", "..", ".", "a\0b", "c\nd", "é" * 9]
    (guarded / "set.pkl").write_bytes(pickle.dumps(dict.fromkeys(names, entry)))
    for sequence in read_sequences(guarded / "set.pkl"):
        assert sequence.name.strip(".") and Path(sequence.name).name == sequence.name
    (guarded / "set.pkl").write_bytes(pickle.dumps({"x" * 300: entry}))
    with pytest.raises(InputError, match="can't be the name"):
        read_sequences(guarded / "set.pkl")


def test_folders_of_results(data: Path, guarded: Path) -> None:
    """The name of a row is that of a folder, whatever the tracker is called."""
    task = davis_task(DavisSet.find(data, 2017, "val"))
    rows = [Row(name, load("copy")) for name in ("../../evil", "/evil", "..", "a/../../b", "x\0")]
    run(task, rows, guarded / "out", workers=1)
    assert [p.name for p in guarded.iterdir()] == ["out"]


def tar(path: Path, members: list[tuple[str, bytes | str]], kind: bytes = tarfile.REGTYPE) -> None:
    """A tar file; text is where a link leads."""
    with tarfile.open(path, "w") as file:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = kind, content
                file.addfile(entry)
            else:
                entry.size = len(content)
                file.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_members_of_a_tar_file(guarded: Path, kind: bytes) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (255, 0, 0)).save(stream, "PNG")
    picture(guarded / "secret.png")
    good, secret = stream.getvalue(), str(guarded / "secret.png")
    names = ["../../evil.png", "/evil.png", "a/../../b.png", "a/c.png"]
    links = [(f"b/link{n}.png", target) for n, target in enumerate((secret, "../secret.png", "a/c.png"))]
    tar(guarded / "data.tar", [*((name, good) for name in names), *links], kind)
    found = read_images(guarded / "data.tar", 8)
    assert (found.images == (255, 0, 0)).all()  # nothing of what links lead to outside
    assert sorted(os.listdir(guarded)) == ["data.tar", "secret.png"]
