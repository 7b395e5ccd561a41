"""Backbone files of `vidtrack pretrain` as trackers: what each kind of network gives for each cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pretrain.backbones import ResNet, build, save_backbone
from pretrain.catalogue import FILE, Backbone, build_any, make_backbone
from pretrain.errors import InputError
from pretrain.vit import ViT
from vidtrack.benchmark.rows import rows_of
from vidtrack.labels import Masks
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.embedder import NetworkEmbedder
from vidtrack.model.external import ExternalEmbedder, load_external, load_foreign
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.model.trunk import Tokens, at_stride_8, last_map, make_trunk
from vidtrack.tracker import load

CPU = torch.device("cpu")
HEIGHT, WIDTH = 61, 83  # no multiples of anything


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def padded(image: np.ndarray, stride: int) -> Tensor:
    """Float `[1, 3, H, W]`, its border repeated up to multiples of the stride."""
    pad = [(0, -side % stride) for side in image.shape[:2]]
    return torch.from_numpy(np.pad(image, (*pad, (0, 0)), mode="edge")).permute(2, 0, 1)[None] / 255


def save(folder: Path, size: int, arch: str = "resnet18", **options: Any) -> Any:
    """An untrained backbone with statistics of its own, in evaluation mode, and its file in `folder`."""
    torch.manual_seed(1)
    patch = options.pop("patch", None)
    net = make_backbone(Backbone(arch=arch, patch=patch), size, **options)
    for name, buffer in net.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5).sub_(1.0 if "mean" in name else 0.0)
    if isinstance(net, ViT):  # timm's own are too small to be seen
        torch.nn.init.normal_(net.vit.pos_embed, std=0.5)
    save_backbone(net, folder / FILE)
    return net.eval()


def agree(found: Tensor, expected: Tensor) -> None:
    """Unit vectors `[h, w, C]` of the embedder, in whatever precision it has, and features `[1, C, h, w]`."""
    expected = F.normalize(expected[0].float(), dim=0).permute(1, 2, 0)
    assert found.shape == expected.shape
    assert float((found.float() * expected).sum(dim=-1).min()) > 0.99


def dense(net: ResNet, image: Tensor) -> Tensor:
    """layer3 of a standard ResNet at stride 8, by hand: its one convolution and shortcut of stride 2 at 1."""
    maps = net.features(net.normalised(image))["layer2"]
    block: Any = net.layer3[0]
    strides = [block.conv1.stride, block.downsample[0].stride]
    block.conv1.stride = block.downsample[0].stride = (1, 1)
    maps = net.layer3(maps)
    block.conv1.stride, block.downsample[0].stride = strides
    return maps


@pytest.mark.parametrize("input", ["rgb", "l", "ab", "lab"])
@torch.no_grad()
def test_a_resnet_is_its_dense_layer3(tmp_path: Path, input: Any) -> None:
    net = save(tmp_path, 128, input=input)
    embedder = load_foreign(tmp_path / FILE, CPU)
    assert (embedder.stride, embedder.channels) == (8, 256)
    agree(embedder(picture(), None), dense(net, padded(picture(), 8)))


@pytest.mark.parametrize("input", ["rgb", "l"])
@torch.no_grad()
def test_a_small_stem_is_its_layer4_as_it_is(tmp_path: Path, input: Any) -> None:
    net = save(tmp_path, 32, input=input)
    embedder = load_foreign(tmp_path / FILE, CPU)
    assert (embedder.stride, embedder.channels) == (8, 512)
    agree(embedder(picture(), None), net(padded(picture(), 8))["layer4"])


@pytest.mark.parametrize(("size", "channels"), [(128, 256), (32, 512)])
@torch.no_grad()
def test_a_pair_is_both_networks_side_by_side(tmp_path: Path, size: int, channels: int) -> None:
    net = save(tmp_path, size, pair=True)
    embedder = load_foreign(tmp_path / FILE, CPU)
    assert (embedder.stride, embedder.channels) == (8, channels)
    image = padded(picture(), 8)
    halves = [
        dense(half, image) if size == 128 else half(image)["layer4"] for half in (net.light, net.colour)
    ]
    agree(embedder(picture(), None), torch.cat(halves, dim=1))


@pytest.mark.parametrize(
    ("size", "patch", "stride"),
    [(128, None, 16), (32, None, 8), (32, 8, 8), (32, 2, 8), (36, 3, 6), (36, 6, 6)],
)
@torch.no_grad()
def test_a_transformer_is_its_last_tokens(tmp_path: Path, size: int, patch: int | None, stride: int) -> None:
    net = save(tmp_path, size, "vit_tiny", patch=patch)
    embedder = load_foreign(tmp_path / FILE, CPU)
    assert (embedder.stride, embedder.channels) == (stride, 192)
    image = padded(picture(), stride)
    tokens = net.vit.forward_features((image - net.mean) / net.std)[:, 1:]  # timm's own way, any size
    cells = tokens.unflatten(1, [side // net.patch for side in image.shape[2:]])  # [1, rows, columns, C]
    side = stride // net.patch
    expected = cells.unfold(1, side, side).unfold(2, side, side).mean(dim=(-1, -2)).permute(0, 3, 1, 2)
    agree(embedder(picture(), None), expected)


def test_tokens_are_exact_in_float32() -> None:
    torch.manual_seed(0)
    net = ViT("vit_tiny", 16, 64).eval()
    image = torch.rand(1, 3, 48, 80)
    with torch.no_grad():
        torch.testing.assert_close(Tokens(net)(image), net(image)["block12"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("stem", ["standard", "small"])
@torch.no_grad()
def test_a_network_cut_at_stride_8_keeps_everything(stem: Any) -> None:
    whole = ResNet("resnet34", input="ab", stem_kind=stem, share=0.5).eval()
    whole.mean.add_(0.3)
    whole.std.mul_(2)
    image = padded(picture(), 8)
    expected = dense(whole, image) if stem == "standard" else whole(image)["layer4"]
    cut = at_stride_8(whole).eval()
    assert torch.equal(list(cut(image).values())[-1], expected)


def test_a_layer3_file_is_enough(tmp_path: Path) -> None:
    trunk = build("resnet18", "layer3", ("layer3",), "l").eval()
    save_backbone(trunk, tmp_path / FILE)
    with torch.no_grad():
        agree(load_foreign(tmp_path / FILE, CPU)(picture(), None), trunk(padded(picture(), 8))["layer3"])


@pytest.mark.parametrize("name", ["resnet18-small", "resnet18#3", "resnet34"])
@torch.no_grad()
def test_random_resnets_of_every_kind(name: str) -> None:
    net = build_any(f"random:{name}").eval()
    image = padded(picture(), 8)
    expected = net(image)["layer4"] if "small" in name else dense(net, image)
    agree(load_external(f"random:{name}", CPU)(picture(), None), expected)


def test_other_seeds_are_other_weights() -> None:
    first, second = (load_external(f"random:resnet18{seed}", CPU)(picture(), None) for seed in ("", "#1"))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input": "l"},
        {"size": 32},
        {"pair": True},
        {"arch": "vit_tiny"},
        {"arch": "vit_tiny", "size": 32},
    ],
    ids=str,
)
def test_each_kind_carries_masks(tmp_path: Path, options: dict[str, Any]) -> None:
    save(tmp_path, options.pop("size", 128), **options)
    frames = []
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    for shift in range(3):
        frames.append(np.roll(ground, 8 * shift, axis=1))
        frames[-1][32:64, 32:80] = (250, 200, 20)
    ids = np.zeros((96, 160), np.uint8)
    ids[32:64, 32:80] = 1
    session = load(tmp_path, device="cpu", size="native").session()
    session.step(frames[0], annotation=Masks(ids))
    for frame in frames[1:]:
        found = session.step(frame).labels.ids
        assert found.shape == ids.shape
        assert ((found == 1) & (ids == 1)).sum() > 0.5 * ((found == 1) | (ids == 1)).sum()


def test_a_run_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    net = save(tmp_path / "first", 32)
    with pytest.raises(InputError, match=r"holds no tracker\.safetensors or backbone\.safetensors"):
        load(tmp_path)
    tracker, other = load(tmp_path / "first"), load(tmp_path / "first" / FILE)
    assert tracker.weights == other.weights is not None
    assert isinstance(tracker.embedder, ExternalEmbedder)
    assert tracker.embedder.channels == net.channels["layer4"]
    rows = rows_of(load, [str(tmp_path / "first"), str(tmp_path / "first" / FILE)])
    assert [row.name for row in rows] == ["first", "first 2"]


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny"])
def test_damaged_files_are_one_sentence(tmp_path: Path, arch: str) -> None:
    net = save(tmp_path, 32, arch)
    path, state, says = tmp_path / FILE, net.state_dict(), net.description()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=FILE):
        load_foreign(path, CPU)
    for wrong in (
        says | {"arch": "resnet19"},
        says | {"pair": True, "stem": "small", "share": 0.5, "arch": "resnet18"},
        {"arch": says["arch"]},
        ["arch"],
        says | {"patch": "x", "stem": 5, "mean": "gray"},
    ):
        save_file(state, str(path), metadata={"backbone": json.dumps(wrong)})
        with pytest.raises(InputError, match=FILE) as caught:
            load_foreign(path, CPU)
        assert "\n" not in str(caught.value)
    del state[min(state)]
    save_file(state, str(path), metadata={"backbone": json.dumps(says)})
    with pytest.raises(InputError, match=FILE):
        load_foreign(path, CPU)


def changed_a_little(model: VideoColorizer) -> VideoColorizer:
    """Weights that no rebuilt network has by chance."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def make_files(folder: Path, kind: str) -> str:
    """What a user types for a backbone of this kind."""
    if kind == "timm":
        pytest.importorskip("timm")
        return "random:resnet10t"
    if kind == "transformer":
        pytest.importorskip("timm")
        save(folder, 32, "vit_tiny", patch=16)
    else:
        save(folder, 32 if kind == "small stem" else 128, pair=kind == "pair")
    return str(folder)  # of the run


