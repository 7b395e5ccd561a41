"""An image that is the same everywhere: no embedding says where its cell lies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pretrain.config import load_config
from vidtrack.files import bundled_configs
from vidtrack.learn.settings import TrackConfig
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.model.tracker_file import load_tracker
from vidtrack.tracker import BUNDLED, bundled_weights

COLOURS = [(0.5, 0.5, 0.5), (0.1, 0.6, 0.2)]
FROM_NOTHING = ["small", "laptop", "free", "wide", "quantized"]  # of the recipes


@torch.no_grad()
def least_alike(model: VideoColorizer, colour: tuple[float, float, float]) -> float:
    """The least cosine of a cell with the middle, of what is compared and of the head's output."""
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 208, 208)

    def least(found: Tensor) -> float:
        return float(torch.einsum("dyx,d->yx", found, found[:, 13, 13]).min())  # [26, 26]

    return min(least(model.embed(image)[0]), least(model(image)[0]))


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("colour", COLOURS)
def test_embeddings_of_the_trackers_that_come_along(name: str, colour: tuple[float, float, float]) -> None:
    path = bundled_weights(name)
    assert path is not None
    model = load_tracker(path).model.eval()
    assert least_alike(model, colour) > 1 - 1e-5
    model.backbone.set_padding("zeros")
    assert least_alike(model, colour) < 0.98  # so it is what lies beyond the frame


@pytest.mark.parametrize("recipe", FROM_NOTHING)
def test_nothing_of_places_is_there_to_learn_from(recipe: str) -> None:
    """Whatever its weights, a network that begins from nothing can't tell cells of an even image apart."""
    settings = load_config(TrackConfig, f"track/{recipe}", [], bundled_configs()).model
    torch.manual_seed(0)
    model = VideoColorizer(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    for training in (False, True):
        assert least_alike(model.train(training), COLOURS[1]) > 1 - 1e-4
        model.backbone.set_padding("zeros")
        assert least_alike(model, COLOURS[1]) < 0.98
        model.backbone.set_padding("replicate")
