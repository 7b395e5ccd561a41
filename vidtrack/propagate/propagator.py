"""The propagator: one frame's embedding in, its label map out; it does not know what the labels mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtrack.pointers import as_keys, read, topk
from vidtrack.propagate.memory import Kept, Memory
from vidtrack.propagate.settings import Propagation

MIN_MASS = 1 / 255  # fainter labels count as none, so that whole tiles can be skipped exactly


class Propagator:
    """Carries label maps from annotated frames to the frames after them.

    Soft label maps are fed back: each frame reads from the first annotation and the last
    `settings.context` frames (Jabri et al. 2020, arXiv 2006.14613, the usual protocol).

    Args:
        settings: see `Propagation`.
    """

    def __init__(self, settings: Propagation) -> None:
        self.settings = settings
        self.memory = Memory(settings.context)

    def annotate(self, index: int, embedding: Tensor, labels: Tensor) -> None:
        """Set the labels of a frame.

        Args:
            index: frame number, larger than all before.
            embedding: unit vectors `[h, w, C]`.
            labels: float32 `[h, w, K]`, channel 0 background; a cell without any label is all zero. If K has
                grown since the last annotation, the memory begins anew.
        """
        known = self.memory.frames()
        if known and labels.shape[-1] > known[0].labels.shape[-1]:
            # Earlier frames call the new objects background, wherever they are: they must not be asked.
            self.memory = Memory(self.settings.context)
        self.memory.annotate(Kept(index, as_keys(embedding, self.settings.radius), labels))

    def step(self, index: int, embedding: Tensor) -> Tensor:
        """Labels of the next frame, float32 `[h, w, K]`, which sum to 1 in every cell.

        Raises:
            ValueError: nothing was annotated yet, or the frame's size differs from the annotated one.
        """
        frames = self.memory.frames()
        if not frames:
            raise ValueError("annotate a frame before the first step")
        height, width, _ = embedding.shape
        if frames[0].labels.shape[:2] != embedding.shape[:2]:
            raise ValueError(f"frame {index} has another size than the annotated frame")
        settings = self.settings
        pointers = topk(
            embedding,
            [kept.keys for kept in frames],
            settings.radius,
            settings.topk,
            settings.temperature,
            active=reachable(frames, settings.radius),
        )
        channels = frames[0].labels.shape[-1]
        values = torch.cat([kept.labels.flatten(0, 1) for kept in frames])  # [M*h*w, K]
        labels = embedding.new_zeros(height * width, channels, dtype=torch.float32)
        labels[:, 0] = 1  # what no label can reach is background
        labels[pointers.cells] = normalise(read(pointers, values))
        labels = labels.view(height, width, channels)
        self.memory.add(Kept(index, as_keys(embedding, settings.radius), labels))
        return labels


def reachable(frames: list[Kept], radius: int) -> Tensor:
    """bool `[h, w]`: cells in whose window some memory frame is not purely background."""
    labelled = torch.stack([kept.labels[..., 0] < 1 for kept in frames]).any(dim=0)
    spread = F.max_pool2d(labelled[None, None].float(), 2 * radius + 1, stride=1, padding=radius)
    return spread[0, 0] > 0


def normalise(labels: Tensor) -> Tensor:
    """Objects fainter than `MIN_MASS` to zero, then each row `[n, K]` to sum 1 (no label: background)."""
    objects = labels[:, 1:]
    objects = objects * (objects >= MIN_MASS)
    background = labels[:, :1]
    total = background + objects.sum(dim=1, keepdim=True)
    background = torch.where(total > 0, background, torch.ones_like(background))
    return torch.cat([background, objects], dim=1) / torch.where(total > 0, total, torch.ones_like(total))
