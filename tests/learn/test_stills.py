"""Images out of raw videos: which frames, which squares, how many, and what is kept for the next call."""

import json
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.learn import stills
from vidtrack.learn.frames import list_videos, sampled_frames
from vidtrack.learn.stills import read_data, sample_stills
from vidtrack.video import VideoWriter

TIMES = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def write_video(
    path: Path, frames: int, rate: int = 4, size: tuple[int, int] = (64, 32), hue: int = 0
) -> Path:
    """Red rises with time, green from left to right (or from top to bottom), blue is `hue`."""
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(20, 235, max(size)).astype(np.uint8)
    with VideoWriter(path, width, height, Fraction(rate)) as writer:
        for t in range(frames):
            image = np.full((height, width, 3), hue, np.uint8)
            image[..., 0] = 20 + 200 * t // max(1, frames - 1)
            image[..., 1] = ramp if width >= height else ramp[:, None]
            writer.write(image)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide, tall and short: 12, 6 and 2 frames at 2 per second, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", 24)
    write_video(folder / "sub" / "b.mp4", 12, size=(32, 96), hue=120)
    write_video(folder / "c.mp4", 3, hue=240)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


def test_all_frames_at_the_rate(videos: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = sample_stills(videos, 16, progress=lambda done, total: calls.append((done, total)))
    assert found.images.shape == (20, 16, 16, 3) and found.images.dtype == np.uint8
    assert found.labels is None and found.classes == ()
    expected = {"a.mp4": 12, "c.mp4": 2, "sub/b.mp4": 6}
    assert found.names == tuple(f"{name}#{n}" for name, count in expected.items() for n in range(count))
    assert [name for name, _ in found.skipped] == ["broken.mp4"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    red = found.images[:12, :, :, 0].mean(axis=(1, 2))
    assert (np.diff(red) > 5).all()  # in the order of time


def test_each_image_is_a_square_of_its_frame(videos: Path) -> None:
    found = sample_stills(videos, 16)
    images = dict(zip(found.names, found.images, strict=True))
    lefts = []
    for name in ("a.mp4", "sub/b.mp4", "c.mp4"):
        for number, frame in enumerate(sampled_frames(videos / name, 16, 2.0)):
            height, width = frame.shape[:2]
            places = [(y, x) for y in range(height - 15) for x in range(width - 15)]
            image = images[f"{name}#{number}"]
            fits = [(y, x) for y, x in places if (frame[y : y + 16, x : x + 16] == image).all()]
            assert fits  # an exact part of the frame, whose short side is the size
            lefts.append(max(fits[0]))
    assert len(set(lefts)) > 6 and min(lefts) < 4 and max(lefts) > 12  # not always the middle


def test_places_do_not_depend_on_the_folder_or_the_call(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path / "moved")
    one, two = sample_stills(videos, 16), sample_stills(tmp_path / "moved", 16)
    assert one.names == two.names and (one.images == two.images).all()


@pytest.mark.parametrize("limit", [3, 4, 7, 11, 19, 20, 50])
def test_a_limit_is_shared_evenly_and_gives_the_same_images(videos: Path, limit: int) -> None:
    everything = sample_stills(videos, 16)
    whole = dict(zip(everything.names, everything.images, strict=True))
    found = sample_stills(videos, 16, limit=limit)
    assert len(found) == len(set(found.names)) == min(limit, 20)
    for name, image in zip(found.names, found.images, strict=True):
        assert (whole[name] == image).all()
    counts = [sum(name.startswith(video) for name in found.names) for video in ("a.", "sub/b.", "c.")]
    share = max(counts)
    assert all(count == most or share - count <= 1 for count, most in zip(counts, (12, 6, 2), strict=True))
    assert min(counts) > 0
    numbers = [int(name.split("#")[1]) for name in found.names if name.startswith("a.")]
    gaps = np.diff([-1, *numbers, 12])
    assert gaps.max() <= 2 * 12 / len(numbers)  # over all of its time


def test_fewer_images_than_videos(videos: Path) -> None:
    assert sample_stills(videos, 16, limit=1).names == ("c.mp4#1",)
    assert len(sample_stills(videos, 16, limit=2)) == 2


@given(TIMES, st.integers(1, 200))
def test_wanted_frames(lengths: list[int], limit: int) -> None:
    wanted = stills._wanted(lengths, limit)
    counts = [len(numbers) for numbers in wanted]
    assert sum(counts) == min(limit, sum(lengths))
    for numbers, length in zip(wanted, lengths, strict=True):
        assert numbers == sorted(set(numbers)) and all(0 <= number < length for number in numbers)
    if limit >= len(lengths):
        assert min(counts) > 0
        assert all(n == m or max(counts) - n <= 1 for n, m in zip(counts, lengths, strict=True))


def test_rate(videos: Path) -> None:
    assert len(sample_stills(videos / "a.mp4", 8, rate=4)) == 24
    assert len(sample_stills(videos / "a.mp4", 8, rate=100)) == 24  # there are no more
    assert len(sample_stills(videos / "a.mp4", 8, rate=100, limit=6)) == 6  # spread over those there are
    assert len(sample_stills(videos / "a.mp4", 8, rate=0.5)) == 3


def test_one_video(videos: Path) -> None:
    found = sample_stills(videos / "sub" / "b.mp4", 16, limit=2)
    assert found.names == ("b.mp4#1", "b.mp4#4")


def test_a_video_that_ends_early_leaves_no_gap(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers may promise more frames than there are."""
    right = sample_stills(videos, 16)
    told = stills._length
    monkeypatch.setattr(stills, "_length", lambda path, rate: told(path, rate) + 5)
    found = sample_stills(videos, 16)
    assert found.names == right.names and (found.images == right.images).all()
    limited = sample_stills(videos, 16, limit=20)
    whole = dict(zip(right.names, right.images, strict=True))
    assert 0 < len(limited) < 20
    assert all(
        (whole[name] == image).all() for name, image in zip(limited.names, limited.images, strict=True)
    )


def test_a_video_that_tells_no_length_is_counted(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    probe = stills.probe
    monkeypatch.setattr(stills, "probe", lambda path: replace(probe(path), duration=None, frames=None))
    assert stills._length(videos / "a.mp4", 2.0) == 12


def test_a_video_that_breaks_while_it_is_read(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(path: Path, *options: Any) -> object:
        for frame in sampled_frames(path, *options):
            yield frame
            if path.name == "a.mp4":
                raise InputError("it breaks off.")

    right = sample_stills(videos, 16)
    monkeypatch.setattr(stills, "sampled_frames", breaks)
    found = sample_stills(videos, 16)
    assert dict(found.skipped)["a.mp4"] == "it breaks off."
    assert found.names == right.names[12:] and (found.images == right.images[12:]).all()


@pytest.mark.parametrize(("limit", "lost"), [(None, True), (20, True), (2, False)])
def test_a_video_that_ends_early_is_told(tmp_path: Path, limit: int | None, lost: bool) -> None:
    """Its images count as far as it goes; where the last one comes before its end, nobody looks further."""
    source = write_video(tmp_path / "whole.mp4", 480)
    (tmp_path / "data").mkdir()
    with av.open(source) as whole_file, av.open(tmp_path / "data" / "cut.mkv", "w") as file:
        stream = file.add_stream_from_template(whole_file.streams.video[0])
        for packet in whole_file.demux():
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    whole = sample_stills(tmp_path / "data", 16, limit=limit)
    assert not whole.skipped
    path = tmp_path / "data" / "cut.mkv"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    found = sample_stills(tmp_path / "data", 16, limit=limit, cache=tmp_path / "cache")
    assert found.names == whole.names[: len(found)]
    assert (len(found) < len(whole)) == lost == bool(found.skipped)
    for name, why in found.skipped:
        end = re.fullmatch(r"cut\.mkv from 1:(\d\d\.\d) on", name)
        assert end is not None and why == "the file ends there too early: is it complete?"
        last = int(found.names[-1].split("#")[1]) / 2
        assert last < 60 + float(end[1]) <= last + (0.5 if limit is None else 6) + 0.3
    assert (
        sample_stills(tmp_path / "data", 16, limit=limit, cache=tmp_path / "cache").skipped == found.skipped
    )


def test_splits(videos: Path, tmp_path: Path) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    (tmp_path / "clips.csv").write_text("file,split\na.mp4,train\nsub/b.mp4,test\nmissing.mp4,test\n")
    found = sample_stills(tmp_path, 16, split="test")
    assert {name.split("#")[0] for name in found.names} == {"sub/b.mp4"}
    assert [name for name, _ in found.skipped] == ["missing.mp4"]
    assert {name.split("#")[0] for name in sample_stills(tmp_path, 16).names} == {"a.mp4"}


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    decoded: list[Path] = []

    def counted(path: Path, *options: Any) -> object:
        decoded.append(path)
        return sampled_frames(path, *options)

    monkeypatch.setattr(stills, "sampled_frames", counted)
    return decoded


def test_the_cache(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data", tmp_path / "deep" / "cache"
    shutil.copytree(videos, data)
    decoded = count_decoded(monkeypatch)
    first = sample_stills(data, 16, limit=9, cache=cache)
    assert len(decoded) == 3
    again = sample_stills(data, 16, limit=9, cache=cache)
    assert len(decoded) == 3
    assert again.names == first.names and again.skipped == first.skipped and again.labels is None
    assert (again.images == first.images).all() and again.images.flags.writeable
    assert sorted(p.suffix for p in cache.iterdir()) == [".json", ".npy"]  # nothing unfinished
    for changed in ({"limit": 8}, {"rate": 1.0}, {"size": 12}, {"split": None}):
        before = len(decoded)
        sample_stills(data, **{"size": 16, "limit": 9, "cache": cache} | changed)  # type: ignore[arg-type]
        assert len(decoded) == before + 3
    os.utime(data / "c.mp4", (1, 1))
    before = len(decoded)
    sample_stills(data, 16, limit=9, cache=cache)
    assert len(decoded) == before + 3
    (data / "c.mp4").unlink()
    assert not any(name.startswith("c.") for name in sample_stills(data, 16, limit=9, cache=cache).names)


@pytest.mark.parametrize("damage", ["cut", "table", "other", "lost"])
def test_a_damaged_cache_is_made_again(videos: Path, tmp_path: Path, damage: str) -> None:
    first = sample_stills(videos, 16, cache=tmp_path)
    array, table = next(tmp_path.glob("*.npy")), next(tmp_path.glob("*.json"))
    if damage == "cut":
        array.write_bytes(array.read_bytes()[:500])
    elif damage == "table":
        table.write_text("{")
    elif damage == "other":
        table.write_text(json.dumps(json.loads(table.read_text()) | {"key": "0"}))
        np.save(array, 0 * first.images)
    else:
        array.unlink()
    again = sample_stills(videos, 16, cache=tmp_path)
    assert again.names == first.names and (again.images == first.images).all()
    assert np.load(array).shape == first.images.shape


def test_the_cache_sees_a_new_frame_in_a_folder_of_frames(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "frames"
    folder.mkdir(parents=True)
    for n in range(3):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((20, 30, 3), 40 * n, np.uint8))
    assert len(sample_stills(tmp_path / "data", 16, rate=25, cache=tmp_path)) == 3
    cv2.imwrite(str(folder / "3.png"), np.full((20, 30, 3), 200, np.uint8))
    found = sample_stills(tmp_path / "data", 16, rate=25, cache=tmp_path)
    assert found.names[3] == "frames#3" and (found.images[3] == 200).all()


def test_the_cache_is_refused_before_the_work(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decoded(monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        sample_stills(videos, 16, cache=tmp_path / "file" / "cache")
    assert not decoded


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": 0}, "size=0"),
        ({"rate": 0.0}, "rate=0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_impossible_numbers(videos: Path, changes: dict[str, int], sentence: str) -> None:
    for read in (sample_stills, read_data):
        with pytest.raises(InputError, match=sentence):
            read(videos, **{"size": 16} | changes)  # type: ignore[operator]


def test_no_video_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"no video that can be read \(x\.mp4: "):
        sample_stills(tmp_path, 16)
    with pytest.raises(InputError, match="no folder or video"):
        sample_stills(tmp_path / "none", 16)


def save_image(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))


def test_whatever_the_user_has(videos: Path, tmp_path: Path) -> None:
    assert read_data(videos, 16, limit=4).names == sample_stills(videos, 16, limit=4).names
    assert read_data(videos, 16, rate=1.0).names == sample_stills(videos, 16, rate=1.0).names
    assert read_data(videos / "a.mp4", 16, limit=2).names == ("a.mp4#3", "a.mp4#9")
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        save_image(tmp_path / "classes" / name)
    found = read_data(tmp_path / "classes", 16, limit=2)
    assert found.classes == ("cat", "dog") and len(found) == 2
    shutil.make_archive(str(tmp_path / "packed"), "gztar", tmp_path / "classes")
    assert read_data(tmp_path / "packed.tar.gz", 16).classes == ("cat", "dog")
    for n in range(3):
        save_image(tmp_path / "frames" / "bear" / f"{n:05d}.jpg")
    found = read_data(tmp_path / "frames", 16)
    assert found.names == tuple(f"bear/{n:05d}.jpg" for n in range(3))


@pytest.mark.parametrize("layout", ["{name}", "train/{name}"])
def test_both_kinds_in_one_folder(videos: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(videos, tmp_path, dirs_exist_ok=True)
    save_image(tmp_path / layout.format(name="cat/1.png"))
    with pytest.raises(InputError, match=r"holds 1 images and 4 videos.*only one of the two"):
        read_data(tmp_path, 16)
    save_image(tmp_path / layout.format(name="dog/1.png"))
    assert read_data(tmp_path, 16).classes == ("cat", "dog")
    save_image(tmp_path / ".hidden" / "x.png")  # has no say
    assert read_data(tmp_path, 16).classes == ("cat", "dog")
    save_image(tmp_path / layout.format(name="loose.png"))
    with pytest.raises(InputError, match="3 images and 4 videos"):
        read_data(tmp_path, 16)
    (tmp_path / "clips.csv").write_text("file,split\na.mp4,train\n")
    assert read_data(tmp_path, 16, limit=1).names == ("a.mp4#6",)


def test_neither_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images and no videos"):
        read_data(tmp_path, 16)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="no tar file and no video"):
        read_data(tmp_path / "notes.txt", 16)
    with pytest.raises(InputError, match="is missing"):
        read_data(tmp_path / "none", 16)


def test_real_clips(data: Path, tmp_path: Path) -> None:
    clips = list_videos(data / "train", "train")[:60:20]
    for clip in clips:
        (tmp_path / clip.name).symlink_to(clip)
    found = read_data(tmp_path, 64, limit=12, rate=2.0)
    assert 9 <= len(found) <= 12 and not found.skipped  # a clip may be a frame shorter than it says
    assert {name.split("#")[0] for name in found.names} == {clip.name for clip in clips}
    assert (found.images.std(axis=(1, 2, 3)) > 5).all()  # pictures of something
