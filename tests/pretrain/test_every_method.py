"""What holds of every method: a run that is stopped after a step and goes on ends as one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.images import ImageSet
from pretrain.methods import METHODS
from pretrain.run import MODEL, pretrain

from .test_distributed import pictures, tiny_config


@pytest.mark.parametrize("name", METHODS)
def test_a_stop_changes_nothing(name: str, tmp_path: Path) -> None:
    config = tiny_config(name, 4, 2)
    data = pictures(config.data.side())
    images = ImageSet(data, None, (), tuple(f"{number}.png" for number in range(len(data))))
    pretrain(lambda _: images, config, tmp_path / "whole", device="cpu")
    assert not pretrain(lambda _: images, config, tmp_path / "parts", device="cpu", max_minutes=0).done
    again = pretrain(lambda _: images, config, tmp_path / "parts", device="cpu")
    assert again.done and again.steps == 2
    expected, found = (load_file(str(tmp_path / run / MODEL)) for run in ("whole", "parts"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
