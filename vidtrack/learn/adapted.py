"""`--adapt`: the tracker that a video's own adaptation makes, kept for the next call with the same video."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pretrain.engine import Report
from pretrain.errors import InputError
from vidtrack import __version__
from vidtrack.cache import video_hash
from vidtrack.files import require_free, sha256
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
    """Context manager: the adapted tracker file of a video and what came of the adaptation.

    Args:
        video, tracker, settings, device, report, decoding: see `vidtrack.learn.adapt.adapt`.
        folder: of caches, see `vidtrack.cache`: the file is kept there beside the embeddings, and counts with
            them; None: the file is gone afterwards.

    Raises:
        InputError: see `vidtrack.learn.adapt.adapt`.
    """
    with tempfile.TemporaryDirectory(prefix="vidtrack-adapt-") as temporary:
        path = Path(temporary) / FILE
        if folder is not None and (kept := _kept(folder, video, tracker, settings, device)) is not None:
            path = kept
            if (known := _known(path)) is not None:
                yield path, known
                return
        found = adapt(
            video, path, tracker, settings, device=device, overwrite=True, report=report, decoding=decoding
        )
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


def _known(path: Path) -> Adapted | None:
    """What came of an earlier adaptation; None if there was none, or its file is damaged."""
    try:
        record = load_tracker(path).training["adapted"]
        os.utime(path.parent)  # what was used longest ago goes first
        return Adapted(**{name: record[name] for name in Adapted.__dataclass_fields__})
    except (InputError, OSError, KeyError, TypeError):
        return None
