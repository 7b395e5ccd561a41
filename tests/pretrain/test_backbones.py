"""Backbones: shapes, standard checkpoints of every wrapping, files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from pretrain.backbones import ResNet, build, save_backbone
from pretrain.catalogue import build_any
from pretrain.errors import InputError
from vidtrack.model.trunk import cells_of, make_trunk


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
        ("model_state_dict", ""),
        ("resnet18_parameters", ""),
        ("state_dict", "momentum_encoder."),
    ],
)
def test_foreign_checkpoints(tmp_path: Path, wrap: str | None, prefix: str) -> None:
    state = torchvision.models.resnet18().state_dict()
    stored: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    if "encoder_q" in prefix:
        stored |= {f"module.encoder_k.{key}": value + 1 for key, value in state.items()}
    if "momentum" in prefix:
        stored |= {f"online.{key}": value for key, value in state.items()}
        stored |= {f"{prefix}{key}": value + 1 for key, value in state.items()}
    torch.save({wrap: stored, "epoch": 3} if wrap else stored, tmp_path / "net.pth")
    net = build(str(tmp_path / "net.pth"), "layer3", ("layer3",))
    assert torch.equal(net.conv1.weight, state["conv1.weight"])


def test_the_teacher_is_what_dino_evaluates(tmp_path: Path) -> None:
    states = [torchvision.models.resnet18().state_dict() for _ in range(2)]
    torch.save({"student": states[0], "teacher": states[1], "epoch": 3}, tmp_path / "net.pth")
    assert torch.equal(build(str(tmp_path / "net.pth")).conv1.weight, states[1]["conv1.weight"])


def test_layers_by_number_and_the_small_stem(tmp_path: Path) -> None:
    whole = torchvision.models.resnet18()
    torch.save(
        {f"backbone.{key}": value for key, value in nn.Sequential(*whole.children()).state_dict().items()},
        tmp_path / "a.pth",
    )
    net = build(str(tmp_path / "a.pth"))
    assert torch.equal(net.layer4[1].bn2.running_mean, whole.layer4[1].bn2.running_mean)
    assert torch.equal(net.layer1[0].conv1.weight, whole.layer1[0].conv1.weight)
    whole.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    torch.save(whole.state_dict(), tmp_path / "b.pth")
    small = build_any(str(tmp_path / "b.pth"))
    assert small.stem_kind == "small" and torch.equal(small.conv1.weight, whole.conv1.weight)
    assert cells_of(make_trunk(str(tmp_path / "b.pth")))[0] == 8


@pytest.mark.parametrize("last", ["layer3", "layer4"])
@pytest.mark.parametrize(("arch", "extra"), [("resnet101", "layer3.6"), ("se", "layer1.0.se")])
def test_networks_that_contain_a_resnet_are_no_resnet(
    tmp_path: Path, arch: str, extra: str, last: Any
) -> None:
    state = torchvision.models.resnet50().state_dict()
    state |= {f"{extra}.conv1.weight": torch.zeros(3, 3, 1, 1), "fc2.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(InputError, match=rf"no standard resnet50: .*{extra}.*timm:NAME@"):
        build(str(tmp_path / "net.pth"), last)
    del state[f"{extra}.conv1.weight"]
    torch.save(state, tmp_path / "net.pth")
    assert build(str(tmp_path / "net.pth"), last)


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
