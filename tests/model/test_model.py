"""The model, its files, and how frames become embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.errors import InputError
from vidtrack.model.colorizer import Model, VideoColorizer, copy_values
from vidtrack.model.embedder import LabEmbedder, NetworkEmbedder, fold_batch_norm
from vidtrack.model.tracker_file import load_tracker, save_tracker

CPU = torch.device("cpu")


def trained_a_little(settings: Model | None = None) -> VideoColorizer:
    """A model whose batch norms are far from the identity."""
    torch.manual_seed(0)
    model = VideoColorizer(settings or Model(zero_init=False))
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 3, 64, 64))
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.5, 0.5)
    return model.eval()


@torch.no_grad()
def test_folding_batch_norm_changes_nothing() -> None:
    model = trained_a_little(Model(zero_init=False, embedding="concat"))
    image = torch.rand(2, 3, 64, 72)
    before = model.embed(image)
    folded = fold_batch_norm(model)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded.embed(image), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("embedding", "channels"), [("layer3", 256), ("head", 128), ("concat", 384)])
@torch.no_grad()
def test_embeddings_are_unit_vectors(embedding: str, channels: int) -> None:
    model = VideoColorizer(Model.model_validate({"embedding": embedding})).eval()
    found = model.embed(torch.rand(1, 3, 40, 64))
    assert found.shape == (1, channels, 5, 8)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, 5, 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(37, 50), (64, 64), (200, 90)])
def test_any_size_and_half_precision(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    exact = NetworkEmbedder(trained_a_little(), CPU, "float32")(image, 64)
    half = NetworkEmbedder(trained_a_little(), CPU, "bfloat16")(image, 64)
    assert exact.shape == half.shape
    assert float((exact * half.float()).sum(dim=-1).min()) > 0.98  # the cosine of the two
    assert min(exact.shape[:2]) == 64 // 8


def test_lab_embeddings_tell_colours_apart() -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, :8], image[:, 8:16], image[:, 16:] = (200, 30, 30), (30, 30, 200), (198, 32, 30)
    found = LabEmbedder(CPU)(image, None)
    assert found.shape == (2, 3, 49)
    red, blue, also_red = found[0]
    assert red @ also_red > 0.99
    assert red @ blue < 0.5


def test_a_file_alone_rebuilds_the_model(tmp_path: Path) -> None:
    model = trained_a_little(Model(embedding="concat", head=(32, 16), padding="replicate"))
    save_tracker(tmp_path / "t.safetensors", model, {"radius": 9}, {"steps": 3}, dtype=torch.float32)
    again = load_tracker(tmp_path / "t.safetensors")
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.model.embed(image), model.embed(image))
    assert again.propagation == {"radius": 9}
    (tmp_path / "any").touch()
    assert (tmp_path / "t.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    assert again.training == {"steps": 3}


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_broken_tracker_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.safetensors"):
        load_tracker(path)


def test_copying_values_is_attention() -> None:
    query, references = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    values = torch.rand(2, 6, 5)
    found = copy_values(query, references, values, 0.5)
    for b in range(2):
        for n in range(3):
            weight = torch.softmax(references[b].T @ query[b, :, n] / 0.5, dim=0)
            torch.testing.assert_close(found[b, :, n], values[b] @ weight)