@pytest.mark.parametrize("kind", ["resnet", "small stem", "pair", "transformer", "timm"])
@torch.no_grad()
def test_every_kind_of_backbone_becomes_a_tracker_file(tmp_path: Path, kind: str) -> None:
    spec = make_files(tmp_path, kind)
    model = changed_a_little(VideoColorizer(Model(backbone=spec, head=(16, 8), embedding="concat")))
    image = torch.rand(1, 3, 48, 64)
    assert model(image).shape == (1, 8, 48 // model.stride, 64 // model.stride)
    save_tracker(tmp_path / "t.safetensors", model, {}, {}, torch.float32)
    (tmp_path / FILE).unlink(missing_ok=True)  # the tracker file alone is enough
    again = load_tracker(tmp_path / "t.safetensors").model
    assert torch.equal(again.embed(image), model.embed(image))
    embedder = NetworkEmbedder(again, CPU, "float32")
    expected = model.embed(padded(picture(), model.stride))[0].permute(1, 2, 0)
    torch.testing.assert_close(embedder(picture(), None), expected, atol=1e-4, rtol=0)
    assert str(tmp_path) not in (tmp_path / "t.safetensors").read_bytes()[:20000].decode(errors="replace")


@pytest.mark.parametrize("companion", ["resnet18", "transformer"])
def test_a_companion_adds_its_similarity_and_stays_as_it_is(tmp_path: Path, companion: str) -> None:
    spec = "random:resnet18#4" if companion == "resnet18" else make_files(tmp_path, companion)
    settings = Model(companion=spec, companion_weight=3.0)
    model = changed_a_little(VideoColorizer(settings))
    model.train()
    assert model.training and not any(module.training for module in model.companion.modules())
    model.eval()
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in model.companion.parameters())
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        found = model.embed(image)[0].flatten(1)  # [C, 48]
        own = F.normalize(model.backbone(image)["layer3"], dim=1)[0].flatten(1)
        other = last_map(model.companion, image)
        other = F.interpolate(other, (6, 8), mode="bilinear", align_corners=False)
        other = F.normalize(other, dim=1)[0].flatten(1)
        torch.testing.assert_close(found.norm(dim=0), torch.ones(48))
        torch.testing.assert_close(found.T @ found, (own.T @ own + 3 * other.T @ other) / 4)
        save_tracker(tmp_path / "t.safetensors", model, {}, {}, torch.float32)
        again = load_tracker(tmp_path / "t.safetensors").model
        assert torch.equal(again.embed(image), model.embed(image))


