"""Weighted nearest neighbours against a loop in plain Python."""

import math

import pytest
import torch
from torch import Tensor

from pretrain.probe import knn as module
from pretrain.probe.knn import knn, knn_votes


def slow(train: Tensor, labels: Tensor, test: Tensor, classes: int, k: int, t: float) -> list[list[float]]:
    rows = []
    for one in test.tolist():
        near = []
        for other, label in zip(train.tolist(), labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(one, other, strict=True))
            near.append((dot / (math.hypot(*one) * math.hypot(*other)), label))
        votes = [0.0] * classes
        for similar, label in sorted(near, reverse=True)[:k]:
            votes[label] += math.exp(similar / t)
        rows.append([vote / sum(votes) for vote in votes])
    return rows


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (5, 1.0), (12, 0.5), (200, 0.07)])
def test_it_is_the_formula(k: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCORES", 30)  # several chunks
    generator = torch.Generator().manual_seed(k)
    train = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    test = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (12,), generator=generator)
    votes = knn_votes(train, labels, test, 4, k, temperature)
    expected = torch.tensor(slow(train, labels, test, 4, k, temperature), dtype=torch.float64)
    torch.testing.assert_close(votes, expected)
    assert knn(train, labels, test, 4, k, temperature).tolist() == expected.argmax(1).tolist()


def test_low_temperatures_dont_overflow() -> None:
    votes = knn_votes(torch.eye(3), torch.arange(3), torch.eye(3), 3, temperature=1e-4)
    torch.testing.assert_close(votes, torch.eye(3))


def test_a_lower_temperature_listens_to_the_nearest_only() -> None:
    """One near neighbour against two far ones."""
    train = torch.tensor([[1.0, 0.1], [1.0, 1.0], [1.0, 1.0]])
    query, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([0, 1, 1])
    warm, cold = (knn_votes(train, labels, query, 2, 3, temperature)[0] for temperature in (5, 0.05))
    assert warm.argmax() == 1 and cold.argmax() == 0


@pytest.mark.parametrize(("k", "temperature", "count"), [(0, 0.07, 3), (1, 0.0, 3), (1, 0.07, 0)])
def test_wrong_arguments(k: int, temperature: float, count: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        knn_votes(torch.zeros(count, 2), torch.arange(count), torch.ones(1, 2), 3, k, temperature)
