"""Frames with masks: halves by time, binary masks, names of classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.probing.frames import find_halves, has_frames


def fill(
    root: Path, counts: dict[str, int], values: tuple[int, ...] = (1, 2, 255), resolution: str = ""
) -> Path:
    """Frames 12 x 16; the mask of frame n has `values` in stripes, the first value n more often."""
    for name, count in counts.items():
        for n in range(count):
            for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
                path = root / part / resolution / name / f"{n:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if part == "JPEGImages":
                    Image.new("RGB", (16, 12), (20 * n, 100, 0)).save(path)
                else:
                    ids = np.resize(np.array(values, np.uint8), (12, 16))
                    ids[:, :n] = values[0]
                    Image.fromarray(ids).save(path)
    return root


@pytest.mark.parametrize("resolution", ["", "480p"])
def test_the_first_half_trains_and_the_second_tests(tmp_path: Path, resolution: str) -> None:
    data = fill(tmp_path, {"bear": 5, "cow": 1, "dog": 4}, resolution=resolution)
    assert has_frames(data) and not has_frames(data / "JPEGImages")
    halves = find_halves(data)
    assert [frame.name for frame in halves.train] == [
        *("bear/00000", "bear/00001", "bear/00002"),
        *("cow/00000", "dog/00000", "dog/00001"),
    ]
    assert [frame.name for frame in halves.test] == ["bear/00003", "bear/00004", "dog/00002", "dog/00003"]
    assert halves.void == 255 and not halves.binary and halves.names == {}
    images, masks = halves.images(halves.test), halves.masks(halves.test)
    assert len(images) == len(masks) == 4
    assert abs(int(images[1][0, 0, 0]) - 80) < 8 and images[1].shape == (12, 16, 3)
    assert set(np.unique(masks[0])) == {1, 2, 255} and (masks[0][:, :3] == 1).all()
    assert len(images[1:3]) == 2 and np.array_equal(masks[1:][0], masks[1])


def test_annotated_frames_are_halved_not_all(tmp_path: Path) -> None:
    data = fill(tmp_path, {"bear": 8})
    for n in (0, 1, 2, 3):
        (data / "Annotations" / "bear" / f"{n:05d}.png").unlink()
    halves = find_halves(data)
    assert [frame.name for frame in halves.train] == ["bear/00004", "bear/00005"]
    assert all(frame.image.stem == frame.mask.stem for frame in (*halves.train, *halves.test))


def test_masks_of_0_and_255_have_one_object(tmp_path: Path) -> None:
    halves = find_halves(fill(tmp_path, {"bear": 4}, (0, 255)))
    assert halves.binary and halves.void is None
    assert set(np.unique(halves.masks(halves.train)[0])) == {0, 1}


def test_limits_and_names(tmp_path: Path) -> None:
    data = fill(tmp_path, {"bear": 12})
    (data / "classes.json").write_text(json.dumps({"classes": {"1": "Sky", "2": "Road"}}))
    halves = find_halves(data, limit=3, test_limit=1)
    assert [frame.name[-1] for frame in halves.train] == ["0", "2", "5"] and len(halves.test) == 1
    assert halves.names == {1: "Sky", 2: "Road"}
    (data / "classes.json").write_text("[1, 2]")
    assert find_halves(data).names == {}


def test_one_mask_per_sequence_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one mask per sequence: the second half has to test"):
        find_halves(fill(tmp_path, {"bear": 1, "cow": 1}))
