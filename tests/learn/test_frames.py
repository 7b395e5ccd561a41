"""The cache of decoded frames: what is in it, how large it gets, and what it does with shots."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.learn.frames import (
    build_cache,
    choose_parts,
    list_videos,
    pictures_beside,
    sampled_frames,
)
from vidtrack.learn.index.shots import Shot
from vidtrack.learn.packs import STALE, sampled
from vidtrack.learn.settings import Data
from vidtrack.video import VideoWriter, save_png


def land(seed: int, frames: int) -> list[np.ndarray]:
    """A camera that moves over a random landscape."""
    grid = np.random.default_rng(seed).integers(0, 255, (12, 60, 3)).astype(np.uint8)
    whole = cv2.resize(grid, (576, 128), interpolation=cv2.INTER_CUBIC)
    return [whole[:64, i : i + 96].copy() for i in range(frames)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    (folder / "deep" / "er").mkdir(parents=True)
    bars = [np.pad(picture, ((16, 16), (0, 0), (0, 0))) for picture in land(2, 40)]
    for name, pictures in {
        "deep/er/cut.mp4": land(0, 30) + land(1, 30),
        "bars.mp4": bars,
        "plain.mp4": land(3, 90),
    }.items():
        height, width = pictures[0].shape[:2]
        with VideoWriter(folder / name, width, height, Fraction(12)) as writer:
            for picture in pictures:
                writer.write(picture)
    (folder / ".hidden.mp4").write_text("")
    return folder


def test_clips_come_from_shots_without_bars(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    cache = build_cache(folder, Data(short_side=32), tmp_path, 4, announce=told.append)
    assert cache.names == ["bars.mp4", "deep/er/cut.mp4", "deep/er/cut.mp4", "plain.mp4"]
    assert [video.shape for video in cache.videos] == [
        (20, 32, 48, 3),
        *[(15, 32, 48, 3)] * 2,
        (45, 32, 48, 3),
    ]
    assert cache.videos[0].min(axis=(1, 2, 3)).max() > 0 or cache.videos[0][:, 0].mean() > 30  # no black row
    assert told[0] == cache.summary and "3 videos, 1 hard cut" in told[0]
    assert told[1].startswith("95 frames of 4 shots: 0.00044 GB")
    whole = np.stack(list(sampled_frames(folder / "deep" / "er" / "cut.mp4", 32, 6.0)))
    assert np.array_equal(np.concatenate(cache.videos[1:3]), whole)


@pytest.mark.parametrize("gigabytes", [1.0, 1e-4])
def test_threads_change_nothing_and_a_second_call_decodes_nothing(
    folder: Path, tmp_path: Path, gigabytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Data(short_side=32, cache_gb=gigabytes)
    one = build_cache(folder, settings, tmp_path / "1", 4, threads=1)
    three = build_cache(folder, settings, tmp_path / "3", 4, threads=3)
    monkeypatch.setattr("vidtrack.learn.packs._decode", None)
    again = build_cache(folder, settings, tmp_path / "1", 4)
    for other in (three, again):
        assert other.names == one.names
        assert all(np.array_equal(a, b) for a, b in zip(one.videos, other.videos, strict=True))


def test_the_cache_is_bounded_and_holds_parts_of_every_shot(folder: Path, tmp_path: Path) -> None:
    settings = Data(short_side=32, cache_gb=4 * 9 * 32 * 48 * 3 / 1e9)
    cache = build_cache(folder, settings, tmp_path, 4)
    assert sum(path.stat().st_size for path in tmp_path.glob("frames-*.raw")) <= settings.cache_gb * 1e9
    assert set(cache.names) == {"bars.mp4", "deep/er/cut.mp4", "plain.mp4"}
    whole = np.stack(list(sampled_frames(folder / "plain.mp4", 32, 6.0)))
    starts = [int(np.abs(whole.astype(int) - v[0]).sum(axis=(1, 2, 3)).argmin()) for v in cache.videos[3:]]
    for start, video in zip(starts, cache.videos[3:], strict=True):
        assert np.array_equal(video, whole[start : start + len(video)])  # sought, and yet the same


def shot(name: str, seconds: int, size: tuple[int, int] = (100, 100)) -> Shot:
    return Shot(Path(name), name, Fraction(0), Fraction(seconds), None, size, Fraction(25), 9.0, ())


def test_parts_are_spread_over_long_shots_and_over_many() -> None:
    square = 3 * 10**2 / 1e9  # gigabytes of a frame
    parts = choose_parts([shot("a", 100), shot("b", 2)], Data(short_side=10, cache_gb=108 * square), 4)
    assert [(p.shot.name, p.count) for p in parts] == [("a", 32)] * 3 + [("b", 12)]
    assert parts[0].begin == 0 and float(parts[2].begin) == pytest.approx((600 - 32) / 6)
    many = [shot(str(i), 10) for i in range(100)]
    chosen = choose_parts(many, Data(short_side=10, cache_gb=80 * square), 4)
    assert len(chosen) == 20 and sum(p.count for p in chosen) <= 80
    assert chosen[0].shot is many[0] and chosen[-1].shot is many[-1]
    assert choose_parts([], Data(), 4) == []


def test_a_video_that_goes_while_it_is_wanted_is_skipped(folder: Path, tmp_path: Path) -> None:
    for name in ("bars.mp4", "plain.mp4"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    cache = build_cache(
        tmp_path,
        Data(short_side=32),
        tmp_path / "cache",
        4,
        announce=lambda text: (tmp_path / "bars.mp4").unlink(missing_ok=True),
    )
    assert cache.names == ["plain.mp4"]
    assert "does not exist" in cache.skipped[0][1]


def test_what_vidtrack_wrote_is_no_footage(folder: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a_vidtrack/overlay.mp4", "b.partial/overlay.mp4", "theirs/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / "plain.mp4").read_bytes())
    (tmp_path / "a_vidtrack" / "masks").mkdir()
    save_png(tmp_path / "a_vidtrack" / "masks" / "0.png", land(0, 1)[0])
    (tmp_path / "a_vidtrack" / "report.json").write_text('{"schema": 2, "versions": {}}')
    (tmp_path / "theirs" / "report.json").write_text('{"scores": []}')
    assert list_videos(tmp_path, None) == [tmp_path / "a.mp4", tmp_path / "theirs" / "c.mp4"]
    assert list_videos(tmp_path / "a_vidtrack", None)  # but who names it means it


def test_videos_are_found_at_any_depth(folder: Path, tmp_path: Path) -> None:
    hidden = tmp_path / ".hidden" / "data"  # above the folder, it doesn't matter
    (hidden / ".cache").mkdir(parents=True)
    (hidden / "sub").mkdir()
    for name in ("sub/a.MP4", ".cache/b.mp4", "sub/notes.txt", "c.mts"):
        (hidden / name).write_text("x")
    assert list_videos(hidden, None) == [hidden / "c.mts", hidden / "sub" / "a.MP4"]


def test_the_rate_of_folders_of_frames_is_told(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    build_cache(folder, Data(short_side=32), tmp_path / "cache", 4, announce=told.append)
    assert not any("folders of frames" in line for line in told)
    for number, image in enumerate(land(5, 24)):
        (tmp_path / "data" / "scene").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "data" / "scene" / f"{number:03d}.png"), image)
    found = build_cache(tmp_path / "data", Data(short_side=32), tmp_path / "other", 4, announce=told.append)
    assert "folders of frames are taken to hold 25 frames per second" in told
    assert [len(video) for video in found.videos] == [6]  # of 24 frames, 0.96 seconds, 6 a second


def test_a_split_needs_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("x")
    for split in (None, "train"):
        assert list_videos(tmp_path, split) == [tmp_path / "a.mp4"]
    for where in (tmp_path, tmp_path / "a.mp4"):
        with pytest.raises(InputError, match=r"data\.split=mine asks for a clips\.csv"):
            list_videos(where, "mine")
    (tmp_path / "clips.csv").write_text("file,split\na.mp4,mine\n")
    assert list_videos(tmp_path, "mine") == [tmp_path / "a.mp4"]


def test_what_a_kill_left_in_a_shared_cache_goes_in_time(folder: Path, tmp_path: Path) -> None:
    old, fresh = (tmp_path / f".frames-{name}.partial-7.raw" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * STALE,) * 2)
    build_cache(folder, Data(short_side=32), tmp_path, 4)
    assert not old.exists() and fresh.exists()


def test_a_table_may_list_a_file_twice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.mp4").symlink_to(folder / "plain.mp4")
    (tmp_path / "clips.csv").write_text("file,split\nplain.mp4,train\nplain.mp4,train\n")
    assert build_cache(tmp_path, Data(short_side=32), tmp_path / "cache", 4).names == ["plain.mp4"]


def test_thumbnails_beside_videos_are_no_frames(folder: Path, tmp_path: Path) -> None:
    for inner in ("talks", "frames"):
        (tmp_path / inner).mkdir()
        for number, picture in enumerate(land(4, 12)):
            save_png(tmp_path / inner / f"{number:05d}.png", picture)
    shutil.copy(folder / "plain.mp4", tmp_path / "talks" / "talk.mp4")
    assert list_videos(tmp_path, None) == [tmp_path / "frames", tmp_path / "talks" / "talk.mp4"]
    assert pictures_beside(tmp_path) == [tmp_path / "talks"]
    cache = build_cache(tmp_path, Data(short_side=32), tmp_path / ".cache", 2)
    assert set(cache.names) == {"frames", "talks/talk.mp4"}
    (why,) = (why for name, why in cache.skipped if name == f"{tmp_path.name}/talks")
    assert "thumbnails" in why and "a folder of their own" in why


@pytest.mark.parametrize("rate", [24, 30])
def test_times_in_milliseconds_lose_no_frame(rate: int) -> None:
    exact = [Timed(Fraction(number, rate)) for number in range(2 * rate)]
    rounded = [Timed(Fraction(round(1000 * one.time), 1000)) for one in exact]  # as Matroska has them
    for frames in (exact, rounded):
        assert list(sampled(frames, Fraction(0), rate)) == frames  # as fast as the video: all of it
        assert list(sampled(frames, Fraction(0), 6)) == frames[:: rate // 6]


@dataclass(frozen=True)
class Timed:
    """A picture of which only the time matters."""

    time: Fraction
