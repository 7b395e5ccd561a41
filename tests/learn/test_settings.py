"""The config of `vidtrack train`: which objectives a bundled config and overrides name."""

import pytest

from pretrain.config import load_config
from vidtrack.files import bundled_configs
from vidtrack.learn.settings import TrackConfig


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("track/laptop", [], {"anchors": 1.0}),
        ("track/laptop", ["objectives.lab=0.3"], {"anchors": 1.0, "lab": 0.3}),
        ("track/laptop", ["objectives={cycle: 1}"], {"cycle": 1.0}),
        ("track/quantized", [], {"quantized": 1.0}),
    ],
)
def test_objectives_of_bundled_configs(name: str, overrides: list[str], expected: dict[str, float]) -> None:
    assert load_config(TrackConfig, name, overrides, bundled_configs()).objectives == expected
    assert TrackConfig().objectives == {"anchors": 1.0}
