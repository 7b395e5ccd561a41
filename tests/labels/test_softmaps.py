"""Soft maps on disk: what comes back, how exact, how small."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pretrain.errors import InputError
from vidtrack.geometry import to_cells, to_pixels
from vidtrack.labels.softmaps import load_soft, save_soft


def blob(size: tuple[int, int]) -> np.ndarray:
    """Background and two soft discs, float32 `[3, H, W]`."""
    y, x = np.mgrid[: size[0], : size[1]]
    discs = [
        1 / (1 + np.exp((np.hypot(y - size[0] * a, x - size[1] * a) - size[0] / 5) / 2)) for a in (0.3, 0.7)
    ]
    first, second = discs[0] * (1 - discs[1]), discs[1]
    return np.stack([1 - first - second, first, second]).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(
    labels=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.floats(0, 1, width=32)
    ),
    stride=st.sampled_from([4, 8]),
)
def test_round_trip(tmp_path_factory, labels, stride):
    path = tmp_path_factory.mktemp("soft") / "a.npz"
    objects = [7 * i + 1 for i in range(len(labels) - 1)]
    working = (labels.shape[1] * stride - 1, labels.shape[2] * stride)
    save_soft(path, labels, objects, (123, 456), working=working, stride=stride)
    maps = load_soft(path)
    assert maps.labels.dtype == np.float32
    assert np.abs(maps.labels - labels).max() <= 1 / 4096
    assert (maps.objects, maps.size, maps.working, maps.stride) == (objects, (123, 456), working, stride)


def test_at_pixels_as_the_readout_does_it(tmp_path):
    working, size = (60, 107), (120, 214)
    label_map = to_cells(torch.from_numpy(blob(size)), working, 8)
    save_soft(tmp_path / "a.npz", label_map.numpy(), [1, 2], size, working=working)
    result = load_soft(tmp_path / "a.npz").to_pixels()
    assert result.shape == (3, *size)
    np.testing.assert_allclose(result, to_pixels(label_map, working, 8, size).numpy(), atol=1 / 4000)


def test_small(tmp_path):
    labels = to_cells(torch.from_numpy(blob((480, 854))), (480, 854), 8).numpy()
    save_soft(tmp_path / "a.npz", labels, [1, 2], (480, 854))
    assert (tmp_path / "a.npz").stat().st_size < labels.nbytes / 3


def test_sums_that_leave_the_range_by_rounding(tmp_path):
    labels = np.full((1, 1, 1), 1.0009)
    save_soft(tmp_path / "a.npz", labels, [], (8, 8))
    assert load_soft(tmp_path / "a.npz").labels == 1


def test_wrong_maps(tmp_path):
    good = np.ones((2, 2, 3), np.float32)
    for labels, objects, size in [
        (good, [1, 2], (16, 24)),
        (good, [1], (16, 25)),
        (good[0], [1], (16, 24)),
        (good.astype(int), [1], (16, 24)),
        (good + 1, [1], (16, 24)),
        (good - 2, [1], (16, 24)),
        (good * np.nan, [1], (16, 24)),
    ]:
        with pytest.raises(ValueError, match=r"need float|0\.\.1"):
            save_soft(tmp_path / "a.npz", labels, objects, size)
    assert list(tmp_path.iterdir()) == []


def test_errors(tmp_path):
    good = np.ones((2, 2, 3), np.float32)
    with pytest.raises(InputError, match=r"not named \.npz"):
        save_soft(tmp_path / "a.npy", good, [1], (16, 24))
    path = tmp_path / "a.npz"
    save_soft(path, good, [1], (16, 24))
    with pytest.raises(InputError, match="exists already"):
        save_soft(path, good, [1], (16, 24))
    save_soft(path, good * 0, [1], (16, 24), overwrite=True)
    data = path.read_bytes()
    assert not load_soft(path).labels.any()
    with pytest.raises(InputError, match="does not exist"):
        load_soft(tmp_path / "b.npz")
    np.savez(tmp_path / "other.npz", labels=good)
    np.savez(tmp_path / "pickled.npz", version=np.array({}, object))
    np.savez(tmp_path / "odd.npz", version=1, labels=good, objects=[1], size=[1, 2], working=[9, 9], stride=0)
    np.save(tmp_path / "array.npy", good)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    for i in range(0, len(data), 7):
        (tmp_path / f"flip{i}.npz").write_bytes(data[:i] + bytes([data[i] ^ 255]) + data[i + 1 :])
    for file in tmp_path.glob("*.npz"):
        if file == path:
            continue
        try:
            load_soft(file)
        except InputError as error:
            assert str(file) in str(error)
        else:
            assert file.name.startswith("flip")  # of a byte that means nothing
    np.savez(tmp_path / "new.npz", version=2, labels=good, objects=[1], size=[1, 2], working=[9, 9], stride=8)
    with pytest.raises(InputError, match="newer vidtrack"):
        load_soft(tmp_path / "new.npz")
