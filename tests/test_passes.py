"""Carrying annotations forward, backward and both ways through whole videos."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.given import DIRECTIONS, Direction, reaches
from vidtrack.labels import Boxes, Keypoints, Maps, Masks
from vidtrack.passes import Passes
from vidtrack.session import Result, Session
from vidtrack.tracker import Tracker, load
from vidtrack.video import VideoInfo, VideoReader, VideoWriter, save_png

KINDS = (Masks, Keypoints, Boxes, Maps)
FRAMES, HEIGHT, WIDTH = 10, 64, 96
Annotations = dict[int, Any]


def picture(t: int, objects: tuple[int, ...] = (2, 9)) -> tuple[np.ndarray, np.ndarray]:
    """A red and a blue square (2 and 9) that pass each other over a gray texture: image and ids."""
    rng = np.random.default_rng(0)
    back = rng.integers(90, 160, (HEIGHT // 8, WIDTH // 8, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2)
    image, ids = back.astype(np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[8:28, 6 + 4 * t : 30 + 4 * t] = 2
    ids[36:60, 68 - 4 * t : 92 - 4 * t] = 9
    ids[~np.isin(ids, objects)] = 0
    image[ids == 2], image[ids == 9] = (220, 30, 30), (30, 30, 220)
    return image, ids


def labels(kind: type[Any], t: int) -> Any:
    """The truth of frame `t`."""
    ids = picture(t)[1]
    if kind is Masks:
        return Masks(ids)
    edges = [(6 + 4 * t, 8, 30 + 4 * t, 28), (68 - 4 * t, 36, 92 - 4 * t, 60)]
    if kind is Boxes:
        return Boxes.from_xyxy(edges)
    if kind is Keypoints:
        return Keypoints.from_points([(x + 1.3, y + 0.6) for x, y, _, _ in edges])
    return Maps(np.where(ids == 2, np.float32(5.5), np.float32(-1.5)).astype(np.float32)[..., None])


def write_folder(folder: Path, order: list[int]) -> Path:
    folder.mkdir()
    for number, t in enumerate(order):
        save_png(folder / f"{number:05d}.png", picture(t)[0])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("passes") / "frames", list(range(FRAMES)))


@pytest.fixture(scope="module")
def reversed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("passes") / "reversed", list(range(FRAMES))[::-1])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passes") / "video.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(12)) as writer:
        for t in range(FRAMES):
            writer.write(picture(t)[0])
    return path


@pytest.fixture(scope="module")
def lab() -> Tracker:
    return load("lab", device="cpu", size=64)


def carry(
    tracker: Tracker, source: Path, given: Annotations, direction: Direction, **more: Any
) -> list[Result]:
    with tracker.passes(source, given, direction, **more) as passes:
        return list(passes)


def values(found: Any) -> list[np.ndarray]:
    """All arrays of labels."""
    arrays = {
        Masks: lambda: [found.ids],
        Keypoints: lambda: [found.xy, found.visible, found.confidence],
        Boxes: lambda: [np.array(found.ids), found.xyxy, found.confidence],
        Maps: lambda: [found.values],
    }
    return arrays[type(found)]()


def same(one: Result, two: Result) -> bool:
    """The same labels with the same confidence, bit for bit."""
    pairs = zip(values(one.labels), values(two.labels), strict=True)
    equal = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
    return equal and one.confidence == two.confidence


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


class Laid(Session):
    """A session whose steps are rounded as those of a backward pass, which lie on disk for a while."""

    def carry(self, index: int, embedding: Tensor, frame: np.ndarray, region: Tensor | None = None) -> Any:
        assert self.carrier is not None
        carried = super().carry(index, embedding, frame, region)
        return self.carrier.unpack(self.carrier.pack(carried))


@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_forward_through_the_reversed_video(
    lab: Tracker, folder: Path, reversed_folder: Path, kind: type[Any]
) -> None:
    given = {FRAMES - 1: labels(kind, FRAMES - 1), 3: labels(kind, 3)}
    mirrored = {FRAMES - 1 - number: value for number, value in given.items()}
    back = carry(lab, folder, given, "backward")
    forth = list(Passes(lambda: Laid(lab.embedder, lab.settings), reversed_folder, mirrored))
    assert [result.index for result in back] == list(range(FRAMES))
    for one, two in zip(back, forth[::-1], strict=True):
        assert same(one, two)
        assert np.array_equal(one.image, two.image)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("source", ["folder", "clip"])
def test_labels_go_where_annotations_reach(
    lab: Tracker, source: str, direction: Direction, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(source)
    given = {3: labels(Masks, 3), 6: labels(Masks, 6)}
    found = carry(lab, path, given, direction)
    assert [result.index for result in found] == list(range(FRAMES))
    empty = {"forward": [0, 1, 2], "backward": [7, 8, 9], "both": []}[direction]
    assert [result.index for result in found if not result.labels.objects] == empty
    for result in found:
        truth = picture(result.index)[1]
        if result.index in empty:
            assert result.confidence == {}
        else:
            assert min(iou(result.labels.ids == k, truth == k) for k in (2, 9)) > 0.75
        if result.index in given:
            assert np.array_equal(result.labels.ids, truth) and set(result.confidence.values()) == {1.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_frames_without_any_annotation_on_their_side_are_empty(
    lab: Tracker, folder: Path, kind: type[Any], direction: Direction
) -> None:
    found = carry(lab, folder, {4: labels(kind, 4)}, direction)
    outside = found[:4] if direction == "forward" else found[5:]
    for result in outside:
        assert type(result.labels) is kind and result.confidence == {}
        numbers = [v for v in values(result.labels) if v.dtype.kind == "f"]
        assert all(not np.isfinite(v).any() or not v.any() for v in numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_outside_of_two_annotations_both_ways_are_single_passes(
    lab: Tracker, folder: Path, kind: type[Any]
) -> None:
    given = {4: labels(kind, 4), 6: labels(kind, 6)}
    ways = {direction: carry(lab, folder, given, direction) for direction in DIRECTIONS}
    assert all(same(ways["both"][t], ways["backward"][t]) for t in range(4))
    assert all(same(ways["both"][t], ways["forward"][t]) for t in range(7, FRAMES))


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_join_the_two_single_passes(
    lab: Tracker, folder: Path, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is joined is what single passes carry, with the share of the way: here, a switch at 0.3."""
    given = {1: labels(kind, 1), 9: labels(kind, 9)}
    ways = {direction: carry(lab, folder, given, direction) for direction in DIRECTIONS}
    monkeypatch.setattr(
        type(lab.passes(folder, given)._forward.carrier),
        "fuse",
        lambda self, earlier, later, share: earlier if share < 0.3 else later,
    )
    for result in carry(lab, folder, given, "both")[2:9]:
        way = "forward" if (result.index - 1) / 8 < 0.3 else "backward"
        assert same(result, ways[way][result.index])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_object_appears_with_its_annotation(lab: Tracker, tmp_path: Path, direction: Direction) -> None:
    """The blue square comes into view in frame 2, is annotated in frame 5, and gone from frame 8 on."""
    seen = {t: (2, 9) if 2 <= t < 8 else (2,) for t in range(FRAMES)}
    for t in seen:
        save_png(tmp_path / f"{t:05d}.png", picture(t, seen[t])[0])
    given = {t: Masks(picture(t, seen[t])[1]) for t in (0, 5, 9)}
    found = carry(lab, tmp_path, given, direction)
    overlap = [iou(result.labels.ids == 9, picture(result.index)[1] == 9) for result in found]
    expected = {"forward": range(5, 8), "backward": range(2, 6), "both": range(2, 8)}[direction]
    assert [t for t in range(FRAMES) if overlap[t] > 0.5] == list(expected)
    assert all(9 not in found[t].labels.objects for t in (0, 1, 8, 9))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_annotation_changes_only_the_frames_between_its_neighbours(
    lab: Tracker, folder: Path, kind: type[Any], direction: Direction
) -> None:
    few = {2: labels(kind, 2), 8: labels(kind, 8)}
    before = carry(lab, folder, few, direction)
    after = carry(lab, folder, few | {5: labels(kind, 4)}, direction)  # a wrong one, so that it is seen
    changed = [t for t in range(FRAMES) if not same(before[t], after[t])]
    assert 5 in changed
    assert set(changed) <= set(range(3, 8))
    cut = carry(lab, folder, few, direction, start=2, end=9)
    assert [result.index for result in cut] == list(range(2, 9))
    assert all(same(result, before[result.index]) for result in cut)


