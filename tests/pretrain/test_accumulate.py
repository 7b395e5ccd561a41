"""`vidtrack pretrain` with several batches in a step: the same as with one large batch, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pretrain.errors import InputError
from pretrain.images import ImageSet
from pretrain.methods import METHODS, method_class
from pretrain.run import MODEL, SNAPSHOTS, pretrain
from pretrain.settings import Data, schema


def read(data: Data) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (12, data.side(), data.side(), 3))
    return ImageSet(pixels.astype(np.uint8), None, (), tuple(f"{n}.png" for n in range(12)), [])


def run(out: Path, method: str, batch: int, accumulate: int, **changes: Any) -> dict[str, torch.Tensor]:
    values = {
        "data": {"size": 16, "stored": 20},
        "optimizer": {
            "name": "sgd",
            "steps": 2,
            "batch": batch,
            "accumulate": accumulate,
            "warmup_steps": 1,
            "learning_rate": 0.05,
        },
        "engine": {"precision": "32", "log_every": 1},
        "snapshots": 2,
    }
    settings = schema(method).model_validate(values | changes)
    assert pretrain(read, settings, out, device="cpu").done
    return load_file(out / MODEL)


@pytest.mark.parametrize("method", ["rotation", "mae"])  # without batch norm
def test_the_batches_of_a_step_see_what_one_large_batch_would(tmp_path: Path, method: str) -> None:
    backbone = {"backbone": {"arch": "vit_tiny", "patch": 8}}
    whole = run(tmp_path / "whole", method, 4, 1, **backbone)
    parts = run(tmp_path / "parts", method, 2, 2, **backbone)
    torch.testing.assert_close(parts, whole, atol=2e-6, rtol=1e-4)
    half = run(tmp_path / "half", method, 2, 1, **backbone)
    assert any((half[key] - value).abs().max() > 1e-4 for key, value in whole.items())


def test_snapshots_are_of_whole_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    monkeypatch.setattr(
        "pretrain.run.save_backbone", lambda trunk, path: (path.touch(), saved.append(path.name))
    )
    run(tmp_path / "run", "rotation", 2, 2, backbone={"arch": "vit_tiny", "patch": 8})
    names = ["0000001.safetensors", "0000002.safetensors", "backbone.safetensors"]
    assert saved == [f"{name}.partial" for name in names]
    assert len(list((tmp_path / "run" / SNAPSHOTS).iterdir())) == 2


def test_methods_that_need_whole_steps_say_so(tmp_path: Path) -> None:
    whole = [name for name in METHODS if method_class(name).whole_steps]
    assert whole == ["simclr", "moco"]
    for method in whole:
        with pytest.raises(InputError, match=rf"accumulate=2 does not go with {method}"):
            run(tmp_path / method, method, 2, 2)
        assert not (tmp_path / method).exists()


def test_a_step_needs_enough_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only 12 images, fewer than a batch of 16"):
        run(tmp_path / "run", "rotation", 4, 4)
