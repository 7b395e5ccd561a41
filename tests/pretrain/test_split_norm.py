"""Batch norm of parts against one batch norm for each part."""

import copy

import pytest
import torch
from torch import nn

from pretrain.backbones import ResNet
from pretrain.distributed import sync_batch_norm
from pretrain.split_norm import SplitBatchNorm2d, split_batch_norm


@pytest.mark.parametrize(("count", "splits"), [(8, 4), (8, 1), (7, 3), (6, 8), (2, 8), (1, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_each_part_is_normalised_by_itself(
    count: int, splits: int, layout: torch.memory_format, momentum: float | None
) -> None:
    torch.manual_seed(0)
    norm = SplitBatchNorm2d(5, splits, momentum=momentum)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(norm.state_dict())
    x = (3 * torch.randn(count, 5, 3, 4) + 1).contiguous(memory_format=layout).requires_grad_()
    y = norm(x)
    parts = x.tensor_split(max(1, min(splits, count // 2)))
    expected, means, variances = [], [], []
    for part in parts:
        one = copy.deepcopy(plain)
        expected.append(one(part))
        means.append(part.detach().mean(dim=(0, 2, 3)))
        variances.append(part.detach().transpose(0, 1).flatten(1).var(dim=1))
    assert all(len(part) > 1 for part in parts) or count == 1
    assert torch.allclose(y, torch.cat(expected), atol=1e-5)
    assert y.is_contiguous(memory_format=layout)
    weight = torch.randn_like(y)
    found = torch.autograd.grad((weight * y).sum(), [x, norm.weight, norm.bias], retain_graph=True)
    wanted = torch.autograd.grad((weight * torch.cat(expected)).sum(), [x])
    assert torch.allclose(found[0], wanted[0], atol=1e-4)
    assert all(bool(gradient.any()) for gradient in found[1:])
    rate = 0.1 if momentum else 1.0
    assert torch.allclose(norm.running_mean, rate * torch.stack(means).mean(dim=0), atol=1e-6)
    assert torch.allclose(norm.running_var, 1 - rate + rate * torch.stack(variances).mean(dim=0), atol=1e-4)
    assert int(norm.num_batches_tracked) == 1


def test_in_evaluation_it_is_an_ordinary_batch_norm() -> None:
    norm, plain = SplitBatchNorm2d(4, 2), nn.BatchNorm2d(4)
    norm(torch.randn(6, 4, 3, 3))
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(3, 4, 2, 2)
    assert torch.equal(norm.eval()(x), plain.eval()(x))
    assert int(norm.num_batches_tracked) == 1


def test_without_running_statistics() -> None:
    norm = SplitBatchNorm2d(3, 2, track_running_stats=False)
    x = torch.randn(4, 3, 5, 5)
    assert torch.allclose(norm(x)[2:], nn.BatchNorm2d(3)(x[2:]), atol=1e-6)
    assert torch.allclose(norm.eval()(x), nn.BatchNorm2d(3)(x), atol=1e-6)


def test_converting_keeps_parameters_and_names() -> None:
    backbone = ResNet(share=0.125)
    before = dict(backbone.state_dict(keep_vars=True))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    converted = split_batch_norm(backbone.eval(), 4)
    made = [module for module in converted.modules() if isinstance(module, SplitBatchNorm2d)]
    assert converted is backbone and len(made) == norms
    assert all(norm.splits == 4 and not norm.training for norm in made)
    after = converted.state_dict(keep_vars=True)
    assert list(after) == list(before) and all(after[key] is before[key] for key in before)
    # Processes have parts of their own: they are not synchronised.
    sync_batch_norm(converted)
    assert sum(isinstance(module, SplitBatchNorm2d) for module in converted.modules()) == norms


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast(dtype: torch.dtype) -> None:
    norm = SplitBatchNorm2d(3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(torch.randn(4, 3, 5, 5).to(dtype))
    assert y.dtype == dtype and norm.running_mean.dtype == torch.float32
    assert bool(norm.running_mean.any())
