"""The map of features: which images, the same each time, groups stay together."""

import numpy as np
import pytest

from pretrain.probe.confusion import confusion
from pretrain.probe.embedding import embed


def test_groups_stay_together_and_the_map_is_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    features = rng.normal(0, 8, (3, 60))[labels] + rng.normal(0, 1, (60, 60))
    chosen, places = embed(features)
    assert chosen.tolist() == list(range(60)) and places.shape == (60, 2) and places.dtype == np.float32
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(60) * 1e9
    assert (labels[distance.argmin(1)] == labels).all()
    assert np.array_equal(embed(features)[1], places)


def test_of_many_images_some_are_taken() -> None:
    chosen, places = embed(np.random.default_rng(0).normal(0, 1, (50, 4)), most=11)
    assert chosen.tolist() == np.linspace(0, 49, 11).round().tolist() and len(places) == 11


@pytest.mark.parametrize(("count", "dims"), [(0, 3), (1, 3), (2, 1), (5, 4), (9, 1), (20, 2)])
@pytest.mark.parametrize("constant", [False, True])
def test_small_and_constant_sets(count: int, dims: int, constant: bool) -> None:
    values = np.ones((count, dims)) if constant else np.random.default_rng(0).normal(0, 1, (count, dims))
    chosen, places = embed(values)
    assert len(chosen) == count and places.shape == (count, 2) and np.isfinite(places).all()


def test_very_few_images_get_their_principal_components() -> None:
    values = np.random.default_rng(0).normal(0, 1, (6, 4))
    _, places = embed(values)
    spread = np.linalg.svd(values - values.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(places, axis=0), spread[:2], rtol=1e-5)


def test_confusion_counts_pairs() -> None:
    truth, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    assert confusion(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    with pytest.raises(ValueError, match="shape"):
        confusion(truth, predicted[:2], 3)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        confusion(truth, predicted, 2)
