"""Writing transparency: VP9 with alpha as libvpx reads it back, folders of PNGs, nothing left of failures."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pretrain.errors import InputError
from vidtrack.video import CutoutWriter, VideoReader, cutout

RATE = Fraction(25)


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A disc that moves, with a soft rim, on a colour that changes slowly; uint8 `[H, W, 4]`."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([80 + x, 200 - y, np.full_like(x, 60 + 4 * index)], axis=2)
    alpha = (8 * (height / 3 - np.hypot(x - width / 2 - index, y - height / 2)) + 128).clip(0, 255)
    return np.dstack([rgb, alpha]).clip(0, 255).astype(np.uint8)


def read_alpha(path: Path) -> list[np.ndarray]:
    """RGBA by libvpx: FFmpeg's own decoder of VP9 drops the alpha."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        pictures = [f for p in container.demux(video=0) for f in decoder.decode(p if p.size else None)]
    assert all(f.format.name == "yuva420p" for f in pictures)
    return [f.to_ndarray(format="rgba") for f in pictures]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63)])
def test_alpha_survives(tmp_path, height, width):
    pictures = [picture(i, height, width) for i in range(10)]
    with CutoutWriter(tmp_path / "a.webm", width, height, RATE) as writer:
        for image in pictures:
            writer.write(image)
    result = read_alpha(tmp_path / "a.webm")
    assert len(result) == 10
    for image, copy in zip(pictures, result, strict=True):
        assert copy.shape == (height + height % 2, width + width % 2, 4)
        copy = copy[:height, :width]
        alpha = image[..., 3].astype(int)
        assert np.abs(alpha - copy[..., 3]).mean() < 2
        np.testing.assert_array_equal(
            (alpha > 127)[np.abs(alpha - 127) > 20], (copy[..., 3] > 127)[np.abs(alpha - 127) > 20]
        )
        assert np.abs(image[..., :3].astype(int) - copy[..., :3])[alpha > 0].mean() < 8
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.streams.video[0].metadata["ALPHA_MODE"] == "1"


def test_rate_and_times(tmp_path):
    times = [Fraction(t, 1000) for t in (500, 501, 640, 900)] + [Fraction(9001, 10000)]
    with CutoutWriter(tmp_path / "a.webm", 64, 48, Fraction(30000, 1001)) as writer:
        for i, time in enumerate(times):
            writer.write(picture(i), time)
    with VideoReader(tmp_path / "a.webm") as reader:
        assert [round(1000 * frame.time) for frame in reader] == [0, 1, 140, 400, 401]
        assert (reader.info.width, reader.info.height) == (64, 48)


def test_pngs(tmp_path):
    with CutoutWriter(tmp_path / "new" / "cutout", 64, 48, RATE) as writer:
        for i in range(6):
            image = picture(i)
            writer.write(image, name="last" if i == 5 else None)
            image[:] = 0  # the caller's to change
        assert not (tmp_path / "new" / "cutout").exists()
    files = sorted((tmp_path / "new" / "cutout").iterdir())
    assert [file.name for file in files] == [f"{i:05d}.png" for i in range(5)] + ["last.png"]
    for i, file in enumerate(files):
        with Image.open(file) as image:
            assert image.mode == "RGBA"
            np.testing.assert_array_equal(np.asarray(image), picture(i))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["cutout"]


@pytest.mark.parametrize("name", ["a.webm", "a"])
def test_nothing_remains_of_what_failed(tmp_path, monkeypatch, name):
    threads = threading.active_count()
    with pytest.raises(KeyError), CutoutWriter(tmp_path / name, 64, 48, RATE) as writer:
        for i in range(6):
            writer.write(picture(i))
        raise KeyError
    with pytest.raises(InputError, match="no frame to write"):
        CutoutWriter(tmp_path / name, 64, 48, RATE).close()

    def fail(*_: object) -> None:
        raise InputError("the disk is full.")

    monkeypatch.setattr(cutout._AlphaEncoder, "picture", fail)
    monkeypatch.setattr(cutout, "save_png", fail)
    with (
        pytest.raises(InputError, match="disk is full"),
        CutoutWriter(tmp_path / name, 64, 48, RATE) as writer,
    ):
        for i in range(20):
            writer.write(picture(i))
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


@pytest.mark.parametrize("name", ["a.webm", "a"])
def test_what_is_refused(tmp_path, name):
    with CutoutWriter(tmp_path / name, 64, 48, RATE) as writer:
        for bad in (picture(0)[..., :3], picture(0).astype(float), picture(0, 47)):
            with pytest.raises(ValueError, match=r"expected uint8 \[48, 64, 4\]"):
                writer.write(bad)
        writer.write(picture(0))
    with pytest.raises(ValueError, match="closed"):
        writer.write(picture(0))
    writer.close()
    with pytest.raises(InputError, match="exists already"):
        CutoutWriter(tmp_path / name, 64, 48, RATE)
    with pytest.raises(InputError, match="can't be 0x48"):
        CutoutWriter(tmp_path / f"new{name}", 0, 48, RATE)
    with pytest.raises(InputError, match=r"not named \.webm"):
        CutoutWriter(tmp_path / "a.mp4", 64, 48, RATE)


def test_overwriting(tmp_path):
    (tmp_path / "a.webm").write_bytes(b"old")
    with CutoutWriter(tmp_path / "a.webm", 64, 48, RATE, overwrite=True) as writer:
        writer.write(picture(0))
        assert (tmp_path / "a.webm").read_bytes() == b"old"
    assert len(read_alpha(tmp_path / "a.webm")) == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.png").touch()
    with pytest.raises(InputError, match="is not replaced"):  # a folder of the user's
        CutoutWriter(tmp_path / "photos", 64, 48, RATE, overwrite=True)
