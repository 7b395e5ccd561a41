"""Networks of timm by name: checkpoints, unknown names, and machines without a network."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.catalogue import build_any
from pretrain.errors import InputError
from pretrain.timm_networks import create

timm = pytest.importorskip("timm", reason="needs timm: pip install 'vidtrack[timm]'")
constants = pytest.importorskip("huggingface_hub.constants", reason="needs timm's client of its hub")


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_weights_of_a_checkpoint(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=10).eval()  # with a classifier, as checkpoints are
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {prefix + key: value for key, value in model.state_dict().items()}}, path)
    backbone = build_any(f"timm:test_vit@{path}").eval()
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        found = list(backbone(images).values())[-1]
        expected = model.forward_features(backbone.normalised(images))[:, model.num_prefix_tokens :]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected)
    other = timm.create_model("test_vit2").state_dict()
    torch.save(other, path)
    with pytest.raises(InputError, match=r"x\.pth doesn't fit test_vit: .* tensors missing"):
        build_any(f"timm:test_vit@{path}")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("timm:resnet99", r"timm:resnet99: timm \S+ knows no network 'resnet99'; did you mean resnet"),
        ("random:resnet99", r"random:resnet99: timm \S+ knows no network 'resnet99'; did you mean resnet"),
        ("timm:hf-hub:somebody/something", "knows no network"),
        ("timm:test_vit@", "no checkpoint ''; give timm:NAME or timm:NAME@PATH"),
        ("timm:test_vit@nowhere.pth", "no checkpoint 'nowhere.pth'"),
    ],
)
def test_what_there_is_not(spec: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build_any(spec)


@pytest.mark.parametrize(
    ("reachable", "endpoint", "offline"),
    [(False, None, True), (True, None, False), (False, "https://mirror.example", False)],
)
def test_the_hub_is_not_asked_where_it_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, reachable: bool, endpoint: str | None, offline: bool
) -> None:
    def resolve(*_: Any) -> list[Any]:
        if not reachable:
            raise socket.gaierror(-2, "Name or service not known")
        return [("somewhere",)]

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen: list[bool] = []

    def asked(name: str, pretrained: bool, **_: Any) -> Any:
        seen.append(constants.is_offline_mode())
        raise ConnectionError("no way")

    monkeypatch.setattr(timm, "create_model", asked)
    with pytest.raises(InputError, match=r"can't be fetched \(no way\); .* give timm:test_vit@PATH\.$"):
        create("test_vit", True, None, [{}])
    assert seen == [offline] and not constants.is_offline_mode()
    with pytest.raises(InputError, match=r"timm:test_vit can't be built \(no way\)\."):
        create("test_vit", False, None, [{}])
    assert seen == [offline, False]  # nothing to fetch
