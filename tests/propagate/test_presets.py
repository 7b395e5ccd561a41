"""The presets against their formulas, written out with loops over queries and keys."""

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.labels import Keypoints
from vidtrack.propagate.preset_carriers import PresetPointCarrier
from vidtrack.propagate.preset_maps import heat_maps, peaks, read_out, to_label_map
from vidtrack.propagate.presets import TILE, VARIANTS, PresetPropagator
from vidtrack.propagate.settings import Propagation

PRESETS = ("crw", "dino", "vfs")


def memory(preset: str, frame: int, context: int) -> list[tuple[int, bool]]:
    """Frames that a frame attends to, and whether the window holds there."""
    if preset == "crw":  # the first frame stands `context` times before the video
        return [(0, False), *((max(0, j), True) for j in range(frame - context, frame))]
    if preset == "dino":  # the queue takes predicted frames only
        return [(0, True), *((j, True) for j in range(max(1, frame - context), frame))]
    return [(0, True), *((j, True) for j in range(max(0, frame - context), frame))]


def slow_step(
    preset: str,
    frames: list[Tensor],
    labels: list[Tensor],
    topk: int,
    temp: float,
    radius: float,
    context: int,
) -> Tensor:
    """Labels of the last of `frames`, of which all others have labels."""
    height, width, _ = frames[0].shape
    query = frames[-1].double()
    cosine = [torch.einsum("hwc,yxc->hwyx", query, f.double()).numpy() for f in frames[:-1]]
    known = [map_.double().numpy() for map_ in labels]
    found = np.zeros((height, width, labels[0].shape[-1]))
    for i in range(height):
        for j in range(width):
            keys = []
            for frame, windowed in memory(preset, len(frames) - 1, context):
                for y in range(height):
                    for x in range(width):
                        if preset == "dino":
                            near = abs(i - y) <= radius and abs(j - x) <= radius
                        else:
                            near = math.hypot(i - y, j - x) < radius
                        if near or not windowed:
                            keys.append((cosine[frame][i, j, y, x], known[frame][y, x]))
            keys.sort(key=lambda key: -key[0])
            if preset == "dino":
                least = keys[min(topk, len(keys)) - 1][0]
                kept = [key for key in keys if key[0] >= least]
            else:
                kept = keys[:topk]
            weights = [math.exp(score / temp) for score, _ in kept]
            for weight, (_, label) in zip(weights, kept, strict=True):
                found[i, j] += weight / sum(weights) * label
    return torch.from_numpy(found).float()


def video(frames: int, height: int, width: int, seed: int = 0, channels: int = 8) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(height, width, channels, generator=rng), dim=-1) for _ in range(frames)]


def soft(height: int, width: int, channels: int, seed: int = 1) -> Tensor:
    return torch.rand(height, width, channels, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("size", "count", "changed"),
    [
        ((TILE[0] + 2, TILE[1] + 3), 4, {"radius": 3, "context": 2, "topk": 4}),  # across tiles, memory full
        ((4, 15), 4, {}),  # the papers' own settings; the window is smaller than the frame
        ((5, 6), 6, {"radius": 2.5, "context": 3, "temperature": 0.2}),
        ((2, 2), 3, {"topk": 50}),  # fewer keys than k
        ((1, 1), 3, {}),
    ],
)
def test_a_video_equals_the_slow_formula(
    preset: str, size: tuple[int, int], count: int, changed: dict[str, float]
) -> None:
    frames = video(count, *size)
    labels = [soft(*size, 4)]
    propagator = PresetPropagator(preset, **changed)  # type: ignore[arg-type]
    propagator.annotate(0, frames[0], labels[0])
    v = VARIANTS[preset]
    for t in range(1, count):
        expected = slow_step(
            preset,
            frames[: t + 1],
            labels,
            int(changed.get("topk", v.topk)),
            changed.get("temperature", v.temperature),
            changed.get("radius", v.radius),
            int(changed.get("context", v.context)),
        )
        torch.testing.assert_close(propagator.step(t, frames[t]), expected, atol=2e-5, rtol=0)
        labels.append(expected)


def test_settings_are_those_of_the_papers() -> None:
    found = {name: (v.topk, v.context, v.radius, v.temperature) for name, v in VARIANTS.items()}
    assert found == {"crw": (10, 20, 12, 0.05), "dino": (5, 7, 12, 0.1), "vfs": (10, 20, 12, 0.07)}


