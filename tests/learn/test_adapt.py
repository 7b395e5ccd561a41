"""A tracker that goes on learning on one video: what may change, and what is kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pretrain.config import load_config
from pretrain.errors import InputError
from vidtrack.files import bundled_configs
from vidtrack.learn import adapt as module
from vidtrack.learn.adapt import Adapt, adapt, adapt_model
from vidtrack.learn.adapted import adapted
from vidtrack.learn.cycle_accuracy import CycleAccuracy
from vidtrack.learn.objectives.passes import weighted_losses
from vidtrack.model.colorizer import Model, VideoColorizer
from vidtrack.model.tracker_file import load_tracker, save_tracker
from vidtrack.tracker import load
from vidtrack.video import VideoWriter

CPU = torch.device("cpu")
STEPS = 4


def footage(frames: int = 12, seed: int = 0) -> np.ndarray:
    """A texture that drifts, uint8 `[T, 48, 64, 3]`."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 256, (12, 40, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    return np.stack([back[:, 2 * t : 2 * t + 64] for t in range(frames)])


def settings(**changes: Any) -> Adapt:
    values: dict[str, Any] = {
        "steps": STEPS,
        "batch": 2,
        "checks": 2,
        "learning_rate": 1e-3,
        "data": {"short_side": 48, "rate": 24, "split": None},
        "clips": {"frames": 3, "gap": [1, 2], "crop": 32},
        "anchors": {"grid": 2, "cross_grid": 2},
        "scored": {"clips": 2, "frames": 3, "gap": 1},
    }
    return Adapt.model_validate(values | changes)


def model() -> VideoColorizer:
    torch.manual_seed(0)
    return VideoColorizer(Model(head=(16, 8))).eval()


