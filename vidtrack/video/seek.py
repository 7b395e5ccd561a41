"""Beginning to decode in the middle of a file, with proof that it comes to the right picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vidtrack.video.container import open_video
from vidtrack.video.decode import Damage, Picture, decode, packets
from vidtrack.video.entries import Entry

_TRIES = 2  # starts that are tried before the caller has to read from the beginning
_EARLIER = (0, 1)  # seconds before a start to seek to: transport streams come to the place behind it


@dataclass
class Reached:
    """A file opened again, about to give the picture that was sought; the caller closes the container.

    Attributes:
        container: the opened file.
        stream: its video stream.
        damage: counts as if everything before had been read and was good.
        pictures: the picture that was sought and all after it.
    """

    container: InputContainer
    stream: VideoStream
    damage: Damage
    pictures: Iterator[Picture]


def reach(path: Path, step: Fraction, entries: Sequence[Entry], number: int, stop: int) -> Reached | None:
    """Open a file so that picture `number` is the next one, decoding from the start before it.

    All pictures from that start to `number` must come as `entries` say, else an earlier start is tried. What
    a decoder makes up for lost data depends on what it decoded long before, so there must be no damage from
    the group of pictures before `number` to the first start after `stop`.

    Args:
        path: the file.
        step: seconds per frame, see `decode`.
        entries: the pictures of the file, see `VideoIndex`; at least up to `number`.
        number: of the picture that is sought.
        stop: number after the last picture that is wanted, as far as `entries` tell.

    Returns:
        None where the picture can't be reached with certainty, or only from the beginning.
    """
    if number >= len(entries):
        return None
    starts = list(islice((i for i in range(number, 0, -1) if entries[i].start), _TRIES))
    before = starts[1] if len(starts) > 1 else 0
    after = next((i for i in range(stop, len(entries)) if entries[i].start), len(entries))
    if any(entry.damaged for entry in entries[before : after + 1]):
        return None
    for start in starts:
        reached = _from(path, step, entries, start)
        if reached is None:
            continue
        for i, picture in enumerate(reached.pictures, start):
            if not matches(picture, entries[i]) or (i == start and not picture.start):
                break
            if i == number:
                reached.pictures = chain([picture], reached.pictures)
                return reached
        reached.container.close()
    return None


def matches(picture: Picture, entry: Entry) -> bool:
    """Whether a picture is the one that the index has in its place."""
    return (picture.pts, picture.time, picture.damaged) == (entry.pts, entry.time, entry.damaged)


def _from(path: Path, step: Fraction, entries: Sequence[Entry], number: int) -> Reached | None:
    """The pictures from the start `number` on, not yet compared; None where the file can't be sought."""
    entry = entries[number]
    if entry.pts is None:
        raise ValueError(f"picture {number} has no timestamp, so it is no start")
    for early in _EARLIER:
        container, stream = open_video(path)
        damage = Damage(frames=number)
        try:
            container.seek(entry.pts - round(early / (stream.time_base or 1)), stream=stream)
            source = _packets_from(container, stream, damage, entry.pts, entry.packet or 0)
            first = next(source, None)
        except Exception:  # whatever a file that can't be sought makes PyAV raise
            first = None
        if first is not None:
            pictures = decode(container, stream, step, damage, chain([first], source))
            # What is decoded after the start but shown before it may need what comes before the start.
            return Reached(container, stream, damage, _not_before(entry.pts, pictures, damage))
        container.close()
    return None


def _packets_from(
    container: InputContainer, stream: VideoStream, damage: Damage, pts: int, number: int
) -> Iterator[Packet | None]:
    """The packets from the key packet `number` at `pts` on; none if the file stands at a place behind it."""
    found = False
    for packet in packets(container, stream, damage):
        if not found:
            if packet is None or (packet.is_keyframe and packet.pts is not None and packet.pts > pts):
                return
            found = bool(packet.is_keyframe) and packet.pts == pts
            damage.packets = number + 1
        if found:
            yield packet


def _not_before(pts: int, pictures: Iterator[Picture], damage: Damage) -> Iterator[Picture]:
    """The pictures from the one at `pts` on; the others are not counted."""
    for picture in pictures:
        if picture.pts is not None and picture.pts < pts:
            damage.frames -= 1
            damage.damaged -= picture.damaged
            continue
        if picture.pts == pts:
            damage.lost_first = 0  # they are not lost, only not asked for
        yield picture
