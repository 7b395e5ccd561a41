"""Every case of the corpus ends in frames or in one sentence; the long run is `tests/benchmarks/soak.py`."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pretrain import limits
from pretrain.errors import InputError
from vidtrack.cli import app
from vidtrack.commands.shared import printable
from vidtrack.labels import Masks
from vidtrack.video import VideoReader, read_frame, read_image, save_png

from ..video.conftest import encode_video
from .corpus import HEIGHT, WIDTH, Case, attested, cases, source_clip
from .pictures import animation
from .verdict import arguments, faults

HANG = 120  # seconds of one case, on the slowest of machines
RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDTRACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    return source_clip()


@pytest.fixture
def video(tmp_path: Path, clip: list[np.ndarray]) -> Path:
    return encode_video(tmp_path / "video.mp4", frames=clip)


@contextmanager
def no_hang() -> Iterator[None]:
    """Raises TimeoutError inside after `HANG` seconds."""

    def ring(number: int, where: FrameType | None) -> None:
        raise TimeoutError(f"still at work after {HANG} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def problem(case: Case) -> str | None:
    """What is wrong with how a case ends, None if nothing is."""
    try:
        with no_hang():
            if case.role == "mask":
                Masks.load(case.path, size=(HEIGHT, WIDTH))
                return None
            with VideoReader(case.path) as reader:
                frames = list(reader)
    except InputError as error:
        text = str(error).replace(str(case.path), "")
        sentence = text.endswith(".") and "\n" not in text and "Errno" not in text
        return f"is refused: {text}" if case.frames is not None or not sentence else None
    except BaseException as error:  # whatever it is, the other cases are tried too
        return f"ends in {error!r}"
    if not all(a.time < b.time for a, b in pairwise(frames)) or len({f.image.shape for f in frames}) != 1:
        return "has times or sizes that don't agree"
    if case.frames is not None and (len(frames) != case.frames or reader.warnings):
        return f"gives {len(frames)} frames instead of {case.frames}, and {reader.warnings}"
    lost = case.whole is not None and len(frames) < case.whole and not reader.warnings
    if lost and attested(case):
        return f"loses frames, all but {len(frames)}, without a word"
    return None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """A few random cases, and all others."""
    return list(cases(tmp_path_factory.mktemp("corpus"), seed=0, flips=3, holes=2))


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
def test_every_case_ends_well(corpus: list[Case]) -> None:
    found = {case.name: trouble for case in corpus if (trouble := problem(case)) is not None}
    assert found == {}
    assert len({case.kind for case in corpus}) >= 30 and len(corpus) > 250


def propagate(*arguments: object) -> Any:
    with no_hang():
        return RUNNER.invoke(app, ["propagate", *map(str, arguments), "--tracker", "copy"])


def test_the_hard_cases_through_the_command(tmp_path: Path, corpus: list[Case], video: Path) -> None:
    """Exit code 0 and a complete OUT, or 2, one sentence and no OUT."""
    wanted = {
        *("front.mp4 cut at 5/10", "clip.avi cut at 9/10", "clip.gif cut at 3/10", "named pipe", "huge gif"),
        *("odd size, 1x1.mov", "odd size, 2x3.mov", "timestamps twice", "size.ts changes its size"),
        *("folder with 16 bit", "folder with truncated", "folder with smaller bomb", "folder of 1x1"),
        *("named 'line\\nbreak\\ttab.mp4'", "named 'latin-1 caf\\udce9.mp4'", "name too long"),
        *("folder with a name that is no text", "mask bomb", "mask that is a pipe", "mask many frames"),
    }
    codes = {}
    for case in (case for case in corpus if case.name in wanted):
        out = tmp_path / "out" / str(len(codes))
        with no_hang():
            done = RUNNER.invoke(app, [*arguments(case, video), "--tracker", "copy", "--out", str(out)])
        assert faults(case, done.exit_code, done.stderr, out) == [], case.name
        codes[case.name] = done.exit_code
    assert codes.keys() == wanted
    assert sorted(name for name, code in codes.items() if code == 2) == sorted(
        {name for name in wanted if "mask" in name or "bomb" in name}
        | {"front.mp4 cut at 5/10", "named pipe", "huge gif", "name too long"}
        | {"folder with truncated", "folder with a name that is no text"}
    )


def test_max_pixels(tmp_path: Path, clip: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_allowed", limits.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    video = encode_video(tmp_path / "a.mp4", frames=clip[:3])
    for side, code in ((WIDTH * HEIGHT, 0), (WIDTH * HEIGHT - 1, 2)):
        done = propagate(video, "--box", "1,1,9,9", "--max-pixels", side, "--out", tmp_path / str(side))
        assert done.exit_code == code
    assert f"a.mp4 has {WIDTH} x {HEIGHT} pixels, more than the {WIDTH * HEIGHT - 1}" in done.stderr
    save_png(tmp_path / "frames" / "0.png", clip[0])
    Masks(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "mask.png")
    for read in (
        lambda: VideoReader(tmp_path / "frames"),
        lambda: read_image(tmp_path / "frames" / "0.png"),
        lambda: Masks.load(tmp_path / "mask.png"),
        lambda: read_frame(video, 0),
    ):
        with pytest.raises(limits.TooLarge, match=rf"{WIDTH} x {HEIGHT} pixels.* --max-pixels\.$"):
            read()


def test_a_video_that_declares_too_much_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mkv", frames=[np.zeros((200, 300, 3), np.uint8)] * 3)
    monkeypatch.setattr(limits, "_allowed", 100)
    monkeypatch.setattr("vidtrack.video.container._BLOCKS", 0)
    with pytest.raises(limits.TooLarge, match="300 x 200 pixels"):
        VideoReader(path)


def test_a_stream_that_grows_beyond_the_limit(
    tmp_path: Path, clip: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [encode_video(tmp_path / "0.mjpeg", "mjpeg", "yuvj420p", clip[:4])]
    large = [np.zeros((400, 700, 3), np.uint8)] * 2
    parts.append(encode_video(tmp_path / "1.mjpeg", "mjpeg", "yuvj420p", large))
    path = tmp_path / "grows.mjpeg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    monkeypatch.setattr(limits, "_allowed", 10_000)
    with pytest.raises(limits.TooLarge, match="700 x 400 pixels"):  # decoded, but not made RGB
        list(VideoReader(path))
    monkeypatch.setattr("vidtrack.video.container._BLOCKS", 0)  # not even decoded
    with VideoReader(path) as reader:
        assert [frame.damaged for frame in reader] == [False] * 4 + [True] * 2


def test_a_film_of_very_many_pictures_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "many.gif"
    # The picture of an animation's first frame, again and again.
    data = animation("GIF", 2)
    again = data[data.rindex(b"!\xf9") : -1]
    path.write_bytes(data[:-1] + again * 5_000 + b";")
    assert path.stat().st_size < 10**8
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) > 4_900
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_video_that_vanishes_while_it_is_read(tmp_path: Path, clip: list[np.ndarray]) -> None:
    for name, codec, pix_fmt in (("a.gif", "gif", "gray"), ("a.mkv", "libx264", "yuv420p")):
        path = encode_video(tmp_path / name, codec, pix_fmt, clip)
        with VideoReader(path) as reader:
            next(reader)
            path.unlink()
            assert len(list(reader)) == len(clip) - 1


def test_frames_that_vanish_while_they_are_read(tmp_path: Path, clip: list[np.ndarray]) -> None:
    for number in range(6):
        save_png(tmp_path / f"{number}.png", clip[number])
    with VideoReader(tmp_path, prefetch=0) as reader:
        next(reader)
        (tmp_path / "3.png").unlink()
        assert [frame.damaged for frame in reader] == [False, False, True, False, False]
    with VideoReader(tmp_path, prefetch=0) as reader:
        next(reader)
        for path in tmp_path.glob("*.png"):
            path.unlink()
        with pytest.raises(InputError, match="can't be read as a picture"):
            list(reader)


def refused(done: Any, out: Path) -> None:
    """Exit code 2 with one sentence, and nothing of an output."""
    told = done.stderr.strip()
    assert done.exit_code == 2 and told.startswith("Error: ") and "\n" not in told, told
    assert not out.exists() and not out.with_name(f"{out.name}.partial").exists()


@pytest.mark.parametrize("writer", ["_line", "save", "draw", "write_json"])
def test_a_full_disk(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, writer: str) -> None:
    """Whatever can't be written: the record of a frame, its mask, the picture of the report, the report."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = {
        "_line": "vidtrack.job.records._line",
        "save": "vidtrack.labels.masks.Masks.save",
        "draw": "vidtrack.job.trust.draw_trust",
        "write_json": "vidtrack.job.run.write_json",
    }
    monkeypatch.setattr(where[writer], full)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[5:30, 5:30] = 1
    Image.fromarray(ids).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    done = propagate(video, "--mask", tmp_path / "mask.png", "--out", out)
    refused(done, out)
    assert "No space left on device" in done.stderr


