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
    found = embeddings(name, "zeros", colour)
    inner = found[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    torch.testing.assert_close(inner, inner[:, :1, :1].expand_as(inner), atol=1e-5, rtol=0)
    assert float(found[:, 0, 0] @ inner[:, 0, 0]) < 0.99
    whole = embeddings(name, "replicate", colour)
    torch.testing.assert_close(whole, whole[:, :1, :1].expand_as(whole), atol=1e-5, rtol=0)
