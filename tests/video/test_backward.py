"""Backward and random access: the frames of forward reading under the same numbers, in bounded memory."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from vidtrack.video import (
    Frame,
    VideoIndex,
    VideoReader,
    backward,
    decode,
    entries,
    read_backward,
    read_frame,
    seek,
    source,
)

Key = tuple[Any, ...]
GOP = {"g": "10", "keyint_min": "10", "sc_threshold": "0"}
X264 = "keyint=10:scenecut=0:bframes=3"


def key(frame: Frame) -> Key:
    return frame.index, frame.time, frame.damaged, frame.doubtful, frame.name, frame.image.tobytes()


def forward(path: Path, *args: Any, **options: Any) -> list[Key]:
    with VideoReader(path, *args, prefetch=0, **options) as reader:
        return [key(frame) for frame in reader]


def from_beginning(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    with monkeypatch.context() as patch:
        patch.setattr(source, "_NEAR", 10**9)
        return forward(path)


@pytest.fixture(scope="module")
def moving() -> list[np.ndarray]:
    """40 pictures `[48, 64, 3]` that predict each other well, each different."""
    y, x = np.mgrid[:48, :64]
    noise = np.random.default_rng(0).normal(0, 6, (40, 48, 64, 1))
    waves = [
        np.stack([np.sin((x + 3 * i) / 9), np.cos((y - i) / 13), np.sin((x + y + i) / 29)], 2)
        for i in range(40)
    ]
    return [(127.5 + 60 * w + n).clip(0, 255).astype(np.uint8) for w, n in zip(waves, noise, strict=True)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_BLOCK", 7)
    monkeypatch.setattr(source, "_NEAR", 1)


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pictures that were reached by seeking."""
    numbers: list[int] = []

    def noted(path: Path, step: Fraction, known: list[entries.Entry], number: int, stop: int) -> Any:
        reached = seek.reach(path, step, known, number, stop)
        if reached is not None:
            numbers.append(number)
        return reached

    monkeypatch.setattr(backward, "reach", noted)
    monkeypatch.setattr(source, "reach", noted)
    return numbers


VFR = [0, 40, 41, 100, *range(900, 1000, 4), *range(1100, 1122, 2)]
FILES = {  # name: codec, pixel format, options, how many of the 40 pictures are starts; True: near is certain
    "b.mp4": ("libx264", "yuv420p", {"x264-params": X264}, 4, True),
    "open.mp4": ("libx264", "yuv420p", {"x264-params": f"{X264}:open-gop=1"}, 4, True),
    "refresh.mp4": ("libx264", "yuv420p", {"x264-params": "keyint=10:intra-refresh=1:bframes=0"}, None, True),
    "long.mp4": ("libx264", "yuv420p", {"g": "250", "sc_threshold": "0"}, 1, True),
    "short.mp4": ("libx264", "yuv420p", {"x264-params": "keyint=2:bframes=1:scenecut=0"}, None, True),
    "vfr.mp4": ("libx264", "yuv420p", {"x264-params": X264}, 4, True),
    "rotated.mp4": ("libx264", "yuv420p", {"x264-params": X264}, 4, True),
    "b.mkv": ("libx264", "yuv420p", {"x264-params": X264}, 4, True),
    "b.ts": ("libx264", "yuv420p", {"x264-params": X264}, 4, True),
    "b.avi": ("libx264", "yuv420p", {"x264-params": X264}, 0, False),
    "5.mp4": ("libx265", "yuv420p", {"x265-params": "keyint=10:open-gop=1:scenecut=0:log-level=0"}, 4, True),
    "4.mp4": ("mpeg4", "yuv420p", GOP | {"bf": "2", "sc_threshold": "1000000000"}, 5, True),
    "4.avi": ("mpeg4", "yuv420p", GOP | {"sc_threshold": "1000000000"}, 4, True),
    "2.mpg": ("mpeg2video", "yuv420p", GOP | {"bf": "2", "sc_threshold": "1000000000"}, 5, False),
    "9.webm": ("libvpx-vp9", "yuv420p", {"g": "10"}, 4, True),
    "8.webm": ("libvpx", "yuv420p", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "9"}, None, False),
    "a.gif": ("gif", "gray", {}, 0, False),
    "bare.h264": ("libx264", "yuv420p", {"x264-params": X264}, 0, False),
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_frames_as_forward(tmp_path, encode, moving, monkeypatch, sought, name):
    codec, pix_fmt, options, starts, certain = FILES[name]
    more: dict[str, Any] = {}
    if name == "vfr.mp4":
        more = {"pts": VFR, "time_base": Fraction(1, 600)}
    if name == "rotated.mp4":
        more = {"rotation": 90}
    path = encode(tmp_path / name, codec, pix_fmt, moving, options=options, **more)
    expected = from_beginning(path, monkeypatch)
    assert len(expected) == 40
    warnings: list[str] = []
    assert [key(f) for f in read_backward(path, warnings=warnings)] == expected[::-1]
    assert not warnings
    index = VideoIndex(path)
    found = [entry.start for entry in index.exact()[0]]
    assert starts is None or sum(found) == starts
    if codec == "libx264" and starts != 0:
        with av.open(str(path)) as container:
            kinds = [f.key_frame and f.pict_type == PictureType.I for f in container.decode(video=0)]
        assert found == kinds
    assert bool(sought) == (sum(found) > 1)
    assert [key(f) for f in read_backward(path, 3, 38, index=index)] == expected[3:38][::-1]
    assert [key(f) for f in read_backward(path, 39, 99)] == expected[39:]
    for which in (VideoIndex(path), index):  # by packets, and by decoding
        for number in (1, 9, 10, 11, 23, 39):
            sought.clear()
            assert forward(path, number, min(number + 12, 40), index=which) == expected[number : number + 12]
            if certain and number >= 20 and starts and starts > 1:
                assert sought == [number]
    assert (VideoIndex(path).near(39) is not None) == certain
    assert key(read_frame(path, 17)) == expected[17]


