"""All files below a folder, those behind links to folders, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """The files at any depth; `Path.rglob` leaves out what a link to a folder leads to.

    A folder that two ways lead to is entered on each of them, but none of its own subfolders is: a link to a
    folder above ends there. Folders that may not be read are left out.
    """

    def enter(path: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
        try:
            about = path.stat()
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            return
        here = (about.st_dev, about.st_ino)
        if here in above:
            return
        for entry in entries:
            try:
                folder, file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                continue
            if folder:
                yield from enter(path / entry.name, above | {here})
            elif file:
                yield path / entry.name

    return enter(folder, frozenset())