def test_dino_keeps_every_tie() -> None:
    basis = torch.eye(3)
    frames = [basis[torch.randint(3, (6, 7), generator=torch.Generator().manual_seed(t))] for t in range(3)]
    labels = [soft(6, 7, 3)]
    propagator = PresetPropagator("dino", radius=2, topk=2)
    propagator.annotate(0, frames[0], labels[0])
    for t in (1, 2):
        expected = slow_step("dino", frames[: t + 1], labels, 2, 0.1, 2, 7)
        torch.testing.assert_close(propagator.step(t, frames[t]), expected, atol=1e-5, rtol=0)
        labels.append(expected)


@pytest.mark.parametrize("preset", ["crw", "vfs"])
def test_the_others_keep_k_of_the_ties(preset: str) -> None:
    same = torch.ones(4, 4, 1)
    labels = soft(4, 4, 2)
    propagator = PresetPropagator(preset, topk=1, context=1)
    propagator.annotate(0, same, labels)
    found = propagator.step(1, same).reshape(-1, 2)
    distance = torch.cdist(found, labels.reshape(-1, 2)).amin(dim=1)  # each copies one key, no mean of keys
    assert float(distance.max()) < 1e-6


def test_only_crw_searches_the_first_frame_everywhere() -> None:
    frames = video(2, 1, 40)
    moved = frames[0].roll(30, dims=1)
    labels = torch.zeros(1, 40, 2)
    labels[..., 0], labels[0, :5] = 1, torch.tensor([0.0, 1.0])
    found = {}
    for preset in PRESETS:
        propagator = PresetPropagator(preset, topk=1)
        propagator.annotate(0, frames[0], labels)
        found[preset] = float(propagator.step(1, moved)[0, 30:35, 1].mean())
    assert found["crw"] == 1
    assert found["dino"] == found["vfs"] == 0


def test_each_keypoint_is_told_its_own_confidence() -> None:
    carrier = PresetPointCarrier(Propagation(preset="crw", size=None, context=(1,)), 8)
    frames = video(2, 12, 16)
    missing = (math.nan, math.nan)
    given = Keypoints.from_points([missing, (90.0, 30.0), missing, (28.0, 60.0)])
    carrier.annotate(0, frames[0], (96, 128), given)
    found = carrier.step(1, frames[0], np.zeros((96, 128, 3), np.uint8))
    assert found.confidence[[0, 2]].tolist() == [0, 0] and (found.confidence[[1, 3]] > 0.5).all()


def test_a_later_annotation_starts_anew() -> None:
    frames = video(4, 5, 6)
    for preset in PRESETS:
        used, fresh = PresetPropagator(preset), PresetPropagator(preset)
        used.annotate(0, frames[0], soft(5, 6, 2))
        used.step(1, frames[1])
        for propagator in (used, fresh):
            propagator.annotate(2, frames[2], soft(5, 6, 3))
        assert torch.equal(used.step(3, frames[3]), fresh.step(3, frames[3]))


def test_lengths_and_half_precision_of_embeddings_do_not_matter() -> None:
    frames = video(2, 6, 7)
    labels = soft(6, 7, 2)
    for preset in PRESETS:
        one, other = PresetPropagator(preset), PresetPropagator(preset)
        one.annotate(0, frames[0], labels)
        other.annotate(0, frames[0] * 3, labels)
        torch.testing.assert_close(one.step(1, frames[1]), other.step(1, frames[1] * 0.5), atol=1e-5, rtol=0)
        assert one.step(2, frames[1].bfloat16()).dtype == torch.float32


def test_a_tiny_temperature_is_no_overflow() -> None:
    frames = video(2, 4, 5)
    for preset in PRESETS:
        propagator = PresetPropagator(preset, temperature=1e-4)
        propagator.annotate(0, frames[0], soft(4, 5, 2))
        torch.testing.assert_close(propagator.step(1, frames[1]).sum(dim=-1), torch.ones(4, 5))


def test_wrong_use() -> None:
    with pytest.raises(InputError, match="crw, dino, vfs"):
        PresetPropagator("uvc")
    for changed in ({"topk": 0}, {"radius": -1}, {"temperature": 0.0}, {"context": 0}, {"radius": math.nan}):
        with pytest.raises(InputError, match=f"--{next(iter(changed))}"):
            PresetPropagator("crw", **changed)
    propagator = PresetPropagator("crw")
    with pytest.raises(ValueError, match="annotate"):
        propagator.step(0, torch.ones(2, 2, 3))
    with pytest.raises(ValueError, match="fit"):
        propagator.annotate(0, torch.ones(2, 2, 3), torch.ones(2, 3, 2))
    propagator.annotate(0, torch.ones(2, 2, 3), torch.ones(2, 2, 2))
    with pytest.raises(ValueError, match="size"):
        propagator.step(1, torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="uint8"):
        to_label_map("crw", np.zeros((4, 4)), [1], (4, 4), 2)
    with pytest.raises(ValueError, match="cells"):
        read_out("crw", torch.ones(3, 3, 2), (16, 16), 8, (16, 16))
    with pytest.raises(InputError, match="preset"):
        read_out("uvc", torch.ones(2, 2, 2), (16, 16), 8, (16, 16))


