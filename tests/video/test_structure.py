"""What the structure of a file tells: whole files are whole, and what a demuxer steps over is seen."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.video import VideoReader, mp4
from vidtrack.video.structure import gif_is_short, is_broken

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
FILES = {
    "front.mp4": (MOV, "libx264", {"movflags": "faststart"}),
    "back.mov": (MOV, "libx264", {}),
    "fragments.mp4": (MOV, "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": ("matroska,webm", "libx264", {}),
    "live.mkv": ("matroska,webm", "libx264", {"live": "1"}),  # lengths are not known
    "a.webm": ("matroska,webm", "libvpx", {}),
    "a.avi": ("avi", "mpeg4", {}),
    "a.ts": ("mpegts", "mpeg2video", {}),
    "a.m2ts": ("mpegts", "mpeg2video", {"mpegts_m2ts_mode": "1"}),
}


@pytest.fixture(scope="module", params=FILES)
def made(request, tmp_path_factory, encode, textured) -> tuple[Path, str]:
    kind, codec, container = FILES[request.param]
    path = tmp_path_factory.mktemp("structure") / request.param
    return encode(path, codec, frames=textured[:16], options={"g": "8"}, container=container), kind


def test_whole_files_are_whole(made):
    path, kind = made
    assert not is_broken(path, kind)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 16
        assert not reader.warnings and not reader.damage


def test_a_file_cut_anywhere_is_broken(made, tmp_path):
    path, kind = made
    data = path.read_bytes()
    cut = tmp_path / path.name
    for size in np.random.default_rng(0).integers(100, len(data), 30).tolist():
        cut.write_bytes(data[:size])
        whole = (path.suffix == ".ts" and size % 188 == 0) or (path.suffix == ".m2ts" and size % 192 == 0)
        # Of a recording that doesn't know its length, a cut between two clusters can't be seen.
        assert is_broken(cut, kind) or whole or path.name == "live.mkv"


def test_a_missing_stretch_is_seen(made, tmp_path):
    path, kind = made
    data = path.read_bytes()
    holed = tmp_path / path.name
    middle = len(data) // 2
    if path.name in ("front.mp4", "back.mov"):  # all pictures are in one box, and the header counts them
        return
    holed.write_bytes(data[:middle] + bytes(1000) + data[middle + 1000 :])
    assert is_broken(holed, kind) or path.name == "fragments.mp4"
    holed.write_bytes(data[:middle] + data[middle + 1000 :])
    assert is_broken(holed, kind)


@pytest.mark.parametrize("name", ["front.mp4", "back.mov", "fragments.mp4", "a.mkv", "live.mkv", "a.avi"])
def test_a_flipped_bit_outside_of_the_pictures_loses_none_silently(tmp_path, encode, textured, name):
    """Demuxers believe a wrong index, step over names that they don't know, and raise nothing."""
    _, codec, container = FILES[name]
    path = encode(tmp_path / name, codec, frames=textured[:16], options={"g": "8"}, container=container)
    data, inside = path.read_bytes(), set()
    with av.open(str(path)) as opened:
        for packet in opened.demux(video=0):
            inside |= set(range(packet.pos + 4, packet.pos + packet.size)) if packet.size else set()
    outside = [place for place in range(len(data)) if place not in inside]
    rng, flipped, silent = np.random.default_rng(0), tmp_path / f"flipped{path.suffix}", {}
    for place, bit in zip(rng.choice(outside, 150).tolist(), rng.integers(0, 8, 150).tolist(), strict=True):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        flipped.write_bytes(changed)
        try:
            with VideoReader(flipped) as reader:
                found = len(list(reader))
        except InputError:
            continue
        if found < 16 and not reader.warnings and not leaves_out(flipped):
            silent[place, bit] = found
    assert silent == {}


def leaves_out(path: Path) -> bool:
    """Whether the edit list of a file says itself which of its packets are not to be shown."""
    with av.open(str(path)) as container:
        return any(packet.is_discard for packet in container.demux(video=0))


def test_frames_that_an_edit_list_leaves_out_are_told(tmp_path, encode, textured):
    path = encode(tmp_path / "a.mov", "mjpeg", "yuvj420p", textured[:16])
    data = bytearray(path.read_bytes())
    at = data.index(b"mvhd") + 16  # its time scale: that of the edit list
    data[at : at + 4] = (2 * int.from_bytes(data[at : at + 4], "big")).to_bytes(4, "big")
    path.write_bytes(data)
    with VideoReader(path) as reader:
        found = len(list(reader))
    assert 0 < found < 16 and not reader.damage.damaged
    assert reader.warnings == [
        f"{path} holds {16 - found} frames more than it shows: its edit list leaves them out, what they "
        "need is missing, or the file is damaged."
    ]


