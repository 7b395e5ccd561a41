"""`--adapt`: the tracker that a video's own adaptation makes, kept for the next call with the same video."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pretrain.engine import Report
from pretrain.errors import InputError
from vidtrack import __version__
from vidtrack.cache import video_hash
from vidtrack.files import atomic_file, require_free, sha256
from vidtrack.learn.adapt import Adapt, Adapted, adapt
from vidtrack.learn.index.build import Progress
from vidtrack.learn.start import tracker_file
from vidtrack.model.tracker_file import load_tracker

FILE = "tracker.safetensors"


@contextmanager
def adapted(
    video: Path,
    tracker: str,
    settings: Adapt,
    folder: Path | None,
    *,
    device: str = "auto",
    report: Report | None = None,
    decoding: Progress | None = None,
) -> Iterator[tuple[Path, Adapted]]:
    """Context manager: the adapted tracker file of a video, gone afterwards, and what came of the adaptation.

    Args:
        video, tracker, settings, device, report, decoding: see `vidtrack.learn.adapt.adapt`.
        folder: of caches, see `vidtrack.cache`: a copy of the file is kept there beside the embeddings, and
            counts with them; None: none is kept. Several processes may share it.

    Raises:
        InputError: see `vidtrack.learn.adapt.adapt`.
    """
    with tempfile.TemporaryDirectory(prefix="vidtrack-adapt-") as temporary:
        path = Path(temporary) / FILE
        kept = None if folder is None else _kept(folder, video, tracker, settings, device)
        if kept is not None and (known := _known(kept, path)) is not None:
            yield path, known
            return
        found = adapt(video, path, tracker, settings, device=device, report=report, decoding=decoding)
        if kept is not None:
            _keep(path, kept)
        yield path, found


def _kept(folder: Path, video: Path, tracker: str, settings: Adapt, device: str) -> Path | None:
    """Where the file is kept; None where nothing can be."""
    parts = (__version__, torch.__version__, device, video_hash(video), sha256(tracker_file(tracker)))
    key = "\0".join(("adapt", *parts, settings.model_dump_json()))
    path = folder / hashlib.sha256(key.encode()).hexdigest() / FILE
    try:
        return require_free(path, overwrite=True)
    except InputError:
        return None


def _known(kept: Path, path: Path) -> Adapted | None:
    """What came of an earlier adaptation, with its file copied to `path`.

    None if there was none, or its file is damaged.
    """
    try:
        shutil.copyfile(kept, path)  # the other may be removed at any time, for newer ones
        record = load_tracker(path).training["adapted"]
        os.utime(kept.parent)  # what was used longest ago goes first
        return Adapted(**{name: record[name] for name in Adapted.__dataclass_fields__})
    except (InputError, OSError, KeyError, TypeError):
        path.unlink(missing_ok=True)
        return None


def _keep(path: Path, kept: Path) -> None:
    """Copy the file for the next call; a cache that can't be written is no reason to lose a result."""
    with contextlib.suppress(InputError, OSError), atomic_file(kept, overwrite=True) as partial:
        shutil.copyfile(path, partial)
