"""Objectives together: shared passes, weights, random numbers, and that each of them learns."""

from collections.abc import Callable, Iterable
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtrack.learn.objectives import OBJECTIVES
from vidtrack.learn.objectives.base import Name, Objective, Views
from vidtrack.learn.objectives.passes import kept_statistics, weighted_losses
from vidtrack.learn.settings import TrackConfig

SECTIONS = {
    "anchors": {"grid": 2, "cross_grid": 2},
    "lab": {"radius": 2},
    "quantized": {"colors": 4, "sampled_pixels": 300},
}
NAMES: tuple[Name, ...] = get_args(Name)


class Network(nn.Module):
    """Three convolutions to stride 8; notes how many images it is given, and whether for a gradient."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
            layers += [
                nn.Conv2d(inputs, outputs, 5, 2, 2),
                nn.BatchNorm2d(outputs) if norm else nn.Identity(),
            ]
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers[:-1])
        self.given: list[int] = []
        self.graded: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(len(images))
        self.graded.append(torch.is_grad_enabled())
        return F.normalize(self.layers(images - 0.5), dim=1)


def clips(batch: int = 3, frames: int = 3, size: int = 48) -> np.ndarray:
    """Blocks of colour that drift, each clip its own way: uint8 `[B, T, size, size, 3]`."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(batch):
        blocks = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
        dy, dx = rng.integers(-6, 7, 2)
        rolled = [np.roll(blocks, (t * dy, t * dx), (0, 1))[:size, :size] for t in range(frames)]
        found.append(np.stack(rolled))
    return np.stack(found)


def views(step: int = 0) -> Views:
    rng = np.random.default_rng(step)
    side = rng.uniform(0.5, 1, 3)
    windows = np.stack([rng.uniform(0, 1 - side), rng.uniform(0, 1 - side), side, rng.integers(0, 2, 3)], 1)
    frames = torch.from_numpy(clips()).permute(0, 1, 4, 2, 3).float() / 255
    return Views(frames, torch.from_numpy(windows).float(), 0, step)


def make(names: Iterable[Name]) -> dict[Name, Objective]:
    config: Any = TrackConfig.model_validate(SECTIONS)
    made = {name: OBJECTIVES[name](getattr(config, name), 8) for name in names}
    for objective in made.values():
        objective.prepare(list(clips()), 0)
    return made


def run(
    names: Iterable[Name],
    model: nn.Module,
    target: Callable[[Tensor], Tensor] | None = None,
    step: int = 0,
    weights: dict[Name, float] | None = None,
) -> dict[str, Tensor]:
    objectives = make(names)
    chosen = weights or dict.fromkeys(objectives, 1.0)
    return weighted_losses(model, target or model, objectives, chosen, views(step))


def network(norm: bool = False) -> Network:
    torch.manual_seed(0)
    return Network(norm)


def test_every_objective_is_in_the_registry_and_the_config() -> None:
    assert tuple(OBJECTIVES) == NAMES
    for name in NAMES:
        assert name in TrackConfig.model_fields


def test_sharing_passes_changes_no_number() -> None:
    """Draws don't depend on the company either: edges, anchors and channels are drawn by name."""
    model = network()
    together = run(NAMES, model)
    for name in NAMES:
        alone = run([name], model)
        for key, value in alone.items():
            if key != "loss":
                torch.testing.assert_close(together[key], value)


@pytest.mark.parametrize(
    ("names", "passes"),
    [
        (["anchors"], [9 + 3, 6]),  # all frames and a second view; the teacher's second views
        (["cycle"], [9 + 6]),
        (["anchors", "cycle"], [9 + 6, 6]),
        (["lab"], [9]),
        (["quantized", "lab"], [9, 9]),
        (["anchors", "lab"], [9 + 3, 6, 9]),
    ],
)
def test_nothing_is_computed_that_nobody_asks_for(names: list[Name], passes: list[int]) -> None:
    model = network()
    run(names, model)
    assert model.given == passes


def test_views_are_made_when_asked_for() -> None:
    seen = views()
    objectives = make(["lab"])
    weighted_losses(network(), network(), objectives, {"lab": 1.0}, seen)
    assert "second" not in vars(seen)
    assert seen.second is seen.second


def test_the_weighted_sum_and_its_gradient() -> None:
    model = network()
    grads: dict[str, list[Tensor]] = {}
    for key, weights in (
        ("a", {"anchors": 2.0}),
        ("l", {"lab": 0.5}),
        ("both", {"anchors": 2.0, "lab": 0.5}),
    ):
        model.zero_grad()
        found = run(list(weights), model, weights=weights)  # type: ignore[arg-type]
        parts = sum(weight * found[f"{name}/loss"] for name, weight in weights.items())
        torch.testing.assert_close(found["loss"].detach(), parts)
        assert all(not value.requires_grad for name, value in found.items() if name != "loss")
        found["loss"].backward()
        grads[key] = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for one, two, both in zip(grads["a"], grads["l"], grads["both"], strict=True):
        torch.testing.assert_close(one + two, both, atol=1e-6, rtol=1e-4)


def test_the_teacher_gives_the_targets_and_learns_nothing() -> None:
    model, other = network(), network()
    teacher = Network()
    found = run(["anchors"], model, teacher)
    assert teacher.given == [6] and model.given == [12]
    assert teacher.graded == [False] and model.graded == [True]
    own = run(["anchors"], other)
    assert not torch.equal(found["anchors/agreement"], own["anchors/agreement"])
    found["loss"].backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_random_numbers_are_those_of_seed_step_and_name() -> None:
    def numbers(seed: int, step: int, name: Name) -> tuple[float, ...]:
        made = Views(torch.zeros(4, 1), torch.zeros(4, 1), seed, step)
        return tuple(made.draw(name)().tolist())

    drawn = [numbers(seed, step, name) for seed in (0, 5000) for step in (0, 1) for name in NAMES]
    assert drawn == [numbers(seed, step, name) for seed in (0, 5000) for step in (0, 1) for name in NAMES]
    assert len(set(drawn)) == len(drawn)


def test_a_step_in_parts_draws_the_same_numbers() -> None:
    def numbers(batch: int, part: int, parts: int) -> Tensor:
        draw = Views(torch.zeros(batch, 1), torch.zeros(batch, 4), 3, 5, part, parts).draw("cycle")
        return torch.cat([draw(2, 2).flatten(1), draw(3)], dim=1)

    whole = numbers(6, 0, 1)
    assert torch.equal(torch.cat([numbers(2, part, 3) for part in range(3)]), whole)


def test_altered_pictures_leave_the_trackers_statistics_alone() -> None:
    def statistics(names: list[Name]) -> list[Tensor]:
        model = network(norm=True)
        run(names, model)
        return [b.clone() for key, b in model.named_buffers() if "running" in key]

    plain, both = statistics(["anchors"]), statistics(["anchors", "lab", "quantized"])
    assert all(torch.equal(one, two) for one, two in zip(plain, both, strict=True))
    start = [b for key, b in network(norm=True).named_buffers() if "running" in key]
    alone = statistics(["lab"])  # there are no other pictures
    assert not any(torch.equal(one, two) for one, two in zip(start, alone, strict=True))
    model = network(norm=True)
    with pytest.raises(KeyError), kept_statistics(model):
        raise KeyError
    assert all(m.momentum == 0.1 for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", NAMES)
def test_each_objective_learns(name: Name) -> None:
    model, objectives = network(), make([name])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(40):
        loss = weighted_losses(model, model, objectives, {name: 1.0}, views(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
