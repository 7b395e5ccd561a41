"""Damaged and strange videos, made on the spot of a real clip (`VIDTRACK_DATA`), else of the rendered one.

    for case in cases(folder, seed=7):
        print(case.kind, case.name, case.path)

All random damage follows the seed, so that a case can be made again. See `pictures` for folders and masks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from ..video.conftest import encode_video
from . import pictures

FRAMES, WIDTH, HEIGHT = 24, 96, 54
FLIPS, HOLES = 6, 2  # of each container; a soak asks for more
_FRONT = {"movflags": "faststart"}  # the index comes first, so that a cut leaves it whole
_GROUPS = {"g": "8"}  # three groups of pictures

# Name -> codec, pixel format, options of the codec and of the container.
CONTAINERS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "front.mp4": ("libx264", "yuv420p", _GROUPS, _FRONT),
    "back.mp4": ("libx264", "yuv420p", _GROUPS, {}),
    "fragments.mp4": ("libx264", "yuv420p", _GROUPS, {"movflags": "frag_keyframe+empty_moov"}),
    "clip.mkv": ("libx264", "yuv420p", _GROUPS, {}),
    "clip.webm": ("libvpx", "yuv420p", _GROUPS, {}),
    "clip.avi": ("mpeg4", "yuv420p", _GROUPS, {}),
    "clip.ts": ("mpeg2video", "yuv420p", _GROUPS, {}),
    "clip.mov": ("mjpeg", "yuvj420p", {}, {}),
    "clip.gif": ("gif", "gray", {}, {}),
}


@dataclass(frozen=True)
class Case:
    """One file or folder that may do harm.

    Attributes:
        name: of the case, one of its kind.
        path: what is given to vidtrack; it may not exist.
        kind: of damage.
        role: what it is given as.
        frames: how many frames a reader must find; None: as many as it can, or it refuses the file.
        whole: how many there were before the damage: fewer must not pass without a word.
    """

    name: str
    path: Path
    kind: str
    role: Literal["video", "mask"] = "video"
    frames: int | None = None
    whole: int | None = None


def cases(
    folder: Path, seed: int, flips: int = FLIPS, holes: int = HOLES, fixed: bool = True
) -> Iterator[Case]:
    """All cases, made in `folder` as they are asked for.

    Args:
        folder: exists and is empty.
        seed: decides about everything random.
        flips: copies of each container with bits turned over.
        holes: copies of each container with a stretch of zeros, and as many with one left out.
        fixed: those too that are the same for each seed.
    """
    clip = source_clip()
    whole = whole_files(folder / "whole", clip)
    for kind in (cuts, no_videos, whole_but_strange, mid_stream, names) if fixed else ():
        (folder / kind.__name__).mkdir()
        yield from kind(folder / kind.__name__, whole, clip)
    (folder / "random").mkdir()
    yield from random_damage(folder / "random", whole, seed, flips, holes)
    strange = (pictures.folders, pictures.masks) if fixed else ()
    for made in (*strange, pictures.damaged_masks):
        (folder / made.__name__).mkdir()
        for name, path, kind_of, role, frames in made(folder / made.__name__, clip, seed):
            yield Case(name, path, kind_of, role, frames)


def attested(case: Case) -> bool:
    """Whether the file itself still tells that it had more frames, so that losing them can be noticed.

    Not where a flipped bit makes a picture of VP8 a hidden one, what lay between two places of a GIF that
    look alike is gone, the mark of a picture inside a packet of a transport stream is overwritten, or the
    damaged edit list of an MP4 says that frames are not to be shown.
    """
    if case.kind != "truncated" and case.path.name.rpartition("-")[2] in {"clip.webm", "clip.gif", "clip.ts"}:
        return False
    try:
        with av.open(str(case.path)) as container:
            return not any(packet.is_discard for packet in container.demux(video=0))
    except (av.error.FFmpegError, IndexError):
        return True


def source_clip() -> list[np.ndarray]:
    """The first pictures of a clip, uint8 `[54, 96, 3]` RGB."""
    data = os.environ.get("VIDTRACK_DATA")
    found = sorted(Path(data).glob("eval/DAVIS-2016-dev/JPEGImages/*/bear/*.jpg"))[:FRAMES] if data else []
    if found:
        images = [cv2.imread(str(path))[..., ::-1] for path in found]
    else:
        from vidtrack.demo_scene import render

        images = [image for image, _ in islice(render(), FRAMES)]
    return [cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for image in images]


def whole_files(folder: Path, clip: list[np.ndarray]) -> dict[str, bytes]:
    """The content of an undamaged file of each container, by its name."""
    folder.mkdir()
    for name, (codec, pix_fmt, options, container) in CONTAINERS.items():
        encode_video(folder / name, codec, pix_fmt, clip, options=options, container=container)
    return {name: (folder / name).read_bytes() for name in CONTAINERS}


def cuts(folder: Path, whole: dict[str, bytes], clip: list[np.ndarray]) -> Iterator[Case]:
    """Each container truncated at every tenth, and before its last byte."""
    for name, data in whole.items():
        for tenth in range(10):
            path = folder / f"{tenth}-{name}"
            path.write_bytes(data[: len(data) * tenth // 10])
            seen = not (name.endswith(".ts") and path.stat().st_size % 188 == 0)  # between two packets
            yield Case(f"{name} cut at {tenth}/10", path, "truncated", whole=len(clip) if seen else None)


def random_damage(folder: Path, whole: dict[str, bytes], seed: int, flips: int, holes: int) -> Iterator[Case]:
    """Bits turned over, and stretches zeroed or left out, at places that follow the seed."""
    for name, data in whole.items():
        rng = np.random.default_rng([seed, *name.encode()])
        for number in range(flips):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 2 ** int(rng.integers(0, 7))):
                damaged[place] ^= 1 << int(rng.integers(8))
            path = folder / f"flips-{number}-{name}"
            path.write_bytes(damaged)
            yield Case(f"{name} flips {number}", path, "flipped bits", whole=FRAMES)
        for number in range(2 * holes):
            begin = int(rng.integers(0, len(data)))
            end = begin + int(rng.integers(1, max(2, len(data) // 5)))
            gap = bytes(min(end, len(data)) - begin) if number < holes else b""
            kind = "zeroed stretch" if number < holes else "missing stretch"
            path = folder / f"hole-{number}-{name}"
            path.write_bytes(data[:begin] + gap + data[end:])
            yield Case(f"{name} hole {number}", path, kind, whole=FRAMES)


def no_videos(folder: Path, whole: dict[str, bytes], clip: list[np.ndarray]) -> Iterator[Case]:
    """What can't be read at all, or says so itself."""
    path = folder / "empty.mp4"
    path.touch()
    yield Case("no byte", path, "zero length")
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        sound.rate, sound.pts = 48000, 0
        output.mux([*stream.encode(sound), *stream.encode(None)])
    yield Case("sound only", path, "audio only")
    for name, index in (("front.mp4", b"moov"), ("back.mp4", b"moov"), ("clip.avi", b"idx1")):
        data = whole[name]
        path = folder / f"no-index-{name}"
        path.write_bytes(data.replace(index, b"lost"))
        yield Case(f"{name} without {index.decode()}", path, "missing index", whole=len(clip))
    cues = bytes.fromhex("1c53bb6b")  # EBML's number of the index
    path = folder / "no-index.mkv"
    path.write_bytes(whole["clip.mkv"].replace(cues, bytes.fromhex("ec53bb6b")))
    yield Case("mkv without cues", path, "missing index", whole=len(clip))
    path = folder / "pipe.mp4"
    os.mkfifo(path)
    yield Case("named pipe", path, "named pipe")
    path = folder / "nowhere.mp4"
    path.symlink_to(folder / "gone.mp4")
    yield Case("link to nothing", path, "symlink")
    path = folder / "round.mp4"
    path.symlink_to(path)
    yield Case("link to itself", path, "symlink")
    yield Case("device", Path("/dev/zero"), "device")
    yield Case("name too long", folder / f"{'long' * 2000}.mp4", "names")
    path = folder / "folder.mp4"
    path.mkdir()
    yield Case("folder named as a file", path, "directory")
    path = folder / "huge.gif"  # a film that declares 65535 x 65535
    path.write_bytes(b"GIF89a" + b"\xff" * 4 + whole["clip.gif"][10:])
    yield Case("huge gif", path, "huge size")
    for name in ("front.mp4", "clip.mov"):
        data = bytearray(whole[name])
        place = data.index(b"tkhd") + 80  # width and height, 16.16; the decoder has its own
        data[place : place + 8] = (65535 << 16).to_bytes(4, "big") * 2
        place = data.index({"front.mp4": b"avc1", "clip.mov": b"jpeg"}[name], data.index(b"stsd")) + 28
        data[place : place + 4] = b"\xff" * 4
        path = folder / f"huge-{name}"
        path.write_bytes(data)
        yield Case(f"{name} that declares 65535 x 65535", path, "huge size")


