"""The one contrastive formulation: which of the keys belongs to the query?"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pretrain.errors import InputError

Score = Literal["cosine", "dot"]


def info_nce(
    query: Tensor,
    keys: Tensor,
    positive: Tensor,
    score: Score = "cosine",
    temperature: float = 0.1,
    excluded: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748): an N-way softmax cross-entropy over scores.

    Of the N keys of a query, one is positive and all others are negative. SimCLR, MoCo and the anchors of
    the tracker differ only in where queries and keys come from.

    Args:
        query: float `[n, D]`.
        keys: float `[N, D]`, the same for all queries.
        positive: int64 `[n]`: the key that belongs to each query.
        score: "cosine" of query and key, or their "dot" product.
        temperature: the scores are divided by it.
        excluded: bool `[n, N]`: keys that don't take part, such as the query itself among the keys.

    Returns:
        The mean loss, a scalar; and the scores `[n, N]` divided by the temperature, -inf where excluded.

    Raises:
        InputError: an unknown score, or a temperature that isn't positive.
    """
    if score not in ("cosine", "dot"):
        raise InputError(f"score={score}: choose cosine or dot.")
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: give a number above 0.")
    if score == "cosine":
        query, keys = F.normalize(query, dim=-1), F.normalize(keys, dim=-1)
    logits = query @ keys.T / temperature  # [n, N]
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    return F.cross_entropy(logits, positive), logits