def test_only_networks_with_edges_take_padding(tmp_path: Path) -> None:
    spec = make_files(tmp_path, "pair")
    image = torch.full((1, 3, 32, 32), 0.4)
    model = changed_a_little(VideoColorizer(Model(backbone=spec, padding="replicate", head=(16, 8))))
    save_tracker(tmp_path / "t.safetensors", model, {}, {}, torch.float32)
    for known in (model, load_tracker(tmp_path / "t.safetensors").model):
        with torch.no_grad():
            cells = last_map(known.backbone, image).flatten(2)
        torch.testing.assert_close(cells, cells[..., :1].expand_as(cells), atol=1e-5, rtol=0)
    spec = make_files(tmp_path, "transformer")
    with pytest.raises(InputError, match="another kind of network"):
        make_trunk(spec, padding="replicate")


@torch.no_grad()
def test_larger_cells_of_a_companion_lie_where_they_belong(tmp_path: Path) -> None:
    """Its cells of 16 pixels reach beyond a frame of five rows and seven columns of 8."""
    model = VideoColorizer(Model(companion=make_files(tmp_path, "transformer"), companion_weight=1.0)).eval()
    image = torch.rand(1, 3, 40, 56)
    found = model.embed(image)[:, model.channels :]
    other = last_map(model.companion, image)
    assert other.shape[2:] == (3, 4)
    whole = F.interpolate(other, scale_factor=2, mode="bilinear", align_corners=False)[..., :5, :7]
    torch.testing.assert_close(found, F.normalize(whole, dim=1) * 0.5**0.5)


