"""Presets of the literature: label propagation exactly as CRW, DINO and VFS do it.

The three look alike and differ in details that move scores. Each detail is a field of `Variant`, and was read
in the authors' code:

- "crw": Jabri et al. 2020, arXiv 2006.14613; repository ajabri/videowalk, `code/test.py:test`,
  `code/utils/test_utils.py:mem_efficient_batched_affinity`, `context_index_bank`,
  `code/utils/__init__.py:MaskedAttention.make`, `code/data/vos.py:VOSDataset.make_paths`.
- "dino": Caron et al. 2021, arXiv 2104.14294; repository facebookresearch/dino,
  `eval_video_segmentation.py:label_propagation`, `restrict_neighborhood`, `eval_video_tracking_davis`.
- "vfs": Xu and Wang 2021, arXiv 2103.17263; repository xvjiarui/VFS,
  `mmaction/models/trackers/vanilla_tracker.py:VanillaTracker.forward_test`,
  `mmaction/models/common/local_attention.py:masked_attention_efficient`,
  `mmaction/models/common/affinity_utils.py:spatial_neighbor`.

How masks become label maps and back differs too, see `vidtrack.propagate.preset_maps`. The networks and the
resizing of the frames are no part of a preset. The code is ours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.errors import InputError

TILE = (8, 16)  # rows and columns of the queries that are compared at once: bounds the memory


@dataclass(frozen=True)
class Variant:
    """How one paper's code carries labels.

    Attributes:
        topk: keys that a query keeps, over all memory frames together.
        context: previous frames that are kept beside the first.
        radius: of the window in cells.
        temperature: divides the cosines.
        keep_ties: False: softmax over the `topk` largest logits. True: `exp(logit)` of every key that is at
            least as large as the `topk`-th largest, divided by their sum, so that ties all count.
        window: "circle": cells at a distance < radius; "square": |dx|, |dy| <= radius.
        first_in_window: False: the first frame is searched everywhere.
        start: how often the first frame stands among the previous frames at the beginning, beside its place
            as the first: "repeated" fills all `context` places with it, "twice" takes it once, "shorter" not.
        shrink: masks to cells: "bilinear" (no antialiasing) from the original pixels, "nearest" from the
            original pixels, or "nearest in two steps" over the working size.
        stretch: what is done to each up-sampled channel before the argmax: "none"; "min-max" to 0..1; or
            "min-max at cells", where up-sampling goes to `stride` pixels per cell only, and the ids are
            resized from there to the original pixels by nearest neighbour.
    """

    topk: int
    context: int
    radius: float
    temperature: float
    keep_ties: bool
    window: Literal["circle", "square"]
    first_in_window: bool
    start: Literal["repeated", "twice", "shorter"]
    shrink: Literal["bilinear", "nearest", "nearest in two steps"]
    stretch: Literal["none", "min-max", "min-max at cells"]


VARIANTS = {
    "crw": Variant(
        topk=10,
        context=20,
        radius=12,
        temperature=0.05,
        keep_ties=False,
        window="circle",
        first_in_window=False,
        start="repeated",
        shrink="bilinear",
        stretch="none",
    ),
    "dino": Variant(
        topk=5,
        context=7,
        radius=12,
        temperature=0.1,
        keep_ties=True,
        window="square",
        first_in_window=True,
        start="shorter",
        shrink="nearest",
        stretch="min-max at cells",
    ),
    "vfs": Variant(  # its neighbor_range=24 is a diameter: the radius is neighbor_range // 2
        topk=10,
        context=20,
        radius=12,
        temperature=0.07,
        keep_ties=False,
        window="circle",
        first_in_window=True,
        start="twice",
        shrink="nearest in two steps",
        stretch="min-max",
    ),
}


def variant(preset: str) -> Variant:
    """The settings of a preset.

    Raises:
        InputError: unknown name.
    """
    if preset not in VARIANTS:
        raise InputError(f"there is no preset {preset!r}: choose {', '.join(VARIANTS)}.")
    return VARIANTS[preset]


@dataclass
class _Frame:
    """A frame of the memory: unit vectors `[h, w, C]` and label map `[h, w, K]`, both float32."""

    embedding: Tensor
    labels: Tensor


class PresetPropagator:
    """Carries label maps from an annotated frame to the frames after it, as a paper's code does.

    Embeddings are compared in float32, in tiles: memory stays far below the full affinity. The result equals
    the papers' up to rounding. A later annotation starts anew: the papers know one annotated frame.

    Args:
        preset: "crw", "dino" or "vfs".
        topk, temperature, radius, context: replace the preset's own; None keeps it. `radius` in cells, for
            "vfs" too.

    Attributes:
        variant: the settings in use.

    Raises:
        InputError: unknown preset, or an impossible setting.
    """

    def __init__(
        self,
        preset: str,
        *,
        topk: int | None = None,
        temperature: float | None = None,
        radius: float | None = None,
        context: int | None = None,
    ) -> None:
        given = {"topk": topk, "temperature": temperature, "radius": radius, "context": context}
        changed = {key: value for key, value in given.items() if value is not None}
        for key, value in changed.items():
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"--{key} {value}: it must be greater than 0.")
        self.variant: Variant = replace(variant(preset), **changed)  # type: ignore[arg-type]
        self._first: _Frame | None = None
        self._recent: deque[_Frame] = deque(maxlen=self.variant.context)

    def annotate(self, index: int, embedding: Tensor, labels: Tensor) -> None:
        """Set the labels of a frame; everything before it is forgotten.

        Args:
            index: frame number.
            embedding: unit vectors `[h, w, C]`.
            labels: float `[h, w, K]`, see `preset_maps.to_label_map` and `preset_maps.heat_maps`.

        Raises:
            ValueError: the two differ in height or width.
        """
        if embedding.shape[:2] != labels.shape[:2]:
            raise ValueError(f"frame {index}: labels {tuple(labels.shape)} don't fit the embedding")
        first = _Frame(_unit(embedding), labels.float())
        copies = {"repeated": self.variant.context, "twice": 1, "shorter": 0}[self.variant.start]
        self._first = first
        self._recent.clear()
        self._recent.extend([first] * copies)

    def step(self, index: int, embedding: Tensor) -> Tensor:
        """Soft labels of the next frame, float32 `[h, w, K]`: weighted means of the memory's labels.

        Args:
            index: frame number.
            embedding: unit vectors `[h, w, C]`.

        Raises:
            ValueError: nothing was annotated yet, or the frame's size differs from the annotated one.
        """
        if self._first is None:
            raise ValueError("annotate a frame before the first step")
        if embedding.shape != self._first.embedding.shape:
            raise ValueError(f"frame {index} has another size than the annotated frame")
        query = _unit(embedding)
        labels = torch.empty_like(self._first.labels)
        frames = [self._first, *self._recent]
        for rows, columns in _tiles(*query.shape[:2]):
            found = self._read(query, frames, rows, columns)
            labels[rows, columns] = found.view_as(labels[rows, columns])
        self._recent.append(_Frame(query, labels))
        return labels

    def _read(self, query: Tensor, frames: list[_Frame], rows: slice, columns: slice) -> Tensor:
        """Labels `[q, K]` of one tile of queries."""
        height, width, _ = query.shape
        reach = math.ceil(self.variant.radius)
        around = (
            slice(max(0, rows.start - reach), min(height, rows.stop + reach)),
            slice(max(0, columns.start - reach), min(width, columns.stop + reach)),
        )
        outside = ~self._window((rows, columns), around).to(query.device)
        queries = query[rows, columns].flatten(0, 1)  # [q, C]
        scores, values = [], []
        for number, frame in enumerate(frames):
            windowed = number > 0 or self.variant.first_in_window
            part = around if windowed else (slice(None), slice(None))
            cosine = queries @ frame.embedding[part].flatten(0, 1).T  # [q, keys of the part]
            scores.append(cosine.masked_fill_(outside, -torch.inf) if windowed else cosine)
            values.append(frame.labels[part].flatten(0, 1))
        logits = torch.cat(scores, dim=1).div_(self.variant.temperature)
        return self._weigh(logits, torch.cat(values))

    def _weigh(self, logits: Tensor, values: Tensor) -> Tensor:
        """Weighted means `[q, K]` of values `[n, K]` by logits `[q, n]`; -inf is outside of the window."""
        count = min(self.variant.topk, logits.shape[1])
        if not self.variant.keep_ties:
            best, key = logits.topk(count, dim=1)
            return torch.einsum("qt,qtk->qk", best.softmax(dim=1), values[key])
        # A constant factor per query cancels in the division: subtracting the largest avoids infinity.
        affinity = (logits - logits.amax(dim=1, keepdim=True)).exp_()
        least = affinity.topk(count, dim=1).values.amin(dim=1, keepdim=True)
        affinity = affinity.masked_fill_(affinity < least, 0)
        return (affinity / affinity.sum(dim=1, keepdim=True)) @ values

    def _window(self, tile: tuple[slice, slice], around: tuple[slice, slice]) -> Tensor:
        """bool `[q, n]`: which cells of `around` each cell of the tile may look at."""
        y, x = (
            torch.arange(a.start, a.stop) - torch.arange(t.start, t.stop)[:, None]
            for t, a in zip(tile, around, strict=True)
        )
        y, x = y[:, None, :, None], x[None, :, None, :]  # [rows, 1, keys, 1], [1, columns, 1, keys]
        if self.variant.window == "circle":
            inside = (y**2 + x**2).float().sqrt() < self.variant.radius
        else:
            inside = (y.abs() <= self.variant.radius) & (x.abs() <= self.variant.radius)
        return inside.flatten(2, 3).flatten(0, 1)


def _unit(embedding: Tensor) -> Tensor:
    return F.normalize(embedding.float(), dim=-1)


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    for y in range(0, height, TILE[0]):
        for x in range(0, width, TILE[1]):
            yield slice(y, min(y + TILE[0], height)), slice(x, min(x + TILE[1], width))
