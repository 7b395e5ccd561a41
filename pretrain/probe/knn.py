"""Weighted k-nearest-neighbour classification: what features are worth without training anything on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SCORES = 1 << 24  # similarities held at once


def knn_votes(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    classes: int,
    k: int = 200,
    temperature: float = 0.07,
) -> Tensor:
    """Votes of the k nearest training images for each class, of each test image.

    Wu et al. 2018 (arXiv 1805.01978): a neighbour with cosine similarity s has the weight exp(s / T).

    Args:
        train: float `[N, D]`, features of the training images.
        labels: int64 `[N]`, their classes.
        test: float `[M, D]`.
        classes: how many there are.
        k: neighbours that vote; all N if there are fewer.
        temperature: T.

    Returns:
        Float `[M, classes]`; each row sums to 1.

    Raises:
        ValueError: no training image, or `k` or `temperature` not above 0.
    """
    if len(train) == 0 or k < 1 or not temperature > 0:
        raise ValueError(f"k={k}, temperature={temperature} and {len(train)} images: all must be above 0")
    k = min(k, len(train))
    keys, queries = F.normalize(train, dim=1), F.normalize(test, dim=1)
    votes = []
    for part in queries.split(max(1, _SCORES // len(train))):
        similar, places = (part @ keys.T).topk(k, dim=1)  # [m, k]
        # Relative to the nearest one: the same shares, and no overflow at low temperatures.
        weights = ((similar - similar[:, :1]) / temperature).exp()
        counted = torch.zeros(len(part), classes, dtype=weights.dtype, device=weights.device)
        counted.scatter_add_(1, labels[places], weights)
        votes.append(counted / counted.sum(dim=1, keepdim=True))
    return torch.cat(votes)


def knn(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    classes: int,
    k: int = 200,
    temperature: float = 0.07,
) -> Tensor:
    """The class with most votes, int64 `[M]`; see `knn_votes`."""
    return knn_votes(train, labels, test, classes, k, temperature).argmax(dim=1)
