"""Live sources: the newest frame, nothing queued, ends failures told; served by a web server of ours."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.video import LiveReader, VideoInfo, VideoReader, is_live, live, read_frame

from .conftest import doubtful_video


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of `folder`; names that begin with `stall` never end, `cut` breaks the connection."""

    folder: Path
    released: threading.Event

    def do_GET(self) -> None:
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        more = 1000 if file.name.startswith(("stall", "cut")) else 0
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + more))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        if file.name.startswith("stall"):
            self.released.wait(20)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    released = threading.Event()
    handler = type("Serving", (Handler,), {"folder": tmp_path, "released": released})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        released.set()
        running.shutdown()
        thread.join()


def gated(monkeypatch: pytest.MonkeyPatch, permits: threading.Semaphore) -> None:
    """Let the receiving thread have one picture per permit."""
    whole = live.decode

    def slow(*args: object) -> Iterator[object]:
        for picture in whole(*args):
            permits.acquire()
            yield picture

    monkeypatch.setattr(live, "decode", slow)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_consumer_that_keeps_up_gets_every_frame(tmp_path, encode, server, monkeypatch, name):
    path = encode(tmp_path / name, frames=20, container={"movflags": "faststart"} if name == "a.mp4" else {})
    permits = threading.Semaphore(1)
    gated(monkeypatch, permits)
    with LiveReader(f"{server}/{name}") as reader, VideoReader(path) as expected:
        info = reader.info
        assert (info.kind, info.width, info.height, info.rate) == ("live", 64, 48, 25)
        assert (info.frames, info.duration, info.codec) == (None, None, "h264")
        for frame, original in zip(reader, expected, strict=True):
            np.testing.assert_array_equal(frame.image, original.image)
            assert (frame.index, frame.time, frame.name) == (original.index, original.time, original.name)
            assert 0 <= reader.latency(frame) < 10
            permits.release()
    assert reader.dropped == 0
    assert not reader.warnings


def test_a_slow_consumer_gets_the_newest_and_the_rest_is_counted(tmp_path, encode, level, server):
    encode(tmp_path / "a.ts", frames=40)
    with LiveReader(f"{server}/a.ts") as reader:
        reader._thread.join(20)  # everything was received before the consumer comes
        frame = next(reader)
        assert (frame.index, level(frame.image)) == (39, 39)
        assert reader.dropped == 39
        with pytest.raises(StopIteration):
            next(reader)


def test_numbers_jump_over_what_was_dropped(tmp_path, encode, level, server, monkeypatch):
    encode(tmp_path / "a.ts", frames=12)
    permits = threading.Semaphore(1)
    gated(monkeypatch, permits)
    with LiveReader(f"{server}/a.ts") as reader:
        first = next(reader)
        permits.release(5)
        while reader.dropped < 4:
            time.sleep(0.005)
        second = next(reader)
        permits.release(100)
        rest = [frame.index for frame in reader]
    assert (first.index, second.index, level(second.image)) == (0, 5, 5)
    assert rest[-1] == 11
    assert 2 + len(rest) + reader.dropped == 12


def test_latency_is_the_age_of_the_frame(tmp_path, encode, server, monkeypatch):
    encode(tmp_path / "a.ts", frames=20)
    now = [100.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with LiveReader(f"{server}/a.ts") as reader:
        frame = next(reader)
        now[0] = 100.75
        assert reader.latency(frame) == 0.75
    with pytest.raises(ValueError, match="not of a live source"):
        reader.latency(read_frame(tmp_path / "a.ts", 0))


@pytest.mark.parametrize("name", ["stall.ts", "cut.ts"])
def test_a_stream_that_breaks_off_ends_with_a_warning(tmp_path, encode, server, monkeypatch, name):
    monkeypatch.setattr(live, "_OPEN", 0.3)  # FFmpeg looks for more pictures as long as it may
    monkeypatch.setattr(live, "_READ", 0.3)
    encode(tmp_path / name, frames=20)
    with LiveReader(f"{server}/{name}") as reader:
        indices = [frame.index for frame in reader]
    assert indices[-1] >= 15  # the parser may hold back what follows the last complete packet
    if name == "stall.ts":
        assert reader.warnings == [f"{server}/stall.ts was cut off (nothing was received for 0 seconds)."]
    assert list(reader) == []
    assert len(reader.warnings) <= 1


def test_close_ends_a_blocked_consumer_and_the_thread(tmp_path, encode, server, monkeypatch):
    monkeypatch.setattr(live, "_OPEN", 0.3)  # FFmpeg looks for more pictures as long as it may
    monkeypatch.setattr(live, "_READ", 0.3)
    encode(tmp_path / "stall.ts", frames=20)
    before = threading.active_count()
    reader = LiveReader(f"{server}/stall.ts")
    reader._slot.take()
    reader.close()
    reader.close()
    assert list(reader) == []
    assert not reader._thread.is_alive()
    forgotten = LiveReader(f"{server}/stall.ts")
    thread = forgotten._thread
    del forgotten
    assert not thread.is_alive()
    assert threading.active_count() <= before + 2  # of the server


def test_damage_is_told(tmp_path, encode, textured, server, monkeypatch):
    path = encode(tmp_path / "a.avi", "mjpeg", "yuvj420p", textured[:20])
    with av.open(str(path)) as container:
        place, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][7]
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    with LiveReader(f"{server}/a.avi") as reader:
        list(reader)
    assert reader.warnings == [f"{server}/a.avi: 1 of 20 frames were not received whole."]


