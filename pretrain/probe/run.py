"""All that images with classes say of a backbone: neighbours, classifiers, few labels, fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.probe.confusion import confusion
from pretrain.probe.embedding import embed
from pretrain.probe.features import channels_of, choose_layers, extract
from pretrain.probe.few import few, held_out
from pretrain.probe.finetune import finetune
from pretrain.probe.knn import knn
from pretrain.probe.linear import Standard, choose_linear, fit_mlp, predict
from pretrain.probe.settings import ProbeSettings

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        head: "knn", "linear", "mlp" or "finetune".
        layer: whose features; None: all weights were trained.
        share: of the labels that were trained on, 0..1.
        labels: how many these are.
        accuracy: share of the test images that are right.
        held_out: accuracy on training labels held out, by which the strength of L2 was chosen; None where
            nothing was.
        strength: of L2; None where there is none to choose.
        stopped: fine-tuning ended early, as its time was up.
        epochs: of fine-tuning, passes over its images that were made.
    """

    head: str
    layer: str | None
    share: float
    labels: int
    accuracy: float
    held_out: float | None = None
    strength: float | None = None
    stopped: bool = False
    epochs: float | None = None


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a backbone is worth on a set of images.

    Attributes:
        classes: K names.
        train, test: numbers of images.
        chance: accuracy of always saying the class that the training set has most.
        layer: the layer that the held-out labels chose at the largest share, without a look at the test
            images; the last where they could not.
        scores: by layer from shallow to deep, then fine-tuning.
        confusion: int64 `[K, K]` of the linear classifier (else the first kind of score) on `layer` with the
            largest share of the labels; rows are true, columns predicted classes.
        embedded: int64 `[n]`, which test images have a place in the plane.
        places: float32 `[n, 2]`, where.
        labels: int64 `[n]`, their classes.
        seconds: of all of it.
    """

    classes: tuple[str, ...]
    train: int
    test: int
    chance: float
    layer: str
    scores: list[Score]
    confusion: np.ndarray
    embedded: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    seconds: float = 0.0
    settings: ProbeSettings = field(default_factory=ProbeSettings)

    def score(self, head: str, share: float, layer: str | None = None) -> Score | None:
        """The score of a kind; without `layer` that of the chosen layer, or of all weights."""
        wanted = None if head == "finetune" else layer or self.layer
        for one in self.scores:
            if (one.head, one.layer, one.share) == (head, wanted, share):
                return one
        return None


def probe(
    backbone: nn.Module,
    train: ImageSet,
    test: ImageSet,
    settings: ProbeSettings | None = None,
    device: torch.device | str = "cpu",
    progress: Report | None = None,
) -> ProbeResult:
    """Judge a backbone by its frozen features, and by fine-tuning if the settings say so.

    Per layer: weighted nearest neighbours with all labels; logistic regression and one hidden layer with each
    share of them. Features are standardised by the training images, which needs no labels.

    Args:
        backbone: see `pretrain.backbones`. It is moved to the device; its weights stay as they are.
        train, test: with labels, and the same classes.
        settings: see `ProbeSettings`.
        device: where to compute.
        progress: called with what is done, and the number of steps done and of all.

    Raises:
        InputError: no labels, one class only, too few images for a share, or an unknown layer.
        ValueError: the two sets have different classes.
    """
    settings = settings or ProbeSettings()
    begin, device = time.monotonic(), torch.device(device)
    report = progress or (lambda what, done, total: None)
    labels, truth = require_labels(train, "training"), require_labels(test, "test", least=1)
    if train.classes != test.classes:
        raise ValueError("the training and the test set have different classes")
    if not settings.shares:
        raise InputError("no share of the labels is given: give some, such as 0.01,0.1,1.")
    names = _wanted(backbone, settings)
    classes, shares = len(train.classes), sorted(set(settings.shares))
    subsets = {share: few(labels, share, settings.seed) for share in shares}

    def features(images: ImageSet, what: str) -> dict[str, Tensor]:
        return extract(
            backbone,
            images,
            device,
            settings.batch,
            names,
            settings.pool,
            progress=partial(report, what),
        )

    train_features, test_features = features(train, "training images"), features(test, "test images")
    scores: list[Score] = []
    predicted: dict[tuple[str, str | None, float], np.ndarray] = {}
    kept: dict[str, Tensor] = {}
    steps = len(names) * (1 + len(shares) * len(settings.heads))
    for name in names:
        x, y = train_features.pop(name).to(device), test_features.pop(name).to(device)
        for one, found in _judge_layer(name, x, y, labels, truth, classes, subsets, settings):
            scores.append(one)
            predicted[one.head, one.layer, one.share] = found
            report(f"{name} {one.head}", len(scores), steps)
        kept[name] = Standard.of(x)(y).cpu()
    layer = _choose(scores, names, shares[-1])
    if settings.finetune:
        for share, rows in subsets.items():
            tuned = finetune(
                backbone,
                train.images[rows],
                labels[rows],
                test.images,
                truth,
                classes,
                device,
                epochs=settings.epochs,
                max_minutes=settings.max_minutes,
                seed=settings.seed,
                progress=partial(report, f"fine-tuning {share:g}"),
            )
            passes = round(tuned.epochs, 2)
            one = Score(
                "finetune", None, share, len(rows), tuned.accuracy, stopped=tuned.stopped, epochs=passes
            )
            scores.append(one)
    head, share = ("linear" if "linear" in settings.heads else "knn"), shares[-1]
    shown = predicted[head, layer, share if head == "linear" else 1.0]
    embedded, places = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    if settings.embedding:
        report("embedding", 0, 1)
        embedded, places = embed(kept[layer].numpy())
        report("embedding", 1, 1)
    return ProbeResult(
        classes=train.classes,
        train=len(train),
        test=len(test),
        chance=float((truth == np.bincount(labels).argmax()).mean()),
        layer=layer,
        scores=scores,
        confusion=confusion(truth, shown, classes),
        embedded=embedded,
        places=places,
        labels=truth[embedded],
        seconds=time.monotonic() - begin,
        settings=settings,
    )


def require_labels(images: ImageSet, what: str, least: int = 2) -> np.ndarray:
    """The labels of a set of images.

    Raises:
        InputError: it has none, or of fewer than `least` classes.
    """
    if images.labels is None:
        raise InputError(
            f"the {what} images have no labels: put the images of each class into a folder of its own."
        )
    found = np.unique(images.labels)
    if len(found) < least:
        only = f" ({images.classes[int(found[0])]})" if len(found) else ""
        raise InputError(f"the {what} images have only one class{only}: a probe needs two or more.")
    return images.labels


def _wanted(backbone: nn.Module, settings: ProbeSettings) -> list[str]:
    if settings.layers == "all":
        return choose_layers(backbone, None)
    if settings.layers == "last":
        return list(channels_of(backbone))[-1:]
    return choose_layers(backbone, settings.layers)


def _judge_layer(
    layer: str,
    x: Tensor,
    y: Tensor,
    labels: np.ndarray,
    truth: np.ndarray,
    classes: int,
    subsets: dict[float, np.ndarray],
    settings: ProbeSettings,
) -> Any:
    """Yields each score of a layer with the predicted classes of the test images, int64 `[M]`."""

    def scored(head: str, share: float, count: int, found: Tensor, **more: Any) -> tuple[Score, np.ndarray]:
        predicted = found.cpu().numpy()
        return Score(head, layer, share, count, float((predicted == truth).mean()), **more), predicted

    device = x.device
    every = torch.from_numpy(labels).to(device)
    yield scored("knn", 1.0, len(labels), knn(x, every, y, classes, settings.k, settings.temperature))
    scale = Standard.of(x)
    x, y = scale(x), scale(y)
    for share, rows in subsets.items():
        places = torch.from_numpy(rows).to(device)
        some, some_labels = x[places], every[places]
        if "linear" in settings.heads:
            held = torch.from_numpy(held_out(labels[rows], settings.seed)).to(device)
            head = choose_linear(some, some_labels, classes, held)
            found = predict(head, y)
            more = {"held_out": head.held_out, "strength": head.strength}
            yield scored("linear", share, len(rows), found, **more)
        if "mlp" in settings.heads:
            model = fit_mlp(some, some_labels, classes, settings.hidden, seed=settings.seed)
            yield scored("mlp", share, len(rows), predict(model, y))


def _choose(scores: list[Score], names: list[str], share: float) -> str:
    """The layer whose linear classifier is best on the held-out labels; of equals the deepest."""
    best, highest = names[-1], -1.0
    for one in scores:
        if (one.head, one.share) != ("linear", share) or one.held_out is None or one.layer is None:
            continue
        if one.held_out >= highest:
            best, highest = one.layer, one.held_out
    return best
