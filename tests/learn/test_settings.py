"""The config of `vidtrack train`: which objectives a bundled config and overrides name."""

import pytest

from pretrain.config import load_config
from pretrain.errors import InputError
from vidtrack.commands.train import _recipe
from vidtrack.files import bundled_configs
from vidtrack.learn.settings import TrackConfig, without_effect
from vidtrack.model.colorizer import Model


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("track/default", [], {"anchors": 1.0}),
        ("track/default", ["objectives.lab=0.3"], {"anchors": 1.0, "lab": 0.3}),
        ("track/default", ["objectives={cycle: 1}"], {"cycle": 1.0}),
        ("track/laptop", [], {"anchors": 1.0}),
        ("track/small", [], {"anchors": 1.0}),
        ("track/wide", [], {"anchors": 1.0}),
        ("track/free", [], {"anchors": 1.0}),
        ("track/quantized", [], {"quantized": 1.0}),
    ],
)
def test_objectives_of_bundled_configs(name: str, overrides: list[str], expected: dict[str, float]) -> None:
    assert load_config(TrackConfig, name, overrides, bundled_configs()).objectives == expected
    assert TrackConfig().objectives == {"anchors": 1.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], "track/small"),
        (["optimizer.steps=3"], "track/small"),
        (["tracker=default", "optimizer.steps=3"], "track/default"),
        (['model.backbone="timm:resnet18"'], "track/wide"),
    ],
)
def test_a_run_without_config_has_one_that_fits_what_it_begins_with(
    changes: list[str], expected: str
) -> None:
    """Half the channels from nothing; a tracker and a pretrained backbone bring their own."""
    assert _recipe(changes) == expected
    load_config(TrackConfig, expected, changes, bundled_configs())


def test_an_impossible_range_is_refused_in_its_own_words() -> None:
    said = r"track/small: clips\.scale: it must be two numbers, the smaller one first \(got \[2, 1\]\)"
    with pytest.raises(InputError, match=said):
        load_config(TrackConfig, "track/small", ["clips.scale=[2,1]"], bundled_configs())


@pytest.mark.parametrize(
    "override",
    [
        *("clips.gap=[3,1]", "clips.gap=[0,2]", "clips.flip=2", "seed=-1"),
        *("clips.zoom=[0.5,1.5]", "clips.zoom=[0,0]", "clips.zoom=[1,0.5]"),
    ],
)
def test_numbers_that_draw_nothing_are_refused(override: str) -> None:
    with pytest.raises(InputError, match=override.partition("=")[0].replace(".", r"\.")):
        load_config(TrackConfig, "track/small", [override], bundled_configs())


def test_the_default_config_can_go_on_from_a_tracker() -> None:
    """`vidtrack train --tracker default` without --config: it chooses no model, which the tracker has."""
    assert load_config(TrackConfig, "track/default", [], bundled_configs()).model == Model()
    assert load_config(TrackConfig, "track/laptop", [], bundled_configs()).model != Model()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["lab.radius=4"], "settings of lab have no effect: the run learns by anchors (objectives.lab=1"),
        (["objectives={lab: 1}", "lab.radius=4"], None),
        (
            ["objectives={lab: 1}", "anchors.grid=4"],
            "settings of anchors have no effect: the run learns by lab",
        ),
        (["transfer.freeze=2"], "settings of transfer are for a pretrained start"),
        (["transfer.rate_decay=0.5"], "settings of transfer are for a pretrained start"),
        (["transfer.freeze=2", "model.backbone=timm:resnet18"], None),
        (["transfer.freeze=2", "tracker=default"], None),
        (["optimizer.steps=101"], None),
        (
            ["optimizer.steps=100"],
            "the whole run is warm-up (optimizer.steps=100, optimizer.warmup_steps=100)",
        ),
    ],
)
def test_settings_without_effect_are_told(overrides: list[str], words: str | None) -> None:
    told = without_effect(load_config(TrackConfig, "track/small", overrides, bundled_configs()))
    assert len(told) == (words is not None) and all(words is not None and words in line for line in told)


@pytest.mark.parametrize("name", ["default", "small", "free", "laptop", "wide", "quantized"])
def test_bundled_configs_set_nothing_in_vain(name: str) -> None:
    assert without_effect(load_config(TrackConfig, f"track/{name}", [], bundled_configs())) == []
