"""Few labels: subsets of a training set with the same share of each class."""

from __future__ import annotations

import numpy as np

from pretrain.errors import InputError


def few(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Choose a share of the images of each class, at least one.

    A pure function of its arguments. Subsets of one seed are nested: the images of a smaller share are among
    those of a larger one.

    Args:
        labels: int64 `[N]`.
        share: 0..1 (without 0).
        seed: of the choice.

    Returns:
        Int64 indices, ascending.

    Raises:
        InputError: the share of all images is less than one for each class, or not in 0..1.
    """
    if not 0 < share <= 1:
        raise InputError(f"a share of {share:g} of the labels: give a number above 0, up to 1.")
    found = np.unique(labels)
    if share * len(labels) < len(found) * (1 - 1e-9):  # the product is rounded
        raise InputError(
            f"{100 * share:g} % of {len(labels)} images is less than one for each of the {len(found)} "
            "classes: give more images or a larger share."
        )
    chosen = []
    for label in found:
        places = _shuffled(labels, int(label), seed)
        chosen.append(places[: max(1, int(share * len(places) + 0.5))])
    return np.sort(np.concatenate(chosen))


def held_out(labels: np.ndarray, seed: int = 0, share: float = 0.1) -> np.ndarray:
    """Which images to hold out for choosing between settings: a share of each class.

    Args:
        labels: int64 `[N]`.
        seed: of the choice.
        share: of each class; at least one image of a class that has two or more, none of others.

    Returns:
        Bool `[N]`.
    """
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = _shuffled(labels, int(label), seed)
        mask[places[: min(len(places) - 1, max(1, int(share * len(places) + 0.5)))]] = True
    return mask


def _shuffled(labels: np.ndarray, label: int, seed: int) -> np.ndarray:
    """The images of a class, in an order of their own for each seed and class."""
    order = np.random.default_rng([seed, label, 17])
    return order.permutation(np.flatnonzero(labels == label))
