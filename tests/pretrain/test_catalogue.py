"""Backbones by name, from files, folders and checkpoints; what they see; two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage.color import rgb2lab

from pretrain.backbones import ResNet, save_backbone
from pretrain.catalogue import FILE, Backbone, build_any, make_backbone
from pretrain.errors import InputError
from pretrain.inputs import STATISTICS, channels_of, convert
from pretrain.pair import Pair


@pytest.mark.parametrize("kind", ["l", "ab", "lab"])
def test_inputs_are_those_of_skimage(kind: Any) -> None:
    images = torch.rand(2, 3, 5, 7)
    lab = torch.from_numpy(rgb2lab(images.permute(0, 2, 3, 1).double().numpy())).permute(0, 3, 1, 2)
    expected = {"l": lab[:, :1] / 100, "ab": lab[:, 1:] / 110}
    expected["lab"] = torch.cat([expected["l"], expected["ab"]], dim=1)
    found = convert(images, kind)
    assert found.shape[1] == channels_of(kind) == len(STATISTICS[kind][1])
    torch.testing.assert_close(found, expected[kind].float(), atol=2e-3, rtol=0)


def test_rgb_is_left_alone_and_half_precision_kept() -> None:
    images = torch.rand(1, 3, 4, 4)
    assert convert(images, "rgb") is images
    assert convert(images.bfloat16(), "lab").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arch", "size", "deepest", "stride"),
    [
        ("resnet18", 32, (512, 4, 4), 8),
        ("resnet18", 64, (512, 8, 8), 8),
        ("resnet18", 128, (512, 4, 4), 32),
        ("vit_tiny", 32, (192, 8, 8), 4),
        ("vit_tiny", 128, (192, 8, 8), 16),
    ],
)
def test_stem_and_patch_follow_the_size(arch: str, size: int, deepest: Any, stride: int) -> None:
    net = make_backbone(Backbone(arch=arch), size).eval()
    maps = net(torch.rand(1, 3, size, size))
    assert list(maps) == list(net.channels) == list(net.strides)
    assert [m.shape[1] for m in maps.values()] == list(net.channels.values())
    assert [size // m.shape[2] for m in maps.values()] == list(net.strides.values())
    name, last = list(maps.items())[-1]
    assert tuple(last.shape[1:]) == deepest and net.strides[name] == stride


def test_stem_and_patch_can_be_chosen() -> None:
    assert make_backbone(Backbone(stem="small"), 128).strides["layer4"] == 8
    assert make_backbone(Backbone(stem="standard"), 32).strides["layer4"] == 32
    assert make_backbone(Backbone(arch="vit_tiny", patch=8), 32).strides["block1"] == 8
    with pytest.raises(InputError, match=r"30 pixels don't consist of whole patches of 4"):
        make_backbone(Backbone(arch="vit_tiny"), 30)


@pytest.mark.parametrize("pair", [False, True])
def test_a_share_of_the_channels(pair: bool) -> None:
    net = make_backbone(Backbone(share=0.5), 128, pair=pair)
    assert net.channels == {"layer1": 32, "layer2": 64, "layer3": 128, "layer4": 256}
    assert sum(p.numel() for p in net.parameters()) < 0.3 * sum(p.numel() for p in ResNet().parameters())
    maps = net.eval()(torch.rand(1, 3, 64, 64))
    assert {name: one.shape[1] for name, one in maps.items()} == net.channels


@pytest.mark.parametrize(
    ("backbone", "sentence"),
    [
        (Backbone(share=0), "a resnet18 can't have 0 of its channels"),
        (Backbone().model_copy(update={"share": float("nan")}), "a resnet18 can't have nan of its channels"),
        (
            Backbone(arch="vit_tiny", share=0.5),
            "share=0.5 is for resnet18, .* alone: vit_tiny has its channels",
        ),
        (Backbone(arch="runs/one", share=0.5), "runs/one has its channels"),
    ],
)
def test_shares_that_cannot_be(backbone: Backbone, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_backbone(backbone, 128)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize(
    ("size", "options"),
    [(32, {}), (128, {"input": "l"}), (128, {"input": "ab"}), (32, {"pair": True}), (128, {"pair": True})],
)
@pytest.mark.parametrize("share", [1, 0.25])
def test_files_give_the_same_network(
    tmp_path: Path, folder: bool, size: int, options: Any, share: float
) -> None:
    net = make_backbone(Backbone(share=share), size, **options).eval()
    for buffer in net.buffers():  # as if it had been trained
        if buffer.dtype == torch.float32 and buffer.dim() == 1:
            buffer.uniform_(0.5, 1.5)
    save_backbone(net, tmp_path / FILE)
    again = build_any(str(tmp_path if folder else tmp_path / FILE)).eval()
    images = torch.rand(2, 3, 32, 32)
    before, after = net(images), again(images)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_a_pair_is_two_networks_side_by_side() -> None:
    pair = Pair("resnet18", "small").eval()
    images = torch.rand(1, 3, 32, 32)
    maps, light, colour = pair(images), pair.light(images), pair.colour(images)
    assert pair.channels == ResNet("resnet18").channels
    for name in maps:
        assert torch.equal(maps[name], torch.cat([light[name], colour[name]], dim=1))
    gray = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert not torch.allclose(pair.light(gray)["layer4"], pair.light(1 - gray)["layer4"])
    torch.testing.assert_close(
        pair.colour(gray)["layer4"], pair.colour(1 - gray)["layer4"], atol=1e-3, rtol=1e-3
    )


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    nets = [build_any(name) for name in ("resnet18", "random:resnet18", "random:resnet18#1")]
    assert torch.equal(torch.rand(1), expected)
    first, same, other = (net.conv1.weight for net in nets)
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert build_any("random:resnet18-small#2").strides["layer4"] == 8
    assert build_any("random:vit_tiny_patch4_32").strides["block12"] == 4


def test_what_is_no_backbone_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no backbone 'resnet19'"):
        build_any("resnet19")
    with pytest.raises(InputError, match=f"holds no {FILE}"):
        build_any(str(tmp_path))
    save_backbone(Pair(), tmp_path / "pair.safetensors")
    state = load_file(str(tmp_path / "pair.safetensors"))
    state.pop("light.conv1.weight")
    save_file(state, str(tmp_path / "bare.safetensors"))
    with pytest.raises(InputError, match="doesn't fit resnet18"):
        build_any(str(tmp_path / "bare.safetensors"))
    with safe_open(str(tmp_path / "pair.safetensors"), framework="pt") as file:
        save_file(state, str(tmp_path / "cut.safetensors"), metadata=file.metadata())
    with pytest.raises(InputError, match="is damaged"):
        build_any(str(tmp_path / "cut.safetensors"))


@pytest.mark.parametrize("spec", ["random:test_vit", "random:test_efficientnet"])
def test_networks_of_timm_learn_no_pretext_task(spec: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=f"{spec} can be probed, .* not by a pretext task"):
        make_backbone(Backbone(arch=spec), 32)


def test_a_method_gets_no_backbone_with_another_input(tmp_path: Path) -> None:
    save_backbone(ResNet("resnet18", input="l"), tmp_path / "l.safetensors")
    there = Backbone(arch=str(tmp_path / "l.safetensors"))
    assert make_backbone(there, 128, "l").input == "l"
    with pytest.raises(InputError, match="learns a backbone with input rgb"):
        make_backbone(there, 128)
    with pytest.raises(InputError, match="two half-networks"):
        make_backbone(there, 128, pair=True)
    with pytest.raises(InputError, match="ResNets only"):
        make_backbone(Backbone(arch="vit_tiny"), 128, pair=True)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_a_name_that_is_a_folder_too_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"give random:{name} or \./{name}"):
        build_any(name)
    assert build_any(f"random:{name}")
