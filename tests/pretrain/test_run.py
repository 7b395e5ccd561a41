"""`pretrain.run` end to end with a small method: exact resume, snapshots, damaged and foreign folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain import methods
from pretrain.catalogue import FILE, build_any
from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.engine import CHECKPOINT, RunCallback
from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.methods.base import Method, Views
from pretrain.run import MODEL, SNAPSHOTS, load_method, min_batch, pretrain
from pretrain.settings import Data, PretrainConfig, schema

SIZE = 16


class ToySettings(Config):
    """`norm`: whether there is a batch norm."""

    norm: bool = True


class Toy(Method):
    """Is the image upside down? With everything a method can have: statistics, a buffer, a group, noise."""

    Settings: ClassVar[type[Config]] = ToySettings
    shade: Tensor
    moved: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.head: nn.Module = nn.Linear(4, 1)
        if settings.norm:
            self.head = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.register_buffer("shade", torch.zeros(3))
        self.register_buffer("moved", torch.zeros(()))

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        return TinyNet()

    def prepare(self, images: np.ndarray, seed: int) -> None:
        self.shade.copy_(torch.from_numpy(images.mean(axis=(0, 1, 2))) / 255)

    def views(self, images: Tensor, draws: Draws) -> Views:
        turned = draws.chance(0.5)
        images = images + 0.1 * draws.normal(3, 1, 1) - self.shade.view(3, 1, 1)
        return {"images": images.flip(2).where(turned[:, None, None, None], images), "turned": turned.float()}

    def loss(self, views: Views) -> dict[str, Tensor]:
        scores = self.head(self.backbone(views["images"])["layer1"].mean(dim=(2, 3)).float())[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(scores, views["turned"])
        return {"loss": loss, "accuracy": ((scores > 0).float() == views["turned"]).float().mean()}

    def after_step(self, step: int, steps: int) -> None:
        self.moved.add_(step / steps)

    def groups(self) -> list[dict[str, Any]]:
        own = {"params": list(self.head.parameters()), "lr": 0.01}
        return [{"params": list(self.backbone.parameters())}, own]


class TinyNet(nn.Module):
    """A backbone of one convolution."""

    channels: ClassVar = {"layer1": 4}
    strides: ClassVar = {"layer1": 4}

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer1": self.conv(images).relu()}

    def description(self) -> dict[str, Any]:
        return {"arch": "tiny"}


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method `toy` is one of the methods."""
    monkeypatch.setitem(methods.METHODS, "toy", "Toy")
    real = methods.import_module
    here = type("module", (), {"Toy": Toy})
    monkeypatch.setattr(methods, "import_module", lambda name: here if name.endswith(".toy") else real(name))


def pictures(count: int = 12, skipped: int = 0, seed: int = 0) -> Callable[[Data], ImageSet]:
    """Reads images that are brighter above."""

    def read(data: Data) -> ImageSet:
        rng = np.random.default_rng(seed)
        side = data.side()
        images = rng.integers(0, 100, (count, side, side, 3)) + np.linspace(150, 0, side)[:, None, None]
        bad = [(f"bad{number}.png", "it is no image") for number in range(skipped)]
        return ImageSet(images.astype(np.uint8), None, (), tuple(f"{n}.png" for n in range(count)), bad)

    return read


def config(**changes: Any) -> PretrainConfig:
    values: dict[str, Any] = {
        "data": {"size": SIZE},
        "optimizer": {"steps": 6, "batch": 4, "warmup_steps": 1, "learning_rate": 1e-2},
        "engine": {"precision": "32", "log_every": 1},
        "snapshots": 3,
    }
    return schema("toy").model_validate(values | changes)


def stop_at(step: int, number: int = signal.SIGINT) -> Callable[[dict[str, float]], None]:
    """Ctrl-C, or another signal, after a step."""

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == step:
            os.kill(os.getpid(), number)

    return interrupt


def run(out: Path, settings: PretrainConfig | None = None, **options: Any) -> Any:
    read = options.pop("read", pictures())
    return pretrain(read, settings or config(), out, device="cpu", **options)


