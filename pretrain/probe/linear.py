"""Classifiers on frozen features: logistic regression ("linear") and one hidden layer ("mlp")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # of L2, from strong to weak: each fit starts from the one before
USUAL = 1e-2  # where no label can be held out to choose one
_ITERATIONS = 100
_MLP_STEPS = 300  # at least: with few labels an epoch is one step


@dataclass(frozen=True)
class Linear:
    """A fitted linear classifier.

    Attributes:
        weight: float `[K, D]`.
        bias: float `[K]`.
        strength: L2 that it was fitted with.
        held_out: accuracy on the labels that were held out to choose `strength`; None if none were.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    held_out: float | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Logits `[N, K]` of standardised features `[N, D]`."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Standard:
    """Mean and inverse spread of each feature in a training set, float `[D]`.

    A feature that is constant there says nothing: it becomes 0 everywhere.
    """

    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standard:
        """Statistics of features `[N, D]`."""
        mean = features.mean(dim=0)
        spread = (features - mean).square().mean(dim=0).sqrt()
        constant = spread <= 1e-6 * mean.abs() + 1e-12
        return cls(mean, torch.where(constant, 0.0, 1 / spread.masked_fill(constant, 1.0)))

    def __call__(self, features: Tensor) -> Tensor:
        """Features with mean 0 and spread 1 over the training set."""
        return (features - self.mean) * self.inverse


def fit_linear(
    features: Tensor, labels: Tensor, classes: int, strength: float, start: Linear | None = None
) -> Linear:
    """Multinomial logistic regression by full-batch L-BFGS: mean cross-entropy + strength / 2 * ||weight||^2.

    That is scikit-learn's `LogisticRegression(C=1 / (strength * N))`; the bias is not penalised.

    Args:
        features: float `[N, D]`, standardised: all are penalised alike.
        labels: int64 `[N]`.
        classes: K.
        strength: of the penalty.
        start: a classifier to begin with; None: zero.
    """
    if start is None:
        weight, bias = features.new_zeros(classes, features.shape[1]), features.new_zeros(classes)
    else:
        weight, bias = start.weight.clone(), start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-8,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels)
        loss = loss + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return Linear(weight.detach(), bias.detach(), strength)


def choose_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    held: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    most: int = 20_000,
) -> Linear:
    """Logistic regression whose strength is chosen on held-out labels, then fitted to all of them.

    Args:
        features, labels, classes: see `fit_linear`.
        held: bool `[N]`, the labels to choose by: highest accuracy, of equals the lowest cross-entropy. If
            none are, or all, the strength is 0.01.
        strengths: to choose from.
        most: of more labels, so many are fitted to compare the strengths, spread evenly.

    Returns:
        The classifier, with its accuracy on the held-out labels before these were fitted, too.
    """
    if not bool(held.any()) or bool(held.all()):
        return fit_linear(features, labels, classes, USUAL)
    fit = (~held).nonzero()[:, 0]
    if len(fit) > most:
        fit = fit[
            torch.linspace(0, len(fit) - 1, most, device=fit.device, dtype=torch.float64).round().long()
        ]
    rest, rest_labels = features[fit], labels[fit]
    asked, truth = features[held], labels[held]
    best: tuple[tuple[float, float], Linear] | None = None
    fitted: Linear | None = None
    for strength in sorted(strengths, reverse=True):
        fitted = fit_linear(rest, rest_labels, classes, strength, fitted)
        logits = fitted(asked)
        accuracy = (logits.argmax(1) == truth).double().mean().item()
        rank = (accuracy, -F.cross_entropy(logits, truth).item())
        if best is None or rank > best[0]:
            best = (rank, fitted)
    assert best is not None
    (accuracy, _), start = best
    final = fit_linear(features, labels, classes, start.strength, start)
    return Linear(final.weight, final.bias, final.strength, accuracy)


def fit_mlp(
    features: Tensor,
    labels: Tensor,
    classes: int,
    hidden: int = 512,
    epochs: int = 20,
    batch: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> nn.Module:
    """One hidden layer of ReLU units, by AdamW with a cosine schedule; a pure function of its arguments.

    Args:
        features: float `[N, D]`, standardised.
        labels: int64 `[N]`.
        classes: K.
        hidden: units.
        epochs: passes over the labels; more of them where that would be fewer than 300 steps.
        batch, learning_rate, weight_decay: of AdamW.
        seed: of the first weights and the order.

    Returns:
        A module from features to logits `[N, K]`.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [skip_init(nn.Linear, features.shape[1], hidden), skip_init(nn.Linear, hidden, classes)]
    with torch.no_grad():  # torch's own way to start, but from our generator
        for layer in layers:
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1]).to(features.device)
    batch = min(batch, len(features))
    per_epoch = len(features) // batch  # what doesn't fill a batch waits for the next epoch's order
    steps = max(epochs * per_epoch, _MLP_STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.empty(0, dtype=torch.int64)
    with torch.enable_grad():
        for step in range(steps):
            place = step % per_epoch
            if place == 0:
                order = torch.randperm(len(features), generator=generator)
            rows = order[place * batch : (place + 1) * batch].to(features.device)
            optimizer.zero_grad()
            F.cross_entropy(model(features[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module | Linear, features: Tensor, batch: int = 8192) -> Tensor:
    """The most probable class of each row of features, int64 `[N]`."""
    return torch.cat([model(part).argmax(dim=1) for part in features.split(batch)])