def test_a_block_is_decoded_once_and_holds_no_more_than_its_size(tmp_path, encode, moving, monkeypatch):
    path = encode(tmp_path / "a.mp4", frames=moving, options={"x264-params": X264})
    held: list[int] = []
    whole = backward._sought

    def noted(*args: Any) -> list[Frame]:
        frames = whole(*args)
        held.append(len(frames))
        return frames

    monkeypatch.setattr(backward, "_sought", noted)
    list(read_backward(path, 3))
    assert max(held) <= 7
    monkeypatch.setattr(backward, "_BLOCK", 24)
    held.clear()
    list(read_backward(path))
    assert held == [20, 0]  # two whole groups, then the rest from the beginning
    monkeypatch.setattr(backward, "_BYTES", 5 * 48 * 64 * 3)
    held.clear()
    list(read_backward(path, 30))
    assert held == [5, 5]


def test_a_packet_beyond_what_is_wanted_is_not_read(tmp_path, encode, moving, monkeypatch):
    path = encode(tmp_path / "a.mp4", frames=moving, options={"x264-params": X264})
    monkeypatch.setattr(entries, "_LOOK", 1)
    near = VideoIndex(path).near(12)
    everything = VideoIndex(path).near(39)
    assert near is not None and everything is not None
    assert 12 < len(near) < 24 and near == everything[: len(near)]


@pytest.mark.parametrize("options", [X264, f"{X264}:open-gop=1"])
def test_a_file_that_was_sought_counts_as_if_it_was_read(tmp_path, encode, moving, monkeypatch, options):
    path = encode(tmp_path / "a.mp4", frames=moving, options={"x264-params": options})
    monkeypatch.setattr(seek, "_TRIES", 1)  # it comes from the start just before
    known = VideoIndex(path).near(39)
    for number in (20, 23, 39):
        reached = seek.reach(path, Fraction(1, 25), known, number, 40)
        assert [picture.pts for picture in reached.pictures] == [entry.pts for entry in known[number:]]
        reached.container.close()
        damage = reached.damage
        assert (damage.frames, damage.packets, damage.damaged, damage.lost_first) == (40, 40, 0, 0)
        assert damage.complete and not damage.torn


