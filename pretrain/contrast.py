"""What SimCLR and MoCo share: projection heads, and the picture of which views found each other."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.pictures import Picture, sheet

Head = Literal["none", "linear", "mlp"]
SMALL = 64  # pixels: up to this size of images there is no blur by default


def projection_head(kind: Head, width: int, projection: int, norm: bool = False) -> nn.Module:
    """What stands between the pooled features and the loss, and is thrown away after pretraining.

    Args:
        kind: "none": features go to the loss as they are; "linear"; "mlp": linear, ReLU, linear, with as many
            hidden units as features (Chen et al. 2020, arXiv 2002.05709).
        width: channels of the features.
        projection: dimensions of the result; of no meaning without a head.
        norm: batch norm before the ReLU.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, projection)
    hidden: list[nn.Module] = [nn.Linear(width, width, bias=not norm)]
    if norm:
        hidden.append(nn.BatchNorm1d(width))
    return nn.Sequential(*hidden, nn.ReLU(inplace=True), nn.Linear(width, projection))


def blurred(size: int, blur: float | None) -> dict[str, float]:
    """The chance of blur that a user set, as a change of `pretrain.views.Views`.

    If it is None, images up to 64 pixels are not blurred, as a blur of up to two pixels leaves little of them
    (for CIFAR-10 Chen et al. use none), and larger ones as the paper has it: nothing is changed.
    """
    if blur is not None:
        return {"blur_p": blur}
    return {"blur_p": 0.0} if size <= SMALL else {}


def accuracy(scores: Tensor, positive: Tensor) -> Tensor:
    """Share of the queries whose positive key has the highest of the scores `[n, N]`."""
    return (scores.argmax(dim=1) == positive).float().mean()


def matches(first: Tensor, second: Tensor, queries: Tensor, keys: Tensor) -> Picture:
    """Which of the second views is taken for the same image as each first view.

    Args:
        first, second: two views of each image, `[N, 3, H, W]` in 0..1.
        queries, keys: their embeddings `[N, D]`.
    """
    scores = F.normalize(queries.float(), dim=1) @ F.normalize(keys.float(), dim=1).T  # [N, N]
    found = scores.argmax(dim=1)
    right = int((found == torch.arange(len(found), device=found.device)).sum())
    triples = torch.stack([first, second, second[found]], dim=1).flatten(0, 1)
    caption = (
        "In threes: a view, the other view of the same image, and the one that the method took for it; "
        f"{right} of {len(found)} right."
    )
    return Picture("Which view is of the same image?", sheet(triples, 9), caption)