@pytest.mark.parametrize("damage", ["arch", "stem", "channels"])
def test_a_tracker_file_that_describes_no_backbone(tmp_path: Path, damage: str) -> None:
    model = VideoColorizer(Model(head=(16, 8)))
    save_tracker(tmp_path / "t.safetensors", model, {}, {})
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        record = json.loads(file.metadata()["vidtrack"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if damage == "channels":
        record["trunks"]["backbone"]["share"] = 0.25
    else:
        del record["trunks"]["backbone"][damage]
    save_file(state, tmp_path / "t.safetensors", metadata={"vidtrack": json.dumps(record)})
    with pytest.raises(InputError, match=r"t\.safetensors is damaged"):
        load_tracker(tmp_path / "t.safetensors")


def test_half_the_channels_survive_a_tracker_file(tmp_path: Path) -> None:
    model = VideoColorizer(Model(share=0.5, head=(16, 8))).eval()
    whole = VideoColorizer(Model(head=(16, 8)))
    images = torch.rand(1, 3, 32, 40)
    assert model.embed(images).shape == (1, 128, 4, 5)
    assert whole.embed(images).shape == (1, 256, 4, 5)
    save_tracker(tmp_path / "t.safetensors", model, {}, {}, torch.float32)
    again = load_tracker(tmp_path / "t.safetensors").model
    assert again.settings.share == 0.5
    assert torch.equal(model.embed(images), again.embed(images))


@pytest.mark.parametrize("pair", [False, True])
def test_a_narrow_backbone_goes_with_configs_of_its_width(tmp_path: Path, pair: bool) -> None:
    net = make_backbone(Backbone(share=0.5), 128, pair=pair).eval()
    save_backbone(net, tmp_path / FILE)
    for share in (1, 0.5):
        trunk = make_trunk(str(tmp_path), share=share).eval()
        assert last_map(trunk, torch.rand(1, 3, 32, 40)).shape == (1, 128, 4, 5)
    with pytest.raises(InputError, match=r"has 0\.5 of the usual channels, and the config asks for 0\.25"):
        make_trunk(str(tmp_path), share=0.25)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("random:resnet18", r"random:resnet18 has 1 of the usual channels, and the config asks for 0\.5"),
        ("random:vit_tiny_patch16_32", r"model\.share=0\.5 is for ResNets: .* is another kind"),
    ],
)
def test_backbones_of_another_width(spec: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_trunk(spec, share=0.5)
