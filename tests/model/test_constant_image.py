"""An image that is the same everywhere: what the embeddings of the trackers that come along say of places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidtrack.model.tracker_file import load_tracker
from vidtrack.tracker import BUNDLED, bundled_weights

MARGIN = 8  # cells; what the README tells of zeros beyond the frame


@torch.inference_mode()
def embeddings(name: str, padding: str, colour: tuple[float, float, float]) -> Tensor:
    """Unit vectors `[D, 26, 26]` of what the tracker compares and of its head together."""
    path = bundled_weights(name)
    assert path is not None
    model = load_tracker(path).model.eval()
    model.backbone.set_padding(padding)
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 208, 208)
    return torch.cat([model.embed(image)[0], model(image)[0]]) * 0.5**0.5


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("colour", [(0.5, 0.5, 0.5), (0.1, 0.6, 0.2)])
def test_only_the_edge_tells_a_cell_where_it_is(name: str, colour: tuple[float, float, float]) -> None:
    for padding in ("zeros", "replicate"):
        found = embeddings(name, padding, colour)
        alike = torch.einsum("dyx,d->yx", found, found[:, 13, 13])  # mean of both cosines with the middle
        assert float(alike[MARGIN:-MARGIN, MARGIN:-MARGIN].min()) > 0.9995
        if padding == "replicate":
            assert float(alike.min()) > 1 - 1e-5
        else:
            assert float(alike[0, 0]) < 0.99
