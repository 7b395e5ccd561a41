"""The contrastive loss against its formula, one query at a time."""

import math

import pytest
import torch
from torch import Tensor

from pretrain.errors import InputError
from pretrain.losses import info_nce


def slow(query: Tensor, keys: Tensor, positive: Tensor, cosine: bool, t: float, left_out: Tensor) -> float:
    losses = []
    for n, q in enumerate(query.tolist()):
        scores = []
        for k in keys.tolist():
            dot = sum(a * b for a, b in zip(q, k, strict=True))
            scores.append(dot / (math.hypot(*q) * math.hypot(*k) if cosine else 1) / t)
        total = sum(math.exp(s) for m, s in enumerate(scores) if not left_out[n, m])
        losses.append(-math.log(math.exp(scores[int(positive[n])]) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("exclude", [False, True])
def test_it_is_the_formula(score: str, exclude: bool) -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(5, 7, dtype=torch.float64), torch.randn(9, 7, dtype=torch.float64)
    positive = torch.tensor([3, 0, 8, 3, 5])
    left_out = torch.zeros(5, 9, dtype=torch.bool)
    if exclude:
        left_out[0, 1] = left_out[2, 2] = left_out[2, 0] = True
    loss, logits = info_nce(query, keys, positive, score, 0.3, left_out if exclude else None)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(slow(query, keys, positive, score == "cosine", 0.3, left_out))
    assert logits.shape == (5, 9) and bool(logits.isneginf().equal(left_out))


def test_equal_scores_cost_the_logarithm_of_their_number() -> None:
    loss, _ = info_nce(torch.ones(4, 3), torch.ones(6, 3), torch.arange(4))
    assert float(loss) == pytest.approx(math.log(6))


def test_a_gradient_pulls_to_the_positive_and_pushes_from_the_others() -> None:
    query = torch.tensor([[1.0, 0.2]], requires_grad=True)
    keys = torch.tensor([[0.0, 1.0], [1.0, -1.0]])
    info_nce(query, keys, torch.tensor([0]), "dot", 1.0)[0].backward()
    assert query.grad is not None
    step = -query.grad[0]
    assert float(step @ keys[0]) > 0 > float(step @ keys[1])


@pytest.mark.parametrize(
    ("words", "sentence"), [({"score": "l2"}, "score=l2"), ({"temperature": 0.0}, "temperature=0")]
)
def test_wrong_settings(words: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        info_nce(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0]), **words)  # type: ignore[arg-type]
