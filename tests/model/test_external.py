"""Backbones from elsewhere as trackers: timm, random weights, foreign checkpoints. All offline."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pretrain.backbones import build
from pretrain.errors import InputError
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.external import ExternalEmbedder, load_external, load_foreign
from vidtrack.model.tracker_file import load_tracker, save_tracker

timm = pytest.importorskip("timm", reason="needs timm: pip install 'vidtrack[timm]'")
from vidtrack.model.timm_backbone import TimmBackbone  # noqa: E402 (imports timm)

CPU = torch.device("cpu")
VIT = "vit_tiny_patch16_224"
CNN = "resnet10t"


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def exact(network: Any) -> ExternalEmbedder:
    return ExternalEmbedder(network, CPU, "float32")


def normal(image: np.ndarray, model: nn.Module) -> Tensor:
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))  # type: ignore[index]
    return (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        (VIT, 16, 192),
        ("vit_small_patch14_reg4_dinov2", 14, 384),  # registers
        ("vit_small_patch16_dinov3", 16, 384),  # rotary positions
        ("deit_tiny_distilled_patch16_224", 16, 192),  # two prefix tokens
        (CNN, 8, 256),
        ("resnet26d", 8, 1024),  # pools in its shortcuts
        ("convnext_atto", 8, 80),
        ("mobilenetv3_small_050", 8, 16),
        ("xcit_nano_12_p8_224", 8, 128),
        ("swin_tiny_patch4_window7_224", 8, 192),
        ("resnet18", 8, 256),  # the project's own
    ],
)
def test_unit_vectors_for_any_size(name: str, stride: int, channels: int) -> None:
    embedder = load_external(f"random:{name}", CPU)
    assert (embedder.stride, embedder.channels) == (stride, channels)
    for height, width, size in ((100, 150, None), (90, 61, 60)):
        found = embedder(picture(height, width), size)
        scale = 1 if size is None else size / min(height, width)
        grid = -(-round(height * scale) // stride), -(-round(width * scale) // stride)
        assert found.shape == (*grid, channels)
        assert found.dtype == embedder.dtype
        torch.testing.assert_close(found.float().norm(dim=-1), torch.ones(grid), atol=0.01, rtol=0)
        assert float(found.float().std(dim=(0, 1)).max()) > 1e-3  # cells differ


@pytest.mark.parametrize("name", [CNN, "convnext_atto", "mobilenetv3_small_050", "eva02_tiny_patch14_224"])
def test_what_lies_behind_the_map_is_cut_off(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VideoColorizer(Model(backbone=f"random:{name}", head=(16, 8)))
    trunk: Any = network.backbone
    whole = timm.create_model(name, num_classes=0)
    assert trunk.cut and trunk.cut == {f"model.{key}" for key in whole.state_dict()} - set(trunk.state_dict())
    image = torch.rand(2, 3, 2 * trunk.stride, 3 * trunk.stride)
    network(image).square().sum().backward()
    assert [key for key, p in trunk.named_parameters() if p.grad is None] == []
    path = tmp_path / "tracker.safetensors"
    save_tracker(path, network, {}, {})
    with safe_open(path, "pt") as file:  # a file of before it was cut off
        metadata, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert not {key.removeprefix("backbone.") for key in state} & trunk.cut
    rest = {f"backbone.{key}": whole.state_dict()[key.removeprefix("model.")] for key in trunk.cut}
    save_file(state | rest, tmp_path / "old.safetensors", metadata=metadata)
    loaded = load_tracker(tmp_path / "old.safetensors").model.state_dict()
    assert loaded.keys() == network.state_dict().keys()
    torch.testing.assert_close(
        loaded["head.0.weight"], network.state_dict()["head.0.weight"], atol=0.01, rtol=0.01
    )


def test_a_transformer_at_its_own_size_gives_its_patch_tokens() -> None:
    network = TimmBackbone(VIT)
    image = picture(224, 224)
    model = timm.create_model(VIT, num_classes=0)
    model.load_state_dict(network.model.state_dict())
    with torch.no_grad():
        tokens = model.eval().forward_features(normal(image, model))[0, 1:]  # without the class token
    expected = F.normalize(tokens, dim=-1).view(14, 14, -1)
    torch.testing.assert_close(exact(network)(image, None), expected, atol=1e-4, rtol=0)


def test_position_embeddings_are_interpolated() -> None:
    network = TimmBackbone(VIT)
    nn.init.normal_(network.model.pos_embed, std=1.0)  # type: ignore[arg-type]
    image = picture(96, 160)
    state = network.model.state_dict()
    grid = state["pos_embed"][:, 1:].view(1, 14, 14, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, (6, 10), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], resized], dim=1)
    fixed = timm.create_model(VIT, num_classes=0, img_size=(96, 160))
    fixed.load_state_dict(state)
    with torch.no_grad():
        tokens = fixed.eval().forward_features(normal(image, fixed))[0, 1:]
    expected = F.normalize(tokens, dim=-1).view(6, 10, -1)
    torch.testing.assert_close(exact(network)(image, None), expected, atol=1e-3, rtol=0)


def test_normalisation_is_the_networks_own() -> None:
    name = "vit_base_patch32_clip_224"
    config = timm.get_pretrained_cfg(name)
    assert config.mean != timm.data.IMAGENET_DEFAULT_MEAN
    with torch.device("meta"):  # the network itself is not needed
        model = timm.create_model(name, num_classes=0)
    assert model.pretrained_cfg["mean"] == config.mean
    network = TimmBackbone("vit_tiny_patch16_224.augreg_in21k")  # mean and std 0.5
    assert network.mean.flatten().tolist() == [0.5] * 3
    assert network.std.flatten().tolist() == [0.5] * 3


def test_a_shift_by_a_cell_moves_the_features() -> None:
    embedder = exact(TimmBackbone(CNN))
    image = picture(200, 280)
    here, moved = embedder(image[:, :-8], None), embedder(image[:, 8:], None)
    inside = slice(9, -9)
    torch.testing.assert_close(here[inside, 10:-8], moved[inside, 9:-9], atol=1e-4, rtol=0)
    assert float((here[inside, inside] - moved[inside, inside]).abs().max()) > 0.01


def test_a_resnet_of_timm_is_our_layer3(tmp_path: Path) -> None:
    network = TimmBackbone("resnet18")
    torch.save(network.model.state_dict(), tmp_path / "net.pth")
    trunk = build(str(tmp_path / "net.pth"), "layer3", ("layer3",)).eval()
    image = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), trunk(image)["layer3"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [VIT, "convnext_atto"])
@pytest.mark.parametrize(
    ("wrap", "prefix", "suffix"),
    [
        (None, "", ".safetensors"),
        (None, "", ".pth"),
        ("state_dict", "module.encoder_q.", ".pth.tar"),
        ("teacher", "module.backbone.", ".pt"),
    ],
)
def test_local_checkpoints(tmp_path: Path, name: str, wrap: str | None, prefix: str, suffix: str) -> None:
    whole = timm.create_model(name, num_classes=0).state_dict()
    state = {prefix + key: value for key, value in whole.items()}
    state["head.last_layer.weight"] = torch.zeros(3)  # what comes beside the backbone
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, str(path))
    else:
        torch.save({wrap: state, "student": {}, "epoch": 3} if wrap else state, path)
    again = load_external(f"timm:{name}@{path}", CPU)
    for key, value in again.network.model.state_dict().items():  # type: ignore[union-attr]
        torch.testing.assert_close(value, whole[key].to(again.dtype))


def test_a_checkpoint_of_another_resolution_fits(tmp_path: Path) -> None:
    other = timm.create_model(VIT, num_classes=0, img_size=128)
    save_file(other.state_dict(), str(tmp_path / "net.safetensors"))
    network = TimmBackbone(VIT, path=tmp_path / "net.safetensors")
    assert network.model.pos_embed.shape[1] == 1 + 14 * 14  # type: ignore[index]


def test_random_weights_are_the_same_each_time_and_leave_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    for name in (CNN, "resnet18"):
        torch.manual_seed(5)
        one, other = (load_external(f"random:{name}", CPU)(picture(40, 40), None) for _ in range(2))
        assert torch.equal(one, other)
        assert torch.equal(torch.rand(1), expected)


def test_random_resnet_is_the_untrained_tracker_with_zeros_beyond_the_edge() -> None:
    torch.manual_seed(0)
    model = VideoColorizer(Model(backbone="resnet18", zero_init=False, padding="zeros")).eval()
    image = picture(48, 64)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = model.embed(x)[0].permute(1, 2, 0)
    found = load_external("random:resnet18", CPU)(image, None).float()
    assert float((found * expected).sum(dim=-1).min()) > 0.99


def test_without_timm_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'vidtrack\[timm\]'"):
        load_external(f"timm:{VIT}", CPU)
    assert load_external("random:resnet18", CPU).channels == 256


def test_without_a_network_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise ConnectionError("no route to host\nmore")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=rf"no route to host\); .*timm:{VIT}@PATH\.$"):
        load_external(f"timm:{VIT}", CPU)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("random:vit_tiny_patch16_223", "did you mean .*vit_tiny_patch16_224"),
        ("random:", "knows no network"),
        ("timm:qqqqqq", "knows no network"),
        (f"timm:{VIT}@nowhere.pth", "no checkpoint 'nowhere.pth'"),
        (f"timm:{VIT}@", "no checkpoint"),
        ("timm:convnext_atto_rms", "No pretrained weights"),
        ("random:cait_xxs24_224", "can't track: it refuses an image of 208 x 176 pixels"),
        ("random:mixer_s32_224", "finest cells have 32 pixels"),
    ],
)
def test_errors(spec: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_external(spec, CPU)


def test_another_kind_of_spec_is_a_programming_mistake() -> None:
    with pytest.raises(ValueError, match="neither"):
        load_external("default", CPU)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04N."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_garbage_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    for load in (lambda: load_external(f"timm:{CNN}@{path}", CPU), lambda: load_foreign(path, CPU)):
        with pytest.raises(InputError, match=f"net{suffix}") as caught:
            load()
        assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_one_sentence(tmp_path: Path) -> None:
    save_file(timm.create_model(CNN, num_classes=0).state_dict(), str(tmp_path / "net.safetensors"))
    with pytest.raises(InputError, match=r"doesn't fit vit_tiny_patch16_224: \d+ tensors missing"):
        load_external(f"timm:{VIT}@{tmp_path / 'net.safetensors'}", CPU)
    save_file(timm.create_model(VIT, num_classes=0).state_dict(), str(tmp_path / "vit.safetensors"))
    with pytest.raises(InputError, match=r"not a checkpoint of a ResNet.*timm:NAME@.*vit\.safetensors\.$"):
        load_foreign(tmp_path / "vit.safetensors", CPU)
    with pytest.raises(InputError, match="no checkpoint"):
        load_foreign(tmp_path / "nowhere", CPU)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_a_foreign_resnet_is_its_layer3(tmp_path: Path, arch: str) -> None:
    state = getattr(torchvision.models, arch)().state_dict()
    wrapped = {f"module.encoder_q.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "arch": arch}, tmp_path / "moco.pth.tar")
    torch.save(state, tmp_path / "bare.pth")
    trunk = build(str(tmp_path / "bare.pth"), "layer3", ("layer3",)).eval()
    image = picture(45, 70)
    x = torch.from_numpy(np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = F.normalize(trunk(x)["layer3"], dim=1)[0].permute(1, 2, 0)
    embedder = load_foreign(tmp_path / "moco.pth.tar", CPU)
    assert (embedder.stride, embedder.channels) == (8, expected.shape[-1])
    found = embedder(image, None).float()
    assert found.shape == expected.shape
    assert float((found * expected).sum(dim=-1).min()) > 0.99


def test_crw_checkpoints_get_their_reflection_padding(tmp_path: Path) -> None:
    model = torchvision.models.resnet18().eval()
    state = {}
    for key, value in model.state_dict().items():
        padded = key.endswith(("conv1.weight", "conv2.weight"))
        state["encoder.model." + (key.replace(".weight", ".1.weight") if padded else key)] = value
    torch.save({"model": state | {"selfsim_fc.0.weight": torch.zeros(3)}, "epoch": 1}, tmp_path / "crw.pth")
    for module in model.modules():  # as ajabri/videowalk code/resnet.py:ResNet.modify
        if isinstance(module, nn.Conv2d) and sum(module.padding) > 0:  # type: ignore[arg-type]
            module.padding_mode = "reflect"
    for module in model.layer3.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    image = picture(64, 80)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    x = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(x)
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        expected = F.normalize(model.layer3(model.layer2(model.layer1(x))), dim=1)[0].permute(1, 2, 0)
    found = load_foreign(tmp_path / "crw.pth", CPU)(image, None).float()
    assert float((found * expected).sum(dim=-1).min()) > 0.995
    del state["encoder.model.layer3.0.conv1.1.weight"]
    torch.save({"model": state}, tmp_path / "crw.pth")
    with pytest.raises(InputError, match=r"CRW's resnet18: 1 tensors \(first: layer3\.0\.conv1\.weight\)"):
        load_foreign(tmp_path / "crw.pth", CPU)