def test_known_spans_are_not_computed(lab: Tracker, folder: Path) -> None:
    given = {2: labels(Masks, 2), 6: labels(Masks, 6)}
    whole = carry(lab, folder, given, "both")
    asked: list[int] = []

    def embed(index: int, image: np.ndarray, region: Tensor | None) -> Tensor:
        asked.append(index)
        assert lab.embedder is not None
        return lab.embedder(image, lab.settings.size)

    def known(index: int) -> tuple[Any, dict[Any, float]]:
        return whole[index].labels, whole[index].confidence

    spans = frozenset({(None, 2), (2, 6)})
    found = carry(lab, folder, given, "both", embed=embed, known=known, reused=spans)
    assert all(same(a, b) for a, b in zip(found, whole, strict=True))
    assert min(asked) == 6


def test_soft_results(lab: Tracker, folder: Path) -> None:
    for direction in DIRECTIONS:
        found = carry(lab, folder, {2: labels(Masks, 2), 6: labels(Masks, 6)}, direction, soft=True)
        for result in found:
            soft = result.soft
            if not result.labels.objects or result.index in (2, 6):
                assert soft is None
                continue
            assert soft is not None and soft["objects"] == [2, 9]
            assert soft["stride"] == 4
            assert soft["labels"].shape == (HEIGHT // 4, WIDTH // 4, 3) and soft["labels"].dtype == np.float32
            np.testing.assert_allclose(soft["labels"].sum(axis=-1), 1, atol=1e-2)
            best = np.array([0, *soft["objects"]])[soft["labels"].argmax(axis=-1)]
            centres = result.labels.ids[1::4, 1::4]
            assert (best == centres).mean() > 0.85
    assert carry(lab, folder, {0: labels(Boxes, 0)}, "forward", soft=True)[3].soft is None


def test_a_pass_may_be_left_early_and_leaves_no_files(
    lab: Tracker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results: Iterator[Result] = iter(lab.passes(folder, {8: labels(Masks, 8)}, "backward"))
    next(results)
    assert any(tmp_path.rglob("*.npz"))
    results.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


class Live:
    """A reader that is not a file."""

    def __init__(self, path: Path) -> None:
        self._reader = VideoReader(path)
        self.info: VideoInfo = self._reader.info
        self.warnings: list[str] = []

    def __iter__(self) -> Any:
        return iter(self._reader)

    def close(self) -> None:
        self._reader.close()


def test_a_live_source_goes_forward(lab: Tracker, folder: Path) -> None:
    given = {0: labels(Masks, 0)}
    live: Any = Live(folder)
    file = carry(lab, folder, given, "forward")
    assert all(same(a, b) for a, b in zip(carry(lab, live, given, "forward"), file, strict=True))
    with pytest.raises(InputError, match="a live source knows no way back"):
        carry(lab, Live(folder), given, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("direction", "places", "sentence", "without"),
    [
        ("forward", [2, 4], "frames 0 to 1 lie before the first annotated frame, without labels", {0, 1}),
        ("forward", [1], "frame 0 lies before the first annotated frame", {0}),
        ("forward", [0], None, set()),
        ("backward", [1, 3], f"frames 4 to {FRAMES - 1} lie after the last", set(range(4, FRAMES))),
        ("backward", [FRAMES - 1], None, set()),
        ("both", [3], None, set()),
    ],
)
def test_frames_that_no_label_reaches_are_told(
    lab: Tracker,
    folder: Path,
    direction: Direction,
    places: list[int],
    sentence: str | None,
    without: set[int],
) -> None:
    given = {place: labels(Masks, place) for place in places}
    with lab.passes(folder, given, direction) as passes:
        empty = {result.index for result in passes if not result.labels.ids.any()}
    assert empty == without == {n for n in range(FRAMES) if not reaches(given, direction, n)}
    told = [one for one in passes.warnings if "annotated frame" in one]
    assert (sentence is None and not told) or (len(told) == 1 and told[0].startswith(str(sentence)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("source", ["folder", "clip"])
def test_annotations_past_the_end(
    lab: Tracker, source: str, direction: Direction, request: pytest.FixtureRequest
) -> None:
    given = {0: labels(Masks, 0), FRAMES: labels(Masks, 0)}
    with pytest.raises(InputError, match=f"^there is no frame {FRAMES} to annotate: the video"):
        carry(lab, request.getfixturevalue(source), given, direction)


@pytest.mark.parametrize(
    ("given", "more", "sentence"),
    [
        ({}, {}, "nothing is annotated"),
        ({0: "masks"}, {"direction": "sideways"}, "choose forward, backward or both"),
        ({0: "masks", 7: "masks"}, {"end": 5}, "frame 7 is annotated, and only frames 0 to 4 are wanted"),
        ({0: "masks"}, {"start": 3}, "frame 0 is annotated, and only frames from 3 on"),
        ({5: "masks"}, {"start": 5, "end": 5}, "--end 5 is the frame after the last: .* more than --start 5"),
        ({0: "masks"}, {"direction": "backward"}, "none is wanted before 0: say which later frame"),
        ({3: "masks"}, {"direction": "backward", "start": 3}, "none is wanted before 3"),
        ({"0": "masks"}, {}, "'0' is no frame number"),
        ({0: "masks", 4: "points"}, {}, "all annotations must be of one kind: Masks and Keypoints"),
        ({0: "points", 4: "one point"}, {}, "frames 0 and 4 name other keypoints"),
        ({0: "maps", 4: "two maps"}, {}, "frames 0 and 4 have 1 and 2 values per pixel"),
        ({0: "masks", 4: "small"}, {}, "the mask has 10 x 8 pixels and the frame 96 x 64"),
    ],
)
def test_what_the_user_has_to_change_is_said_at_once(
    lab: Tracker, folder: Path, given: dict[Any, str], more: dict[str, Any], sentence: str
) -> None:
    makes = {
        "masks": lambda: labels(Masks, 0),
        "points": lambda: labels(Keypoints, 0),
        "one point": lambda: Keypoints.from_points([(3, 4)]),
        "maps": lambda: labels(Maps, 0),
        "two maps": lambda: Maps(labels(Maps, 0).values.repeat(2, axis=-1)),
        "small": lambda: Masks(np.ones((8, 10), np.uint8)),
    }
    with pytest.raises(InputError, match=sentence):
        lab.passes(folder, {number: makes[what]() for number, what in given.items()}, **more)
