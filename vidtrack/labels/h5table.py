"""A pandas table out of an H5 file, read in a process of its own.

Files come from anybody, and the library that reads them, HDF5, is compiled and believes them: one wrong byte
can crash the process, or have it wait for ever. pandas keeps the names of columns as pickles besides, which
PyTables would execute; here `vidtrack.pickles` reads them, which runs nothing.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.errors import InputError
from vidtrack.pickles import loads

SECONDS = 60  # and one more for each million bytes: after that it is not going to end
MEMORY = 16 << 30  # bytes of addresses that the process may have
_PROGRAM = "import sys; from vidtrack.labels.h5table import main; main(*sys.argv[1:])"
_NAMES, _VALUES = "names.json", "values.npy"


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers.

    Attributes:
        levels: what each part of a column's name is.
        columns: the C names, in parts.
        index: the T names of rows; parts are joined by `/`.
        values: float64 `[T, C]`.
    """

    levels: tuple[str | None, ...]
    columns: list[tuple[str, ...]]
    index: list[str]
    values: np.ndarray


def read_table(path: Path, key: str) -> Table:
    """The table of an H5 file.

    Args:
        path: the file.
        key: of the table, where the file has several.

    Raises:
        InputError: a pickle in the file asks to run something.
        Exception: of many kinds, where it is damaged or holds no table.
    """
    with tempfile.TemporaryDirectory(prefix="vidtrack-") as folder:
        paths = os.pathsep.join(part for part in sys.path if part)
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path.absolute()), key, folder],
            env={**os.environ, "PYTHONPATH": paths},
            timeout=SECONDS + path.stat().st_size / 1e6,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        found = json.loads((Path(folder) / _NAMES).read_text(encoding="utf-8"))
        if "refused" in found:
            raise InputError(f"{path} {found['refused']}")
        return Table(
            tuple(found["levels"]),
            [tuple(column) for column in found["columns"]],
            found["index"],
            np.load(Path(folder) / _VALUES, allow_pickle=False),
        )


def main(path: str, key: str, folder: str) -> None:
    """What the process of its own does: write the table of `path` into `folder`."""
    with suppress(ImportError, ValueError):  # Windows has no such limits; a lower one may be set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    safe = _Pickle()
    for name in ("attributeset", "atom"):
        module: Any = import_module(f"tables.{name}")
        module.pickle = safe
    try:
        names, values = _read(path, key)
        np.save(Path(folder) / _VALUES, values)
    except Exception:
        if safe.refused is None:
            raise
        names = {}
    if safe.refused is not None:
        names = {"refused": safe.refused}
    (Path(folder) / _NAMES).write_text(json.dumps(names), encoding="utf-8")


def _read(path: str, key: str) -> tuple[dict[str, Any], np.ndarray]:
    pandas: Any = import_module("pandas")
    with pandas.HDFStore(path, mode="r") as store:
        keys = store.keys()
        frame = store.get(f"/{key}" if f"/{key}" in keys or len(keys) != 1 else keys[0])
    values: np.ndarray = frame.to_numpy(np.float64)
    return {
        "levels": list(frame.columns.names),
        "columns": [
            list(map(str, column)) if isinstance(column, tuple) else [str(column)] for column in frame.columns
        ],
        "index": ["/".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in frame.index],
    }, values


class _Pickle:
    """What PyTables uses of the module `pickle`, without running anything.

    Attributes:
        refused: what the last pickle did that wanted to run something; PyTables goes on without it.
    """

    dumps, HIGHEST_PROTOCOL = staticmethod(pickle.dumps), pickle.HIGHEST_PROTOCOL

    def __init__(self) -> None:
        self.refused: str | None = None

    def loads(self, data: bytes, **_: str) -> Any:
        """See `vidtrack.pickles.loads`."""
        try:
            return loads(data, "")
        except InputError as error:
            self.refused = str(error).strip()
            raise
