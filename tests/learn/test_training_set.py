"""What is learned from and what is validated on never mix."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from pretrain.sampler import StepSampler
from vidtrack.learn.clips import ClipDataset
from vidtrack.learn.held_out import held_out
from vidtrack.learn.same_videos import require_same
from vidtrack.learn.settings import TrackConfig
from vidtrack.learn.training_set import read_training_set
from vidtrack.video import VideoWriter

NAMES = [f"{number}.mp4" for number in range(12)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        rng = np.random.default_rng(seed)
        with VideoWriter(folder / name, 48, 40, Fraction(6)) as writer:
            for frame in rng.integers(0, 256, (5, 5, 6, 3), dtype=np.uint8):
                writer.write(frame.repeat(8, 0).repeat(8, 1))
    return folder


def config(**data: Any) -> TrackConfig:
    index = {"cuts": None, "static": None, "bars": None, "duplicates": None}
    return TrackConfig.model_validate(
        {
            "data": {"short_side": 40, "cache_gb": 0.01, "index": index, **data},
            "clips": {"frames": 2, "crop": 32},
            "validation": {"clips": {"clips": 12, "frames": 2, "gap": 1}},
        }
    )


def write_table(folder: Path) -> None:
    rows = [f"{name},{'val' if name in NAMES[:3] else 'train'}" for name in NAMES]
    (folder / "clips.csv").write_text("\n".join(["file,split", *rows]))


@pytest.mark.parametrize("split", ["train", None, "val"])
def test_a_split_for_validation(split: str | None, videos: Path, tmp_path: Path) -> None:
    write_table(videos)
    told: list[str] = []
    try:
        found = read_training_set(videos, config(split=split), tmp_path, announce=told.append)
    finally:
        (videos / "clips.csv").unlink()
    unseen = set() if found.clips is None else set(found.clips.names)
    assert not unseen & set(found.names) and len(found.videos) == len(found.names)
    if split == "train":
        assert set(found.names) == set(NAMES[3:]) and unseen == set(NAMES[:3])
    elif split is None:  # all are learned from but for what a hash holds out
        assert unseen == held_out(NAMES) and set(found.names) == set(NAMES) - unseen
    else:
        assert set(found.names) == set(NAMES[:3]) and found.clips is None
        assert any("no validation" in line for line in told)


def test_licences_choose_what_is_learned_from_and_not_what_is_validated_on(
    videos: Path, tmp_path: Path
) -> None:
    rows = [
        f"{name},{'val' if number < 3 else 'train'},{'MIT' if 3 < number < 6 else 'none stated'}"
        for number, name in enumerate(NAMES)
    ]
    (videos / "clips.csv").write_text("\n".join(["file,split,licence", *rows]))
    try:
        found = read_training_set(videos, config(licences=["BSD", "MIT"]), tmp_path)
        with pytest.raises(InputError, match="no video files of split 'train' and licences BSD"):
            read_training_set(videos, config(licences=["BSD"]), tmp_path)
        write_table(videos)
        with pytest.raises(InputError, match=r"must have the column licence: data\.licences asks for it"):
            read_training_set(videos, config(licences=["MIT"]), tmp_path)
    finally:
        (videos / "clips.csv").unlink()
    for source in (videos, videos / NAMES[0]):
        with pytest.raises(InputError, match=r"data\.licences asks for a clips\.csv"):
            read_training_set(source, config(licences=["MIT"]), tmp_path)
    assert found.clips is not None and set(found.clips.names) == set(NAMES[:3])
    assert set(found.names) == set(NAMES[4:6])


def test_without_a_table_one_video_in_ten_is_held_out(videos: Path, tmp_path: Path) -> None:
    told: list[str] = []
    found = read_training_set(videos, config(), tmp_path, announce=told.append)
    assert found.clips is not None and len(found.clips.frames) == 12
    (unseen,) = set(found.clips.names)
    assert set(found.names) == set(NAMES) - {unseen}
    assert any(unseen in line for line in told)
    again = read_training_set(videos, config(), tmp_path)
    assert again.names == found.names
    assert all(np.array_equal(a, b) for a, b in zip(again.videos, found.videos, strict=True))


def test_one_video_is_learned_from_without_validation(videos: Path, tmp_path: Path) -> None:
    found = read_training_set(videos / NAMES[0], config(), tmp_path)
    assert set(found.names) == {NAMES[0]} and found.clips is None


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "as Excel writes it"])
def test_a_column_of_splits_may_come_first(start: str, videos: Path, tmp_path: Path) -> None:
    rows = [f"{'val' if name in NAMES[:3] else 'train'},{name}" for name in NAMES]
    (videos / "clips.csv").write_text("\n".join([f"{start}split,file", *rows]), encoding="utf-8")
    try:
        found = read_training_set(videos, config(split="train"), tmp_path)
    finally:
        (videos / "clips.csv").unlink()
    assert found.clips is not None and set(found.clips.names) == set(NAMES[:3])


def test_a_split_for_validation_that_is_of_no_use_stops_nothing(videos: Path, tmp_path: Path) -> None:
    write_table(videos)
    kept = [(videos / name).read_bytes() for name in NAMES[:3]]
    try:
        for name in NAMES[:3]:
            (videos / name).write_bytes(b"broken")
        found = read_training_set(videos, config(split="train"), tmp_path)
    finally:
        (videos / "clips.csv").unlink()
        for name, content in zip(NAMES[:3], kept, strict=True):
            (videos / name).write_bytes(content)
    assert found.clips is None and set(found.names) == set(NAMES[3:])
    assert found.skipped[-1][0] == "split val" and "no validation: " in found.skipped[-1][1]


def test_parts_of_a_shot_share_its_draws(videos: Path, tmp_path: Path) -> None:
    one, two, other = (np.full((4, 40, 48, 3), value, np.uint8) for value in (10, 20, 200))
    clips = ClipDataset([one, two, other], config().clips, [0, 0, 7])
    seen = [
        int(clips[draw].frames[0, 0, 0, 0]) for step in StepSampler(len(clips), 2, 40, 0) for draw in step
    ]
    assert seen.count(200) == 40 and min(seen.count(10), seen.count(20)) > 10
    found = read_training_set(videos, config(split=None, cache_gb=1e-4), tmp_path)
    assert len(found.shots) == len(found.videos) == len(found.names)


@pytest.mark.parametrize("change", [None, "pixels", "coded"])
def test_a_run_goes_on_with_the_same_pictures_only(change: str | None, videos: Path, tmp_path: Path) -> None:
    found = read_training_set(videos, config(split=None), tmp_path / "cache")
    require_same(tmp_path, NAMES, found, resumed=False)
    if change is not None:
        now = found.videos[3].astype(int) + (1 if change == "coded" else 0)
        now = now if change == "coded" else now[:, ::-1]
        found.videos[3] = now.clip(0, 255).astype(np.uint8)
    if change == "pixels":
        with pytest.raises(
            InputError, match=rf"begun with other .*\({found.names[3]} shows something else\)"
        ):
            require_same(tmp_path, NAMES, found, resumed=True)
    else:
        require_same(tmp_path, NAMES, found, resumed=True)
