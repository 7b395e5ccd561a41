"""Pictures by time, compared with a plain reading from the beginning."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.video import VideoReader, save_png
from vidtrack.video.spans import Sight, SpanReader

SPANS = [(0, None), (Fraction(1, 3), Fraction(1, 2)), (1, Fraction(6, 5)), (Fraction(6, 5), 2), (0, 1)]
FORMATS = [
    ("a.mp4", "libx264", "yuv420p", {"g": "7", "bf": "2"}),
    ("a.mkv", "libx264", "yuv420p", {"g": "250"}),
    ("a.ts", "libx264", "yuv420p", {"g": "7"}),
    ("a.avi", "mpeg4", "yuv420p", {"g": "7", "bf": "2"}),  # can't be sought: numbered by order
    ("b.avi", "mjpeg", "yuvj420p", {}),
    ("a.webm", "libvpx-vp9", "yuv420p", {"g": "7"}),
    ("a.gif", "gif", "rgb8", {}),
    ("a.mpg", "mpeg2video", "yuv420p", {"g": "7", "bf": "2"}),
]


def make(folder: Path, name: str, codec: str, pixels: str, options: dict[str, str], encode: Callable) -> Path:
    rng = np.random.default_rng(3)
    back = rng.integers(0, 200, (48, 64, 3)).astype(np.uint8)
    pictures = [np.roll(back, 2 * i, axis=1) + np.uint8(i) for i in range(50)]
    return encode(folder / name, codec, pixels, pictures, options=options)


def same(sights: list[Sight], frames: list[tuple[Fraction, np.ndarray]]) -> bool:
    return [s.time for s in sights] == [time for time, _ in frames] and all(
        np.array_equal(sight.rgb(None), image) for sight, (_, image) in zip(sights, frames, strict=True)
    )


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), FORMATS, ids=[f[0] for f in FORMATS])
def test_spans_are_those_of_a_plain_reading(
    name: str, codec: str, pixels: str, options: dict[str, str], encode: Callable, tmp_path: Path
) -> None:
    path = make(tmp_path, name, codec, pixels, options, encode)
    frames = [(frame.time, frame.image) for frame in VideoReader(path, prefetch=0)]
    with SpanReader(path) as reader:
        for begin, end in SPANS:
            wanted = [f for f in frames if f[0] >= begin and (end is None or f[0] < end)]
            got = list(reader.between(Fraction(begin), None if end is None else Fraction(end)))
            assert same(got, wanted)
        next(reader.between(Fraction(0)))  # left in the middle
        assert same(list(reader.between(Fraction(3, 2))), [f for f in frames if f[0] >= Fraction(3, 2)])
        keys = list(reader.keys(Fraction(1, 4)))
        assert keys[0].time == frames[0][0]
        assert all(b.time - a.time >= Fraction(1, 4) for a, b in pairwise(keys))
        assert (len(keys) > 3) == (name not in ("a.mkv", "a.avi", "a.gif"))
        known = dict(frames)
        assert all(np.array_equal(key.rgb(None), known[key.time]) for key in keys)


def missing_of(path: Path) -> float:
    with SpanReader(path) as reader:
        last = list(reader.keys(Fraction(1, 2)))[-1].time
        assert list(reader.between(last))[-1].time > last
        return reader.missing()


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), FORMATS, ids=[f[0] for f in FORMATS])
def test_a_file_that_ends_early_says_how_much_is_missing(
    name: str, codec: str, pixels: str, options: dict[str, str], encode: Callable, tmp_path: Path
) -> None:
    header = {"movflags": "faststart"} if name == "a.mp4" else {}  # where a cut doesn't lose it
    path = make(tmp_path, name, codec, pixels, options, partial(encode, container=header))
    seconds = [frame.time for frame in VideoReader(path, prefetch=0)][-1]
    assert missing_of(path) == 0
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    reader = VideoReader(path, prefetch=0)
    left = [frame.time for frame in reader if not frame.damaged][-1]
    told = any("ends early" in sentence for sentence in reader.warnings)
    assert told == (path.suffix not in (".ts", ".mpg"))  # these promise nothing
    lost = 0.04 if name == "a.gif" else float(seconds - left)  # whose images are not counted in advance
    assert missing_of(path) == pytest.approx(lost if told else 0, abs=0.045)


def test_a_turned_video_is_upright_and_shrinks(encode: Callable, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", rotation=90)
    with SpanReader(path) as reader:
        sight = next(reader.between(Fraction(0)))
        assert sight.rgb(None).shape == (64, 48, 3)
        assert sight.rgb((12, 20)).shape == (20, 12, 3)


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for i in range(60):
        save_png(tmp_path / f"{i}.png", np.full((8, 10, 3), i, np.uint8))
    (tmp_path / "7.png").write_bytes(b"broken")
    with SpanReader(tmp_path) as reader:
        found = [int(s.rgb((5, 4))[0, 0, 0]) for s in reader.between(Fraction(1, 5), Fraction(2, 5))]
        assert found == [5, 6, 8, 9]
        assert [s.time for s in reader.keys(Fraction(1, 2))] == [Fraction(13 * i, 25) for i in range(5)]
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4"):
        SpanReader(tmp_path / "text.mp4")
