"""The map of a video file by which readers seek: which pictures it has, and where decoding may begin."""

from __future__ import annotations

import threading
from pathlib import Path

from vidtrack.video.entries import SEEKABLE, Entry, by_packets
from vidtrack.video.source import FileSource


class VideoIndex:
    """The pictures of a video file by their numbers; may be shared by readings of one file, also in threads.

    Numbers are those of `VideoReader`, which counts the pictures that come out of the decoder. There are two
    ways to know them. `near` reads packets without decoding them, some 80 times as fast, where each of them
    is certain to be one picture; what the decoder gives is compared with it before anything is handed out.
    `exact` decodes the file once, and is right also where a flipped bit in the header of a picture makes a
    decoder lose it silently; readings that share an index on which it was called use what it found.

    Args:
        path: a video file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._near: list[Entry] | None = []
        self._exact: list[Entry] = []
        self._complete = False  # _exact reaches the end of the file
        self._told: list[str] = []

    def near(self, number: int) -> list[Entry] | None:
        """The pictures 0 to at least `number` (or all, if there are fewer), by the packets alone.

        None where packets and pictures can't be matched with certainty, see `by_packets`.

        Raises:
            InputError: the file can't be opened.
        """
        with self._lock:
            if number < len(self._exact):
                return self._exact
            if self._near is not None and number >= len(self._near):
                self._near = by_packets(self.path, number)
            return self._near

    def exact(self, end: int | None = None) -> tuple[list[Entry], list[str]]:
        """The pictures 0 to at least `end` - 1 (None, or more than there are: all), by decoding them once.

        Returns:
            The pictures, and the sentences for the user of what is wrong with the file so far.

        Raises:
            InputError: the file can't be read as a video.
        """
        with self._lock:
            if not self._complete and (end is None or end > len(self._exact)):
                source = FileSource(self.path)
                try:
                    entries: list[Entry] = []
                    seekable = source.info.codec in SEEKABLE
                    for p in source.pictures():
                        entries.append(Entry(p.pts, p.time, p.damaged, p.start and seekable, p.packet))
                        if len(entries) == end:
                            break
                    self._told = source.told(entries[-1].time + source.step)
                    self._exact, self._complete = entries, source.damage.complete
                finally:
                    source.close()
            return self._exact, list(self._told)
