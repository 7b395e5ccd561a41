"""The 8-bit trunk against the same network in float32."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.backbones import build
from pretrain.errors import InputError
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.embedder import NetworkEmbedder, fold_batch_norm
from vidtrack.model.int8 import Int8ResNet, _max_pool, _pad, has_int8

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no 8-bit dot products")


def natural(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random colours with some texture."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 6, 8))).float()
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).numpy()
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


@needs_int8
@pytest.mark.parametrize(
    ("arch", "padding"), [("resnet18", "zeros"), ("resnet50", "replicate"), ("resnet18", "reflect")]
)
def test_features_are_those_of_the_float_network(arch: str, padding: Any) -> None:
    torch.manual_seed(0)
    trunk = build(arch, "layer3", ("layer3",), padding=padding).eval()
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
    folded = fold_batch_norm(trunk)
    image = natural(96, 136)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        exact = folded(x)["layer3"]
    found = Int8ResNet(folded, [image, natural(96, 136, 1)])(image)
    assert found.shape == exact.shape
    assert found.dtype == torch.bfloat16
    cosine = F.cosine_similarity(found.float(), exact, dim=1)
    assert float(cosine.mean()) > 0.995
    assert float(cosine.min()) > 0.98  # also at the border of the image
    assert 0.97 < float(found.float().norm() / exact.norm()) < 1.03


@needs_int8
@pytest.mark.parametrize("size", [(37, 50), (64, 64), (200, 90)])
def test_the_embedder_takes_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = natural(*size)
    exact = NetworkEmbedder(VideoColorizer(Model(zero_init=False)), CPU, "float32")
    torch.manual_seed(0)
    quick = NetworkEmbedder(VideoColorizer(Model(zero_init=False)), CPU, "int8")
    a, b = exact(image, 64), quick(image, 64)
    assert a.shape == b.shape and b.is_contiguous()
    assert quick.precision == "int8"
    assert float((a * b.float()).sum(dim=-1).min()) > 0.98
    torch.testing.assert_close(b.float().norm(dim=-1), torch.ones(b.shape[:2]), atol=0.01, rtol=0)


@pytest.mark.parametrize("size", [(2, 2), (4, 10), (16, 6)])
def test_max_pool_equals_torchs(size: tuple[int, int]) -> None:
    x = torch.randint(0, 256, (1, 5, *size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    expected = F.max_pool2d(x.float(), 3, stride=2, padding=1).to(torch.uint8)
    assert torch.equal(_max_pool(x), expected)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("size", [(2, 2), (5, 3)])
def test_padding_equals_torchs(mode: str, size: tuple[int, int]) -> None:
    x = torch.randint(0, 256, (1, 4, *size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    found = _pad(x, mode, [1, 1])
    assert torch.equal(found, F.pad(x.float(), (1, 1, 1, 1), mode=mode).to(torch.uint8))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_precisions_are_checked() -> None:
    with pytest.raises(InputError, match="precision 'half' is unknown: choose"):
        NetworkEmbedder(VideoColorizer(Model()), CPU, "half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="int8 needs"):
        NetworkEmbedder(VideoColorizer(Model(input="l")), CPU, "int8")
    assert NetworkEmbedder(VideoColorizer(Model(input="l")), CPU).precision in ("bfloat16", "float32")
