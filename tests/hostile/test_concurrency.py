"""Many at once: processes that share a machine and a cache, threads that share a tracker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidtrack.cache import EmbeddingCache
from vidtrack.labels import Keypoints, Masks
from vidtrack.tracker import Tracker, load

from .faults import Job, Nursery, contents, differences
from .inputs import COMMANDS, FRAMES, frame, ids

KEYS = [f"{number:064x}" for number in range(1, 4)]
SMALL = 40 * 212  # bytes: less than the frames that are put


def test_eight_propagations_side_by_side(folder: Path, nursery: Nursery) -> None:
    """All are right, though they share one cache of embeddings, which each finds empty."""
    words = [word for word in COMMANDS["propagate"].argv if word not in ("--save", "rle,npz")]
    names = ["side-alone", *(f"side-{number}" for number in range(8))]
    jobs = [Job([name if word == "out" else word for word in words] + ["--no-overlay"]) for name in names]
    (alone,) = nursery.run(jobs[0])
    assert alone.code == 0, alone.said
    cache = folder / "cache"
    cache.rename(folder / "cache of one")
    for ended in nursery.run(*jobs[1:]):
        assert ended.code == 0 and "Warning: embeddings" not in ended.said, ended.said
    wanted = contents(folder / names[0])
    assert len(wanted) > FRAMES
    for name in names[1:]:
        assert differences(wanted, contents(folder / name)) == []
    kept = [sorted(path.name for path in place.rglob("*.bin")) for place in (cache, folder / "cache of one")]
    assert kept[0] == kept[1] and len(kept[0]) > 10
    assert not list(folder.glob(".side-*"))


@pytest.mark.parametrize("name", ["lab", "network"])
def test_eight_sessions_of_one_tracker_in_eight_threads(name: str, folder: Path) -> None:
    """Each with a video and labels of its own; all begin each frame together."""
    path = name if name == "lab" else str(folder / "made/tracker.safetensors")
    tracker = load(path, device="cpu", size=None)
    alone = [_labels(tracker, number) for number in range(8)]
    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: _labels(tracker, number, together), range(8)))
    for one, other in zip(alone, found, strict=True):
        assert len(one) == len(other) == 6
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(found[0][-1], found[2][-1])


def _labels(tracker: Tracker, number: int, together: threading.Barrier | None = None) -> list[np.ndarray]:
    """What a session finds in a video, by its number: of masks where that is even, else of points."""
    session, found = tracker.session(), []
    for t in range(6):
        if together is not None:
            together.wait(60)
        given: Any = None
        if t == 0 and number % 2:
            given = Keypoints.from_points([(8 + number, 20)], ["a"])
        elif t == 0:
            given = Masks(np.roll(ids(0), 2 * number, axis=1))
        image = np.ascontiguousarray(np.roll(frame(t, number), 2 * number, axis=1))
        labels = session.step(image, given).labels
        found.append(labels.ids if isinstance(labels, Masks) else labels.xy)
    return found


def test_a_cache_that_is_written_and_emptied_from_all_sides(tmp_path: Path) -> None:
    """Twelve threads, as many caches, room for few frames: what is found is right, none gives up."""
    rng = torch.Generator().manual_seed(0)
    values = [torch.randn(3, 4, 8, generator=rng).bfloat16() for _ in range(30)]
    together = threading.Barrier(12)

    def work(number: int) -> list[str]:
        together.wait(60)
        warnings: list[str] = []
        for turn in range(6):
            cache = EmbeddingCache(tmp_path, KEYS[(number + turn) % 3], SMALL)
            for index in range(turn, 30, 2):
                cache.put(index, values[index])
                found = cache.get(index)
                assert found is None or torch.equal(found, values[index])
            warnings += cache.warnings
        return warnings

    with ThreadPoolExecutor(12) as pool:
        assert [warning for told in pool.map(work, range(12)) for warning in told] == []
    assert not list(tmp_path.glob("[!.]*/.*"))  # no frame is left in the making