def test_pictures_shown_before_the_start_are_left_out() -> None:
    """Most decoders drop them by themselves."""
    shown = [decode.Picture(None, Fraction(0), pts < 4, pts) for pts in (3, 4, 9, 5)]
    damage = decode.Damage(frames=13, damaged=1, lost_first=2)
    assert list(seek._not_before(4, iter(shown), damage)) == shown[1:]
    assert (damage.frames, damage.damaged, damage.lost_first) == (12, 0, 0)


def test_a_predicted_picture_is_no_start() -> None:
    for key_frame, kind, expected in [(1, "I", True), (1, "P", False), (0, "I", False)]:
        assert decode.is_key(SimpleNamespace(key_frame=key_frame, pict_type=PictureType[kind])) == expected


def test_nothing_is_sought_across_damage_or_against_the_index(tmp_path, encode, moving):
    path = encode(tmp_path / "a.mp4", frames=moving, options={"x264-params": X264})
    known = VideoIndex(path).near(39)
    step = Fraction(1, 25)

    def reached(number: int, stop: int, **changes: Any) -> bool:
        changed = [e._replace(**changes) if i == 14 else e for i, e in enumerate(known)]
        result = seek.reach(path, step, changed, number, stop)
        if result is not None:
            result.container.close()
        return result is not None

    assert reached(12, 20) and reached(23, 24)
    assert not reached(12, 13, damaged=True)  # in the group itself
    assert not reached(23, 24, damaged=True)  # in the group before
    assert reached(33, 34, damaged=True)
    assert reached(12, 20, time=Fraction(9))  # later than the picture sought
    assert not reached(16, 20, time=Fraction(9))
    assert not reached(9, 10) and not reached(40, 41)  # only from the beginning; not in the index
    whole = source.FileSource(path)
    whole.close()
    assert len(backward._sought(whole, known, 12, 18)) == 6
    assert not backward._sought(
        whole, [e._replace(pts=1) if i == 14 else e for i, e in enumerate(known)], 12, 18
    )


def zeroed(path: Path, numbers: list[int]) -> None:
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for place, size in (places[n] for n in numbers):
        data[place : place + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [
        ("a.mp4", "libx264", [12]),
        ("a.mp4", "libx264", [20]),  # a key picture
        ("a.mp4", "libx264", [0]),
        ("a.mkv", "libx264", [10, 31]),
        ("a.mp4", "libx265", [14]),
        ("a.avi", "mjpeg", [0, 1, 2, 30]),
        ("a.webm", "libvpx-vp9", [10]),
    ],
)
def test_damaged_packets(tmp_path, encode, moving, monkeypatch, sought, name, codec, lost):
    options = {"x264-params": X264} if codec == "libx264" else {"g": "10"}
    if codec == "libx265":
        options = {"x265-params": "keyint=10:scenecut=0:log-level=0"}
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = encode(tmp_path / name, codec, pix_fmt, moving, options=options)
    zeroed(path, lost)
    expected = from_beginning(path, monkeypatch)
    with VideoReader(path) as reader:
        list(reader)
    warnings: list[str] = []
    assert [key(f) for f in read_backward(path, warnings=warnings)] == expected[::-1]
    assert warnings == reader.warnings
    assert len(warnings) == 1 or codec == "libvpx-vp9"  # to it, zeros are a picture that is not shown
    index = VideoIndex(path)
    assert not any(entry.damaged and entry.start for entry in index.exact()[0])
    sought.clear()
    for number in range(1, len(expected), 6):
        assert forward(path, number, number + 1) == expected[number : number + 1]
        assert forward(path, number, number + 1, index=index) == expected[number : number + 1]
    if lost == [12]:
        assert sought  # what comes long after the damage is still sought


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory, encode, moving) -> dict[str, bytes]:
    """Small files of several containers."""
    folder, front = tmp_path_factory.mktemp("whole"), {"movflags": "faststart"}
    made = [
        encode(folder / "a.mp4", frames=moving[:24], options={"x264-params": X264}, container=front),
        encode(folder / "a.mkv", frames=moving[:24], options={"x264-params": X264}),
        encode(folder / "a.webm", "libvpx-vp9", frames=moving[:24], options={"g": "10"}),
        encode(folder / "a.avi", "mpeg4", frames=moving[:24], options=GOP),
    ]
    return {path.suffix: path.read_bytes() for path in made}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".mp4", ".mkv", ".webm", ".avi"]))
