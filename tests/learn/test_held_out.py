"""Which videos and clips are held out: evenly spread, always the same, and only where enough is left."""

from __future__ import annotations

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from vidtrack.learn.held_out import HeldOut, choose_clips, has_split, held_out

SIZE = 16


def video(length: int, mark: int = 0) -> np.ndarray:
    """Every pixel tells the frame (red), the column (green) and the video (blue)."""
    made = np.zeros((length, 20, 30, 3), np.uint8)
    made[..., 0] = np.arange(length)[:, None, None]
    made[..., 1] = np.arange(30)
    made[..., 2] = mark
    return made


def test_one_name_in_ten_by_its_hash() -> None:
    names = [f"{number}.mp4" for number in range(40)]
    chosen = held_out(names)
    assert len(chosen) == 4 and chosen < set(names)
    assert held_out([*reversed(names), *names]) == chosen  # segments share the name of their video
    fewer = [name for name in names if name not in chosen]
    assert not held_out(fewer) & chosen and chosen & held_out([*fewer[:20], *chosen])
    assert held_out(names[:9]) == frozenset() and len(held_out(names[:10])) == 1
    assert len(held_out([str(number) for number in range(1000)])) == 16
    assert len(held_out([os.fsdecode(b"caf\xe9 %d.mp4" % number) for number in range(20)])) == 2


def test_a_split_is_found(tmp_path: Path) -> None:
    assert not has_split(tmp_path)
    table = tmp_path / "clips.csv"
    table.write_text("file,split\na.mp4,train\n")
    assert not has_split(tmp_path)
    table.write_text("file,split\na.mp4,train\nb.mp4,val\n")
    assert has_split(tmp_path)
    table.write_text("file\na.mp4\n")
    assert not has_split(tmp_path)


@pytest.mark.parametrize(("clips", "expected"), [(2, [1, 1]), (3, [1, 1, 1]), (7, [3, 2, 2]), (9, [3, 3, 3])])
def test_clips_are_spread_evenly(clips: int, expected: list[int]) -> None:
    videos, names = [video(60, mark) for mark in range(3)], ["c", "a", "b"]
    chosen = choose_clips(videos, names, HeldOut(clips=clips, frames=3, gap=2), SIZE)
    assert chosen is not None
    assert chosen.frames.shape == (clips, 3, 3, SIZE, SIZE) and chosen.frames.dtype == torch.uint8
    assert sorted(Counter(chosen.names).values(), reverse=True) == expected
    assert list(chosen.names) == sorted(chosen.names)
    for frames, name in zip(chosen.frames, chosen.names, strict=True):
        assert set(frames[:, 2].flatten().tolist()) == {names.index(name)}
        times = frames[:, 0, 0, 0].tolist()
        assert [after - before for before, after in pairwise(times)] == [2, 2]
    for name in set(chosen.names):  # several of one video: one in each equal stretch
        own = [int(f[0, 0, 0, 0]) for f, n in zip(chosen.frames, chosen.names, strict=True) if n == name]
        stretches = [int(start / (55 + 1) * len(own)) for start in own]
        assert stretches == list(range(len(own)))


def test_the_seed_and_the_videos_decide() -> None:
    videos, names = [video(30, mark) for mark in range(4)], ["a", "b", "b", "c"]
    one, two = (choose_clips(videos, names, HeldOut(clips=6), SIZE) for _ in range(2))
    turned = choose_clips(videos[::-1], ["c", "b", "b", "a"], HeldOut(clips=6), SIZE)
    other = choose_clips(videos, names, HeldOut(clips=6, seed=1), SIZE)
    assert one is not None and two is not None and turned is not None and other is not None
    assert torch.equal(one.frames, two.frames) and torch.equal(one.windows, two.windows)
    assert one.names == turned.names and torch.equal(one.windows, turned.windows)
    assert not torch.equal(one.frames, other.frames) and not torch.equal(one.windows, other.windows)
    x, y, side, mirrored = one.windows.unbind(dim=1)
    assert ((x >= 0) & (y >= 0) & (x + side <= 1) & (y + side <= 1) & (side >= 0.5) & (side <= 0.75)).all()
    assert mirrored.tolist() == [0, 1, 0, 1, 0, 1]


def test_short_videos() -> None:
    chosen = choose_clips([video(3, 1), video(5, 2)], ["a", "b"], HeldOut(clips=4, frames=4, gap=2), SIZE)
    assert chosen is not None and set(chosen.names) == {"b"}
    assert (chosen.frames[:, 1:, 0, 0, 0] - chosen.frames[:, :-1, 0, 0, 0]).unique().tolist() == [1]
    assert choose_clips([video(3)], ["a"], HeldOut(frames=4), SIZE) is None
    whole = choose_clips([video(4)], ["a"], HeldOut(clips=1, frames=4), 20)
    assert whole is not None and whole.frames[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3]
