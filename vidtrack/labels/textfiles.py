"""Tables that people and other tools write as text: rows that know their line, numbers with clear errors."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrain.errors import InputError

LARGEST = 1e9  # no frame number and no coordinate is as large; float32 and int64 hold it
_BLANK = ("", "nan", "na", "none")  # what spreadsheets, pandas and R write for a missing number


@dataclass(frozen=True)
class Row:
    """One line of a table: `where` is "path, line 3", for messages."""

    where: str
    cells: list[str]


def head(path: Path, kinds: str) -> bytes:
    """The first bytes of a file, so that a video given by mistake isn't read whole.

    Args:
        path: the file.
        kinds: what can be given, for messages, as in "boxes (CSV)".

    Raises:
        InputError: no such file, a folder, or it can't be read.
    """
    if not os.path.exists(path):  # a Path raises for names that are too long
        raise InputError(f"{path} doesn't exist: give the path of {kinds}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of {kinds}.")
    if not path.is_file():  # reading a pipe would wait, perhaps for ever
        raise InputError(f"{path} is a pipe or a device: give the path of {kinds}.")
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): choose another file.") from error


def read_rows(path: Path, kinds: str) -> list[Row]:
    """The lines of a text table that aren't blank, split at commas; at white space where there is no comma.

    Where the first line has more semicolons than commas, they part the values, and a comma may be the point
    of a number.

    Args:
        path: the file, UTF-8.
        kinds: see `head`.

    Raises:
        InputError: no text, or no line with content.
    """
    if b"\0" in head(path, kinds):
        raise InputError(f"{path} is not a text file: give the path of {kinds}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as CSV in UTF-8.") from error
    rows = []
    first = text.lstrip().partition("\n")[0]
    semicolons = first.count(";") > first.count(",")  # as spreadsheets save where 1,5 is a number
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolons else ",")
    try:
        for cells in reader:
            if semicolons:
                cells = [re.sub(r"^(\s*-?[0-9]+),([0-9]+\s*)$", r"\1.\2", cell) for cell in cells]
            elif len(cells) == 1:
                cells = cells[0].split()
            if any(cell.strip() for cell in cells):
                rows.append(Row(f"{path}, line {reader.line_num}", [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is not CSV ({error}): save it again.") from error
    if not rows:
        raise InputError(f"{path} is empty: give the path of {kinds}.")
    return rows


def columns_of(header: Row, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, int]:
    """Column name -> its place in the cells, in any order, upper or lower case.

    Raises:
        InputError: a required column is missing, or one is unknown or there twice.
    """
    names = [name.lower() for name in header.cells]
    expected = ", ".join(required) + (f" (and perhaps {', '.join(optional)})" if optional else "")
    for name in names:
        if name not in required + optional:
            raise InputError(f"{header.where} has the unknown column {name!r}: name the columns {expected}.")
        if names.count(name) > 1:
            raise InputError(f"{header.where} has the column {name!r} twice: remove one.")
    if missing := [name for name in required if name not in names]:
        raise InputError(f"{header.where} lacks the column {missing[0]!r}: name the columns {expected}.")
    return {name: place for place, name in enumerate(names)}


def same_length(row: Row, length: int) -> None:
    """Raises InputError unless a row has as many cells as the header."""
    if len(row.cells) != length:
        raise InputError(
            f"{row.where} has {len(row.cells)} values for {length} columns: give each column one value."
        )


def number(cell: str, what: str, where: str) -> float:
    """The number in a cell, nan where it is blank.

    Raises:
        InputError: it isn't a number, or absurdly large.
    """
    if cell.lower() in _BLANK:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not abs(value) < LARGEST:
        raise InputError(f"{where}: {what} is {cell!r}: write a number, with a point for decimals.")
    return value


def whole(cell: str, what: str, where: str, least: int = 0) -> int:
    """The whole number >= `least` in a cell; `12.0` is whole too.

    Raises:
        InputError: it isn't one.
    """
    value = number(cell, what, where)
    if not value >= least or value != int(value):
        raise InputError(f"{where}: {what} is {cell!r}: write a whole number from {least} on.")
    return int(value)


def number_in_name(name: str) -> int | None:
    """The last number in the name of an image file, its suffix apart: 12 for `video/img0012.png`."""
    stem = re.sub(r"\.[A-Za-z]\w*$", "", re.split(r"[/\\]", name)[-1])
    digits = re.findall(r"[0-9]+", stem)
    return int(digits[-1]) if digits and len(digits[-1]) < 10 else None


def frames_of_pictures(names: Sequence[str], pictures: Mapping[str, int], where: str) -> list[int] | None:
    """The frame numbers of images that are named like the pictures of a video; None where none is.

    Args:
        names: of the images; folders and suffixes don't count.
        pictures: frame number by the name of each picture, without suffix.
        where: what the user calls the file that names them, for messages.

    Raises:
        InputError: some are, and one is not.
    """
    stems = [Path(re.split(r"[/\\]", name)[-1]).stem for name in names]
    found = [pictures.get(stem) for stem in stems]
    if all(number is None for number in found):
        return None
    for name, number in zip(names, found, strict=True):
        if number is None:
            raise InputError(f"{where} names the image {name}, which is no picture of the video: rename it.")
    return [number for number in found if number is not None]


def shortest(value: np.floating) -> str:
    """A float32 in the fewest digits that read back as the same number; blank for nan."""
    return "" if np.isnan(value) else str(value)