def copied(net: VideoColorizer) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def scores(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[dict[str, Tensor]]:
    """Let `score` return these values in turn; the weights that it was given."""
    seen: list[dict[str, Tensor]] = []

    def score(net: VideoColorizer, *_: Any) -> CycleAccuracy:
        seen.append(copied(net))
        return CycleAccuracy(values[len(seen) - 1], (), 0.0)

    monkeypatch.setattr(module, "score", score)
    return seen


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_only_the_last_stages_and_the_head_learn(stages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores(monkeypatch, [0.1, 0.2, 0.3])
    net = model()
    before = copied(net)
    found = adapt_model(net, [footage()], settings(stages=stages), CPU)
    assert found.accepted and not net.training
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert not any("running" in key or "num_batches" in key for key in changed)
    parts = {key.split(".")[1] if key.startswith("backbone") else "head" for key in changed}
    assert parts == {"head", *["layer3", "layer2"][:stages]}


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([0.5, 0.6, 0.55], 1),
        ([0.5, 0.51, 0.7], 2),
        ([0.5, 0.5, 0.4], 0),
        ([0.5, 0.505, 0.5], 0),  # less than the margin
        ([0.5, 0.503, 0.52], 2),
        ([0.0, 0.0019, 0.001], 0),  # where few walks come home, the margin is of LEAST
        ([0.01, 0.011, 0.013], 2),
    ],
)
def test_the_best_is_kept_or_nothing(values: list[float], kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scores(monkeypatch, values)
    net = model()
    told: list[dict[str, float]] = []
    found = adapt_model(net, [footage()], settings(margin=0.02), CPU, told.append)
    assert all(torch.equal(value, seen[kept][key]) for key, value in net.state_dict().items())
    assert not all(torch.equal(value, seen[1][key]) for key, value in seen[2].items())
    assert (found.accepted, found.step) == (kept > 0, STEPS // 2 * kept)
    assert (found.before, found.after) == (values[0], values[kept])
    assert [record["step"] for record in told] == [STEPS // 2, STEPS]
    assert found.frames == 12


def test_the_same_call_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for _ in range(2):
        scores(monkeypatch, [0.0, 0.5, 1.0])
        net = model()
        torch.rand(3)  # the state of torch's generator doesn't matter
        adapt_model(net, [footage()], settings(), CPU)
        results.append(copied(net))
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


def test_clips_of_a_video_do_not_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip of a step has a loss of its own, and draws of its own: the same things are in all of them."""
    seen = []

    def spied(model: Any, target: Any, objectives: Any, weights: Any, views: Any) -> dict[str, Tensor]:
        seen.append((len(views.frames), views.step, views.part, views.parts))
        return weighted_losses(model, target, objectives, weights, views)

    monkeypatch.setattr(module, "weighted_losses", spied)
    adapt_model(model(), [footage()], settings(steps=2, batch=3), CPU)
    assert seen == [(1, step, part, 3) for step in range(2) for part in range(3)]


def test_a_step_follows_the_mean_of_its_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three equal clips of a step move the weights as one of them does; AdamW alone would hide a sum."""

    def equal(model: Any, *_: Any) -> dict[str, Tensor]:
        return {"loss": sum(p.square().sum() for p in model.parameters() if p.requires_grad)}

    def plain(net: Any, _: Any) -> dict[str, Any]:
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        steady = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": steady}}

    monkeypatch.setattr(module, "weighted_losses", equal)
    monkeypatch.setattr(module, "make_optimizer", plain)
    states = []
    for batch in (1, 3):
        scores(monkeypatch, [0.0, 0.5])
        net = model()
        adapt_model(net, [footage()], settings(steps=1, checks=1, batch=batch), CPU)
        states.append(copied(net))
    assert all(torch.allclose(value, states[1][key], atol=1e-6) for key, value in states[0].items())
    assert not torch.equal(states[0]["head.0.weight"], model().state_dict()["head.0.weight"])


def test_it_learns_to_follow_a_video() -> None:
    net = model()
    learned = settings(
        steps=24, checks=2, batch=2, stages=4, learning_rate=3e-3, scored={"clips": 4, "frames": 3}
    )
    found = adapt_model(net, [footage(24)], learned, CPU)
    assert found.accepted and found.after > found.before + 0.03


@pytest.fixture
def files(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "own.mp4", 64, 48, Fraction(24)) as writer:
        for image in footage(20):
            writer.write(image)
    save_tracker(tmp_path / "old.safetensors", model(), {"radius": 7}, {"steps": 9})
    return tmp_path


@pytest.mark.parametrize("accepted", [True, False])
def test_files(files: Path, accepted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores(monkeypatch, [0.2, 0.4, 0.3] if accepted else [0.2, 0.1, 0.1])
    out, old = files / "new.safetensors", files / "old.safetensors"
    found = adapt(files / "own.mp4", out, str(old), settings(), device="cpu")
    assert found.accepted == accepted
    new, before = load_tracker(out), load_tracker(old)
    assert new.propagation == {"radius": 7} and new.training["steps"] == 9
    assert new.training["adapted"]["video"] == "own.mp4"
    assert new.training["adapted"]["accepted"] == accepted
    states = new.model.state_dict(), before.model.state_dict()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items()) != accepted
    assert load(out, device="cpu").settings.radius == 7
    with pytest.raises(InputError, match="exists already"):
        adapt(files / "own.mp4", out, str(old), settings(), device="cpu")


def test_errors(files: Path) -> None:
    out = files / "new.safetensors"
    for name in ("lab", "random:resnet18", "own.mp4"):
        with pytest.raises(InputError, match="can't learn: give default"):
            adapt(files / "own.mp4", out, name, settings(), device="cpu")
    with pytest.raises(InputError, match=r"clips.crop=64 must be a multiple of 8 and at most"):
        adapt(files / "own.mp4", out, settings=settings(clips={"crop": 64}), device="cpu")
    with pytest.raises(InputError, match="no video that can be learned from"):
        adapt(files / "own.mp4", out, settings=settings(clips={"crop": 32, "frames": 30}), device="cpu")
    assert not out.exists()


def test_the_bundled_config_is_the_default() -> None:
    assert load_config(Adapt, "track/adapt", [], bundled_configs()) == Adapt()


def test_a_video_is_learned_from_once(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, cache = str(files / "old.safetensors"), files / "cache"
    cache.mkdir()

    def once(values: list[float], **changes: Any) -> tuple[bytes, bool, int]:
        """The file, whether one is kept, and how often the model was scored."""
        seen = scores(monkeypatch, values)
        with adapted(files / "own.mp4", old, settings(**changes), cache, device="cpu") as (path, found):
            content = path.read_bytes()
        assert found.before == 0.2
        assert not path.exists()
        return content, any(cache.rglob(path.name)), len(seen)

    first = once([0.2, 0.3, 0.4])
    assert first[1:] == (True, 3)
    assert once([]) == (first[0], True, 0)  # as it was found
    assert once([0.2, 0.3, 0.4], seed=1)[2] == 3  # other settings are another adaptation
    for kept in cache.rglob("*.safetensors"):
        kept.write_bytes(b"damaged")
    assert once([0.2, 0.3, 0.4])[1:] == (True, 3)
    assert len(list(cache.iterdir())) == 2
    scores(monkeypatch, [0.2, 0.3, 0.4])
    with adapted(files / "own.mp4", old, settings(), None, device="cpu") as (path, _):
        assert path.is_file() and cache not in path.parents
    assert not path.exists()
