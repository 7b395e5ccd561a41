"""Damaged files: what yields frames is read with one warning, the rest is refused in one sentence."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from vidtrack.video import Frame, VideoReader

FRONT = {"movflags": "faststart"}  # the index comes first, so that a cut leaves it whole


def read(path: Path) -> tuple[list[Frame], list[str]]:
    with VideoReader(path) as reader:
        frames = list(reader)
    return frames, reader.warnings


def packets(path: Path) -> list[tuple[int, int]]:
    """Place in the file and size of the packets, in decoding order."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def damage(path: Path, places: list[tuple[int, int]]) -> None:
    """Overwrite the packets with zeros."""
    data = bytearray(path.read_bytes())
    for place, size in places:
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


def test_one_bad_packet_repeats_the_frame_before_it(tmp_path, encode, level):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", 20)
    damage(path, packets(path)[7:8])
    frames, warnings = read(path)
    assert [f.index for f in frames] == list(range(20))
    assert [f.time for f in frames] == [Fraction(i, 25) for i in range(20)]
    assert [f.damaged for f in frames] == [i == 7 for i in range(20)]
    assert not any(f.doubtful for f in frames)  # each picture is a key picture
    assert [level(f.image) for f in frames] == [6 if i == 7 else i for i in range(20)]
    assert len(warnings) == 1
    assert "1 of 20 frames could not be decoded" in warnings[0]


def test_reading_goes_on_after_a_lost_key_frame(tmp_path, encode, textured):
    """FFmpeg raises for the key frame and drops all that was predicted from it without a word."""
    groups = {"g": "10", "keyint_min": "10", "sc_threshold": "0"}  # key frames are 0, 10, 20 and 30
    path = encode(tmp_path / "a.mp4", frames=textured, options=groups, container=FRONT)
    clean, _ = read(path)
    damage(path, packets(path)[10:11])
    frames, warnings = read(path)
    assert [f.index for f in frames] == list(range(40))
    assert [f.time for f in frames] == [f.time for f in clean]
    assert (
        sum(f.damaged for f in frames[9:20]) >= 8
    )  # some decoders hand out the last ones, or lose one before
    for i in (*range(9), *range(20, 40)):
        assert not frames[i].damaged and not frames[i].doubtful
        np.testing.assert_array_equal(frames[i].image, clean[i].image)
    for before, frame in pairwise(frames):
        if frame.damaged:
            np.testing.assert_array_equal(frame.image, before.image)
    assert len(warnings) == 1
    assert f"{sum(f.damaged for f in frames)} of 40 frames" in warnings[0]


