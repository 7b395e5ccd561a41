"""Folders of frames: order, kinds of pictures, damage, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.errors import InputError
from vidtrack.video import VideoReader, probe, read_frame, read_image
from vidtrack.video.folder import natural_key


def save(path: Path, level: int, size: tuple[int, int] = (8, 6)) -> Path:
    """A flat RGB picture of `(width, height)`."""
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def test_natural_order_names_and_times(tmp_path):
    for i, name in enumerate(["frame10.png", "frame2.png", "frame1.png", "b.png", "frame02x.png"]):
        save(tmp_path / name, 10 * i)
    save(tmp_path / ".hidden.png", 1)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "sub.png").mkdir()
    with VideoReader(tmp_path) as reader:
        frames = list(reader)
    assert [f.name for f in frames] == ["b", "frame1", "frame2", "frame02x", "frame10"]
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.time for f in frames] == [Fraction(i, 25) for i in range(5)]
    assert [f.image[0, 0, 0] for f in frames] == [30, 20, 10, 40, 0]
    assert not reader.warnings
    info = probe(tmp_path)
    assert (info.kind, info.width, info.height, info.frames, info.rate) == ("folder", 8, 6, 5, 25)
    assert (info.duration, info.codec, info.rotation, info.has_audio) == (0.2, "png", 0, False)


@given(
    st.lists(st.integers(0, 10**12), max_size=8),
    st.text(st.characters(exclude_categories=["Nd"]), max_size=3),
)
def test_natural_key_sorts_numbers(numbers, prefix):
    names = [f"{prefix}{n}.png" for n in numbers]
    assert sorted(names, key=natural_key) == [f"{prefix}{n}.png" for n in sorted(numbers)]


@given(st.lists(st.text(max_size=6), max_size=6))
@settings(max_examples=50, deadline=None)
def test_natural_key_compares_any_names(names):
    once = sorted(names, key=natural_key)
    names.reverse()
    assert once == sorted(names, key=natural_key)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "PNG"])
def test_kinds_of_files(tmp_path, suffix):
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:8], picture[8:] = (200, 40, 90), (20, 160, 220)
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", quality=98)
    image = read_frame(tmp_path, 0).image
    assert np.abs(image.astype(int) - picture)[[2, 13]].max() <= 6
    assert image.flags.writeable


LEVELS16 = np.array([[0, 257, 128 * 257, 65535], [1000, 40000, 50000, 60000]], np.uint16)


def test_sixteen_bit_gray_is_scaled(tmp_path):
    for suffix in ("png", "tif"):
        Image.fromarray(LEVELS16).save(tmp_path / f"a.{suffix}")
        image = read_image(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(image, np.repeat(np.rint(LEVELS16 / 257)[..., None], 3, axis=2))
    assert image.dtype == np.uint8


def test_sixteen_bit_colour_is_scaled(tmp_path):
    import cv2

    colour = np.dstack([LEVELS16, LEVELS16[::-1], LEVELS16 // 2])
    for suffix in ("png", "tif"):
        cv2.imwrite(str(tmp_path / f"a.{suffix}"), colour[..., ::-1])
        image = read_image(tmp_path / f"a.{suffix}")
        assert np.abs(image.astype(int) - colour / 257).max() <= 1


def test_float_gray_counts_as_zero_to_one(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1, 7, -1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255, 255, 0]


def test_gray_alpha_palette_and_one_bit(tmp_path):
    rgba = np.zeros((4, 5, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = (10, 200, 30), 0  # fully transparent: the colour stays
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    assert (read_image(tmp_path / "alpha.png") == (10, 200, 30)).all()
    Image.fromarray(rgba).save(tmp_path / "alpha.tif")
    assert (read_image(tmp_path / "alpha.tif") == (10, 200, 30)).all()
    Image.new("LA", (5, 4), (77, 3)).save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png") == 77).all()
    Image.new("L", (5, 4), 99).save(tmp_path / "gray.png")
    assert (read_image(tmp_path / "gray.png") == 99).all()
    palette = Image.new("P", (5, 4), 2)
    palette.putpalette([0, 0, 0, 1, 1, 1, 12, 34, 56])
    palette.save(tmp_path / "palette.png", transparency=2)
    assert (read_image(tmp_path / "palette.png") == (12, 34, 56)).all()
    Image.new("1", (5, 4), 1).save(tmp_path / "bit.png")
    assert (read_image(tmp_path / "bit.png") == 255).all()
    assert read_image(tmp_path / "bit.png").shape == (4, 5, 3)


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to be upright
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=98)
    info = probe(tmp_path)
    assert (info.width, info.height) == (16, 32)
    image = read_frame(tmp_path, 0).image
    assert image[4].mean() > 250
    assert image[-4].mean() < 5
    with VideoReader(tmp_path) as reader:  # also where only headers are looked at
        assert len(list(reader)) == 1


def test_ranges(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i}.png", i)
    with VideoReader(tmp_path, 3, 11) as reader:
        frames = list(reader)
    assert [f.index for f in frames] == [f.image[0, 0, 0] for f in frames] == list(range(3, 11))
    assert frames[0].time == Fraction(3, 25)
    assert read_frame(tmp_path, 11).name == "11"
    for call in (lambda: read_frame(tmp_path, 12), lambda: VideoReader(tmp_path, 12, 14)):
        with pytest.raises(InputError, match="it has 12 frames"):
            call()
    with pytest.raises(InputError, match="no range"):
        read_frame(tmp_path, -1)


def test_damaged_pictures_repeat_the_one_before(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", 10 * i)
    for i in (0, 3, 4):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes()[:40])
    with VideoReader(tmp_path, prefetch=0) as reader:
        frames = []
        for frame in reader:
            frames.append((frame.name, int(frame.image[0, 0, 0]), frame.damaged))
            frame.image[:] = 255  # must not reach the next one
    assert frames == [
        ("0", 10, True),
        ("1", 10, False),
        ("2", 20, False),
        ("3", 20, True),
        ("4", 20, True),
        ("5", 50, False),
    ]
    assert len(reader.warnings) == 1
    assert "3 of 6 frames" in reader.warnings[0]
    frame = read_frame(tmp_path, 4)
    assert (frame.image[0, 0, 0], frame.damaged) == (20, True)


def test_nothing_readable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="no picture that can be read"):
        VideoReader(tmp_path)


def test_different_sizes_are_refused_before_any_work(tmp_path):
    save(tmp_path / "1.png", 0, (8, 6))
    save(tmp_path / "2.png", 0, (8, 6))
    save(tmp_path / "3.png", 0, (9, 7))
    with pytest.raises(InputError, match=r"3\.png is 9x7, but 1\.png is 8x6"):
        VideoReader(tmp_path)
    with pytest.raises(InputError, match="9x7"):
        read_frame(tmp_path, 2)
    with VideoReader(tmp_path, end=2) as reader:
        assert len(list(reader)) == 2


def test_a_repeated_frame_of_another_size_is_refused(tmp_path):
    save(tmp_path / "1.png", 0, (8, 6))
    save(tmp_path / "2.png", 0, (9, 7))
    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2\.png is 9x7, but 1\.png is 8x6"):
        read_frame(tmp_path, 2)


def test_two_frames_of_one_name_are_refused(tmp_path):
    save(tmp_path / "1.png", 0)
    save(tmp_path / "1.jpg", 0)
    with pytest.raises(InputError, match=r"1\.jpg and 1\.png are two frames of one name"):
        VideoReader(tmp_path)
