"""Colour reconstruction: its formula with loops, its window, and that the dropped channel is really gone."""

import pytest
import torch
import torch.nn.functional as F
from kornia.color import lab_to_rgb, rgb_to_lab

from vidtrack.learn.objectives.lab import Lab, beyond, drop_channel, lab_loss, patches


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-3)


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_loss_equals_its_formula(radius: int) -> None:
    torch.manual_seed(1)
    batch, frames, cells, places = 2, 3, 4, 4
    embeddings = unit(batch, frames, 5, cells, cells)
    values = 40 * torch.randn(batch, frames, places, cells**2)
    settings = Lab(radius=radius, temperature=0.2, scale=15)
    found = lab_loss(embeddings, values, settings)
    losses, errors, unmoved = [], [], []
    for b in range(batch):
        for n in range(cells**2):
            query = embeddings[b, -1, :, n // cells, n % cells]
            scores, known = [], []
            for t in range(frames - 1):
                for y in range(max(0, n // cells - radius), min(cells, n // cells + radius + 1)):
                    for x in range(max(0, n % cells - radius), min(cells, n % cells + radius + 1)):
                        scores.append(embeddings[b, t, :, y, x] @ query / 0.2)
                        known.append(values[b, t, :, y * cells + x])
            weights = torch.stack(scores).softmax(0)
            copied = sum(w * v for w, v in zip(weights, known, strict=True))
            for k in range(places):
                truth = float(values[b, -1, k, n])
                off = abs(float(copied[k]) - truth)
                scaled = 15 / 127 * off
                losses.append(0.5 * scaled**2 if scaled < 1 else scaled - 0.5)
                errors.append(off)
                unmoved.append(abs(float(values[b, -2, k, n]) - truth))
    for key, expected in (("loss", losses), ("error", errors), ("unmoved", unmoved)):
        torch.testing.assert_close(found[key], torch.tensor(expected).mean())


def test_perfect_embeddings_copy_perfectly() -> None:
    """Each cell of the target has a twin in one of the references and nothing like it elsewhere."""
    cells = 3
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    one = torch.eye(9).view(1, 9, cells, cells)  # [1, D, c, c]: each cell its own direction
    reference = one.flatten(2)[..., order].view(1, 9, cells, cells)
    embeddings = torch.stack([reference, -one, one], dim=1)
    target = 50 * torch.randn(1, 1, 4, 9)
    values = torch.cat([target[..., order], torch.randn(1, 1, 4, 9), target], dim=1)
    found = lab_loss(embeddings, values, Lab(radius=2))
    assert float(found["loss"]) < 1e-6 and float(found["error"]) < 1e-3
    assert float(found["unmoved"]) > 10


def test_the_order_of_the_references_is_free() -> None:
    embeddings, values = unit(2, 4, 6, 4, 4), 30 * torch.randn(2, 4, 1, 16)
    order = [2, 0, 1, 3]
    one, two = (lab_loss(embeddings[:, o], values[:, o], Lab(radius=1)) for o in ([0, 1, 2, 3], order))
    torch.testing.assert_close(one["loss"], two["loss"])


def test_a_large_window_is_none() -> None:
    assert not beyond(5, 4, torch.device("cpu")).any()
    assert torch.equal(beyond(5, 0, torch.device("cpu")), ~torch.eye(25, dtype=torch.bool))
    embeddings, values = unit(1, 3, 6, 4, 4), 30 * torch.randn(1, 3, 1, 16)
    whole, large, small = (lab_loss(embeddings, values, Lab(radius=radius))["loss"] for radius in (3, 100, 2))
    assert torch.equal(whole, large) and not torch.equal(whole, small)


def test_the_input_says_nothing_of_the_dropped_channel() -> None:
    """Pictures that differ in a alone (b alone) and lie within sRGB become the same picture."""
    torch.manual_seed(0)
    lab = torch.stack([torch.rand(4, 6) * 20 + 50, torch.rand(4, 6) * 20, torch.rand(4, 6) * 20])
    for channel in (1, 2):
        other = lab.clone()
        other[channel] = -other[channel]
        pictures = [lab_to_rgb(x, clip=False) for x in (lab, other)]
        assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in pictures)
        assert float((pictures[0] - pictures[1]).abs().max()) > 0.1
        frames = torch.stack(pictures)[:, None]  # two clips of one frame
        one, two = drop_channel(frames, torch.tensor([channel, channel]))
        torch.testing.assert_close(one, two, atol=2e-4, rtol=0)
        kept = 3 - channel
        seen = rgb_to_lab(one[0])
        torch.testing.assert_close(seen[[0, kept]], lab[[0, kept]], atol=0.05, rtol=0)
        assert float(seen[channel].abs().max()) < 0.05
        first, second = drop_channel(frames, torch.tensor([channel, kept]))  # each clip its own channel
        torch.testing.assert_close(first, one)
        assert float((first - second).abs().max()) > 0.05


@pytest.mark.parametrize("detail", [1, 2, 4])
def test_patches_are_means_of_their_places(detail: int) -> None:
    frames = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    found = patches(frames, torch.tensor([1, 2]), 8, detail)
    assert found.shape == (2, 2, detail**2, 4)
    part = 8 // detail
    for b, channel in enumerate((1, 2)):
        for t in range(2):
            plane = rgb_to_lab(frames[b, t])[channel]
            for n in range(4):
                cell = plane[n // 2 * 8 :, n % 2 * 8 :][:8, :8]
                for k in range(detail**2):
                    place = cell[k // detail * part :, k % detail * part :][:part, :part]
                    torch.testing.assert_close(found[b, t, k, n], place.mean())