def bilinear(map_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel centres, borders repeated, no antialiasing; `[H, W]`."""
    out = np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * map_.shape[0] / size[0] - 0.5, 0), map_.shape[0] - 1)
            x = min(max((j + 0.5) * map_.shape[1] / size[1] - 0.5, 0), map_.shape[1] - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, map_.shape[0] - 1), min(x0 + 1, map_.shape[1] - 1)
            top = map_[y0, x0] * (1 - x + x0) + map_[y0, x1] * (x - x0)
            bottom = map_[y1, x0] * (1 - x + x0) + map_[y1, x1] * (x - x0)
            out[i, j] = top * (1 - y + y0) + bottom * (y - y0)
    return out


def nearest(map_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = [int((i + 0.5) * map_.shape[0] / size[0]) for i in range(size[0])]
    columns = [int((j + 0.5) * map_.shape[1] / size[1]) for j in range(size[1])]
    return map_[np.ix_(rows, columns)]


@pytest.mark.parametrize(
    ("original", "size"), [((53, 71), (40, 53)), ((37, 51), (37, 51)), ((65, 97), (48, 72))]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_masks_become_label_maps(preset: str, original: tuple[int, int], size: tuple[int, int]) -> None:
    ids = np.random.default_rng(0).choice(np.array([0, 0, 3, 7, 9], np.uint8), original)
    objects, stride = [7, 3], 8  # 9 is none of them
    grid = -(-size[0] // stride), -(-size[1] // stride)
    found = to_label_map(preset, ids, objects, size, stride)
    channels = [~np.isin(ids, objects), ids == 7, ids == 3]
    if preset == "crw":
        expected = [bilinear(c.astype(float), grid) for c in channels]
    elif preset == "dino":
        expected = [nearest(c, grid) for c in channels]
    else:
        expected = [nearest(nearest(c, size), grid) for c in channels]
    np.testing.assert_allclose(found.numpy(), np.stack(expected, axis=-1), atol=1e-6)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(grid))


def slow_read_out(preset: str, labels: np.ndarray, stride: int, original: tuple[int, int]) -> np.ndarray:
    height, width, count = labels.shape
    target = (height * stride, width * stride) if preset == "dino" else original
    maps = []
    for channel in range(count):
        map_ = bilinear(labels[..., channel], target)
        if preset != "crw" and map_.max() > 0:
            map_ = map_ - map_.min()
            map_ = map_ / map_.max()
        maps.append(map_)
    ids = np.stack(maps).argmax(axis=0)
    return nearest(ids, original) if preset == "dino" else ids


@pytest.mark.parametrize(
    ("size", "original"), [((24, 32), (24, 32)), ((30, 37), (30, 37)), ((24, 32), (50, 61))]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_label_maps_become_masks(preset: str, size: tuple[int, int], original: tuple[int, int]) -> None:
    grid = -(-size[0] // 8), -(-size[1] // 8)
    labels = soft(*grid, 4)
    labels[..., 3] *= 0.3  # a faint object, which only stretching lets win
    ids, confidence = read_out(preset, labels, size, 8, original)
    expected = slow_read_out(preset, labels.double().numpy(), 8, original)
    assert ids.dtype == torch.uint8
    settled = np.ones(original, bool)
    if preset == "dino":  # a place on the line between two pixels is a matter of rounding
        rows, columns = ((np.arange(n) + 0.5) * c * 8 % n != 0 for n, c in zip(original, grid, strict=True))
        settled = rows[:, None] & columns
    assert (ids.numpy() == expected)[settled].mean() > 0.999
    assert set(confidence) == set(np.unique(ids.numpy())) - {0}
    assert (3 in confidence) == (preset != "crw")
    if preset != "dino":  # which measures before its last resize
        for channel, value in confidence.items():
            map_ = bilinear(labels[..., channel].numpy(), original)
            assert value == pytest.approx(map_[ids.numpy() == channel].mean(), abs=1e-4)


def test_maps_that_are_constant() -> None:
    """All object: DINO's 0/0 makes it win, VFS' 1e-12 makes it lose. All background: background.

    The sizes are such that up-sampling doesn't round.
    """
    full, none = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
    full[..., 1], none[..., 0] = 1, 1
    for preset, wins in (("crw", 1), ("dino", 1), ("vfs", 0)):
        assert (read_out(preset, full, (16, 24), 8, (16, 24))[0] == wins).all()
        ids, confidence = read_out(preset, none, (16, 24), 8, (16, 24))
        assert not ids.any()
        assert confidence == {}
    assert read_out("dino", full, (16, 24), 8, (16, 24))[1] == {1: 1.0}


@pytest.mark.parametrize("preset", PRESETS)
def test_masks_there_and_back(preset: str) -> None:
    ids = np.zeros((96, 128), np.uint8)
    cv2.circle(ids, (40, 50), 25, 5, -1)
    cv2.circle(ids, (95, 40), 20, 9, -1)
    labels = to_label_map(preset, ids, [5, 9], (96, 128), 8)
    found = np.array([0, 5, 9], np.uint8)[read_out(preset, labels, (96, 128), 8, (96, 128))[0].numpy()]
    for number in (5, 9):
        both = ((found == number) & (ids == number)).sum() / ((found == number) | (ids == number)).sum()
        assert both > 0.8


def test_heat_maps_are_gaussians_around_true_cell_centres() -> None:
    points = torch.tensor([[11.5, 3.5], [0.0, 0.0], [20.0, 17.0], [math.nan, 3.0], [40.0, 3.0]])
    maps = heat_maps(points, (20, 37), 8)  # cell i has its centre at 8i + 3.5
    assert maps.shape == (3, 5, 6)
    for i in range(3):
        for j in range(5):
            for n in range(3):
                dx, dy = (j * 8 + 3.5 - points[n, 0]) / 8, (i * 8 + 3.5 - points[n, 1]) / 8
                near = abs(dx) <= 1.5 and abs(dy) <= 1.5
                expected = math.exp(-2 * float(dx**2 + dy**2)) if near else 0
                assert float(maps[i, j, n + 1]) == pytest.approx(expected, abs=1e-6)
    assert maps[0, 1, 1] == 1
    assert not maps[..., 4:].any()  # no place, and outside
    assert torch.equal(maps[..., 0] == 1, maps[..., 1:].sum(dim=-1) == 0)


def test_peaks_are_the_weighted_mean_of_three_cells() -> None:
    labels = torch.zeros(4, 5, 4)
    labels[1, 2, 1], labels[1, 3, 1], labels[2, 2, 1], labels[0, 0, 1] = 0.4, 0.2, 0.2, 0.1
    labels[3, 4, 2] = 1e-3
    found = peaks(labels, 8)
    expected = (torch.tensor([2.25, 1.25]) * 8 + 3.5, torch.tensor([4.0, 3.0]) * 8 + 3.5)
    torch.testing.assert_close(found[:2], torch.stack(expected))
    assert found[2].isnan().all()
    assert torch.equal(peaks(labels[:1, :1], 4)[0], torch.tensor([1.5, 1.5]))  # one cell


@settings(max_examples=100, deadline=None)
@given(
    x=st.floats(0, 63),
    y=st.floats(0, 47),
    stride=st.sampled_from([4, 8, 14, 16]),
)
def test_keypoints_there_and_back(x: float, y: float, stride: int) -> None:
    point = torch.tensor([[x, y]])
    found = peaks(heat_maps(point, (48, 64), stride), stride)
    assert float((found - point).abs().max()) < 0.55 * stride  # the border has no cell beyond it


@pytest.mark.parametrize("preset", PRESETS)
def test_keypoints_follow_a_moving_frame(preset: str) -> None:
    base = video(1, 20, 24, channels=32)[0]
    points = torch.tensor([[60.0, 70.0], [100.0, 90.0]])
    propagator = PresetPropagator(preset, topk=1)
    propagator.annotate(0, base, heat_maps(points, (160, 192), 8))
    labels = propagator.step(1, base.roll((1, 2), dims=(0, 1)))
    labels[:1], labels[:, :2] = 0, 0  # what came in at the border matches nothing within its window
    still = peaks(heat_maps(points, (160, 192), 8), 8)
    torch.testing.assert_close(peaks(labels, 8) - still, torch.tensor([[16.0, 8.0]] * 2), atol=1e-3, rtol=0)