def test_files_that_may_not_grow(tmp_path: Path, video: Path) -> None:
    """A limit on the size of files, which the overlay meets in the encoder."""
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        done = propagate(video, "--box", "1,1,40,40", "--out", out, "--cache", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(done, out)
    assert "overlay.mp4 can't be encoded" in done.stderr


@pytest.mark.parametrize("place", ["file", "locked"])
def test_outputs_that_can_not_be_made(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    out = tmp_path / place / "out"
    if place == "file":
        (tmp_path / place).write_text("no folder")
    else:
        (tmp_path / place).mkdir()
        monkeypatch.setattr(
            os, "access", lambda path, mode, **more: mode != os.W_OK
        )  # modes mean nothing to root
    refused(propagate(video, "--box", "1,1,40,40", "--out", out), out)


def test_names_do_not_write_to_the_terminal(tmp_path: Path) -> None:
    """Line breaks, escape sequences and bytes that are no text are shown as what they are."""
    done = propagate(f"{tmp_path}/\x1b[31mred\nline.mp4", "--box", "1,1,9,9", "--out", tmp_path / "out")
    assert done.exit_code == 2 and r"\x1b[31mred\nline.mp4 does not exist" in done.stderr
    assert done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert printable("ünï 視頻 caf\udce9") == r"ünï 視頻 caf\udce9"