def test_frames_after_damaged_ones_are_marked(tmp_path, server, monkeypatch):
    doubtful_video(tmp_path / "a.mkv")
    permits = threading.Semaphore(1)
    gated(monkeypatch, permits)
    found = []
    with LiveReader(f"{server}/a.mkv") as reader:
        for frame in reader:
            found += [frame.index] if frame.doubtful else []
            permits.release()
    assert found == [*range(14, 20), 29]


def test_a_rotated_camera(tmp_path, encode, server):
    encode(tmp_path / "a.mp4", frames=3, rotation=90, container={"movflags": "faststart"})
    with LiveReader(f"{server}/a.mp4") as reader:
        assert (reader.info.rotation, next(reader).image.shape) == (90, (64, 48, 3))


def test_what_can_not_be_opened(tmp_path, server):
    (tmp_path / "notes.txt").write_text("hello world\n" * 400)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/a.mp4"
    for name, message in [
        (closed, r"can't be opened \(Connection refused\): check the address"),
        (f"{server}/missing.mp4", "can't be opened .*404"),
        ("nonsense://host/a", "can't be opened .*Protocol not found"),
        (f"{server}/notes.txt", "can't be opened|no video|no picture"),
        ("99", "there is no camera 99"),
        ("video.mp4", "neither a camera number nor an address"),
        ("concat://a|b", "is no stream"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            LiveReader(name)
        assert str(caught.value).endswith(".")
        assert "Errno" not in str(caught.value)


def test_passwords_are_not_shown():
    with pytest.raises(InputError) as caught:
        LiveReader("nonsense://me:secret@host/a")
    assert "secret" not in str(caught.value)
    assert "me:***@host" in str(caught.value)
    with pytest.raises(InputError, match=r"nonsense://host/a\?\*\*\*") as caught:
        LiveReader("nonsense://host/a?token=secret&b=c")
    assert "secret" not in str(caught.value)


def test_an_address_is_shown_as_it_is():
    info = VideoInfo(Path("http://a/b"), "live", 4, 3, Fraction(1), None, None, "raw", 0, False)
    assert info.shown == "http:/a/b"  # what a path makes of it
    assert replace(info, address="http://a/b").shown == "http://a/b"


def test_the_address_is_that_of_the_source(tmp_path, encode, server):
    encode(tmp_path / "a.mp4")
    with LiveReader(f"{server}/a.mp4") as reader:
        assert reader.info.shown == f"{server}/a.mp4"


@pytest.mark.parametrize(
    ("platform", "number", "expected"),
    [
        ("linux", 3, ("v4l2", "/dev/video3")),
        ("darwin", 0, ("avfoundation", "0:none")),
        ("win32", 1, ("dshow", "video=Second")),
    ],
)
def test_names_of_cameras(monkeypatch, platform, number, expected):
    devices = [
        SimpleNamespace(name=n, media_types=[k])
        for n, k in [("Mike", "audio"), ("First", "video"), ("Second", "video")]
    ]
    monkeypatch.setattr(live.sys, "platform", platform)
    monkeypatch.setattr(live.av, "enumerate_input_devices", lambda _: devices)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert live._camera(number) == expected
    if platform == "win32":
        with pytest.raises(InputError, match="there is no camera 2: 2 were found"):
            live._camera(2)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", True),
        ("12", True),
        ("rtsp://host/stream", True),
        ("udp://@:1234", True),
        ("video.mp4", False),
        ("C:/video.mp4", False),
        ("-1", False),
        ("", False),
    ],
)
def test_is_live(source, expected):
    assert is_live(source) == expected
