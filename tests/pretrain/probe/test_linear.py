"""Classifiers on features: logistic regression against scikit-learn, a hidden layer on what is not linear."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pretrain.probe.linear import USUAL, Standard, choose_linear, fit_linear, fit_mlp, predict


def blobs(count: int, dims: int = 6, classes: int = 3, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dims))
    labels = rng.integers(0, classes, count)
    features = centres[labels] + rng.normal(0, noise, (count, dims))
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_it_is_scikit_learns(strength: float) -> None:
    features, labels = blobs(300)
    features = Standard.of(features)(features)
    head = fit_linear(features, labels, 3, strength)
    theirs = LogisticRegression(C=1 / (strength * len(features)), tol=1e-8, max_iter=5000)
    theirs.fit(features.double().numpy(), labels.numpy())
    expected = torch.from_numpy(theirs.predict_proba(features.double().numpy())).float()
    torch.testing.assert_close(head(features).softmax(1), expected, atol=2e-3, rtol=0)
    assert head.strength == strength and head.held_out is None


def test_a_start_changes_the_way_but_not_the_end() -> None:
    features, labels = blobs(200)
    cold = fit_linear(features, labels, 3, 1e-2)
    before = fit_linear(features, labels, 3, 1.0)
    kept = before.weight.clone()
    warm = fit_linear(features, labels, 3, 1e-2, before)
    assert torch.equal(before.weight, kept)  # the start itself stays
    torch.testing.assert_close(cold(features).softmax(1), warm(features).softmax(1), atol=2e-3, rtol=0)


def test_the_strength_is_that_with_the_best_held_out_accuracy() -> None:
    features, labels = blobs(60, dims=40, noise=5.0)  # few labels, many features: it overfits easily
    held = torch.arange(60) % 3 == 0
    strengths = (1e-6, 1e-2, 1.0)
    chosen = choose_linear(features, labels, 3, held, strengths)
    scores = {}
    for strength in strengths:
        head = fit_linear(features[~held], labels[~held], 3, strength)
        scores[strength] = (predict(head, features[held]) == labels[held]).double().mean().item()
    assert len(set(scores.values())) > 1
    assert scores[chosen.strength] == max(scores.values()) == chosen.held_out
    again = fit_linear(features, labels, 3, chosen.strength)  # fitted to all labels in the end
    torch.testing.assert_close(again(features).softmax(1), chosen(features).softmax(1), atol=5e-3, rtol=0)


@pytest.mark.parametrize("all_held", [True, False])
def test_without_labels_to_choose_by_the_usual_strength_is_taken(all_held: bool) -> None:
    features, labels = blobs(20)
    head = choose_linear(features, labels, 3, torch.full((20,), all_held))
    assert head.strength == USUAL and head.held_out is None


def test_of_many_labels_some_compare_the_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    from pretrain.probe import linear

    counts = []
    fit = linear.fit_linear
    monkeypatch.setattr(linear, "fit_linear", lambda x, *rest: (counts.append(len(x)), fit(x, *rest))[1])
    features, labels = blobs(100)
    linear.choose_linear(features, labels, 3, torch.arange(100) < 10, (1.0, 0.1), most=30)
    assert counts == [30, 30, 100]


def test_standard_features() -> None:
    features = torch.randn(500, 3) * torch.tensor([1.0, 20.0, 0.0]) + torch.tensor([3.0, -4.0, 7.0])
    scale = Standard.of(features)
    x = scale(features)
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    assert scale(torch.full((1, 3), 9.0))[0, 2] == 0  # what was constant says nothing later either


def test_one_hidden_layer_learns_what_no_line_can() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(400, 2, generator=generator) * 2 - 1
    labels = (features[:, 0] * features[:, 1] > 0).long()  # exclusive or
    straight = predict(fit_linear(features, labels, 2, 1e-4), features)
    bent = predict(fit_mlp(features, labels, 2, hidden=64, learning_rate=1e-2), features)
    assert (straight == labels).float().mean() < 0.7
    assert (bent == labels).float().mean() > 0.95


def test_the_hidden_layer_is_a_pure_function_of_its_arguments() -> None:
    features, labels = blobs(50)
    state = torch.random.get_rng_state()
    outputs = [fit_mlp(features, labels, 3, hidden=8, seed=seed)(features) for seed in (1, 1, 2)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert torch.equal(torch.random.get_rng_state(), state)
