"""The pixel probe against features up-sampled to every pixel, and on shapes that a line can tell."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.device import fast_dtype
from pretrain.errors import InputError
from pretrain.probe import pixels as module
from pretrain.probe.linear import Linear, Standard
from pretrain.probe.pixels import PixelResult, pixel_probe

from .tiny import COLOURS, Tiny

BF16 = fast_dtype(torch.device("cpu")) == torch.bfloat16


def scene(seed: int, size: tuple[int, int] = (32, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Halves of two colours, ids 3 and 7, with a void corner."""
    rng = np.random.default_rng(seed)
    edge = int(rng.integers(size[1] // 4, 3 * size[1] // 4))
    mask = np.full(size, 3, np.uint8)
    mask[:, edge:] = 7
    image = COLOURS[(mask == 7).astype(int)] + rng.integers(0, 20, (*size, 3)).astype(np.uint8)
    mask[:4, :4] = 255
    return image, mask


def scenes(count: int, first: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pairs = [scene(first + number) for number in range(count)]
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def judged(**options: object) -> PixelResult:
    return pixel_probe(Tiny(), *scenes(4), *scenes(3, 10), **options)  # type: ignore[arg-type]


def test_two_colours_are_told_apart() -> None:
    result = judged()
    assert result.classes == (3, 7) and [one.layer for one in result.layers] == ["a", "b"]
    for one in result.layers:
        assert one.accuracy > 0.93 and one.miou > 0.88 and set(one.iou) == {3, 7}
        assert one.confusion.sum() == 3 * (32 * 40 - 16)  # void pixels don't count
        assert one.miou == pytest.approx(np.mean(list(one.iou.values())))
    assert result.pixels == 4 * (32 * 40 - 16)
    best = result.best
    assert best.held_out == max(one.held_out or 0 for one in result.layers)
    assert result.shown == [0, 1, 2] and len(best.predicted) == 3
    truth = scenes(3, 10)[1]
    right = sum(int((p == t).sum()) for p, t in zip(best.predicted, truth, strict=True))
    assert right / (3 * (32 * 40 - 16)) == pytest.approx(best.accuracy)


def test_scores_are_those_of_the_definition() -> None:
    result = judged(pictures=3)
    truth = np.stack(scenes(3, 10)[1])
    for one in result.layers:
        predicted = np.stack(one.predicted)
        valid = truth != 255
        for class_, value in one.iou.items():
            a, b = (truth == class_) & valid, (predicted == class_) & valid
            assert value == pytest.approx((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [(32, 40), (30, 37), (9, 50)])
def test_the_logits_of_cells_give_what_the_features_of_pixels_give(size: tuple[int, int]) -> None:
    """Sizes that are and that aren't multiples of the stride: padded, and cropped again."""
    image, _ = scene(1, size)
    backbone = Tiny().eval()
    generator = torch.Generator().manual_seed(0)
    head = Linear(torch.randn(5, 8, generator=generator), torch.randn(5, generator=generator), 1.0)
    scale = Standard(torch.randn(8, generator=generator), torch.rand(8, generator=generator))
    bottom, right = -size[0] % 4, -size[1] % 4
    padded = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=BF16):
        maps = backbone(torch.from_numpy(padded).permute(2, 0, 1)[None] / 255)["b"].float()
    full = F.interpolate(maps, padded.shape[:2], mode="bilinear", align_corners=False)
    features = full[0, :, : size[0], : size[1]].permute(1, 2, 0)  # [H, W, C]
    expected = head(scale(features)).argmax(-1).numpy()

    probe = module._Probe(backbone, torch.device("cpu"), None, ["b"])
    got = probe.classify(image, {"b": (scale, head)})["b"]
    assert got.shape == size and (got == expected).mean() > 0.995  # equal but for ties of rounding
    places = np.arange(0, size[0] * size[1], 7)
    torch.testing.assert_close(
        probe.at(image, places)["b"], features.reshape(-1, 8)[places], atol=1e-4, rtol=1e-3
    )


def test_shrunk_images_keep_the_size_of_their_masks() -> None:
    result = judged(size=16)
    assert all(one.shape == (32, 40) for layer in result.layers for one in layer.predicted)
    assert result.layers[0].accuracy > 0.9


def test_a_class_that_only_the_test_has_counts_as_missed() -> None:
    images, masks = scenes(3, 10)
    masks[0] = np.where(masks[0] == 7, 9, masks[0]).astype(np.uint8)
    result = pixel_probe(Tiny(), *scenes(4), images, masks)
    assert result.classes == (3, 7, 9) and result.layers[0].iou[9] == 0
    assert result.layers[0].miou == pytest.approx(np.mean(list(result.layers[0].iou.values())))


def test_a_class_that_only_the_training_has_is_not_in_the_mean() -> None:
    images, masks = scenes(4)
    masks[0][10:20, 2:6] = 5
    result = pixel_probe(Tiny(), images, masks, *scenes(3, 10))
    assert result.classes == (3, 5, 7) and set(result.layers[0].iou) == {3, 7}


def test_a_class_that_only_the_prediction_has_is_not_in_the_mean_either() -> None:
    matrix = np.array([[6, 2, 0], [0, 0, 0], [0, 1, 3]])
    one = module._score("a", Linear(torch.zeros(3, 1), torch.zeros(3), 1.0), matrix, np.array([2, 4, 9]), [])
    assert one.iou == {2: 6 / 8, 9: 3 / 4} and one.miou == 0.75 and one.accuracy == 0.75


def test_the_pixels_are_a_random_subset_and_the_same_each_time() -> None:
    first, again, other = (judged(pixels=200, layers=["a"], seed=seed) for seed in (0, 0, 1))
    assert first.pixels == 200
    assert np.array_equal(first.layers[0].confusion, again.layers[0].confusion)
    assert not np.array_equal(first.layers[0].confusion, other.layers[0].confusion)
    counts = [100, 0, 300, 50]
    chosen = module._choose(counts, 90, 0)
    assert sum(map(len, chosen)) == 90 and len(chosen[1]) == 0
    for part, count in zip(chosen, counts, strict=True):
        assert len(set(part.tolist())) == len(part) and set(part.tolist()) <= set(range(count))
    assert len(chosen[2]) > len(chosen[0]) > len(chosen[3])
    assert [part.tolist() for part in module._choose([2, 3], 90, 0)] == [[0, 1], [0, 1, 2]]


def test_whole_images_are_held_out() -> None:
    assert module._last_tenth([2, 3, 1]).tolist() == [False] * 5 + [True]
    assert module._last_tenth([4]).tolist() == [False] * 4
    assert module._last_tenth([1] * 30).sum() == 3


def test_layers_share_memory_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD", 4 * 10 * 7)
    assert module._groups({"a": 3, "b": 4, "c": 9, "d": 1}, 10) == [["a", "b"], ["c"], ["d"]]
    few = judged()
    monkeypatch.setattr(module, "_HELD", 1e9)
    many = judged()
    for one, other in zip(few.layers, many.layers, strict=True):
        assert np.array_equal(one.confusion, other.confusion)


def test_masks_of_another_size_and_single_classes_are_refused() -> None:
    images, masks = scenes(3)
    with pytest.raises(InputError, match="the mask of training image 1 has 40x30 pixels, its image 40x32"):
        pixel_probe(Tiny(), images, [masks[0], masks[1][:30], masks[2]], images, masks)
    with pytest.raises(InputError, match="fewer than two classes"):
        pixel_probe(Tiny(), images, [np.full((32, 40), 3, np.uint8)] * 3, images, masks)
    with pytest.raises(InputError, match="no labelled pixel"):
        pixel_probe(Tiny(), images, masks, images, [np.full((32, 40), 255, np.uint8)] * 3)
    with pytest.raises(InputError, match="no layer 'z'"):
        judged(layers=["z"])
    with pytest.raises(ValueError, match="mask"):
        pixel_probe(Tiny(), images, masks[:1], images, masks)