def products(out: Path) -> dict[str, bytes]:
    files = [out / FILE, out / MODEL, *sorted((out / SNAPSHOTS).glob("*"))]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def test_a_run_leaves_what_it_says(tmp_path: Path) -> None:
    result = run(tmp_path / "run", read=pictures(skipped=2))
    assert result.done and result.steps == 6 and not result.interrupted
    assert result.skipped == [("bad0.png", "it is no image"), ("bad1.png", "it is no image")]
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert skipped[0] == {"file": "bad0.png", "why": "it is no image"}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == list(range(1, 7))
    assert {"loss", "accuracy", "learning_rate", "samples_per_second", "minutes"} <= log[0].keys()
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["config"] == config().model_dump(mode="json") and "torch" in record["versions"]
    names = [path.name for path in sorted((tmp_path / "run" / SNAPSHOTS).iterdir())]
    assert names == ["0000002.safetensors", "0000004.safetensors", "0000006.safetensors"]
    last, whole = load_file(tmp_path / "run" / SNAPSHOTS / names[-1]), load_file(tmp_path / "run" / FILE)
    assert all(torch.equal(last[key], whole[key]) for key in whole)
    first = load_file(tmp_path / "run" / SNAPSHOTS / names[0])
    assert not torch.equal(first["conv.weight"], whole["conv.weight"])


@pytest.mark.parametrize("stops", [(1,), (2,), (3, 4), (5,), (1, 2, 3, 4, 5)], ids=str)
def test_a_stopped_run_ends_with_the_same_files(tmp_path: Path, stops: tuple[int, ...]) -> None:
    run(tmp_path / "whole")
    for step in stops:
        result = run(tmp_path / "part", report=stop_at(step))
        assert result.interrupted and not result.done and result.steps == step
        assert not (tmp_path / "part" / FILE).exists()
    assert run(tmp_path / "part").done
    assert products(tmp_path / "part") == products(tmp_path / "whole")


