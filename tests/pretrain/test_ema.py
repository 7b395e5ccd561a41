"""The averaged weights against their formula written out."""

import pytest
import torch
from torch import nn

from pretrain.ema import EmaModel


def model() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return made.to(memory_format=torch.channels_last)


def change(module: nn.Module) -> None:
    """A step of an optimizer, and of the statistics of batch norms."""
    with torch.no_grad():
        module(torch.randn(2, 3, 5, 5))
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("decay", [0.0, 0.25, 0.9])
def test_it_follows_its_formula(decay: float) -> None:
    learned = model()
    average = EmaModel(learned, decay)
    expected = {key: value.clone() for key, value in learned.state_dict().items()}
    for step in range(12):
        change(learned)
        average.update_parameters(learned)
        kept = 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))
        for key, value in learned.state_dict().items():
            if value.is_floating_point():
                expected[key] = kept * expected[key] + (1 - kept) * value
            else:
                expected[key] = value.clone()  # a counter
        torch.testing.assert_close(average.module.state_dict(), expected)
    if decay == 0:
        found = average.module.state_dict()
        assert all(torch.equal(found[key], value) for key, value in learned.state_dict().items())


def test_it_learns_nothing_itself() -> None:
    learned = model()
    average = EmaModel(learned, 0.5).train()
    assert not any(part.training for part in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    before = {key: value.clone() for key, value in average.state_dict().items()}
    average(torch.randn(2, 3, 5, 5))
    assert all(torch.equal(before[key], value) for key, value in average.state_dict().items())
    assert average.module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert learned[0].weight.data_ptr() != average.module[0].weight.data_ptr()
    assert all(parameter.requires_grad for parameter in learned.parameters()) and learned.training
