"""Reading video files: containers, times, ranges, rotation, colours, and what is refused."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.video import Frame, VideoReader, decode, frame_name, probe, read_frame
from vidtrack.video.container import average_rate

NTSC = Fraction(30000, 1001)


def read(path: Path, *args: object, **options: object) -> tuple[list[Frame], list[str]]:
    with VideoReader(path, *args, **options) as reader:
        frames = list(reader)
    return frames, reader.warnings


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "rate"),
    [
        ("a.mp4", "libx264", "yuv420p", NTSC),
        ("5.mp4", "libx265", "yuv420p10le", NTSC),
        ("a.mov", "mpeg4", "yuv420p", NTSC),
        ("p.mov", "prores_ks", "yuv422p10le", NTSC),
        ("a.avi", "mpeg4", "yuv420p", NTSC),
        ("m.avi", "mjpeg", "yuvj420p", NTSC),
        ("b.avi", "libx264", "yuv420p", NTSC),  # B-frames in a container without presentation timestamps
        ("a.mkv", "libx264", "yuv420p", Fraction(25)),
        ("f.mkv", "ffv1", "bgr0", Fraction(25)),
        ("a.webm", "libvpx-vp9", "yuv420p", Fraction(25)),
        ("8.webm", "libvpx", "yuv420p", Fraction(25)),
        ("a.gif", "gif", "gray", Fraction(10)),
        ("a.ts", "libx264", "yuv420p", NTSC),
    ],
)
def test_containers(tmp_path, encode, level, name, codec, pix_fmt, rate):
    sharp = {"b": "2000000"} if codec in ("mpeg4", "mjpeg") else {}
    path = encode(tmp_path / name, codec, pix_fmt, 20, rate, options=sharp)
    frames, warnings = read(path)
    assert [f.index for f in frames] == list(range(20))
    assert [f.name for f in frames] == [f"{i:05d}" for i in range(20)]
    assert [f.time for f in frames] == [i / rate for i in range(20)]
    assert [level(f.image) for f in frames] == list(range(20))
    assert not any(f.damaged for f in frames)
    assert not warnings
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.writeable

    info = probe(path)
    assert (info.kind, info.path, info.width, info.height, info.rotation) == ("video", path, 64, 48, 0)
    assert info.rate == rate
    assert info.frames == 20
    assert info.duration == pytest.approx(20 / rate, abs=0.002)
    assert not info.has_audio


def test_variable_frame_rate_follows_the_timestamps(tmp_path, encode, level):
    pts = [0, 40, 41, 100, 900, 917, 2000]
    path = encode(tmp_path / "a.mp4", frames=7, pts=pts, time_base=Fraction(1, 600))
    frames, warnings = read(path)
    assert [f.time for f in frames] == [Fraction(p, 600) for p in pts]
    assert [level(f.image) for f in frames] == list(range(7))
    assert not warnings


def test_variable_delays_of_a_gif(tmp_path, encode):
    pts = [0, 5, 7, 60, 61 + 40]
    path = encode(tmp_path / "a.gif", "gif", "gray", 5, pts=pts, time_base=Fraction(1, 100))
    frames, _ = read(path)
    assert [f.time for f in frames] == [Fraction(p, 100) for p in pts]


def test_missing_timestamps_are_estimated_from_the_rate(tmp_path, encode, level):
    path = encode(tmp_path / "a.h264", frames=6, options={"bf": "0"})  # a bare stream tells no times
    frames, _ = read(path)
    assert [f.time for f in frames] == [i / probe(path).rate for i in range(6)]
    assert [level(f.image) for f in frames] == list(range(6))


def test_timestamps_that_run_backwards_are_replaced(tmp_path, encode):
    stream = av.open(str(encode(tmp_path / "a.mp4", frames=2))).streams.video[0]  # time base 1 / 12800
    clock = decode._Clock(stream, Fraction(1, 25), by_decoding_order=False)
    times = [clock.time(pts, None) for pts in (0, 512, 512, 100, None, 12800)]
    assert times == [Fraction(i, 25) for i in (0, 1, 2, 3, 4, 25)]


@pytest.mark.parametrize(
    ("average", "frames", "base", "expected"),
    [
        (NTSC, 60, 30, NTSC),
        (1000, 50, 1000, 25),  # the time base of a file that knows no rate: counted instead
        (None, 0, 50, 50),
        (90_000, 0, 90_000, 25),
        (0, 0, None, 25),
    ],
)
def test_rates_that_cannot_be_are_not_believed(average, frames, base, expected):
    stream = SimpleNamespace(average_rate=average, frames=frames, base_rate=base)
    assert average_rate(stream, Fraction(2)) == expected


def test_missing_duration(tmp_path, encode):
    path = encode(tmp_path / "a.webm", "libvpx", frames=6, container={"live": "1"})
    info = probe(path)
    assert (info.duration, info.frames, info.rate) == (None, None, 25)
    frames, warnings = read(path)
    assert len(frames) == 6
    assert not warnings


@pytest.mark.parametrize(("width", "height"), [(35, 21), (1, 1), (3, 50)])
def test_odd_sizes(tmp_path, encode, width, height):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, -1] = 255
    frames, _ = read(encode(tmp_path / "a.mkv", "ffv1", "bgr0", [picture]))
    np.testing.assert_array_equal(frames[0].image, picture)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_as_opencv_applies_it(tmp_path, encode, rotation):
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:24, :32] = (220, 30, 30)  # a corner tells all four apart
    path = encode(tmp_path / "a.mp4", frames=[picture] * 3, rotation=rotation)
    capture = cv2.VideoCapture(str(path))
    expected = capture.read()[1][..., ::-1]
    capture.release()
    frame = read_frame(path, 1)
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).max() <= 6
    upright = np.rot90(picture, rotation // 90)
    assert np.abs(frame.image.astype(int) - upright)[4:-4, 4:-4].mean() < 8
    info = probe(path)
    assert (info.rotation, info.height, info.width) == (rotation % 360, *expected.shape[:2])


def ycbcr(rgb: tuple[int, int, int], kr: float, kb: float, full: bool) -> list[int]:
    """The defining formula of BT.601 (kr .299, kb .114) and BT.709 (.2126, .0722)."""
    r, g, b = (x / 255 for x in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    scales = ((255, 0), (255, 128), (255, 128)) if full else ((219, 16), (224, 128), (224, 128))
    return [round(x * scale + offset) for x, (scale, offset) in zip((y, cb, cr), scales, strict=True)]


@pytest.mark.parametrize(
    ("matrix", "weights", "full", "size"),
    [
        (2, (0.299, 0.114), False, (64, 48)),  # untagged, standard definition
        (2, (0.2126, 0.0722), False, (1280, 720)),  # untagged, high definition
        (6, (0.299, 0.114), False, (64, 48)),
        (5, (0.299, 0.114), False, (1280, 720)),
        (1, (0.2126, 0.0722), False, (64, 48)),
        (1, (0.2126, 0.0722), True, (64, 48)),
        (6, (0.299, 0.114), True, (64, 48)),
    ],
)
def test_colours_by_tag(tmp_path, matrix, weights, full, size):
    rgb = (200, 30, 90)
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame(*size, "yuv420p")
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        for plane, value in zip(frame.planes, ycbcr(rgb, *weights, full), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        output.mux([*stream.encode(frame), *stream.encode(None)])
    image = read_frame(tmp_path / "a.mp4", 0).image
    assert np.abs(image.reshape(-1, 3).astype(int) - rgb).max() <= 4


def test_alpha_is_dropped(tmp_path):
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[..., :3], picture[:8, :, 3] = (90, 120, 60), 255
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgra"
        frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="bgra")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    assert (read_frame(tmp_path / "a.mkv", 0).image == (90, 120, 60)).all()


def test_a_change_of_size_is_resized_with_one_warning(tmp_path, encode):
    small = [np.full((48, 64, 3), 60, np.uint8)] * 4
    large = [np.full((96, 80, 3), 160, np.uint8)] * 3
    parts = [encode(tmp_path / f"{i}.h264", frames=f).read_bytes() for i, f in enumerate((small, large))]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    frames, warnings = read(path)
    assert [f.image.shape for f in frames] == [(48, 64, 3)] * 7
    assert [round(f.image.mean() / 10) for f in frames] == [6] * 4 + [16] * 3
    assert len(warnings) == 1
    assert "3 frames were resized" in warnings[0]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_ranges(tmp_path, encode, level, prefetch):
    path = encode(tmp_path / "a.mp4", frames=20, options={"g": "6"})
    for start, end, expected in [
        (0, None, range(20)),
        (7, None, range(7, 20)),
        (0, 5, range(5)),
        (6, 14, range(6, 14)),
        (19, 20, range(19, 20)),
        (18, 99, range(18, 20)),
    ]:
        frames, warnings = read(path, start, end, prefetch=prefetch)
        assert [f.index for f in frames] == list(expected)
        assert [level(f.image) for f in frames] == list(expected)
        assert [f.time for f in frames] == [Fraction(i, 25) for i in expected]
        assert not warnings


@pytest.mark.parametrize(("start", "end"), [(-1, None), (3, 3), (5, 2), (0, 0)])
def test_impossible_ranges(tmp_path, encode, start, end):
    with pytest.raises(InputError, match="no range"):
        VideoReader(encode(tmp_path / "a.mp4"), start, end)


def test_beyond_the_last_frame(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", frames=20)
    for read_it in (lambda: read(path, 20), lambda: read_frame(path, 20), lambda: read(path, 400, 500)):
        with pytest.raises(InputError, match="it has 20 frames"):
            read_it()


def test_read_frame(tmp_path, encode, level):
    path = encode(tmp_path / "a.mp4", frames=20, options={"g": "6"})
    for index in (0, 5, 6, 19):
        frame = read_frame(path, index)
        assert (frame.index, frame.time, level(frame.image)) == (index, Fraction(index, 25), index)


def test_frames_belong_to_the_caller(tmp_path, encode, level):
    path = encode(tmp_path / "a.mp4", frames=8)
    with VideoReader(path) as reader:
        for i, frame in enumerate(reader):
            assert level(frame.image) == i
            frame.image[:] = 0


def test_close_early_stops_the_thread(tmp_path, encode):
    path = encode(tmp_path / "a.mp4", frames=40)
    before = threading.active_count()
    with VideoReader(path, prefetch=2) as reader:
        next(reader)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(reader) == []
    reader.close()
    reader = VideoReader(path, prefetch=2)
    next(reader)
    del reader  # forgotten by its user
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_is_told_and_its_length_is_not_that_of_the_pictures(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as output:
        video, sound = output.add_stream("libx264", rate=25), output.add_stream("aac", rate=48000)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        output.mux([*video.encode(av.VideoFrame(16, 16, "yuv420p")), *video.encode(None)])
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 48000), np.float32), "fltp", "stereo")
        frame.rate, frame.pts = 48000, 0
        output.mux([*sound.encode(frame), *sound.encode(None)])
    info = probe(tmp_path / name)
    assert info.has_audio
    assert info.duration == pytest.approx(0.04, abs=0.002)
    frames, warnings = read(tmp_path / name)
    assert len(frames) == 1
    assert not warnings


def test_titles_in_an_unknown_encoding(tmp_path, encode):
    path = encode(tmp_path / "a.mkv", frames=2, title="abcdefgh")
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"\xff\xfebcdefg"))
    assert len(read(path)[0]) == 2


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / {"text": "notes.txt", "text as mp4": "a.mp4", "picture": "a.jpg"}.get(kind, "b.mp4")
    if kind == "picture" or kind == "picture as mp4":
        path.write_bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    elif kind.startswith("text"):
        path.write_text("hello world\n" * 400)
    elif kind == "empty":
        path.touch()
    elif kind == "no folder content":
        path.mkdir()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "list":
        path.write_text("ffconcat version 1.0\nfile b.mp4\n")
    elif kind == "sound":
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.rate, frame.pts = 48000, 0
            output.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("empty", "empty file"),
        ("text", "is text"),
        ("text as mp4", "can't be opened as a video"),
        ("noise", "can't be opened as a video"),
        ("list", "is text"),
        ("picture", "single picture"),
        ("picture as mp4", "single picture"),
        ("sound", "no video stream"),
        ("no folder content", "holds no pictures"),
    ],
)
def test_what_is_no_video_is_refused_in_one_sentence(tmp_path, kind, message):
    path = bad_file(tmp_path, kind)
    for open_it in (probe, VideoReader, lambda p: read_frame(p, 0)):
        with pytest.raises(InputError, match=message) as caught:
            open_it(path)
        text = str(caught.value)
        assert str(path) in text
        assert text.endswith(".")
        assert "\n" not in text
        assert "Errno" not in text


def test_a_folder_of_videos_says_which_to_give(tmp_path):
    for name in ("b.MP4", "a.mov", "._a.mov", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"one of its videos, such as .*/a\.mov\.$"):
        probe(tmp_path)


def test_an_unreadable_file(tmp_path, encode, monkeypatch):
    path = encode(tmp_path / "a.mp4")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod means nothing to root
    with pytest.raises(InputError, match=r"can't be read \(Permission denied\)"):
        probe(path)


def test_names_that_look_like_protocols(tmp_path, encode, monkeypatch):
    encode(tmp_path / "a.mp4", frames=2).rename(tmp_path / "pipe:1 ä.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("pipe:1 ä.mp4"))[0]) == 2


def test_frame_name():
    assert [frame_name(i) for i in (0, 7, 99999, 100000)] == ["00000", "00007", "99999", "100000"]
