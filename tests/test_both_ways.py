"""What only one of two annotations has, carried both ways; and annotations as Python gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.errors import InputError
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.passes import moved
from vidtrack.propagate.points import CarriedPoints, heat_maps, peaks
from vidtrack.propagate.propagator import Carried
from vidtrack.tracker import Tracker, load
from vidtrack.video import save_png

FRAMES, HEIGHT, WIDTH = 8, 64, 96


def truth(t: int) -> np.ndarray:
    """A square (1) that goes right, and one (2) that goes left, `[H, W]`."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[8:28, 6 + 4 * t : 30 + 4 * t] = 1
    ids[36:60, 60 - 4 * t : 84 - 4 * t] = 2
    return ids


def picture(t: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(90, 160, (HEIGHT // 8, WIDTH // 8, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    image[truth(t) == 1], image[truth(t) == 2] = (220, 30, 30), (30, 30, 220)
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for t in range(FRAMES):
        save_png(folder / f"{t:05d}.png", picture(t))
    return folder


@pytest.fixture(scope="module")
def lab() -> Tracker:
    return load("lab", radius=4, threads=1)


def test_a_point_that_only_the_later_annotation_has(lab: Tracker, folder: Path) -> None:
    later = Keypoints.from_points([(18 + 28, 18), (72 - 28, 48)])
    first = Keypoints.from_points([(18, 18), (np.nan, np.nan)])
    for result in lab.propagate(folder, {0: first, 7: later}, direction="both"):
        if 0 < result.index < 7:
            assert result.labels.visible.all() and (result.labels.confidence > 0.2).all()
            assert np.abs(result.labels.xy[0, 1] - (72 - 4 * result.index, 48)).max() < 6
    for result in lab.propagate(folder, {0: first}):
        assert not result.labels.visible[0, 1] and result.labels.confidence[0, 1] == 0


@pytest.mark.parametrize("preset", [None, "crw"])
def test_names_of_both_annotations_hold_between_them(preset: str | None, folder: Path) -> None:
    tracker = load("lab", radius=4, threads=1, preset=preset)
    given = {
        0: Masks(np.where(truth(0) == 1, 1, 0).astype(np.uint8), names={1: "car"}),
        7: Masks(truth(7), names={1: "car", 2: "dog"}, colors={2: (1, 2, 3)}),
    }
    for result in tracker.propagate(folder, given, direction="both"):
        if 0 < result.index < 7:
            assert result.labels.names == {1: "car", 2: "dog"} and result.labels.colors == {2: (1, 2, 3)}


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_maps_have_as_many_channels_in_all_frames(direction: Any, lab: Tracker, folder: Path) -> None:
    given = {3: Maps(np.ones((HEIGHT, WIDTH, 3), np.float32))}
    for result in lab.propagate(folder, given, direction=direction):
        assert result.labels.values.shape == (HEIGHT, WIDTH, 3)


def test_numbers_of_frames_may_be_of_numpy(lab: Tracker, folder: Path, tmp_path: Path) -> None:
    for t, colors in ((0, [(255, 0, 0)]), (4, [(0, 255, 0), (255, 0, 0)])):  # another comes first there
        painted = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        painted[truth(t) == 1] = (255, 0, 0)
        if len(colors) > 1:
            painted[:4, :9] = (0, 255, 0)
        save_png(tmp_path / f"{t}.png", painted)
    found = [
        [result.labels.ids for result in lab.propagate(folder, given)]
        for given in (
            {n: Masks.load(tmp_path / f"{n}.png") for n in (0, 4)},
            {np.int64(n): Masks.load(tmp_path / f"{n}.png") for n in (0, 4)},
        )
    ]
    assert all(np.array_equal(one, two) for one, two in zip(*found, strict=True))
    assert (found[1][4][truth(4) == 1] == 1).all()


def test_paths_are_read_as_on_the_command_line(lab: Tracker, folder: Path, tmp_path: Path) -> None:
    Masks(truth(0)).save(tmp_path / "first.png")
    save_png(tmp_path / "small.png", truth(0)[::2, ::2] * 40)
    save_png(tmp_path / "empty.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    results = [*lab.propagate(folder, {0: str(tmp_path / "first.png"), 5: tmp_path / "empty.png"})]
    assert results[4].labels.objects == [1, 2] and not results[6].labels.objects
    with lab.passes(folder, {0: tmp_path / "small.png"}) as passes:
        assert any("resized" in sentence for sentence in passes.warnings)
    with pytest.raises(InputError, match="no object"):
        next(lab.propagate(folder, {0: tmp_path / "empty.png", 2: tmp_path / "empty.png"}))
    with pytest.raises(InputError, match="frame 0 has annotations and masks"):
        next(lab.propagate(folder, {0: Masks(truth(0))}, masks={0: Masks(truth(0))}))


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint16])
def test_ids_may_be_of_any_whole_type(kind: Any) -> None:
    masks = Masks((truth(0) == 1).astype(kind))
    assert masks.ids.dtype == np.uint8 and masks.objects == [1]


@pytest.mark.parametrize(
    "ids", [truth(0) * np.uint8(255), -truth(0).astype(int), truth(0) * 0.5, [[0, 1]], truth(0)[0]], ids=str
)
def test_ids_that_are_none(ids: Any) -> None:
    with pytest.raises(InputError, match="ids must be"):
        Masks(ids)


def test_points_outside_of_the_frame_are_refused(lab: Tracker, folder: Path) -> None:
    outside = Keypoints.from_points([(310, 200), (-9, 3)])
    with pytest.raises(InputError, match="no keypoint is inside of the frame's 96 x 64 pixels"):
        next(lab.propagate(folder, {0: outside}))
    with pytest.raises(InputError, match="no keypoint is inside"):
        lab.session().step(picture(0), outside)
    inside = Keypoints.from_points([(31, 20), (9, 3)])
    session = lab.session()
    session.step(picture(0), inside)
    session.step(picture(1), outside)  # they left the picture
    assert len(list(lab.propagate(folder, {0: inside, 4: outside}))) == len(list(folder.iterdir()))


@pytest.mark.parametrize("kind", [Masks, Boxes])
def test_a_session_forgets_objects_that_end(kind: Any, lab: Tracker) -> None:
    session = lab.session()
    for number in range(1, 6):
        given = Masks(np.where(truth(0) == 1, number, 0).astype(np.uint8))
        if kind is Boxes:
            given = Boxes((100 + number,), np.array([[6, 8, 30, 28]], np.float32), np.ones(1, np.float32))
        session.step(picture(0), given)
        found = session.step(picture(1)).labels
        assert found.objects == [number] if kind is Masks else found.ids == (100 + number,)
        assert session.carrier is not None and len(session.carrier.objects) == 1  # type: ignore[attr-defined]


def test_copies_are_of_their_own(folder: Path) -> None:
    for result in load("copy").propagate(folder, {0: Masks(truth(0))}):
        assert result.labels.objects == [1, 2]
        result.labels.ids[:] = 0


@pytest.mark.parametrize("distance", [0, 20, 38, 44, 60, 200])
def test_a_point_may_be_found_far_from_where_it_was(distance: int) -> None:
    maps = heat_maps(torch.tensor([[150.0, 40.0]]), (80, 160))
    xy, mass = peaks(maps, torch.tensor([[150.0 - distance, 40.0]]))
    assert xy[0].tolist() == pytest.approx([150, 40], abs=1 + distance / 100) and float(mass) > 2
    nothing, none = peaks(torch.zeros_like(maps), torch.tensor([[3.0, 4.0]]))
    assert bool(nothing.isfinite().all()) and float(none) == 0


def test_what_was_laid_aside_goes_to_the_device() -> None:
    for carried in (
        Carried(torch.zeros(2, 3, 2), torch.ones(2, 3)),
        CarriedPoints(torch.zeros(2, 2), torch.ones(2)),
    ):
        there = moved(carried, torch.device("meta"))
        assert type(there) is type(carried)
        assert all(one.is_meta for one in vars(there).values() if one is not None)
