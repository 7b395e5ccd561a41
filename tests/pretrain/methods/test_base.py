"""What every pretext task must have."""

import pytest
from torch import nn

from pretrain.methods import METHODS, method_class
from pretrain.methods.base import Method


def test_a_method_without_views_or_loss_is_none() -> None:
    class Idle(Method):
        pass

    with pytest.raises(TypeError, match="loss"):
        Idle(nn.Identity(), 8)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_all(name: str) -> None:
    kind = method_class(name)
    assert issubclass(kind, Method) and not kind.__abstractmethods__
