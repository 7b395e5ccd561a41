"""Fine-tuning: a backbone and a linear head, trained together on the labels."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.draws import Draws
from pretrain.probe.features import channels_of, evaluating, feature_maps, to_input

_STEPS = 200  # at least: with few labels an epoch is one step
_WARM_UP = 0.1  # of the training


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of it.

    Attributes:
        backbone: the trained copy.
        accuracy: share of the test images that are right.
        predicted: int64 `[M]`, their predicted classes.
        epochs: how many were done.
        stopped: the time was up before all were done.
    """

    backbone: nn.Module
    accuracy: float
    predicted: np.ndarray
    epochs: float
    stopped: bool


def finetune(
    backbone: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    classes: int,
    device: torch.device | str = "cpu",
    *,
    epochs: int = 20,
    max_minutes: float | None = None,
    batch: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    flip: bool = True,
    size: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Train all weights of a copy of the backbone, and a linear head on the mean of its last map.

    Of a ViT that is the mean of the patch tokens. AdamW with warm-up and a cosine schedule, in the fastest
    precision of the device; images are flipped and cropped out of a padded one. A pure function of its
    arguments, unless the time is up.

    Args:
        backbone: stays as it is.
        images: uint8 `[N, S, S, 3]` RGB; they go to the device batch by batch.
        labels: int64 `[N]`.
        test_images, test_labels: to measure with, not to choose with.
        classes: how many there are.
        device: where to compute.
        epochs: passes over the images; more of them where that would be fewer than 200 steps.
        max_minutes: the schedule ends after so long at the latest, at its proper low end.
        batch, learning_rate, weight_decay: of AdamW.
        flip: mirror half of the images.
        size: the images are resized to this side; None: as they are.
        seed: of the order and the augmentation.
        progress: called with the number of steps done and of all.

    Raises:
        ValueError: fewer than two images: batch norm needs two.
    """
    if len(images) < 2:
        raise ValueError("fine-tuning needs two images or more")
    device = torch.device(device)
    backbone = copy.deepcopy(backbone).to(device).train().requires_grad_()
    last, channels = list(channels_of(backbone).items())[-1]
    head = nn.utils.skip_init(nn.Linear, channels, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    head.to(device)
    batch = min(batch, len(images))
    per_epoch = len(images) // batch  # what doesn't fill a batch waits for the next epoch's order
    steps = max(epochs * per_epoch, _STEPS)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay)
    order, step, done, stopped = np.empty(0, np.int64), 0, 0.0, False
    start = time.monotonic()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)  # for dropout, if the backbone has some
        while done < 1:
            place = step % per_epoch
            if place == 0:
                order = np.random.default_rng([seed, step // per_epoch, 23]).permutation(len(images))
            rows = order[place * batch : (place + 1) * batch]
            seen = augment(images[rows], Draws(seed, step, len(rows)), flip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule(done)
            optimizer.zero_grad()
            pooled = feature_maps(backbone, to_input(seen, device, size))[last].float().mean(dim=(2, 3))
            truth = torch.from_numpy(labels[rows]).to(device)
            F.cross_entropy(head(pooled), truth).backward()
            optimizer.step()
            step += 1
            done = step / steps
            if max_minutes is not None:
                by_time = (time.monotonic() - start) / 60 / max_minutes if max_minutes > 0 else 1.0
                stopped = by_time >= 1 > done
                done = max(done, by_time)
            if progress is not None:
                progress(step, steps)
    predicted = _predict(backbone, head, last, test_images, device, size)
    accuracy = float((predicted == test_labels).mean())
    return FineTuned(backbone, accuracy, predicted, step / per_epoch, stopped)


def augment(images: np.ndarray, draws: Draws, flip: bool) -> np.ndarray:
    """Crop each image out of itself padded by an eighth of its side (repeating its edge), and flip half.

    Args:
        images: uint8 `[N, S, S, 3]`.
        draws: all that is random.
        flip: mirror at all.
    """
    side = images.shape[1]
    pad = side // 8
    corner = draws.integers(2 * pad + 1, 2).numpy() - pad  # [N, 2]: top, left
    mirrored = draws.chance(0.5).numpy() & flip
    along = np.arange(side)
    rows = (corner[:, :1] + along).clip(0, side - 1)  # [N, S]
    columns = np.where(mirrored[:, None], along[::-1], along)
    columns = (corner[:, 1:] + columns).clip(0, side - 1)
    which = np.arange(len(images))[:, None, None]
    cropped: np.ndarray = images[which, rows[:, :, None], columns[:, None, :]]
    return cropped


def _schedule(done: float) -> float:
    """Share of the learning rate after a share of the training: linear warm-up, then half a cosine."""
    if done < _WARM_UP:
        return (done + 0.01) / (_WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _predict(
    backbone: nn.Module,
    head: nn.Module,
    last: str,
    images: np.ndarray,
    device: torch.device,
    size: int | None,
    batch: int = 256,
) -> np.ndarray:
    parts: list[Tensor] = []
    with evaluating(backbone, device):
        for start in range(0, len(images), batch):
            maps = feature_maps(backbone, to_input(images[start : start + batch], device, size))
            parts.append(head(maps[last].float().mean(dim=(2, 3))).argmax(dim=1).cpu())
    return torch.cat(parts).numpy()
