"""The masks of a video as one COCO file: what pycocotools and `Masks.from_coco` read back."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from pretrain.errors import InputError
from vidtrack.labels import Masks
from vidtrack.labels.rlejson import RleJsonWriter, write_rle_json

SIZE = (30, 40)
NAMES = {3: "Bär", 254: "dog"}


@pytest.fixture
def frames() -> list[tuple[int, str, Masks, dict[int, float]]]:
    """Frames 5, 6, ...: two objects that move; the first is absent in frame 7, both in frame 8."""
    result = []
    for i in range(5, 12):
        ids = np.zeros(SIZE, np.uint8)
        if i != 8:
            ids[10 : 10 + i, i : i + 9] = 254
        if i not in (7, 8):
            ids[2 : 2 + i, 20 - i : 20] = 3
        masks = Masks(ids, names=dict(NAMES) if i == 5 else {})
        result.append(
            (i, f"frame{i}", masks, {n: n / 300 + i / 1e6 for n in masks.objects if n != 3 or i > 5})
        )
    return result


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_what_pycocotools_reads(tmp_path, frames):
    write_rle_json(tmp_path / "masks.json", iter(frames), SIZE)
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO(str(tmp_path / "masks.json"))
        results = data.loadRes([{**a, "score": 1.0} for a in data.dataset["annotations"]])
    assert [
        (i["id"], i["file_name"], i["frame_index"], i["height"], i["width"]) for i in data.imgs.values()
    ] == [(n + 1, f"frame{n}.png", n, *SIZE) for n in range(5, 12)]
    assert data.loadCats(data.getCatIds()) == [{"id": i, "name": name} for i, name in NAMES.items()]
    for index, _, masks, scores in frames:
        annotations = data.loadAnns(data.getAnnIds(imgIds=index + 1))
        assert (
            [a["category_id"] for a in annotations] == [a["track_id"] for a in annotations] == masks.objects
        )
        for annotation in annotations:
            region = masks.ids == annotation["category_id"]
            np.testing.assert_array_equal(data.annToMask(annotation), region)
            ys, xs = np.nonzero(region)
            assert annotation["area"] == len(ys)
            assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation["iscrowd"] == 0
            expected = scores.get(annotation["category_id"])
            assert annotation.get("score") == (None if expected is None else round(expected, 4))
    assert len(results.anns) == len(data.anns) == len({a["id"] for a in data.dataset["annotations"]}) == 11


def test_each_frame_is_read_back_with_its_ids(tmp_path, frames):
    path = tmp_path / "masks.json"
    write_rle_json(path, frames, SIZE)
    for index, _, masks, _ in frames:
        if index == 8:
            with pytest.raises(InputError, match="has no object"):
                Masks.from_coco(path, frame=index)
            continue
        back = Masks.from_coco(path, frame=index)
        np.testing.assert_array_equal(back.ids, masks.ids)
        assert back.names == {i: NAMES[i] for i in masks.objects}
        np.testing.assert_array_equal(Masks.from_coco(path, image=index + 1).ids, masks.ids)
    with pytest.raises(InputError, match="has 7 images"):
        Masks.from_coco(path)
    for frame in (0, 4, 12, -1):
        with pytest.raises(InputError, match=f"has no frame {frame} to take: it has 7 frames"):
            Masks.from_coco(path, frame=frame)


def test_a_video_without_objects(tmp_path):
    write_rle_json(tmp_path / "a.json", [(0, "00000", Masks(np.zeros(SIZE, np.uint8)), {})], SIZE)
    data = json.loads((tmp_path / "a.json").read_text())
    assert (data["annotations"], data["categories"], len(data["images"])) == ([], [], 1)


def test_frames_of_other_tools():
    square = {"size": [3, 4], "counts": [4, 2, 1, 2, 3]}
    images = [{"id": i, "height": 3, "width": 4} for i in (30, 10, 20)]
    notes: list[dict[str, Any]] = [{"image_id": 10, "segmentation": square, "track_id": 7}]
    data = {"images": images, "annotations": notes}
    assert Masks.from_coco(data, frame=1).objects == [7]  # without numbers the place in the list counts
    for frame in (3, -1, -2):
        with pytest.raises(InputError, match="it has 3 frames"):
            Masks.from_coco(data, frame=frame)
    numbered = [image | {"frame_id": i} for i, image in enumerate(images, 4)]
    assert Masks.from_coco({**data, "images": numbered}, frame=5).objects == [7]
    with pytest.raises(InputError, match="no frame 1 to take"):
        Masks.from_coco({**data, "images": numbered}, frame=1)
    doubled = [image | {"frame_index": 5} for image in images]
    with pytest.raises(InputError, match="it has 3 of that number"):
        Masks.from_coco({**data, "images": doubled}, frame=5)
    for content in ([square], square, {"annotations": notes}):
        with pytest.raises(InputError, match="no list of images"):
            Masks.from_coco(content, frame=0)
    for bad in (700, "7", None):  # ids that can't be ours: numbered in order
        assert Masks.from_coco({**data, "annotations": [{**notes[0], "track_id": bad}]}, frame=1).objects == [
            1
        ]


def test_masks_are_not_kept(tmp_path, frames):
    """The file grows with each frame; what is held back is the buffer of the file."""
    noise = np.random.default_rng(0).integers(0, 2, (200, 300)).astype(np.uint8)
    with RleJsonWriter(tmp_path / "a.json", noise.shape) as writer:
        partial = next(tmp_path.iterdir())
        sizes = []
        for i in range(4):
            writer.write(i, str(i), Masks(noise))
            sizes.append(partial.stat().st_size)
    assert np.diff(sizes).min() > 10_000


def test_nothing_remains_of_what_failed(tmp_path, frames, monkeypatch):
    path = tmp_path / "a.json"
    with pytest.raises(KeyError), RleJsonWriter(path, SIZE) as writer:
        writer.write(*frames[0])
        raise KeyError
    with pytest.raises(ValueError, match="closed"):
        writer.write(*frames[0])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(InputError, match=r"can't be written \(No space left"),
        RleJsonWriter(path, SIZE) as writer,
    ):
        monkeypatch.setattr(writer, "_put", full)
        writer.write(*frames[0])
    with pytest.raises(InputError, match="No space left"):
        writer = RleJsonWriter(path, SIZE)
        monkeypatch.setattr(writer, "_put", full)
        writer.close()
    assert list(tmp_path.iterdir()) == []
    with RleJsonWriter(path, SIZE) as writer, pytest.raises(ValueError, match="masks are"):
        writer.write(0, "0", Masks(np.zeros((3, 3), np.uint8)))
    with pytest.raises(InputError, match="exists already"):
        RleJsonWriter(path, SIZE)
    write_rle_json(Path(path), frames, SIZE, overwrite=True)
    assert Masks.from_coco(path, frame=5).objects == [3, 254]
