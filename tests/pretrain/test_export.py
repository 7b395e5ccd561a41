"""Exported backbones load strictly into torchvision and timm, and give the same features there."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretrain.backbones import ResNet, save_backbone
from pretrain.catalogue import build_any
from pretrain.errors import InputError
from pretrain.export import LIBRARIES, Export, export, write
from pretrain.inputs import IMAGENET_MEAN, IMAGENET_STD
from pretrain.pair import Pair


def trained(backbone: Any) -> Any:
    """With running statistics, norms and biases that are not those of a new network."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
                module.num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
    return backbone.eval()


def as_typed(exported: Export, path: Path) -> nn.Module:
    """The model that the printed Python makes."""
    import safetensors.torch
    import timm
    import torchvision

    known: dict[str, Any] = {
        "torch": torch,
        "torchvision": torchvision,
        "timm": timm,
        "safetensors": safetensors,
    }
    exec(exported.load(path), known)
    return known["model"].eval()


def normalised(images: Tensor, exported: Export) -> Tensor:
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (exported.mean, exported.std))
    return (images - mean) / std


@pytest.mark.parametrize(
    ("arch", "library", "suffix"),
    [
        ("resnet18", "torchvision", ".pth"),
        ("resnet18", "timm", ".safetensors"),
        ("resnet50", "torchvision", ".safetensors"),
        ("resnet50", "timm", ".pth"),
    ],
)
@torch.no_grad()
def test_resnets(arch: str, library: str, suffix: str, tmp_path: Path) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    backbone = trained(ResNet(arch))
    save_backbone(backbone, tmp_path / "backbone.safetensors")
    exported = export(build_any(str(tmp_path)), library, "run")
    path = tmp_path / f"weights{suffix}"
    write(path, exported)
    model, images = as_typed(exported, path), torch.rand(2, 3, 32, 64)
    pooled = backbone(images)["layer4"].mean(dim=(2, 3))
    torch.testing.assert_close(model(normalised(images, exported)), pooled, rtol=1e-4, atol=1e-4)
    assert int(model.state_dict()["layer4.1.bn2.num_batches_tracked"]) == 7
    assert exported.mean == pytest.approx(IMAGENET_MEAN) and exported.std == pytest.approx(IMAGENET_STD)


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_and_shapes_of_resnet34(library: str) -> None:
    known: dict[str, Any] = {"torch": torch, library: pytest.importorskip(library)}
    exported = export(ResNet("resnet34"), library, "run")
    with torch.device("meta"):  # no numbers are drawn
        exec(exported.make, known)
    expected = {key: value.shape for key, value in known["model"].state_dict().items()}
    assert {key: value.shape for key, value in exported.state.items()} == expected


@pytest.mark.parametrize(("patch", "size"), [(16, 64), (4, 32), (16, 224)])
@torch.no_grad()
def test_transformers(patch: int, size: int, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from pretrain.vit import ViT

    backbone = trained(ViT("vit_tiny", patch, size))
    save_backbone(backbone, tmp_path / "backbone.safetensors")
    exported = export(build_any(str(tmp_path)), "timm", "run")
    path = tmp_path / "weights.pth"
    write(path, exported)
    model: Any = as_typed(exported, path)
    images = torch.rand(2, 3, size, size)
    tokens = model.forward_features(normalised(images, exported))
    maps = list(backbone(images).values())[-1]
    torch.testing.assert_close(tokens[:, 1:], maps.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(normalised(images, exported)), tokens[:, 0])


def test_files_hold_plain_tensors_of_their_own(tmp_path: Path) -> None:
    backbone = ResNet().to(memory_format=torch.channels_last)
    exported = export(backbone, "torchvision", "run")
    for name in ("a.pth", "a.pt"):
        write(tmp_path / name, exported)
        state = torch.load(tmp_path / name, weights_only=True)
        assert type(state) is dict and all(type(value) is Tensor for value in state.values())
        assert all(value.is_contiguous() and not value.requires_grad for value in state.values())
    nn.init.zeros_(backbone.bn1.weight)
    assert exported.state["bn1.weight"].all()


def test_safetensors_are_readable_as_any_file(tmp_path: Path) -> None:
    exported = export(ResNet(), "torchvision", "run")
    write(tmp_path / "a.pth", exported)
    write(tmp_path / "a.safetensors", exported)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "a.pth").stat().st_mode


def test_loading_is_valid_python_for_any_path() -> None:
    for library in LIBRARIES:
        exported = export(ResNet(), library, "run")
        for name in ("it's.pth", 'a "b".safetensors', "C:\\new.pth"):
            assert ast.parse(exported.load(Path(name)))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (lambda: ResNet(stem_kind="small"), "begins with the small stem"),
        (lambda: ResNet(input="l"), "sees lightness, not RGB"),
        (lambda: ResNet(input="ab"), "sees the colours ab, not RGB"),
        (lambda: ResNet(input="lab"), "sees Lab, not RGB"),
        (lambda: ResNet(padding="replicate"), "repeats the image beyond its edge"),
        (lambda: ResNet(share=0.5), "has 0.5 of the usual channels"),
        (lambda: ResNet(last="layer3"), "ends at layer3"),
        (lambda: Pair(), "two half-networks"),
    ],
)
def test_refused(backbone: Any, sentence: str, library: str) -> None:
    with pytest.raises(InputError, match=sentence) as told:
        export(backbone(), library, "RUN")
    assert str(told.value).startswith("RUN ") and library in str(told.value)


def test_refused_transformers() -> None:
    pytest.importorskip("timm")
    from pretrain.vit import TimmFeatures, ViT

    with pytest.raises(InputError, match="use --to timm"):
        export(ViT("vit_tiny", 16, 32), "torchvision", "RUN")
    with pytest.raises(InputError, match="sees lightness"):
        export(ViT("vit_tiny", 16, 32, "l"), "timm", "RUN")
    with pytest.raises(InputError, match="timm's own"):
        export(TimmFeatures("resnet18", pretrained=False), "timm", "timm:resnet18")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--to keras is unknown: choose torchvision or timm"):
        export(ResNet(), "keras", "RUN")
    with pytest.raises(InputError, match=r"weights.onnx: give a file name that ends in .pth"):
        write(tmp_path / "weights.onnx", export(ResNet(), "timm", "RUN"))
    assert not list(tmp_path.iterdir())
