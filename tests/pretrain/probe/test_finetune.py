"""Fine-tuning: it learns, leaves the backbone alone, and ends in time; its augmentation is crop and flip."""

import numpy as np
import pytest
import torch

from pretrain.draws import Draws
from pretrain.probe import finetune as module
from pretrain.probe.finetune import augment, finetune

from .tiny import Tiny, coloured


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS", 30)


def tuned(backbone: torch.nn.Module, count: int = 24, noise: int = 60, **options: object) -> module.FineTuned:
    train, test = coloured(count, noise=noise), coloured(30, seed=1, noise=noise)
    assert train.labels is not None and test.labels is not None
    arguments = train.images, train.labels, test.images, test.labels, 3
    return finetune(backbone, *arguments, learning_rate=2e-2, epochs=1, **options)  # type: ignore[arg-type]


def test_it_learns_and_the_backbone_stays() -> None:
    backbone, told = Tiny().eval(), []
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    result = tuned(backbone, progress=lambda *values: told.append(values))
    assert result.accuracy > 0.9 and result.predicted.shape == (30,) and not result.stopped
    assert result.accuracy == (result.predicted == coloured(30, seed=1).labels).mean()
    assert told[-1] == (30, 30) and result.epochs == 30
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not backbone.training
    after = result.backbone.state_dict()
    assert any(not torch.equal(after[key], value) for key, value in before.items())


def test_it_is_a_pure_function_of_its_arguments() -> None:
    # Pictures in which hardly anything can be seen, and batches smaller than all of them.
    results = [tuned(Tiny(), noise=600, batch=5, seed=seed).predicted.tolist() for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_all_weights_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a frozen backbone of zeros nothing could be told apart."""
    backbone = Tiny().requires_grad_(False)
    torch.nn.init.zeros_(backbone.second.weight)
    torch.nn.init.constant_(backbone.second.bias, 0.1)
    assert tuned(backbone).accuracy > 0.6


def test_it_ends_in_time() -> None:
    result = tuned(Tiny(), max_minutes=0.0)
    assert result.stopped and result.epochs == 1


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="two images"):
        tuned(Tiny(), count=1)


@pytest.mark.parametrize("flip", [True, False])
def test_crops_and_flips_one_by_one(flip: bool) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype(np.uint8)
    seen = augment(images, Draws(3, 5, 40), flip)
    ways = set()
    for image, got in zip(images, seen, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if np.array_equal(padded[top : top + 16, left : left + 16][:, :: -1 if mirrored else 1], got)
        ]
        assert len(found) == 1
        ways.add(found[0])
    assert {mirrored for *_, mirrored in ways} == ({True, False} if flip else {False})
    assert any(top != left for top, left, _ in ways)
    assert {top for top, *_ in ways} == {left for _, left, _ in ways} == {0, 1, 2, 3, 4}
