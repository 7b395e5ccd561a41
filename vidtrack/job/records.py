"""The record of every finished frame, one line each, so that a stopped run knows what it has done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vidtrack.files import json_bytes

NAME = ".frames.jsonl"
Record = dict[str, Any]


class Records:
    """Records by frame number in a file that only grows; the last of a number counts.

    A record has `index`, `name`, `time` (seconds), `damaged`, `doubtful`, `skipped` (then the frame has no
    labels), `objects` (key -> what the report tells of it) and perhaps `labels` (exact values, for kinds
    without a file per frame). A line that was cut off, because the process was killed, is left out.

    Args:
        folder: holds the file; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.reload()

    def reload(self) -> None:
        """Look at the file again: it was written anew."""
        self._places: dict[int, int] = {}
        if self.path.is_file():
            with self.path.open("rb") as stream:
                place = 0
                for line in stream:
                    record = _parsed(line)
                    if record is not None:
                        self._places[record["index"]] = place
                    place += len(line)

    def __contains__(self, index: object) -> bool:
        return index in self._places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Record:
        """The record of a frame; KeyError if there is none."""
        with self.path.open("rb") as stream:
            stream.seek(self._places[index])
            record = _parsed(stream.readline())
        assert record is not None
        return record

    def all(self) -> Iterator[Record]:
        """All records, by frame number."""
        with self.path.open("rb") as stream:
            for index in sorted(self._places):
                stream.seek(self._places[index])
                record = _parsed(stream.readline())
                assert record is not None
                yield record


class RecordWriter:
    """Appends records, each at once on its way to the disk.

    Args:
        folder: of the file; what stands there is replaced.
        kept: records to begin with.
    """

    def __init__(self, folder: Path, kept: Iterable[Record] = ()) -> None:
        path = folder / NAME
        partial = folder / f"{NAME}.new"
        with partial.open("wb") as stream:
            stream.writelines(_line(record) for record in kept)
        partial.replace(path)
        self._stream = path.open("ab", buffering=0)

    def append(self, record: Record) -> None:
        """Add a record."""
        self._stream.write(_line(record))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _line(record: Record) -> bytes:
    return json_bytes(record, separators=(",", ":")) + b"\n"


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("index"), int) else None
