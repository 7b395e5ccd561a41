"""The rendered clip keeps what `vidtrack demo` promises, and its truth agrees with its pictures."""

import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from vidtrack import demo_scene
from vidtrack.demo_scene import FRAMES, GROWTH, HIDDEN, NAMES, PICTURES, Scene, render, visible_area

LAST = FRAMES - 1
Clip = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render())


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return (a & b).sum() / union if union else 1.0


def extent(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Centroid (x, y) and width of a mask."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()]), x.max() - x.min() + 1


def test_sizes_and_ids(clip: Clip) -> None:
    assert len(clip) >= 60
    for image, ids in clip:
        assert image.shape == (480, 854, 3) and image.dtype == np.uint8
        assert ids.shape == (480, 854) and ids.dtype == np.uint8
        assert set(np.unique(ids)) <= {0, 1, 2, 3}
    assert (visible_area(clip[0][1]) > 5000).all()


@pytest.mark.parametrize("name", NAMES)
def test_each_object_moves_by_more_than_its_width_and_grows(clip: Clip, name: str) -> None:
    first, last = clip[0][1] == NAMES.index(name) + 1, clip[LAST][1] == NAMES.index(name) + 1
    (start, _), (end, width) = extent(first), extent(last)
    assert np.hypot(*(end - start)) > width
    assert np.sqrt(last.sum() / first.sum()) == pytest.approx(GROWTH, abs=0.01)  # both frames show it whole


def test_motion_is_smooth(scene: Scene) -> None:
    for name in NAMES:
        picture = demo_scene.picture(PICTURES[name])
        left, top, right, bottom = scene.box(name)
        corners = np.array([[left, right, left, right], [top, top, bottom, bottom], [1, 1, 1, 1]])
        assert 0 <= left < right < picture.shape[1] and 0 <= top < bottom < picture.shape[0]
        places = np.stack([scene.matrix(name, frame) @ corners for frame in range(FRAMES)])
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 9


def test_the_moon_hides_one_object_for_exactly_five_frames(clip: Clip) -> None:
    areas = np.stack([visible_area(ids) for _, ids in clip])
    hidden = NAMES.index(HIDDEN)
    gone = np.flatnonzero(areas[:, hidden] == 0)
    assert len(gone) == 5 and np.ptp(gone) == 4 and gone[0] > 0 and gone[-1] < LAST
    assert (np.delete(areas, hidden, axis=1) > 5000).all()


def test_area_is_the_analytic_one_where_nothing_hides(clip: Clip, scene: Scene) -> None:
    for frame in (0, 24, LAST):
        full = [scene.full_area(name, frame) for name in NAMES]
        np.testing.assert_allclose(visible_area(clip[frame][1]), full, rtol=0.005)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frame", [0, 15, 32, LAST])
def test_the_truth_agrees_with_the_picture(clip: Clip, scene: Scene, name: str, frame: int) -> None:
    """Inside the mask the image is the object's source picture; just outside it is not."""
    image, ids = clip[frame]
    source = np.array(Image.open(Path(skimage.data.__file__).parent / PICTURES[name]))
    warp = scene.matrix(name, frame)
    blurred = cv2.GaussianBlur(source, (0, 0), 0.45 / np.sqrt(np.linalg.det(warp[:, :2])))
    expected = cv2.warpAffine(
        blurred, warp, (854, 480), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    expected = np.minimum(expected * scene.brightness(frame), 255)
    error = np.abs(cv2.blur(image, (3, 3)) - cv2.blur(expected, (3, 3))).mean(axis=2)
    mask = (ids == NAMES.index(name) + 1).astype(np.uint8)
    inner, core, near, far = (
        cv2.erode(mask, np.ones((3, 3))),
        cv2.erode(mask, np.ones((9, 9))),
        cv2.dilate(mask, np.ones((3, 3))),
        cv2.dilate(mask, np.ones((9, 9))),
    )
    assert error[inner == 1].mean() < 2.5
    assert (error[inner - core == 1] > 20).mean() < 0.015  # a mask shifted by one pixel has 0.023
    assert error[far - near == 1].mean() > 40


def test_copying_the_first_mask_is_no_tracker(clip: Clip) -> None:
    first = clip[0][1]
    scores = [iou(first == k, ids == k) for _, ids in clip[1:-1] for k in (1, 2, 3)]
    assert np.mean(scores) < 0.35


def test_the_background_moves(clip: Clip) -> None:
    def sky(frame: int) -> np.ndarray:
        return clip[frame][0][:, 780:].astype(float)

    assert np.corrcoef(sky(0).ravel(), sky(8).ravel())[0, 1] < 0.5


def test_same_seed_same_clip_and_other_seed_same_truth() -> None:
    one, again, other = (list(render(3, 320, 180, seed)) for seed in (0, 0, 1))
    for (image, ids), (image2, ids2), (image3, ids3) in zip(one, again, other, strict=True):
        assert (image == image2).all() and (ids == ids2).all() and (ids == ids3).all()
        assert (image != image3).any()
    assert Scene(seed=0).brightness(0) != Scene(seed=1).brightness(0)


def test_frames_do_not_depend_on_order(clip: Clip, scene: Scene) -> None:
    image, ids = scene.frame(40)
    assert (image == clip[40][0]).all() and (ids == clip[40][1]).all()


def test_another_size_shows_the_same_scene(clip: Clip) -> None:
    small = list(render(10, 428, 240))[9][1]
    shrunk = cv2.resize(clip[9][1], (428, 240), interpolation=cv2.INTER_NEAREST)
    assert all(iou(small == k, shrunk == k) > 0.93 for k in (1, 2, 3))


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the demo must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(list(render(1, 320, 180))) == 1


@pytest.mark.parametrize("options", [{"frames": 0}, {"frames": FRAMES + 1}, {"width": 8}])
def test_impossible_sizes_are_refused_by_name(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        next(render(**options))