def test_wild_damage_moves_no_number(tmp_path, whole_files, data, suffix):
    """What a decoder makes up for lost data without marking it may differ; which frame it is may not."""
    whole = bytearray(whole_files[suffix])
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(len(whole) // 2, len(whole))))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7)), max_size=8))
    for place, bit in flips:
        whole[place] ^= 1 << bit
    path = tmp_path / f"wild{suffix}"
    path.write_bytes(whole[:cut])
    try:
        expected = [frame[:4] for frame in forward(path)]
    except InputError:
        with pytest.raises(InputError):
            list(read_backward(path))
        return
    assert [key(frame)[:4] for frame in read_backward(path)] == expected[::-1]
    index = VideoIndex(path)
    index.exact()
    middle = len(expected) // 2
    assert [frame[:4] for frame in forward(path, middle, index=index)] == expected[middle:]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.gif"])
def test_a_cut_file(tmp_path, encode, moving, monkeypatch, name):
    codec, pix_fmt = ("gif", "gray") if name == "a.gif" else ("libx264", "yuv420p")
    front = {"movflags": "faststart"} if name == "a.mp4" else {}
    options = {} if codec == "gif" else {"x264-params": X264}
    path = encode(tmp_path / name, codec, pix_fmt, moving, options=options, container=front)
    # x264 doesn't give the same bytes each time; after a whole packet of MPEG-TS nothing tells that more was
    # there.
    packets = path.stat().st_size * 3 // 4 // 188
    path.write_bytes(path.read_bytes()[: 188 * packets + 94])
    expected = from_beginning(path, monkeypatch)
    assert 20 < len(expected) < 40
    warnings: list[str] = []
    assert [key(f) for f in read_backward(path, warnings=warnings)] == expected[::-1]
    assert len(warnings) == 1
    for number in (5, 15, len(expected) - 1):
        assert forward(path, number) == expected[number:]
    with pytest.raises(InputError, match=f"it has {len(expected)} frames"):
        read_frame(path, len(expected))


def test_a_folder(tmp_path, moving, monkeypatch):
    for i, picture in enumerate(moving[:9]):
        Image.fromarray(picture).save(tmp_path / f"f{i}.png")
    (tmp_path / "f4.png").write_bytes(b"broken")
    expected = forward(tmp_path)
    warnings: list[str] = []
    assert [key(f) for f in read_backward(tmp_path, warnings=warnings)] == expected[::-1]
    assert len(warnings) == 1 and "1 of 9 frames" in warnings[0]
    assert [key(f) for f in read_backward(tmp_path, 4, 6)] == expected[4:6][::-1]
    with pytest.raises(InputError, match="it has 9 frames"):
        read_backward(tmp_path, 9)


def test_what_is_refused(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", frames=5)
    with pytest.raises(InputError, match="no range"):
        read_backward(path, 3, 3)
    with pytest.raises(InputError, match="does not exist"):
        read_backward(tmp_path / "b.mp4")
    with pytest.raises(InputError, match="it has 5 frames"):
        next(read_backward(path, 5))
    with pytest.raises(InputError, match="it has 5 frames"):
        read_frame(path, 5)


def test_a_change_of_size(tmp_path, encode):
    small, large = ([np.full((h, w, 3), 60, np.uint8)] * 4 for h, w in ((48, 64), (96, 80)))
    parts = [encode(tmp_path / f"{i}.h264", frames=f).read_bytes() for i, f in enumerate((small, large))]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    warnings: list[str] = []
    assert [key(f) for f in read_backward(path, warnings=warnings)] == forward(path)[::-1]
    assert len(warnings) == 1 and "4 frames were resized" in warnings[0]
