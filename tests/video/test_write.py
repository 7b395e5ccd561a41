"""Writing: what browsers need, exact times, colours, sound, and nothing left behind a failure."""

from __future__ import annotations

import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.video import VideoReader, VideoWriter, encoder, probe, read_image, save_png, sound

NTSC = Fraction(30000, 1001)


def smooth(index: int, height: int, width: int) -> np.ndarray:
    """A colourful gradient that moves, uint8 `[H, W, 3]`."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin((x + 3 * index) / 19), np.cos((y - index) / 13), np.sin((x + y + index) / 29)]
    return np.rint(127.5 + 90 * np.stack(channels, axis=2)).astype(np.uint8)


def write(path: Path, pictures: list[np.ndarray], rate: Fraction = Fraction(25), **options: object) -> Path:
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, rate, **options) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def read(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.mov"])
def test_browsers_can_play_it(tmp_path, name):
    pictures = [smooth(i, 48, 64) for i in range(30)]
    path = write(tmp_path / name, pictures, NTSC)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 64, 48)
        assert stream.frames == 30
        assert stream.average_rate == NTSC
        assert stream.duration * stream.time_base == 30 / NTSC
        # matrix BT.601 (standard definition), primaries and transfer BT.709, limited range
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (6, 1, 1, 1)
    for written, image in zip(pictures, read(path), strict=True):
        assert psnr(written, image) > 30


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(13978, 467), Fraction(1, 3)]
)
def test_exact_rates(tmp_path, rate):
    path = write(tmp_path / "a.mp4", [smooth(i, 16, 16) for i in range(7)], rate)
    with VideoReader(path) as reader:
        assert [frame.time for frame in reader] == [i / rate for i in range(7)]
        assert reader.info.rate == rate


def test_rates_of_too_many_digits(tmp_path):
    rate = NTSC + Fraction(1, 2**40)  # FFmpeg's fractions hold 32 bits
    path = write(tmp_path / "a.mp4", [smooth(i, 16, 16) for i in range(3)], rate)
    assert probe(path).rate == NTSC


@pytest.mark.parametrize("unit", [90_000, 600, 1000, 24_000])
def test_timestamps(tmp_path, unit):
    ticks = [500, 501, 540, 900, 917, 2000]
    times = [Fraction(t, unit) for t in ticks]
    with VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(24000, 1001)) as writer:
        for i, time in enumerate(times):
            writer.write(smooth(i, 16, 16), time)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.time for frame in reader] == [time - times[0] for time in times]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].start_time == 0


@pytest.mark.parametrize("rate", [Fraction(1, 3600), Fraction(1, 42_949_673), Fraction(10, 42_949_673)])
def test_rates_of_time_lapses_and_of_damaged_headers(tmp_path, rate):
    with VideoWriter(tmp_path / "a.mp4", 16, 16, rate) as writer:
        for i in range(12):
            writer.write(smooth(i, 16, 16), Fraction(3600 * i))
    assert writer.warnings == []
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.time for frame in reader] == [3600 * i for i in range(12)]


@pytest.mark.parametrize("hours", [3, 10**6])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(1, 86_400), Fraction(999_983, 1000)])
@pytest.mark.parametrize("noise", [False, True])
def test_pauses_that_the_format_cannot_say_are_shortened(tmp_path, rate, hours, noise):
    """A pause at once, and now and then two; the order of pictures in the file depends on them."""
    pictures, rng = [smooth(i, 16, 16) for i in range(60)], np.random.default_rng(0)
    if noise:
        pictures = list(rng.integers(0, 255, (60, 16, 16, 3), dtype=np.uint8))
    steps = [hours * 3600 if i % 20 in (0, 19) else 1 / rate for i in range(59)]
    with VideoWriter(tmp_path / "a.mp4", 16, 16, rate) as writer:
        for i, picture in enumerate(pictures):
            writer.write(picture, sum(steps[:i], Fraction(0)))
    with VideoReader(tmp_path / "a.mp4") as reader:
        found = [late.time - early.time for early, late in pairwise(reader)]
    assert len(found) == 59 and reader.warnings == []
    assert all(now <= wanted for now, wanted in zip(found, steps, strict=True))
    if rate > 1:
        assert all(now == wanted for now, wanted in zip(found, steps, strict=True) if wanted < 1)
    assert len(writer.warnings) == (found != steps) and max(found) > 1000
    assert not writer.warnings or "a.mp4 has shorter pauses than the video" in writer.warnings[0]


def test_one_long_pause_is_kept(tmp_path):
    times = [Fraction(i, 25) + (10_000 if i > 11 else 0) for i in range(24)]
    with VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25)) as writer:
        for i, time in enumerate(times):
            writer.write(smooth(i, 16, 16), time)
    assert writer.warnings == []
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.time for frame in reader] == times


def test_times_closer_than_a_tick_stay_in_order(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25)) as writer:
        for i in range(5):
            writer.write(smooth(i, 16, 16), Fraction(i, 10**9))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.time for frame in reader] == [Fraction(i, 90_000) for i in range(5)]


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (1, 1), (3, 50)])
def test_odd_sizes_are_padded_by_repeating_the_border(tmp_path, width, height):
    picture = smooth(0, height, width)
    image = read(write(tmp_path / "a.mp4", [picture] * 3))[1]
    assert image.shape == (height + height % 2, width + width % 2, 3)
    padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert np.abs(image.astype(int) - padded).mean() < 8


@pytest.mark.parametrize(("width", "height", "matrix"), [(64, 48, 6), (1280, 720, 1)])
def test_colours_survive_in_readers_with_and_without_tags(tmp_path, width, height, matrix):
    colour = (200, 30, 90)
    path = write(tmp_path / "a.mp4", [np.full((height, width, 3), colour, np.uint8)] * 2)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix
    assert np.abs(read(path)[0].astype(int) - colour).max() <= 5
    capture = cv2.VideoCapture(str(path))
    assert np.abs(capture.read()[1][..., ::-1].astype(int) - colour).max() <= 5
    capture.release()


def test_the_callers_array_may_change_at_once(tmp_path):
    picture = np.empty((48, 64, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 64, 48, Fraction(25)) as writer:
        for i in range(10):
            picture[:] = 20 * i + 20
            writer.write(picture)
    levels = [round(float(image.mean())) for image in read(tmp_path / "a.mp4")]
    assert np.abs(np.subtract(levels, [20 * i + 20 for i in range(10)])).max() <= 3


SOUND = {  # codecs of the source, and that of the sound in the copy
    "a.mp4": ("libx264", "aac", "aac"),
    "a.webm": ("libvpx", "libopus", "opus"),
    "a.mkv": ("libx264", "flac", "aac"),
    "a.avi": ("mpeg4", "pcm_s16le", "aac"),
    "a.ts": ("libx264", "aac", "aac"),
}


def encode_with_sound(path: Path, rate: int = 25) -> Path:
    """50 frames with a tone that becomes louder after one second."""
    video_codec, audio_codec, _ = SOUND[path.name]
    samples = 48000 // rate  # per picture
    with av.open(str(path), "w") as output:
        video = output.add_stream(video_codec, rate=rate, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = output.add_stream(audio_codec, rate=48000)
        for i in range(50):
            picture = np.full((32, 32, 3), 20 + 4 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts = i
            output.mux(video.encode(frame))
            t = np.arange(samples) + samples * i
            tone = (np.where(t < 48000, 0.1, 0.6) * np.sin(t * 440 * 2 * np.pi / 48000)).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
            heard.rate, heard.pts = 48000, samples * i
            output.mux(audio.encode(heard))
        output.mux([*video.encode(None), *audio.encode(None)])
    return path


@pytest.mark.parametrize("start", [0, 13])
@pytest.mark.parametrize("name", SOUND)
def test_sound_is_kept_in_step(tmp_path, name, start):
    source = encode_with_sound(tmp_path / name)
    target = tmp_path / "out.mp4"
    with (
        VideoReader(source, start, 40) as reader,
        VideoWriter(target, 32, 32, Fraction(25), audio_from=source) as writer,
    ):
        for frame in reader:
            writer.write(frame.image, frame.time)
    assert not writer.warnings
    assert len(read(target)) == 40 - start
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == SOUND[name][2]
        first, *others = container.decode(audio=0)
        wave = np.concatenate([f.to_ndarray()[0] for f in (first, *others)])
        begin = float(first.pts * first.time_base)
    assert begin == pytest.approx(0, abs=0.03)
    assert begin + len(wave) / 48000 == pytest.approx((40 - start) / 25, abs=0.03)
    loud = begin + float(np.argmax(np.abs(wave) > 0.35)) / 48000
    assert loud == pytest.approx(1 - start / 25, abs=0.03)
    with av.open(str(target)) as container:  # nothing is stored that is not played
        stored = container.streams.audio[0].frames * max(f.samples for f in others) / 48000
        assert stored == pytest.approx((40 - start) / 25, abs=0.1)


def test_sound_and_pictures_are_interleaved(tmp_path):
    """Else players load the file to its end first; FFmpeg by itself interleaves within 10 seconds only."""
    source = encode_with_sound(tmp_path / "a.avi", rate=2)  # 25 seconds
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "out.mp4", 32, 32, Fraction(2), audio_from=source) as writer,
    ):
        for frame in reader:
            writer.write(frame.image, frame.time)
    latest = {"audio": 0.0, "video": 0.0}
    with av.open(str(tmp_path / "out.mp4")) as container:
        placed = [(p.pos, p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.size]
    for _, kind, time in sorted(placed):  # in the order of the file
        latest[kind] = time
        assert abs(latest["audio"] - latest["video"]) < 3


def test_sound_that_quicktime_does_not_take_becomes_aac(tmp_path):
    source = encode_with_sound(tmp_path / "a.webm")
    path = write(tmp_path / "a.mov", [smooth(i, 16, 16) for i in range(5)], audio_from=source)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_sound_that_breaks_the_header_is_left_out(tmp_path, monkeypatch):
    source = encode_with_sound(tmp_path / "a.webm")
    monkeypatch.setitem(sound._COPIED, "mov", {"opus"})  # FFmpeg refuses to write it
    with VideoWriter(tmp_path / "a.mov", 16, 16, Fraction(25), audio_from=source) as writer:
        for i in range(5):
            writer.write(smooth(i, 16, 16))
    assert len(writer.warnings) == 1
    assert "was not kept" in writer.warnings[0]
    assert len(read(tmp_path / "a.mov")) == 5
    assert not probe(tmp_path / "a.mov").has_audio


def test_a_silent_source_adds_nothing(tmp_path, encode):
    source = encode(tmp_path / "silent.mp4")
    path = write(tmp_path / "a.mp4", [smooth(0, 16, 16)], audio_from=source)
    assert not probe(path).has_audio


def test_unreadable_sound_is_a_warning(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25), audio_from=tmp_path / "bad.mp4") as writer:
        writer.write(smooth(0, 16, 16))
    assert len(writer.warnings) == 1
    assert "sound" in writer.warnings[0]
    assert len(read(tmp_path / "a.mp4")) == 1


def test_nothing_remains_after_an_exception(tmp_path):
    threads = threading.active_count()
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25)) as writer:
        for i in range(20):
            writer.write(smooth(i, 16, 16))
        assert not (tmp_path / "a.mp4").exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = write(tmp_path / "a.mp4", [smooth(0, 16, 16)])
    old = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        VideoWriter(path, 16, 16, Fraction(25))
    with pytest.raises(KeyError), VideoWriter(path, 16, 16, Fraction(25), overwrite=True) as writer:
        writer.write(smooth(0, 16, 16))
        raise KeyError
    assert path.read_bytes() == old
    write(path, [smooth(0, 16, 16)] * 4, overwrite=True)
    assert len(read(path)) == 4
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["write", "close"])
def test_errors_of_the_encoder_surface(tmp_path, monkeypatch, failing):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    count = 100 if failing == "write" else 1
    monkeypatch.setattr(encoder, "from_rgb", fail)
    with (
        pytest.raises(InputError, match=r"a\.mp4 can't be encoded \(No space left on device\)"),
        VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25)) as writer,
    ):
        for i in range(count):
            writer.write(smooth(i, 16, 16))
    assert list(tmp_path.iterdir()) == []
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(smooth(0, 16, 16))


def test_no_frame(tmp_path):
    with pytest.raises(InputError, match="no frame to write"):
        VideoWriter(tmp_path / "a.mp4", 16, 16, Fraction(25)).close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_picture_is_refused(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 16, 12, Fraction(25)) as writer:
        for bad in (np.zeros((16, 12, 3), np.uint8), np.zeros((12, 16, 3)), np.zeros((12, 16), np.uint8)):
            with pytest.raises(ValueError, match=r"expected uint8 \[12, 16, 3\]"):
                writer.write(bad)
        writer.write(smooth(0, 12, 16), Fraction(1))
        with pytest.raises(ValueError, match="times must increase"):
            writer.write(smooth(0, 12, 16), Fraction(1))
        writer.write(smooth(0, 12, 16), Fraction(2))
    assert len(read(tmp_path / "a.mp4")) == 2


def test_impossible_outputs(tmp_path):
    (tmp_path / "file").touch()
    for path, size, rate, message in [
        (tmp_path / "a.webm", (16, 16), 25, "is not named"),
        (tmp_path / "a.mp4", (0, 16), 25, "can't be 0x16"),
        (tmp_path / "a.mp4", (16, 20000), 25, "can't be 16x20000"),
        (tmp_path / "a.mp4", (16, 16), 0, "positive rate"),
        (tmp_path / "file" / "a.mp4", (16, 16), 25, "can't be"),
    ]:
        with pytest.raises(InputError, match=message):
            VideoWriter(path, *size, Fraction(rate))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_save_png(tmp_path):
    picture = smooth(3, 20, 30)
    save_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    gray = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    save_png(str(tmp_path / "g.png"), gray)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "g.png"), cv2.IMREAD_UNCHANGED), gray)
    with pytest.raises(InputError, match="exists already"):
        save_png(tmp_path / "g.png", picture)
    save_png(tmp_path / "g.png", picture, overwrite=True)
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), picture)
    with pytest.raises(InputError, match=r"not named \.png"):
        save_png(tmp_path / "a.jpg", picture)
    with pytest.raises(ValueError, match="expected uint8"):
        save_png(tmp_path / "f.png", picture.astype(np.float32))
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["a.png", "g.png"]
