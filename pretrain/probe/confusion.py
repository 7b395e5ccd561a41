"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of each true class by predicted class.

    Args:
        truth: integers `[N]` in 0..classes-1.
        predicted: the same.
        classes: K.

    Returns:
        Int64 `[K, K]`: rows are true, columns predicted classes.

    Raises:
        ValueError: different lengths, or a class that isn't there.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {list(truth.shape)} and prediction {list(predicted.shape)} differ in shape")
    for values in (truth, predicted):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(f"classes must lie in 0..{classes - 1}")
    pairs = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
