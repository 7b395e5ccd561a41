"""What every pretext task must have."""

from typing import Any

import pytest
from torch import nn

from pretrain.config import load_config
from pretrain.methods import METHODS, method_class
from pretrain.methods.base import Method
from pretrain.run import make_method
from pretrain.settings import schema
from vidtrack.files import bundled_configs

ITS_OWN = {"inpainting": {"masks": "random", "discriminator_rate": 1e-4}}  # what a config sets of its method


def test_a_method_without_views_or_loss_is_none() -> None:
    class Idle(Method):
        pass

    with pytest.raises(TypeError, match="loss"):
        Idle(nn.Identity(), 8)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_all(name: str) -> None:
    kind = method_class(name)
    assert issubclass(kind, Method) and not kind.__abstractmethods__


@pytest.mark.parametrize("name", METHODS)
def test_each_config_is_for_frames_and_fits_small_images(name: str) -> None:
    config: Any = load_config(schema(name), f"pretrain/{name}", [], bundled_configs())
    assert config.method == name and config.data.size == 128
    assert config.of_method() == method_class(name).Settings(**ITS_OWN.get(name, {}))
    assert config.optimizer.warmup_steps == pytest.approx(config.optimizer.steps / 20, abs=1)
    small = load_config(schema(name), f"pretrain/{name}", ["data.size=32"], bundled_configs())
    frames, small = make_method(config).trunk(), make_method(small).trunk()
    finest, coarsest = (min(net.strides.values()) for net in (small, frames))
    assert finest < coarsest  # the small stem, or smaller patches