def test_a_terminated_run_goes_on(tmp_path: Path) -> None:
    """By SLURM, timeout, docker stop."""
    run(tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    result = run(tmp_path / "part", report=stop_at(3, signal.SIGTERM))
    assert result.interrupted and result.steps == 3
    assert signal.getsignal(signal.SIGTERM) == before
    assert run(tmp_path / "part").done
    assert products(tmp_path / "part") == products(tmp_path / "whole")


def test_no_time_is_one_step_a_call(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for step in range(1, 6):
        result = run(tmp_path / "part", max_minutes=0)
        assert result.steps == step and not result.done and not result.interrupted
    assert run(tmp_path / "part", max_minutes=0).done
    assert products(tmp_path / "part") == products(tmp_path / "whole")


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before, log = products(tmp_path / "run"), (tmp_path / "run" / "log.jsonl").read_text()
    (tmp_path / "run" / FILE).unlink()  # what was lost comes back
    assert run(tmp_path / "run").done
    assert products(tmp_path / "run") == before and (tmp_path / "run" / "log.jsonl").read_text() == log


def test_each_step_has_draws_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = Toy.views

    def views(self: Toy, images: Tensor, draws: Draws) -> Views:
        seen.append(draws.normal())
        assert images.shape == (4, 3, SIZE, SIZE) and images.dtype == torch.float32 and images.max() <= 1
        return real(self, images, draws)

    monkeypatch.setattr(Toy, "views", views)
    run(tmp_path / "run", config(seed=8))
    assert len(seen) == 6
    assert all(torch.equal(found, Draws(8, step, 4).normal()) for step, found in enumerate(seen))


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, settings in (("a", config()), ("b", config()), ("c", config(seed=1))):
        torch.manual_seed(hash(name) % 1000)  # what went before has no say
        run(tmp_path / name, settings)
    assert products(tmp_path / "a") == products(tmp_path / "b") != products(tmp_path / "c")


def test_files_are_readable_by_whom_others_are(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {file.stat().st_mode for file in (tmp_path / "run").glob("*.safetensors")} == {usual}


def test_a_method_comes_back_whole(tmp_path: Path) -> None:
    run(tmp_path / "run")
    method, settings = load_method(tmp_path / "run")
    assert isinstance(method, Toy) and not method.training
    assert settings.model_dump() == config().model_dump()
    assert method.shade.min() > 0.3  # statistics, which a new one hasn't
    assert method.moved == pytest.approx(sum(range(1, 7)) / 6)
    saved = load_file(tmp_path / "run" / FILE)
    assert torch.equal(method.backbone.conv.weight, saved["conv.weight"])


def test_the_rates_of_groups_are_their_own(tmp_path: Path) -> None:
    torch.manual_seed(config().seed)
    start = Toy(TinyNet(), ToySettings(), SIZE).state_dict()
    still = {"steps": 1, "batch": 4, "warmup_steps": 0, "learning_rate": 1e-30, "weight_decay": 0.0}
    run(tmp_path / "run", config(optimizer=still, snapshots=0))
    end = load_method(tmp_path / "run")[0].state_dict()
    assert torch.equal(end["backbone.conv.weight"], start["backbone.conv.weight"])
    moved = (end["head.1.weight"] - start["head.1.weight"]).abs().max()
    assert float(moved) == pytest.approx(0.01, rel=0.01)  # Adam's first step


@pytest.mark.parametrize("other", [{"count": 11}, {"names": True}])
def test_other_images_never_continue_a_run(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path / "run", max_minutes=0)

    def read(data: Data) -> ImageSet:
        images = pictures(other.get("count", 12))(data)
        if "names" in other:
            images.names = ("other.png", *images.names[1:])
        return images

    with pytest.raises(InputError, match=r"other images.*--overwrite"):
        run(tmp_path / "run", read=read)
    assert run(tmp_path / "run", read=read, overwrite=True).done


def test_another_config_never_continues_a_run(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(InputError, match=r"other settings \(seed, snapshots\)"):
        run(tmp_path / "run", config(seed=1, snapshots=2))
    run(tmp_path / "run", config(seed=1, snapshots=2), overwrite=True, max_minutes=0)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {CHECKPOINT, "config.json", "images.json", "log.jsonl", "skipped.json"}
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1


def test_a_folder_of_the_users_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear diary")
    with pytest.raises(InputError, match="holds no run"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "read", "sentence"),
    [
        ({"data": {"size": 16, "stored": 8}}, pictures(), r"data\.stored=8 is smaller than data\.size=16"),
        ({"optimizer": {"batch": 1}}, pictures(), r"optimizer\.batch=1 is too small for batch norm: give 2"),
        ({"optimizer": {"batch": 13}}, pictures(), r"only 12 images, fewer than a batch of 13"),
    ],
)
def test_impossible_settings_are_one_sentence(
    tmp_path: Path, changes: dict[str, Any], read: Callable[[Data], ImageSet], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(tmp_path / "run", config(**changes), read=read)
    assert run(tmp_path / "run").done  # nothing stands in the way of the corrected command


def test_without_batch_norm_one_image_is_a_batch(tmp_path: Path) -> None:
    single = config(optimizer={"steps": 2, "batch": 1}, toy={"norm": False}, snapshots=0)
    assert run(tmp_path / "run", single).done
    assert min_batch(Toy(TinyNet(), ToySettings(norm=False), SIZE)) == 1
    assert min_batch(Toy(TinyNet(), ToySettings(), SIZE)) == 2


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: cut(run / MODEL), "can't be read as a run"),
        (lambda run: cut(run / "config.json"), "can't be read as a run"),
        (lambda run: (run / "config.json").write_text("{}"), "can't be read as a run"),
        (lambda run: (run / "config.json").write_text('{"config": {"method": "toys"}}'), "did you mean toy"),
        (lambda run: (run / MODEL).unlink(), "holds no finished run"),
        (lambda run: shutil.copy(run / FILE, run / MODEL), "can't be read as a run"),
        (shutil.rmtree, "holds no finished run"),
    ],
)
def test_damaged_runs_are_one_sentence(tmp_path: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    run(tmp_path / "run", config(snapshots=0))
    damage(tmp_path / "run")
    with pytest.raises(InputError, match=sentence) as caught:
        load_method(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    run(tmp_path / "run", max_minutes=0)
    cut(tmp_path / "run" / CHECKPOINT)
    with pytest.raises(InputError, match=r"last\.ckpt can't be read; remove it"):
        run(tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).unlink()
    assert run(tmp_path / "run").done


def test_what_is_kept_can_be_built(tmp_path: Path) -> None:
    settings = schema("rotation").model_validate(
        {
            "data": {"size": 16},
            "optimizer": {"steps": 2, "batch": 2, "warmup_steps": 1},
            "engine": {"precision": "32", "log_every": 1},
        }
    )
    assert run(tmp_path / "run", settings).done
    net, (method, _) = build_any(str(tmp_path / "run")), load_method(tmp_path / "run")
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        found, expected = net.eval()(images), method.backbone(images)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_on_time_has_what_the_method_does_after_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []
    real = RunCallback.save

    def save(callback: RunCallback, trainer: Any) -> None:
        real(callback, trainer)
        state = torch.load(callback.out / CHECKPOINT, weights_only=True)
        seen.append((state["global_step"], float(state["state_dict"]["method.moved"])))

    monkeypatch.setattr(RunCallback, "save", save)
    always = {"precision": "32", "checkpoint_minutes": 0.0}
    run(tmp_path / "run", config(engine=always))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6, 6]
    for step, moved in seen:
        assert moved == pytest.approx(sum(range(1, step + 1)) / 6, abs=1e-6)
