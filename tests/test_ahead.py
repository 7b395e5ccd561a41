"""Embedding ahead in a thread: the same labels with any number of threads, errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidtrack.ahead import EmbedAhead
from vidtrack.given import DIRECTIONS, Direction
from vidtrack.labels import Boxes, Keypoints, Masks
from vidtrack.pointers.threads import in_threads
from vidtrack.tracker import Tracker, load
from vidtrack.video import save_png

CPU = torch.device("cpu")
IMAGE = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def number(index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
    return torch.tensor(float(index))


def test_what_was_submitted_is_taken_once() -> None:
    region = torch.ones(2, 2, dtype=torch.bool)
    ahead = EmbedAhead(number, CPU)
    for index in (5, 3):
        ahead.submit(index, IMAGE, region)
    for index in (3, 5):
        taken = ahead.take(index)
        assert taken is not None and taken[0] == index and taken[1] is region
        assert ahead.take(index) is None
    assert ahead.take(9) is None
    ahead.close()


@pytest.mark.parametrize(("threads", "device"), [(1, "cpu"), (4, "meta")])
def test_nothing_is_done_ahead_on_one_core_or_another_device(threads: int, device: str) -> None:
    torch.set_num_threads(threads)
    ahead = EmbedAhead(number, torch.device(device))
    assert not ahead.on
    ahead.submit(1, IMAGE, None)
    taken = ahead.take(1)
    assert taken is not None and taken[0] == 1 and taken[1] is None
    with ahead.sharing():
        assert torch.get_num_threads() == threads
    ahead.close()


def test_threads_are_shared_and_given_back() -> None:
    torch.set_num_threads(5)
    seen: dict[str, Any] = {}

    def embed(index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
        seen["there"], seen["thread"] = torch.get_num_threads(), threading.current_thread()
        return torch.zeros(1)

    ahead = EmbedAhead(embed, CPU)
    with pytest.raises(RuntimeError), ahead.sharing():
        here = torch.get_num_threads()
        all_at_once = threading.Barrier(5)
        assert len(in_threads(lambda part: all_at_once.wait(20), range(5), CPU)) == 5
        ahead.submit(0, IMAGE, None)
        ahead.take(0)
        raise RuntimeError
    assert (here, seen["there"]) == (3, 2)
    assert seen["thread"] is not threading.current_thread()
    assert torch.get_num_threads() == 5
    ahead.close()


def test_an_error_comes_when_the_frame_is_taken_and_closing_waits() -> None:
    def fail(index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
        raise ValueError("broken")

    ahead = EmbedAhead(fail, CPU)
    ahead.submit(0, IMAGE, None)
    with pytest.raises(ValueError, match="broken"):
        ahead.take(0)
    ahead.submit(1, IMAGE, None)
    ahead.close()
    assert ahead.take(1) is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embed")]


def write(folder: Path, places: list[int]) -> None:
    """A red square at these columns, over a texture."""
    texture = np.random.default_rng(0).integers(90, 160, (8, 16, 1)).repeat(12, 0).repeat(12, 1).repeat(3, 2)
    for t, x in enumerate(places):
        image = texture.astype(np.uint8)
        image[24:60, x : x + 36] = (220, 40, 30)
        save_png(folder / f"{t:05d}.png", image)


def labels(kind: type[Any], x: int) -> Any:
    ids = np.zeros((96, 192), np.uint8)
    ids[24:60, x : x + 36] = 1
    points = [(x + 5.0, 30.0), (x + 30.0, 50.0)]
    made = {Masks: Masks(ids), Boxes: Boxes.from_xyxy([(x, 24, x + 36, 60)])}
    return made.get(kind, Keypoints.from_points(points))


def run(
    tracker: Tracker, folder: Path, given: dict[int, Any], direction: Direction, threads: int
) -> list[Any]:
    torch.set_num_threads(threads)
    found = []
    for result in tracker.propagate(folder, given, direction=direction):
        value = result.labels
        found.append(
            value.ids if isinstance(value, Masks) else getattr(value, "xyxy", getattr(value, "xy", 0))
        )
        found.append(np.array(list(result.confidence.values())))
    return found


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", [Masks, Boxes, Keypoints])
@pytest.mark.parametrize(
    "places",
    [[10, 14, 18, 22, 26, 30, 34, 38], [10, 10, 10, 90, 90, 90, 150, 20]],
    ids=["steady", "jumps"],
)
def test_the_number_of_threads_changes_only_the_time(
    tmp_path: Path, kind: type[Any], places: list[int], direction: Direction
) -> None:
    write(tmp_path, places)
    tracker = load("lab", device="cpu", size=96, reach=1, margin=2)
    given = {1: labels(kind, places[1]), 6: labels(kind, places[6])}
    alone, side_by_side = (run(tracker, tmp_path, given, direction, threads) for threads in (1, 2))
    for one, two in zip(alone, side_by_side, strict=True):
        np.testing.assert_array_equal(one, two)
