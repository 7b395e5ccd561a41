"""The propagator: one frame's embedding in, its label map out; it does not know what the labels mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidtrack.pointers import CANDIDATES, Pointers, as_keys, bijective, read, topk
from vidtrack.propagate.following import Following
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.propagate.motion import Motion, reachable, spread
from vidtrack.propagate.preference import preference
from vidtrack.propagate.settings import Propagation

MIN_MASS = 1 / 255  # fainter labels count as none, so that whole tiles can be skipped exactly

Finish = Callable[[Tensor], Tensor]
Labelled = Callable[[Tensor], Tensor]


@dataclass
class Carried:
    """What one step says of a frame.

    Attributes:
        labels: label map float32 `[fine * h, fine * w, K]`, see `Propagator`.
        similarity: float32 `[h, w]`: cosine of each cell and its best match in memory; 1 where nothing was
            asked because no label is in reach.
        confidence: float32 `[K - 1]`, 0..1: how far each object can be trusted, where that is known; it is
            not of two passes that were joined.
    """

    labels: Tensor
    similarity: Tensor
    confidence: Tensor | None = None


class Propagator:
    """Carries label maps from annotated frames to the frames after them, or before them in a backward pass.

    Soft label maps are fed back: each frame reads from the annotation and from frames between it and now
    (Jabri et al. 2020, arXiv 2006.14613, the usual protocol).

    Args:
        settings: see `Propagation`.
        finish: what is done to the rows `[n, K]` that a step has read before they are kept.
        labelled: where a label map `[H, W, K]` says anything, bool `[H, W]`: cells out of reach of all such
            places are not computed: 0, and `fill` in channel 0.
        fill: 1 where channel 0 is the background.
        fine: labels are `fine` times as fine as embeddings, along rows and columns: a pointer copies the
            `fine x fine` labels of a cell as they lie in it, and the search costs no more.
        bijective, annotated: see `Propagation`; the latter is for labels whose channel 0 is the background.
    """

    def __init__(
        self,
        settings: Propagation,
        finish: Finish | None = None,
        labelled: Labelled | None = None,
        fill: float = 1.0,
        fine: int = 1,
        bijective: float = 0,
        annotated: float = 0,
    ) -> None:
        self.settings, self.fill, self.fine = settings, fill, fine
        self.bijective, self.annotated = bijective, annotated
        self.memory = Memory(settings.context, Following(fine, settings.radius) if annotated else None)
        self.motion = Motion(settings, first=int(fill))
        self.finish = finish or normalise
        self.labelled = labelled or has_object

    def annotate(self, index: int, embedding: Tensor, labels: Tensor) -> None:
        """Set the labels of a frame; what came before is forgotten.

        Args:
            index: frame number.
            embedding: unit vectors `[h, w, C]`.
            labels: float32 `[fine * h, fine * w, K]`; a place without any label is all zero.
        """
        self.motion.restart(labels)
        self.memory.annotate(self._keep(index, embedding, labels))

    def look_ahead(self, index: int, embedding: Tensor, labels: Tensor) -> None:
        """The labels of the annotated frame that this pass will come to next; arguments as `annotate`."""
        self.memory.look_ahead(self._keep(index, embedding, labels))

    def step(self, index: int, embedding: Tensor, region: Tensor | None = None) -> Carried:
        """Labels of the next frame, which is remembered with them; see `look`."""
        carried = self.look(index, embedding, region)
        self.remember(index, embedding, carried.labels, region)
        return carried

    def remember(self, index: int, embedding: Tensor, labels: Tensor, region: Tensor | None = None) -> None:
        """Make a frame and its labels part of the memory; see `look`."""
        self.memory.add(self._keep(index, embedding, labels, region))
        self.motion.add(labels)

    def look(self, index: int, embedding: Tensor, region: Tensor | None = None) -> Carried:
        """Labels of a frame by what is remembered.

        Args:
            index: frame number.
            embedding: unit vectors `[h, w, C]`.
            region: bool `[h, w]`, cells that have an embedding; None: all. See `region`.

        Raises:
            ValueError: nothing was annotated yet, or the frame's size differs from the annotated one.
        """
        frames = self.memory.frames()
        if not frames:
            raise ValueError("annotate a frame before the first step")
        height, width, _ = embedding.shape
        if frames[0].patches.shape[:2] != embedding.shape[:2]:
            raise ValueError(f"frame {index} has another size than the annotated frame")
        active = self._active(frames)
        pointers = self._point(embedding, frames, active if region is None else active & region)
        newest = next((n for n, kept in enumerate(frames) if kept is self.memory.recent[-1]), -1)
        self.motion.follow(pointers, newest, (height, width))
        values = torch.cat([kept.patches.flatten(0, 1) for kept in frames])  # [M*h*w, fine*fine*K]
        patches = values.new_zeros(height * width, self.fine**2, values.shape[-1] // self.fine**2)
        patches[..., 0] = self.fill
        rows = self.finish(read(pointers, values).view(-1, patches.shape[-1]))  # [n*fine*fine, K]
        patches[pointers.cells] = rows.view(-1, *patches.shape[1:])
        labels = from_patches(patches.view(height, width, -1), self.fine)
        similarity = torch.ones(height * width, device=embedding.device)
        similarity[pointers.cells] = pointers.score[:, 0].clamp(min=-1)
        return Carried(labels, similarity.view(height, width))

    def _point(self, embedding: Tensor, frames: list[Kept], active: Tensor) -> Pointers:
        keys, k, temperature = [kept.keys for kept in frames], self.settings.topk, self.settings.temperature
        if not self.bijective and not self.annotated:
            return topk(embedding, keys, self.settings.radius, k, temperature, active=active)
        radius, wider = self.settings.radius, CANDIDATES * k
        candidates = topk(embedding, keys, radius, wider, temperature, active=active)
        bonus = preference(self.memory, self.fine, self.annotated) if self.annotated else None
        return bijective(candidates, self.bijective, k, temperature, bonus)

    def region(self, later: int = 0) -> Tensor | None:
        """bool `[h, w]`: cells of a frame whose embedding will be used; None: all.

        These are the cells that may hold a label, and those that are remembered around the labels, wherever
        these are found if the motion goes on as it was.

        Args:
            later: 0 for the next frame, 1 for the one after it...
        """
        margin = self.motion.margin()
        if margin is None or not self.memory.recent or self.motion.lost():
            return None
        reach = margin + (1 + later) * max(1, self.motion.step())
        return spread(self.memory.recent[-1].labelled, reach)

    def _active(self, frames: list[Kept]) -> Tensor:
        """bool `[h, w]`: cells of the next frame that may hold a label.

        An object is near its last place; one that was lost can be wherever a label was.
        """
        lost = self.motion.lost()
        return reachable(frames if lost else [self.memory.recent[-1]], self.motion.reach())

    def _keep(self, index: int, embedding: Tensor, labels: Tensor, region: Tensor | None = None) -> Kept:
        labelled = to_patches(self.labelled(labels)[..., None], self.fine).any(dim=-1)
        margin = self.motion.margin()
        valid = region if margin is None else spread(labelled, margin)
        if valid is not None and region is not None:
            valid = valid & region
        keys = as_keys(embedding, self.settings.radius, valid)
        return Kept(index, keys, to_patches(labels, self.fine), labelled)


def to_patches(labels: Tensor, fine: int) -> Tensor:
    """A label map `[fine * h, fine * w, K]` by cells: `[h, w, fine * fine * K]`."""
    rows, columns, channels = labels.shape
    cut = labels.view(rows // fine, fine, columns // fine, fine, channels)
    return cut.transpose(1, 2).reshape(rows // fine, columns // fine, -1)


def from_patches(patches: Tensor, fine: int) -> Tensor:
    """The inverse of `to_patches`."""
    rows, columns, _ = patches.shape
    cut = patches.view(rows, columns, fine, fine, -1)
    return cut.transpose(1, 2).reshape(fine * rows, fine * columns, -1)


def has_object(labels: Tensor) -> Tensor:
    """bool `[h, w]`: cells `[h, w, K]` that are not purely background (channel 0)."""
    return labels[..., 0] < 1


def drop_faint(rows: Tensor) -> Tensor:
    """Values fainter than `MIN_MASS` to zero, for labels that don't share a cell among them."""
    return rows * (rows >= MIN_MASS)


def normalise(labels: Tensor) -> Tensor:
    """Objects fainter than `MIN_MASS` to zero, then each row `[n, K]` to sum 1 (no label: background)."""
    objects = labels[:, 1:]
    objects = drop_faint(objects)
    background = labels[:, :1]
    total = background + objects.sum(dim=1, keepdim=True)
    background = torch.where(total > 0, background, torch.ones_like(background))
    return torch.cat([background, objects], dim=1) / torch.where(total > 0, total, torch.ones_like(total))
