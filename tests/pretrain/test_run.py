"""`pretrain.run` end to end with a small method: exact resume, snapshots, damaged and foreign folders."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import pretrain.run as module
from pretrain.catalogue import FILE, build_any
from pretrain.draws import Draws
from pretrain.engine import RunCallback
from pretrain.errors import InputError
from pretrain.folder import CHECKPOINT
from pretrain.images import ImageSet
from pretrain.methods.base import Views
from pretrain.run import MODEL, SNAPSHOTS, load_method, min_batch
from pretrain.settings import Data, schema

from .toy import SIZE, TinyNet, Toy, ToySettings, add_toy, config, pictures, products, run, stop_at


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method `toy` is one of the methods."""
    add_toy(monkeypatch)


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


def test_a_run_does_not_need_what_it_began_with(tmp_path: Path) -> None:
    def learn(out: Path, **backbone: Any) -> None:
        values = {"method": "rotation", "data": {"size": 32}, "backbone": backbone}
        values |= {"optimizer": {"steps": 1, "batch": 4, "warmup_steps": 0}, "engine": {"precision": "32"}}
        images = ImageSet(np.zeros((8, 32, 32, 3), np.uint8), None, (), tuple("abcdefgh"))
        module.pretrain(lambda _: images, schema("rotation").model_validate(values), out, device="cpu")

    learn(tmp_path / "one", share=0.125)
    learn(tmp_path / "two", arch=str(tmp_path / "one"))
    shutil.rmtree(tmp_path / "one")
    method, settings = load_method(tmp_path / "two")
    assert settings.backbone.arch == str(tmp_path / "one")
    saved = load_file(tmp_path / "two" / FILE)
    assert all(torch.equal(value, saved[key]) for key, value in method.trunk().state_dict().items())


def test_the_rates_of_groups_are_their_own(tmp_path: Path) -> None:
    torch.manual_seed(config().seed)
    start = Toy(TinyNet(), ToySettings(), SIZE).state_dict()
    still = {"steps": 1, "batch": 4, "warmup_steps": 0, "learning_rate": 1e-30, "weight_decay": 0.0}
    run(tmp_path / "run", config(optimizer=still, snapshots=0))
    end = load_method(tmp_path / "run")[0].state_dict()
    assert torch.equal(end["backbone.conv.weight"], start["backbone.conv.weight"])
    moved = (end["head.1.weight"] - start["head.1.weight"]).abs().max()
    assert float(moved) == pytest.approx(0.01, rel=0.01)  # Adam's first step


@pytest.mark.parametrize("other", [{"count": 11}, {"names": True}, {"pixels": True}])
def test_other_images_never_continue_a_run(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path / "run", max_minutes=0)

    def read(data: Data) -> ImageSet:
        images = pictures(other.get("count", 12))(data)
        if "names" in other:
            images.names = ("other.png", *images.names[1:])
        if "pixels" in other:
            images.images[2] = 255 - images.images[2] // 2
        return images

    with pytest.raises(InputError, match=r"other images.*--overwrite"):
        run(tmp_path / "run", read=read)
    assert run(tmp_path / "run", read=read, overwrite=True).done


def test_another_config_never_continues_a_run(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(
        InputError, match=r"other settings \(seed: 0 there, 1 here; snapshots: 3 there, 2 here\)"
    ):
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
        (lambda run: cut(run / MODEL), "can't be read as weights"),
        (lambda run: cut(run / "config.json"), "can't be read as a run"),
        (lambda run: (run / "config.json").write_text("{}"), "can't be read as a run"),
        (lambda run: (run / "config.json").write_text('{"config": {"method": "toys"}}'), "did you mean toy"),
        (lambda run: (run / MODEL).unlink(), "holds no finished run"),
        (lambda run: shutil.copy(run / FILE, run / MODEL), "is damaged"),
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
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    for step, moved in seen:
        assert moved == pytest.approx(sum(range(1, step + 1)) / 6, abs=1e-6)


def test_a_run_killed_while_a_snapshot_is_written_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of the step comes after the snapshot, which is never there in part."""
    always = config(engine={"precision": "32", "log_every": 1, "checkpoint_minutes": 0.0})
    run(tmp_path / "whole", always)
    real = module.save_backbone

    def killed(backbone: Any, path: Path) -> None:
        real(backbone, path)
        if "0000004" in path.name:
            path.write_bytes(path.read_bytes()[:100])
            raise MemoryError

    monkeypatch.setattr(module, "save_backbone", killed)
    with pytest.raises(MemoryError):
        run(tmp_path / "part", always)
    assert [path.name for path in (tmp_path / "part" / SNAPSHOTS).glob("*.safetensors")] == [
        "0000002.safetensors"
    ]
    monkeypatch.setattr(module, "save_backbone", real)
    assert run(tmp_path / "part", always).done
    assert products(tmp_path / "part") == products(tmp_path / "whole")
