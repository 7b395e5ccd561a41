"""Few labels: the right share of each class, nested, a pure function of the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.errors import InputError
from pretrain.probe.few import few, held_out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 3), st.data())
def test_each_class_gives_its_share(counts: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    share = data.draw(st.floats(len(counts) / len(labels), 1))
    chosen = few(labels, share, seed)
    assert (np.diff(chosen) > 0).all()
    for label, count in enumerate(counts):
        got = int((labels[chosen] == label).sum())
        assert got == max(1, int(share * count + 0.5))
    assert set(chosen) <= set(few(labels, (1 + share) / 2, seed))  # nested


def test_all_labels_are_all_and_seeds_differ() -> None:
    labels = np.arange(200) % 4
    assert few(labels, 1.0).tolist() == list(range(200))
    assert few(labels, 0.1, 1).tolist() == few(labels, 0.1, 1).tolist() != few(labels, 0.1, 2).tolist()


def test_a_class_is_chosen_alike_whatever_the_others_are() -> None:
    """Otherwise the classes of equal size would give images at equal places."""
    labels = np.repeat([0, 1], 50)
    chosen = few(labels, 0.2)
    first, second = chosen[chosen < 50], chosen[chosen >= 50] - 50
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_of_its_range(share: float) -> None:
    with pytest.raises(InputError, match="give a number above 0, up to 1"):
        few(np.arange(10), share)


def test_too_few_images_for_a_share() -> None:
    with pytest.raises(InputError, match="1 % of 90 images is less than one for each of the 3 classes"):
        few(np.arange(90) % 3, 0.01)


def test_a_tenth_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1, 2, 3], [100, 12, 2, 1])
    mask = held_out(labels)
    assert np.bincount(labels[mask], minlength=4).tolist() == [10, 1, 1, 0]
    assert (mask == held_out(labels)).all() and (mask != held_out(labels, 1)).any()
