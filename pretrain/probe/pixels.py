"""The linear pixel probe: can a linear classifier tell the class of each pixel from frozen feature maps?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.errors import InputError
from pretrain.probe.confusion import confusion
from pretrain.probe.features import (
    channels_of,
    choose_layers,
    evaluating,
    feature_maps,
    require_finite,
    to_input,
)
from pretrain.probe.linear import Linear, Standard, choose_linear

_HELD = 1e9  # bytes of features

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class PixelLayer:
    """What a layer's features are worth.

    Attributes:
        layer: its name.
        miou: mean IoU over the classes that the truth of the test images has, 0..1.
        accuracy: share of the test pixels that are right.
        iou: IoU of each of these classes.
        strength: L2 of the classifier.
        held_out: its accuracy on the pixels of training images held out to choose `strength`; None if none
            were.
        confusion: int64 `[K, K]`: rows are true, columns predicted classes.
        predicted: predicted class of each pixel, uint8 `[H, W]`, of the test images in `shown`.
    """

    layer: str
    miou: float
    accuracy: float
    iou: dict[int, float]
    strength: float
    held_out: float | None
    confusion: np.ndarray
    predicted: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class PixelResult:
    """A backbone's result.

    Attributes:
        classes: the K classes of the masks, ascending.
        layers: from shallow to deep.
        pixels: labelled pixels that the classifiers were trained on.
        shown: numbers of the test images whose prediction is kept.
    """

    classes: tuple[int, ...]
    layers: list[PixelLayer]
    pixels: int
    shown: list[int] = field(default_factory=list)

    @property
    def best(self) -> PixelLayer:
        """The layer that is best on the held-out training pixels; the last if none were held out."""
        known = [one for one in self.layers if one.held_out is not None]
        return max(known, key=lambda one: one.held_out or 0.0) if known else self.layers[-1]


def pixel_probe(
    backbone: nn.Module,
    train_images: Sequence[np.ndarray],
    train_masks: Sequence[np.ndarray],
    test_images: Sequence[np.ndarray],
    test_masks: Sequence[np.ndarray],
    void: int | None = 255,
    layers: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    *,
    pixels: int = 100_000,
    size: int | None = None,
    pictures: int = 3,
    seed: int = 0,
    progress: Report | None = None,
) -> PixelResult:
    """A linear softmax classifier on the feature of each pixel, for each layer.

    The feature of a pixel is the bilinear interpolation of the map between the centres of its cells. The
    classifier is trained on a random subset of the labelled pixels of all training images. In testing, the
    classifier runs on the cells and its logits are interpolated, which gives the same as the other way round.

    Args:
        backbone: see `pretrain.backbones`. It is moved to the device.
        train_images: uint8 `[H, W, 3]` RGB, of any sizes; read one by one, so the sequence may load them.
        train_masks: uint8 `[H, W]`, the class of each pixel.
        test_images, test_masks: the same, to measure with.
        void: value of pixels without a class.
        layers: names; None: all.
        device: where to compute.
        pixels: to train on, at most.
        size: larger images are shrunk to this short side before the backbone sees them; masks are not.
        pictures: test images whose prediction is kept, spread evenly.
        seed: of the choice of pixels.
        progress: called with what is done, and the number of images done and of all.

    Raises:
        InputError: unknown layer, masks of another size than their images, fewer than two classes to train
            on, or nothing to test.
        ValueError: as many masks as images are needed.
    """
    if len(train_images) != len(train_masks) or len(test_images) != len(test_masks):
        raise ValueError("each image needs a mask")
    device = torch.device(device)
    names = choose_layers(backbone, layers)
    counts = [_histogram(mask, void) for mask in train_masks]
    tested = sum((_histogram(mask, void) for mask in test_masks), np.zeros(256, np.int64))
    known, classes = np.flatnonzero(sum(counts, np.zeros(256, np.int64))), np.flatnonzero(tested)
    if len(known) < 2:
        raise InputError("the training masks have fewer than two classes: a pixel probe needs two or more.")
    if not len(classes):
        raise InputError("the test masks have no labelled pixel: give images with masks to test on.")
    classes = np.union1d(known, classes)
    chosen = _choose([int(count.sum()) for count in counts], pixels, seed)
    report = progress or (lambda what, done, total: None)
    fitted: dict[str, tuple[Standard, Linear]] = {}
    for group in _groups({name: channels_of(backbone)[name] for name in names}, _total(chosen)):
        probe = _Probe(backbone, device, size, group)
        found: dict[str, list[Tensor]] = {name: [] for name in group}
        labels: list[np.ndarray] = []
        for number, (image, mask) in enumerate(_pairs(train_images, train_masks, "training")):
            labelled = np.flatnonzero(mask.ravel() != void) if void is not None else np.arange(mask.size)
            picked = labelled[chosen[number]]
            if len(picked):
                labels.append(mask.ravel()[picked])
                for name, values in probe.at(image, picked).items():
                    found[name].append(values.cpu())
            report("training pixels", number + 1, len(train_images))
        truth = torch.from_numpy(np.searchsorted(classes, np.concatenate(labels))).to(device)
        held = _last_tenth([len(part) for part in labels]).to(device)
        for name in group:
            features = torch.cat(found.pop(name)).to(device)
            require_finite(name, features)
            scale = Standard.of(features)
            fitted[name] = scale, choose_linear(scale(features), truth, len(classes), held)
            report("classifiers", len(fitted), len(names))

    probe = _Probe(backbone, device, size, names)
    shown = np.unique(np.linspace(0, len(test_images) - 1, min(pictures, len(test_images))).round())
    total = {name: np.zeros((len(classes),) * 2, np.int64) for name in names}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, (image, mask) in enumerate(_pairs(test_images, test_masks, "test")):
        counted = mask != void if void is not None else np.ones(mask.shape, bool)
        places = np.searchsorted(classes, mask[counted])
        for name, predicted in probe.classify(image, fitted).items():
            total[name] += confusion(places, predicted[counted], len(classes))
            if number in shown:
                kept[name].append(classes[predicted].astype(np.uint8))
        report("test images", number + 1, len(test_images))
    results = [_score(name, fitted[name][1], total[name], classes, kept[name]) for name in names]
    return PixelResult(tuple(classes.tolist()), results, _total(chosen), shown.astype(int).tolist())


class _Probe:
    """Features and classes of the pixels of one image."""

    def __init__(self, backbone: nn.Module, device: torch.device, size: int | None, names: list[str]) -> None:
        self.backbone, self.device, self.size, self.names = backbone, device, size, names
        strides: Any = backbone.strides
        self.multiple = math.lcm(*strides.values())

    def at(self, image: np.ndarray, places: np.ndarray) -> dict[str, Tensor]:
        """Features `[n, C]` of pixels, given as flat indices into the image."""
        height, width = image.shape[:2]
        rows, columns = torch.from_numpy(places // width), torch.from_numpy(places % width)
        maps, extent = self._maps(image)
        grid = _grid(rows, columns, (height, width), extent).to(self.device)
        return {name: _sample(maps[name], grid[None, None])[0, :, 0].T for name in self.names}

    def classify(
        self, image: np.ndarray, fitted: dict[str, tuple[Standard, Linear]]
    ) -> dict[str, np.ndarray]:
        """The most probable class of each pixel, int64 `[H, W]`, by layer."""
        height, width = image.shape[:2]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        maps, extent = self._maps(image)
        grid = _grid(rows, columns, (height, width), extent).to(self.device)
        result = {}
        for name, (scale, head) in fitted.items():
            cells = maps[name].permute(0, 2, 3, 1)  # [1, h, w, C]
            upsampled = _sample(head(scale(cells)).permute(0, 3, 1, 2), grid[None])
            result[name] = upsampled[0].argmax(dim=0).cpu().numpy()
        return result

    def _maps(self, image: np.ndarray) -> tuple[dict[str, Tensor], tuple[float, float]]:
        """Maps of the image, padded to the strides; and which share of their height and width it fills."""
        with evaluating(self.backbone, self.device):
            x = to_input(image[None], self.device)
            short = min(x.shape[-2:])
            if self.size is not None and short > self.size:
                target = [max(1, round(side * self.size / short)) for side in x.shape[-2:]]
                x = F.interpolate(x, target, mode="bilinear", antialias=True)
            height, width = x.shape[-2:]
            bottom, right = -height % self.multiple, -width % self.multiple
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
            maps = {name: values.float() for name, values in feature_maps(self.backbone, x).items()}
        return maps, (height / (height + bottom), width / (width + right))


def _grid(rows: Tensor, columns: Tensor, size: tuple[int, int], extent: tuple[float, float]) -> Tensor:
    """Centres of pixels as `grid_sample` wants them, -1..1 over the whole map: float `[..., 2]` (x, y)."""
    y = (rows.double() + 0.5) / size[0] * extent[0]
    x = (columns.double() + 0.5) / size[1] * extent[1]
    return (torch.stack([x, y], dim=-1) * 2 - 1).float()


def _sample(maps: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _histogram(mask: np.ndarray, void: int | None) -> np.ndarray:
    counts = np.bincount(mask.ravel(), minlength=256)
    if void is not None:
        counts[void] = 0
    return counts


def _choose(counts: list[int], most: int, seed: int) -> list[np.ndarray]:
    """Which of its labelled pixels each image gives: a random subset of those of all images."""
    total = sum(counts)
    order = np.random.default_rng([seed, 29])
    chosen = np.arange(total) if total <= most else np.sort(order.choice(total, most, False, shuffle=False))
    ends = np.cumsum(counts)
    edges = np.searchsorted(chosen, ends)
    starts = np.concatenate([[0], edges[:-1]])
    firsts = ends - counts
    return [chosen[a:b] - first for a, b, first in zip(starts, edges, firsts, strict=True)]


def _total(chosen: list[np.ndarray]) -> int:
    return sum(len(part) for part in chosen)


def _groups(channels: dict[str, int], pixels: int) -> list[list[str]]:
    """Layers whose features are held at once: as many as stay below a gigabyte, at least one."""
    groups: list[list[str]] = []
    held = 0
    for name, count in channels.items():
        held += 4 * count * pixels
        if not groups or held > _HELD:
            groups.append([])
            held = 4 * count * pixels
        groups[-1].append(name)
    return groups


def _last_tenth(counts: list[int]) -> Tensor:
    """Bool over all pixels: those of the last tenth of the images, at least one, if there are two or more.

    Whole images, as neighbouring pixels are too alike to tell whether a classifier generalises.
    """
    images = len(counts)
    first = images - max(1, round(images / 10)) if images > 1 else 1
    return torch.from_numpy(np.repeat(np.arange(images) >= first, counts))


def _pairs(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], which: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in range(len(images)):
        image, mask = images[number], masks[number]
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"the mask of {which} image {number} has {mask.shape[1]}x{mask.shape[0]} pixels, its image "
                f"{image.shape[1]}x{image.shape[0]}: both need one size."
            )
        yield image, mask


def _score(
    name: str, head: Linear, matrix: np.ndarray, classes: np.ndarray, kept: list[np.ndarray]
) -> PixelLayer:
    right = np.diag(matrix).astype(float)
    union = matrix.sum(0) + matrix.sum(1) - right
    there = matrix.sum(1) > 0
    iou = {int(c): float(right[i] / union[i]) for i, c in enumerate(classes) if there[i]}
    return PixelLayer(
        layer=name,
        miou=float(np.mean(list(iou.values()))),
        accuracy=float(right.sum() / matrix.sum()),
        iou=iou,
        strength=head.strength,
        held_out=head.held_out,
        confusion=matrix,
        predicted=kept,
    )
