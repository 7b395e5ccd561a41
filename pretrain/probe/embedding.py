"""A map of features in two dimensions, for the eye only: distances far apart mean nothing in it."""

from __future__ import annotations

import numpy as np

MOST = 2000  # images: more are slow, and too many dots to see
_COMPONENTS = 50
_PERPLEXITY = 30.0


def embed(features: np.ndarray, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """Place images in the plane so that neighbours stay neighbours: PCA to 50 dimensions, then t-SNE.

    van der Maaten & Hinton 2008, "Visualizing Data using t-SNE", JMLR 9. It starts from the
    first two principal components, not at random; fewer than 8 images get just these.

    Args:
        features: float `[N, D]`.
        most: of more images, so many are taken, spread evenly.

    Returns:
        Int64 `[n]`, which images; and float32 `[n, 2]`, where they are.
    """
    from sklearn.decomposition import PCA  # heavy: only reports need it
    from sklearn.manifold import TSNE

    count = min(len(features), most)
    chosen = np.linspace(0, len(features) - 1, count).round().astype(np.int64)
    values = np.asarray(features, np.float64)[chosen]
    components = min(_COMPONENTS, *values.shape)
    flat = np.zeros((count, 2), np.float32)
    if count < 2 or not np.ptp(values, axis=0).any():
        return chosen, flat
    values = PCA(components, svd_solver="full").fit_transform(values)
    if count < 8:
        flat[:, : min(2, components)] = values[:, :2]
        return chosen, flat
    start = np.zeros((count, 2))
    start[:, : min(2, components)] = values[:, :2]
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)  # as scikit-learn's own start from PCA
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=0, n_jobs=1)
    return chosen, made.fit_transform(values).astype(np.float32)