def test_pictures_that_a_decoder_keeps_are_told(tmp_path, encode):
    """A damaged head says that fewer of them are out of order than there are."""
    path = encode(tmp_path / "a.mkv", frames=20, options={"bf": "3", "b_strategy": "0"})
    with av.open(str(path)) as opened:
        head = bytes(opened.streams.video[0].codec_context.extradata)
    data, flipped, told = path.read_bytes(), tmp_path / f"flipped{path.suffix}", 0
    end = data.index(head) + 8 + int.from_bytes(head[6:8], "big")  # of the parameters of the sequence
    for place, bit in product(range(end - 4, end), range(8)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        flipped.write_bytes(changed)
        with VideoReader(flipped) as reader:
            found = len(list(reader))
        if found < 20:
            assert len(reader.warnings) == 1
            told += f"holds {20 - found} frame" in reader.warnings[0]
    assert told


def test_pictures_that_come_late_are_not_missed(tmp_path, encode, textured):
    """Timestamps that run backward, eight at a time."""
    path = encode(tmp_path / "a.mkv", frames=textured[:16], options={"bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        places = [packet.pos for packet in opened.demux(video=0) if packet.size]
    for number, place in enumerate(places):
        data[place + 1 : place + 3] = (40 * (number // 8 * 8 + 7 - number % 8)).to_bytes(2, "big")
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 16 and reader.warnings == []


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_pictures_before_a_start_are_not_missed(tmp_path, encode, textured, name):
    """Those of an open group are decoded after the start, and need what comes before it."""
    options = {"x265-params": "keyint=10:open-gop=1:scenecut=0:log-level=0"}
    path = encode(tmp_path / name, "libx265", frames=textured + textured[::-1], options=options)
    for start in (0, 41, 45, 55):
        with VideoReader(path, start=start) as reader:
            assert len(list(reader)) == 80 - start and reader.warnings == [], start


def test_an_avi_of_opencv_is_whole(tmp_path, textured):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for image in textured[:16]:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    assert not is_broken(path, "avi")
    with VideoReader(path) as reader:
        assert len(list(reader)) == 16 and reader.warnings == []


@pytest.mark.parametrize("name", ["a.mkv", "live.mkv", "a.webm"])
def test_a_flipped_bit_in_the_head_of_a_block_loses_nothing_silently(tmp_path, encode, textured, name):
    """FFmpeg leaves out what follows in the cluster, and raises nothing."""
    kind, codec, container = FILES[name]
    path = encode(tmp_path / name, codec, frames=textured[:16], options={"g": "8"}, container=container)
    with av.open(str(path)) as opened:
        places = [packet.pos for packet in opened.demux(video=0) if packet.size]
    data = path.read_bytes()
    assert len(places) == 16 and not is_broken(path, kind, 16) and is_broken(path, kind, 15)
    silent = {}
    for place, bit in product((places[3], places[9]), range(-24, 32)):  # name, length; track, time, flags
        flipped = bytearray(data)
        flipped[place + bit // 8] ^= 1 << bit % 8
        (tmp_path / f"flipped{path.suffix}").write_bytes(flipped)
        try:
            with VideoReader(tmp_path / f"flipped{path.suffix}") as reader:
                found = len(list(reader))
        except InputError:
            continue
        if found < 16 and not reader.warnings:
            silent[place, bit] = found
    assert silent == {}


def test_a_block_of_no_track_is_seen(tmp_path, encode, textured):
    """Also where all of the video's are there."""
    path = encode(tmp_path / "a.mkv", frames=textured[:4])
    kind, data = FILES["a.mkv"][0], path.read_bytes()
    path.write_bytes(data + b"\x1f\x43\xb6\x75\x87\xa3\x85\x81\0\0\0\0")
    assert not is_broken(path, kind) and not is_broken(path, kind, 5) and is_broken(path, kind, 4)
    path.write_bytes(data + b"\x1f\x43\xb6\x75\x87\xa3\x85\x82\0\0\0\0")
    assert is_broken(path, kind)
    path.write_bytes(data + b"\x1f\x43\xb6\x75\x89\xa0\x87\xa1\x85\x82\0\0\0\0")  # in a group
    assert is_broken(path, kind)
    path.write_bytes(data + b"\x1f\x43\xb6\x75\x85\xa0\x83\x9b\x81\x01")  # a group without a block
    assert is_broken(path, kind)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("fragments.mp4", b"moof", b"moog"),
        ("fragments.mp4", b"traf", b"trag"),
        ("a.avi", b"00dc", b"00dd"),
        ("a.avi", b"00dc", b"\xff0dc"),
        ("a.avi", b"movi", b"mova"),
    ],
)
def test_wrong_names_are_seen(tmp_path, encode, textured, name, old, new):
    kind, codec, container = FILES[name]
    path = encode(tmp_path / name, codec, frames=textured[:16], options={"g": "8"}, container=container)
    data = path.read_bytes()
    place = data.index(old, data.index(b"movi") if path.suffix == ".avi" else 0)
    assert not is_broken(path, kind)
    path.write_bytes(data[:place] + new + data[place + 4 :])
    assert is_broken(path, kind)


def test_a_fragment_of_no_track_is_seen(tmp_path, encode, textured, monkeypatch):
    kind, codec, container = FILES["fragments.mp4"]
    path = encode(tmp_path / "a.mp4", codec, frames=textured[:4], container=container)
    data = bytearray(path.read_bytes())
    assert not is_broken(path, kind) and not is_broken(path, kind, 4) and is_broken(path, kind, 3)
    data[data.index(b"tfhd") + 11] += 1
    path.write_bytes(data)
    assert is_broken(path, kind)
    monkeypatch.setattr(mp4, "_LARGEST", 500)  # too little for the head, which knows the tracks
    assert not is_broken(path, kind)


@pytest.mark.parametrize("more", [-2, 2, 8, 1000])
def test_wrong_lengths_in_an_avi_are_seen(tmp_path, encode, textured, more):
    path = encode(tmp_path / "a.avi", "mpeg4", frames=textured[:16])
    data = bytearray(path.read_bytes())
    for place in (data.index(b"00dc", data.index(b"movi")), data.rindex(b"00dc", 0, data.index(b"idx1"))):
        changed = bytearray(data)
        length = int.from_bytes(data[place + 4 : place + 8], "little") + more
        assert length > 0
        changed[place + 4 : place + 8] = length.to_bytes(4, "little")
        path.write_bytes(changed)
        assert is_broken(path, "avi")


def test_zeros_at_the_end_of_an_mp4_are_harmless(tmp_path, encode):
    path = encode(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert not is_broken(path, MOV)
    path.write_bytes(path.read_bytes() + b"rubbish that is no box")
    assert is_broken(path, MOV)


@pytest.mark.parametrize("colours", [2, 16, 256])
def test_images_of_a_gif_are_counted(tmp_path, textured, colours):
    path = tmp_path / "a.gif"
    images = [Image.fromarray(image).quantize(colours) for image in textured[:5]]
    images[0].save(path, save_all=True, append_images=images[1:], comment=b"with a comment", loop=0)
    assert Image.open(path).n_frames == 5
    assert not gif_is_short(path, 5) and gif_is_short(path, 4)
    data = path.read_bytes()
    for size in range(0, len(data), 301):
        path.write_bytes(data[:size])
        assert gif_is_short(path, 5)


def test_what_is_not_known_is_not_told(tmp_path):
    assert not is_broken(tmp_path / "gone.mkv", "matroska,webm")
    assert not gif_is_short(tmp_path / "gone.gif", 3)
    assert not is_broken(tmp_path / "gone.avi", "avi")
    assert not is_broken(tmp_path / "a.flv", "flv")


def test_nesting_has_an_end(tmp_path):
    """A file of 100,000 segments, each in the one before."""
    path = tmp_path / "deep.mkv"
    path.write_bytes(b"\x18\x53\x80\x67\x01" + (500_000).to_bytes(7, "big") + b"\x18\x53\x80\x67\xff" * 10**5)
    assert is_broken(path, "matroska,webm")
    path.write_bytes(b"\x18\x53\x80\x67\x08\x00\x00\x05" * 10**5)
    assert is_broken(path, "matroska,webm")


def test_boxes_in_boxes_have_an_end(tmp_path):
    """A file of 200,000 fragments, each in the one before."""
    path, boxes = tmp_path / "deep.mp4", b""
    for depth in range(200_001, 0, -1):
        boxes += (8 * depth).to_bytes(4, "big") + (b"moof" if depth % 2 else b"traf")
    path.write_bytes(boxes)
    assert is_broken(path, MOV)
    path.write_bytes(boxes.replace(b"moof", b"trak").replace(b"traf", b"mdia"))
    assert not is_broken(path, MOV)  # they are laid end to end, and no fragments


def test_elements_that_keep_readers_busy_have_an_end(tmp_path):
    """A hundred thousand times nothing, in two bytes each."""
    path = tmp_path / "busy.mkv"
    path.write_bytes(b"\xec\x80" * 100_000)
    assert is_broken(path, "matroska,webm")
    path.write_bytes(b"\xec\x82\0\0" * 1000)
    assert not is_broken(path, "matroska,webm")


def test_a_packet_that_is_marked_as_broken_is_seen(tmp_path):
    packets = [bytearray(b"\x47" + bytes(187)) for _ in range(6)]
    (tmp_path / "a.ts").write_bytes(b"".join(packets))
    assert not is_broken(tmp_path / "a.ts", "mpegts")
    packets[4][1] |= 0x80
    (tmp_path / "a.ts").write_bytes(b"".join(packets))
    assert is_broken(tmp_path / "a.ts", "mpegts")


@pytest.mark.parametrize("kind", [MOV, "matroska,webm", "avi", "mpegts"])
def test_noise_ends(tmp_path, kind):
    """Every step goes on, whatever the lengths say."""
    path = tmp_path / "noise"
    for seed in range(60):
        rng = np.random.default_rng(seed)
        path.write_bytes(
            bytes(rng.choice([0, 1, 2, 0x18, 0x1F, 0x53, 0x80, 0xFF, 0x47], 300).astype(np.uint8))
        )
        assert is_broken(path, kind) in (True, False)
        assert gif_is_short(path, 0) in (True, False)
