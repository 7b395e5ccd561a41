"""All together: which scores there are, and that nothing is chosen on the test images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.probe import ProbeSettings, probe
from pretrain.probe import finetune as tuning
from pretrain.probe import linear as heads
from pretrain.probe.features import extract
from pretrain.probe.knn import knn

from .tiny import Tiny, coloured


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_MLP_STEPS", 100)


QUICK = ProbeSettings(shares=(0.1, 1.0), hidden=16, embedding=False)


def test_every_score_is_there() -> None:
    train, test = coloured(60), coloured(30, seed=1)
    told: list[str] = []
    result = probe(Tiny(), train, test, QUICK, progress=lambda what, done, total: told.append(what))
    kinds = [(one.layer, one.head, one.share, one.labels) for one in result.scores]
    assert kinds == [
        (layer, *kind)
        for layer in ("a", "b")
        for kind in [
            ("knn", 1.0, 60),
            ("linear", 0.1, 6),
            ("mlp", 0.1, 6),
            ("linear", 1.0, 60),
            ("mlp", 1.0, 60),
        ]
    ]
    assert all(one.accuracy > 0.6 for one in result.scores)
    assert (result.train, result.test, result.classes) == (60, 30, ("c0", "c1", "c2"))
    assert result.chance == pytest.approx(1 / 3)
    chosen = result.score("linear", 1.0)
    assert chosen is not None and chosen.layer == result.layer and chosen.held_out is not None
    assert np.trace(result.confusion) / 30 == pytest.approx(chosen.accuracy)
    assert result.confusion.sum(1).tolist() == [10, 10, 10]
    assert result.score("linear", 0.5) is None
    assert {"training images", "test images", "a knn", "b mlp"} <= set(told)
    assert len(result.embedded) == 0


def test_the_neighbours_are_those_of_the_features() -> None:
    train, test = coloured(40, noise=700), coloured(19, seed=1, noise=700)
    assert train.labels is not None
    result = probe(Tiny(), train, test, QUICK.model_copy(update={"k": 3, "heads": ()}))
    x, y = extract(Tiny(), train)["b"], extract(Tiny(), test)["b"]
    found = knn(x, torch.from_numpy(train.labels), y, 3, k=3).numpy()
    score = result.score("knn", 1.0, "b")
    assert score is not None and score.accuracy == (found == test.labels).mean()
    assert result.layer == "b"  # nothing chose a layer: the last
    assert result.chance == pytest.approx(7 / 19)  # both sets have one more of the first class
    assert result.confusion.sum(1).tolist() == [7, 6, 6]
    assert result.confusion.sum(0).tolist() == np.bincount(found, minlength=3).tolist() != [7, 6, 6]


def test_the_test_labels_choose_nothing() -> None:
    """With shuffled test labels the same layer and strengths are chosen."""
    train, test = coloured(60, noise=120), coloured(30, seed=1, noise=120)
    assert test.labels is not None
    wrong = replace(test, labels=np.random.default_rng(0).permutation(test.labels))
    results = [probe(Tiny(), train, one, QUICK) for one in (test, wrong)]
    chosen = [[(s.layer, s.head, s.share, s.strength, s.held_out) for s in r.scores] for r in results]
    assert chosen[0] == chosen[1] and results[0].layer == results[1].layer
    assert results[0].scores != results[1].scores


def test_the_layer_is_the_best_on_held_out_labels() -> None:
    class Blind(Tiny):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            maps = super().forward(images)
            return {"a": maps["a"], "b": maps["b"] * 0 + 1}

    result = probe(Blind(), coloured(60), coloured(30, seed=1), QUICK)
    assert result.layer == "a"
    last = result.score("linear", 1.0, "b")
    assert last is not None and last.accuracy == pytest.approx(1 / 3)


def test_layers_embedding_and_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_STEPS", 2)
    settings = ProbeSettings(
        layers="last", shares=(1.0,), heads=("linear",), finetune=True, epochs=1, embedding=True
    )
    result = probe(Tiny(), coloured(20), coloured(12, seed=1), settings)
    assert [(one.head, one.layer) for one in result.scores] == [
        ("knn", "b"),
        ("linear", "b"),
        ("finetune", None),
    ]
    assert result.score("finetune", 1.0) is result.scores[-1]
    assert [one.epochs for one in result.scores] == [None, None, 2]  # two steps at least, of all images each
    assert result.places.shape == (12, 2) and result.labels.tolist() == [n % 3 for n in range(12)]
    again = probe(Tiny(), coloured(20), coloured(12, seed=1), settings)
    assert again.scores == result.scores and np.array_equal(again.places, result.places)
    named = probe(Tiny(), coloured(30), coloured(12), QUICK.model_copy(update={"layers": ("a",)}))
    assert {one.layer for one in named.scores} == {"a"}


def test_bad_input() -> None:
    train, test = coloured(30), coloured(9)
    bare = ImageSet(train.images, None, (), train.names)
    with pytest.raises(InputError, match="the training images have no labels: put the images of each class"):
        probe(Tiny(), bare, test)
    one = replace(train, labels=np.ones(30, np.int64))
    with pytest.raises(InputError, match=r"only one class \(c1\): a probe needs two or more"):
        probe(Tiny(), one, test)
    with pytest.raises(InputError, match="1 % of 30 images is less than one"):
        probe(Tiny(), train, test)
    with pytest.raises(InputError, match="no layer 'z': choose from a, b"):
        probe(Tiny(), train, test, QUICK.model_copy(update={"layers": ("z",)}))
    with pytest.raises(InputError, match="no share"):
        probe(Tiny(), train, test, QUICK.model_copy(update={"shares": ()}))
    with pytest.raises(ValueError, match="different classes"):
        probe(Tiny(), train, coloured(9, classes=2), QUICK)
