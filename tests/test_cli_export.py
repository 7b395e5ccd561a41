"""`vidtrack export` as users type it."""

from pathlib import Path

import pytest
import torch

from pretrain.backbones import ResNet, save_backbone
from vidtrack.cli import app
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import save_tracker


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    torch.manual_seed(0)
    save_backbone(ResNet(), tmp_path / "run" / "backbone.safetensors")
    return Path("run")


def typed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(["export", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("source", ["run", "run/backbone.safetensors"])
def test_exported_and_loaded_as_printed(run: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    import torchvision

    assert typed(source, "--to", "torchvision", "--out", "new/weights.pth") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("new/weights.pth: 120 tensors")
    assert "mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in first
    known = {"torch": torch, "torchvision": torchvision}
    exec(second.removeprefix("load it with: "), known)
    assert [path.name for path in Path("new").iterdir()] == ["weights.pth"]


def test_nothing_is_replaced_unasked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("weights.safetensors").write_text("mine")
    command = ["run", "--to", "timm", "--out", "weights.safetensors", "--quiet"]
    assert typed(*command) == 2
    assert "--overwrite" in capsys.readouterr().err and Path("weights.safetensors").read_text() == "mine"
    assert typed(*command, "--overwrite") == 0
    assert capsys.readouterr().out == "" and Path("weights.safetensors").stat().st_size > 1e7


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "--to", "keras", "--out", "a.pth"), "choose torchvision or timm"),
        (("run", "--to", "timm", "--out", "a.onnx"), "ends in .pth or .safetensors"),
        (("nowhere", "--to", "timm", "--out", "a.pth"), "no backbone 'nowhere'"),
        (("empty", "--to", "timm", "--out", "a.pth"), "empty holds no backbone.safetensors"),
        (("small.safetensors", "--to", "timm", "--out", "a.pth"), "small.safetensors begins with the small"),
        (("broken.safetensors", "--to", "timm", "--out", "a.pth"), "broken.safetensors can't be read"),
        (
            ("trained", "--to", "timm", "--out", "a.pth"),
            "tracker.safetensors is a tracker, whose network ends",
        ),
        (("trained/tracker.safetensors", "--to", "torchvision", "--out", "a.pth"), "ends at layer3"),
    ],
)
def test_mistakes(
    run: Path, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "trained"):
        Path(name).mkdir()
    save_backbone(ResNet(stem_kind="small"), "small.safetensors")
    Path("broken.safetensors").write_bytes(b"nothing")
    model = VideoColorizer(Model(head=(8, 8)))
    save_tracker("trained/tracker.safetensors", model, propagation={}, training={})
    assert typed(*arguments) == 2
    errors = capsys.readouterr().err
    assert sentence in errors and errors.count("\n") == 1
    assert not Path("a.pth").exists() and not Path("a.onnx").exists()