def made_up(path: Path) -> list[int]:
    """The pictures that a decoder with one thread says it has made up in part."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return [i for i, picture in enumerate(container.decode(video=0)) if picture.is_corrupt]


@pytest.mark.parametrize("number", [5, 10])
def test_a_picture_that_was_made_up_in_part_is_told(tmp_path, encode, number):
    """A decoder fills what it can't make out of a packet, and raises nothing."""
    noise = np.random.default_rng(0).integers(0, 255, (14, 12, 20, 3), np.uint8)
    pictures = noise.repeat(16, axis=1).repeat(16, axis=2)  # [14, 192, 320, 3]
    groups = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0"}  # key frames are 0 and 10
    whole = encode(tmp_path / "a.mkv", frames=list(pictures), options=groups)
    (place, size), content = packets(whole)[number], whole.read_bytes()
    good, _ = read(whole)
    seen = traces = 0
    for start in range(size // 4, size // 2, size // 24):
        rest = bytes(255 - byte for byte in content[place + start : place + size])
        path = tmp_path / "b.mkv"
        path.write_bytes(content[: place + start] + rest + content[place + size :])
        frames, warnings = read(path)
        found = [f.index for f in frames if f.damaged]
        assert found == made_up(path) and len(frames) == 14
        end = 10 if number < 10 else 14  # of the group
        after = [i for i in range(min(found, default=end), end) if i not in found]
        assert [f.index for f in frames if f.doubtful] == after
        for one, other in zip(frames, good, strict=True):
            wrong = not np.array_equal(one.image, other.image)
            assert one.damaged or one.doubtful or not wrong or not found
            traces += wrong and one.doubtful
        assert not found or "could not be decoded whole" in warnings[0]
        assert not after or f"{len(after)} that follow them" in warnings[0]
        seen += bool(found)
    assert seen and traces


def test_frames_before_the_first_good_one_are_left_out(tmp_path, encode, level):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", 20)
    damage(path, packets(path)[:3])
    frames, warnings = read(path)
    assert [f.index for f in frames] == list(range(17))
    assert [level(f.image) for f in frames] == list(range(3, 20))
    assert frames[0].time == Fraction(3, 25)  # in step with the sound
    assert len(warnings) == 1
    assert "(3)" in warnings[0]


def test_a_bad_last_packet_repeats_too(tmp_path, encode):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", 6)
    damage(path, packets(path)[-1:])
    frames, warnings = read(path)
    assert [f.damaged for f in frames] == [False] * 5 + [True]
    assert frames[5].time == Fraction(5, 25)
    assert len(warnings) == 1


def test_a_hole_in_a_stream_without_index(tmp_path, encode, textured):
    path = encode(tmp_path / "a.ts", frames=textured)
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    path.write_bytes(data[:middle] + data[middle + 188 * 4 :])  # packets of the transport stream
    frames, warnings = read(path)
    assert len(frames) >= 37
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("name", "codec", "cut"),
    [
        ("a.mp4", "libx264", 25),
        ("a.mkv", "libx264", 25),
        ("a.avi", "mjpeg", 25),
        ("a.avi", "mjpeg", 38),  # too near the end to be seen from the duration
        ("a.webm", "libvpx", 25),
    ],
)
def test_a_cut_file_is_read_as_far_as_it_goes(tmp_path, encode, textured, name, codec, cut):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    container = FRONT if name.endswith("mp4") else {}
    path = encode(tmp_path / name, codec, pix_fmt, textured, container=container, options={"g": "10"})
    clean, _ = read(path)
    place, size = packets(path)[cut]
    path.write_bytes(path.read_bytes()[: place + size // 2])
    frames, warnings = read(path)
    assert cut - 5 <= len(frames) <= cut + 1  # reordered frames may be lost with the one they wait for
    for i in range(cut - 5):
        np.testing.assert_array_equal(frames[i].image, clean[i].image)
    good = sum(not f.damaged for f in frames)
    assert len(warnings) == 1
    assert f"ends early, after {good} of 40 good frames" in warnings[0]


def test_a_cut_gif(tmp_path, encode, textured):
    path = encode(tmp_path / "a.gif", "gif", "gray", textured)
    path.write_bytes(path.read_bytes()[:20000])
    frames, warnings = read(path)
    assert 0 < len(frames) < 40
    assert len(warnings) == 1
    assert "ends early" in warnings[0]


def test_stopping_before_the_damage_tells_nothing(tmp_path, encode):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", 20)
    damage(path, packets(path)[7:8])
    with VideoReader(path, end=5) as reader:
        assert len(list(reader)) == 5
    assert not reader.warnings


def test_missing_index(tmp_path, encode):
    path = encode(tmp_path / "a.mp4")  # its moov comes last
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(InputError, match="can't be opened as a video"):
        VideoReader(path)


def test_no_frame_at_all(tmp_path, encode):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", 5)
    damage(path, packets(path))
    with pytest.raises(InputError, match="no frame that can be decoded"):
        VideoReader(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory, encode, textured) -> dict[str, bytes]:
    """Small whole files of several containers."""
    folder = tmp_path_factory.mktemp("sources")
    made = [
        encode(folder / "a.mp4", frames=textured[:12], container=FRONT),
        encode(folder / "a.mkv", frames=textured[:12]),
        encode(folder / "a.webm", "libvpx", frames=textured[:12]),
        encode(folder / "a.avi", "mpeg4", frames=textured[:12]),
        encode(folder / "a.gif", "gif", "gray", textured[:6]),
    ]
    return {path.suffix: path.read_bytes() for path in made}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".mp4", ".mkv", ".webm", ".avi", ".gif"]))
def test_wild_damage_never_raises_anything_else(tmp_path, sources, data, suffix):
    whole = bytearray(sources[suffix])
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7)), max_size=12))
    for place, bit in flips:
        whole[place] ^= 1 << bit
    path = tmp_path / f"wild{suffix}"
    path.write_bytes(whole[:cut])
    try:
        frames, warnings = read(path)
    except InputError:
        return
    assert frames
    assert len(warnings) <= 2  # damage, change of size
    assert [f.index for f in frames] == list(range(len(frames)))
    assert all(a.time < b.time for a, b in pairwise(frames))
    assert len({f.image.shape for f in frames}) == 1