def whole_but_strange(folder: Path, whole: dict[str, bytes], clip: list[np.ndarray]) -> Iterator[Case]:
    """Undamaged files that are seldom seen; every frame must come."""
    count = len(clip)

    def made(kind: str, name: str, codec: str, pix_fmt: str, images: list[np.ndarray], **more: Any) -> Case:
        path = encode_video(folder / name, codec, pix_fmt, images, **more)
        return Case(f"{kind}, {name}", path, kind, frames=len(images))

    path = folder / "mkv.mp4"
    path.write_bytes(whole["clip.mkv"])
    yield Case("mkv named mp4", path, "wrong extension", frames=count)
    path = folder / "mp4.dat"
    path.write_bytes(whole["front.mp4"])
    yield Case("mp4 named dat", path, "wrong extension", frames=count)
    yield made("one frame", "one.mp4", "libx264", "yuv420p", clip[:1])
    yield made("one frame", "one.gif", "gif", "gray", clip[:1])
    yield made("10 bit", "ten.mkv", "ffv1", "yuv420p10le", clip)
    yield made("gray", "gray.mkv", "ffv1", "gray", clip)
    yield made("16 bit gray", "gray16.mkv", "ffv1", "gray16le", clip)
    yield made("alpha", "alpha.mov", "png", "rgba", clip)
    yield made("alpha", "alpha.webm", "libvpx-vp9", "yuva420p", clip[:4])
    fields = {"flags": "+ildct+ilme"}
    yield made("interlaced", "interlaced.mkv", "mpeg2video", "yuv420p", clip, options=fields)
    yield made("rotated", "rotated.mp4", "libx264", "yuv420p", clip, rotation=90)
    for width, height in ((1, 1), (2, 3), (95, 53), (1, 300)):
        small = [cv2.resize(image, (width, height)) for image in clip[:6]]
        yield made("odd size", f"{width}x{height}.mov", "png", "rgb24", small)
    clock = {"time_base": Fraction(1, 1000)}
    jumps = [40 * i + (10**7 if i > 11 else 0) for i in range(count)]
    yield made("timestamps jump", "jump.mkv", "ffv1", "yuv444p", clip, pts=jumps, **clock)
    for kind, time in {
        "timestamps twice": lambda i: 40 * (i // 2 % 4),
        "timestamps backward": lambda i: 40 * (7 - i % 8),
        "timestamps all alike": lambda i: 0,
    }.items():
        path = folder / f"{kind}.webm"
        path.write_bytes(_retimed(whole["clip.webm"], time, folder.parent / "whole" / "clip.webm"))
        yield Case(kind, path, kind, frames=count)
    path = folder / "again.ts"
    path.write_bytes(whole["clip.ts"] * 2)
    yield Case("timestamps from the beginning again", path, "timestamps backward", whole=2 * count)
    data = bytearray(whole["front.mp4"])
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        place = data.index(box) + offset  # version and flags, two dates, the time base or number, then it
        data[place : place + 4] = bytes(4)
    path = folder / "no-time.mp4"
    path.write_bytes(data)
    yield Case("zero duration", path, "zero duration", frames=count)
    yield made("many frames", "many.gif", "gif", "gray", [clip[0][:2, :2]] * 3000)


def mid_stream(folder: Path, whole: dict[str, bytes], clip: list[np.ndarray]) -> Iterator[Case]:
    """Streams that change in the middle."""
    for name, codec, second in (
        ("size.ts", "mpeg2video", {"frames": [cv2.resize(image, (64, 48)) for image in clip]}),
        ("size.mjpeg", "mjpeg", {"frames": [cv2.resize(image, (200, 160)) for image in clip]}),
        ("format.mjpeg", "mjpeg", {"frames": clip, "pix_fmt": "yuvj444p"}),
        ("format.ts", "libx264", {"frames": clip, "pix_fmt": "yuv444p"}),
    ):
        first = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        parts = [folder / f"{part}-{name}" for part in "ab"]
        encode_video(parts[0], codec, first, clip)
        encode_video(parts[1], codec, **{"pix_fmt": first, **second})  # type: ignore[arg-type]
        path = folder / name
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        kind = f"changes its {'size' if 'size' in name else 'pixel format'}"
        yield Case(f"{name} {kind}", path, kind, whole=2 * len(clip))


def names(folder: Path, whole: dict[str, bytes], clip: list[np.ndarray]) -> Iterator[Case]:
    """A good file under names that confuse shells, protocols, and writers of text."""
    for name in (
        "with spaces  and 'single' \"double\" quotes.mp4",
        "line\nbreak\ttab.mp4",
        "ünïcödé 視頻 🎥.mp4",
        "-dash.mp4",
        "%05d.mp4",
        "pipe:1.mp4",
        "\x1b[31mred.mp4",
        os.fsdecode(b"latin-1 caf\xe9.mp4"),
        "no suffix",
    ):
        path = folder / name
        path.write_bytes(whole["front.mp4"])
        yield Case(f"named {name!r}", path, "names", frames=len(clip))
    path = folder / "link.mp4"
    path.symlink_to(folder / "no suffix")
    yield Case("link to a file", path, "symlink", frames=len(clip))


def _retimed(data: bytes, time: Callable[[int], int], path: Path) -> bytes:
    """A WebM file whose picture `i` is at `time(i)` milliseconds of its cluster."""
    changed = bytearray(data)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    for number, place in enumerate(places):  # of the number of the track; the time follows
        changed[place + 1 : place + 3] = time(number).to_bytes(2, "big")
    return bytes(changed)
