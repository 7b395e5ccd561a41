"""What the structure of a file tells: whole files are whole, and what a demuxer steps over is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidtrack.video import VideoReader
from vidtrack.video.structure import gif_is_short, is_broken

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
FILES = {
    "front.mp4": (MOV, "libx264", {"movflags": "faststart"}),
    "back.mov": (MOV, "libx264", {}),
    "fragments.mp4": (MOV, "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mkv": ("matroska,webm", "libx264", {}),
    "live.mkv": ("matroska,webm", "libx264", {"live": "1"}),  # lengths are not known
    "a.webm": ("matroska,webm", "libvpx", {}),
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
    assert not is_broken(tmp_path / "a.avi", "avi")


def test_nesting_has_an_end(tmp_path):
    """A file of 100,000 segments, each in the one before."""
    path = tmp_path / "deep.mkv"
    path.write_bytes(b"\x18\x53\x80\x67\x01" + (500_000).to_bytes(7, "big") + b"\x18\x53\x80\x67\xff" * 10**5)
    assert is_broken(path, "matroska,webm")
    path.write_bytes(b"\x18\x53\x80\x67\x08\x00\x00\x05" * 10**5)
    assert is_broken(path, "matroska,webm")


def test_a_packet_that_is_marked_as_broken_is_seen(tmp_path):
    packets = [bytearray(b"\x47" + bytes(187)) for _ in range(6)]
    (tmp_path / "a.ts").write_bytes(b"".join(packets))
    assert not is_broken(tmp_path / "a.ts", "mpegts")
    packets[4][1] |= 0x80
    (tmp_path / "a.ts").write_bytes(b"".join(packets))
    assert is_broken(tmp_path / "a.ts", "mpegts")


@pytest.mark.parametrize("kind", [MOV, "matroska,webm", "mpegts"])
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
