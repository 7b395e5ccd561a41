"""Backbones: shapes, standard checkpoints of every wrapping, files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from pretrain.backbones import ResNet, build, save_backbone
from pretrain.errors import InputError


def test_layer3_keeps_stride_8() -> None:
    net = build("resnet18", "layer3", ("layer3",)).eval()
    maps = net(torch.rand(1, 3, 64, 104))
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "layer1": (64, 16, 26),
        "layer2": (128, 8, 13),
        "layer3": (256, 8, 13),
    }
    assert net.strides == {"layer1": 4, "layer2": 8, "layer3": 8}
    assert sum(p.numel() for p in net.parameters()) == 2_782_784


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_whole_trunk_equals_torchvision(arch: str, tmp_path: Path) -> None:
    theirs = getattr(torchvision.models, arch)().eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    ours = build(str(tmp_path / "net.pth")).eval()
    image = torch.rand(1, 3, 64, 64)
    normal = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(image)
    pooled = ours(image)["layer4"].mean(dim=(2, 3))
    torch.testing.assert_close(theirs.fc(pooled), theirs(normal), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("zero_init", [False, True])
@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_a_seed_gives_the_weights_that_torchvision_gives(arch: str, zero_init: bool) -> None:
    torch.manual_seed(3)
    theirs = getattr(torchvision.models, arch)(zero_init_residual=zero_init).state_dict()
    torch.manual_seed(3)
    ours = ResNet(arch, zero_init=zero_init).state_dict()
    assert list(ours) == [key for key in theirs if not key.startswith("fc.")]
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (None, ""),
        ("state_dict", "module."),
        ("model", "backbone."),
        ("state_dict", "module.encoder_q."),
        ("teacher", "module.backbone."),
    ],
)
def test_foreign_checkpoints(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    state = torchvision.models.resnet18().state_dict()
    stored: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    if "encoder_q" in prefix:
        stored |= {f"module.encoder_k.{key}": value + 1 for key, value in state.items()}
    torch.save({wrap: stored, "epoch": 3} if wrap else stored, tmp_path / "net.pth")
    net = build(str(tmp_path / "net.pth"), "layer3", ("layer3",))
    assert torch.equal(net.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize("kind", ["rgb", "l"])
def test_a_backbone_file_returns_the_same_network(tmp_path: Path, kind: Any) -> None:
    net = build("resnet18", "layer3", ("layer3",), kind).eval()
    save_backbone(net, tmp_path / "b.safetensors")
    again = build(str(tmp_path / "b.safetensors"), "layer3", ("layer3",)).eval()
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(net(image)["layer3"], again(image)["layer3"])


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
def test_an_even_picture_says_nothing_of_position(padding: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("resnet18", "layer3", ("layer3",), padding=padding).eval()
    even = torch.tensor([0.2, 0.7, 0.4]).view(1, 3, 1, 1).expand(1, 3, 72, 96)
    cells = net(even)["layer3"].flatten(2)[0]  # [256, 108]
    torch.testing.assert_close(cells, cells[:, :1].expand_as(cells), rtol=0, atol=1e-5)
    save_backbone(net, tmp_path / "b.safetensors")
    again = build(str(tmp_path / "b.safetensors"), "layer3", ("layer3",)).eval()
    assert again.padding == padding
    image = torch.rand(1, 3, 32, 48)
    assert torch.equal(again(image)["layer3"], net(image)["layer3"])
    zeros = build(str(tmp_path / "b.safetensors"), "layer3", ("layer3",), padding="zeros").eval()
    cells = zeros(even)["layer3"].flatten(2)[0]
    assert float((cells - cells[:, :1]).detach().abs().max()) > 0.1  # what the other two avoid


def test_gray_input_ignores_colour() -> None:
    net = build("resnet18", "layer3", ("layer3",), "l").eval()
    image = torch.full((1, 3, 32, 32), 0.5)
    assert net.convert(image).shape == (1, 1, 32, 32)
    assert abs(float(net.convert(image).mean()) - 0.5339) < 1e-3  # L of mid gray is 53.39


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04N."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_garbage_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="net"):
        build(str(path))


def test_other_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resnet18"):
        build("resnet19")
    torch.save({"w": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a checkpoint of a ResNet"):
        build(str(tmp_path / "w.pth"))
    state = torchvision.models.resnet18().state_dict()
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match="1 tensors missing"):
        build(str(tmp_path / "w.pth"))
