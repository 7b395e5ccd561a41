"""The config of `vidtrack train`: which objectives a bundled config and overrides name."""

import inspect

import pytest

from pretrain.config import load_config
from vidtrack.commands.train import train
from vidtrack.files import bundled_configs
from vidtrack.learn.settings import TrackConfig
from vidtrack.model.colorizer import Model


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("track/default", [], {"anchors": 1.0}),
        ("track/default", ["objectives.lab=0.3"], {"anchors": 1.0, "lab": 0.3}),
        ("track/default", ["objectives={cycle: 1}"], {"cycle": 1.0}),
        ("track/laptop", [], {"anchors": 1.0}),
        ("track/small", [], {"anchors": 1.0}),
        ("track/free", [], {"anchors": 1.0}),
        ("track/quantized", [], {"quantized": 1.0}),
    ],
)
def test_objectives_of_bundled_configs(name: str, overrides: list[str], expected: dict[str, float]) -> None:
    assert load_config(TrackConfig, name, overrides, bundled_configs()).objectives == expected
    assert TrackConfig().objectives == {"anchors": 1.0}


def test_the_default_config_can_go_on_from_a_tracker() -> None:
    """`vidtrack train --tracker default` without --config: it chooses no model, which the tracker has."""
    config = inspect.signature(train).parameters["config"].default
    assert load_config(TrackConfig, config, [], bundled_configs()).model == Model()
    assert load_config(TrackConfig, "track/laptop", [], bundled_configs()).model != Model()
