"""Identities of the conversions between pixels, resized pixels and cells."""

import pytest
import torch

from vidtrack.geometry import (
    cell_to_pixel,
    cells,
    pad_to_stride,
    pixel_to_cell,
    rescale_points,
    to_cells,
    to_pixels,
    working_size,
)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((480, 854), 480, (480, 854)),
        ((1080, 1920), 480, (480, 853)),
        ((1920, 1080), 480, (853, 480)),
        ((100, 200), 480, (200, 400)),
        ((240, 432), 480, (480, 864)),
        ((360, 640), 480, (480, 853)),
        ((100, 200), None, (100, 200)),
        ((1080, 1920), None, (1080, 1920)),
        ((3, 4000), 2, (2, 2667)),
    ],
)
def test_working_size(size: tuple[int, int], short: int | None, expected: tuple[int, int]) -> None:
    assert working_size(*size, short) == expected


def test_cell_and_pixel_are_inverse_and_centred() -> None:
    xy = torch.tensor([[0.0, 0.0], [1.0, 5.0]])
    torch.testing.assert_close(pixel_to_cell(cell_to_pixel(xy, 8), 8), xy)
    assert cell_to_pixel(torch.tensor(0.0), 8) == 3.5  # the middle of pixels 0..7
    assert cell_to_pixel(torch.tensor(2.0), 1) == 2  # a cell of one pixel is that pixel


def test_rescaling_points_keeps_corners_and_returns() -> None:
    corners = torch.tensor([[-0.5, -0.5], [853.5, 479.5]], dtype=torch.float64)
    moved = rescale_points(corners, (480, 854), (240, 427))
    torch.testing.assert_close(moved, torch.tensor([[-0.5, -0.5], [426.5, 239.5]], dtype=torch.float64))
    torch.testing.assert_close(rescale_points(moved, (240, 427), (480, 854)), corners)


@pytest.mark.parametrize("size", [(16, 24), (17, 30), (1, 1)])
def test_padding_repeats_the_border(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    padded = pad_to_stride(image, 8)
    assert padded.shape[-2:] == (cells(size[0], 8) * 8, cells(size[1], 8) * 8)
    torch.testing.assert_close(padded[..., : size[0], : size[1]], image)
    torch.testing.assert_close(padded[0, :, -1, -1], image[0, :, -1, -1])


@pytest.mark.parametrize("original", [(64, 96), (60, 90), (128, 192), (33, 71)])
def test_a_linear_ramp_survives_cells_and_back(original: tuple[int, int]) -> None:
    """Down to cells and up again, a ramp stays itself away from the border: no half pixel is lost."""
    ramp = torch.linspace(0, 1, original[1]).expand(1, *original).contiguous()
    back = to_pixels(to_cells(ramp, original, 8), original, 8, original)
    inner = slice(8, original[1] // 8 * 8 - 8)
    torch.testing.assert_close(back[0, :, inner], ramp[0, :, inner], atol=1e-5, rtol=0)


def test_up_sampling_equals_interpolate_where_nothing_is_padded() -> None:
    map_ = torch.rand(3, 6, 9)
    expected = torch.nn.functional.interpolate(
        map_[None], size=(48, 72), mode="bilinear", align_corners=False
    )[0]
    torch.testing.assert_close(to_pixels(map_, (48, 72), 8, (48, 72)), expected, atol=1e-5, rtol=0)
    part = to_pixels(map_, (48, 72), 8, (48, 72), slice(5, 20), slice(30, 41))
    torch.testing.assert_close(part, expected[:, 5:20, 30:41], atol=1e-5, rtol=0)


def test_a_smaller_working_size_keeps_the_place() -> None:
    """A blob computed at half size comes back at the same place of the original."""
    yy, xx = torch.meshgrid(torch.arange(160.0), torch.arange(240.0), indexing="ij")
    blob = torch.exp(-((xx - 120) ** 2 + (yy - 70) ** 2) / (2 * 25.0**2))[None]
    back = to_pixels(to_cells(blob, (80, 120), 8), (80, 120), 8, (160, 240))[0]
    mass = back.sum()
    assert abs(float((back * xx).sum() / mass) - 120) < 0.3
    assert abs(float((back * yy).sum() / mass) - 70) < 0.3
