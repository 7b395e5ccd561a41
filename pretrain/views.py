"""Batched augmentation on the device: crops, colour jitter, gray, blur, and the views of SimCLR and MoCo.

Images are float `[N, 3, H, W]` RGB in 0..1, and so are results. Every sample has its own random parameters,
all of them from `Draws`: nothing else is random, and a batch split over processes sees the same views.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

import kornia
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from pretrain.config import Config
from pretrain.draws import Draws

TRIES = 10  # crops that are drawn for a sample before its middle is taken, as torchvision does
LUMA = (0.2989, 0.587, 0.114)  # torchvision's gray

Chance = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]


class Views(Config):
    """Settings of `simclr_view`.

    `Views.simclr`, `Views.moco_v1` and `Views.moco_v2` have the settings of the papers, and take others
    instead: `Views.simclr(32, jitter=0.5, blur_p=0)`.

    Attributes:
        size: side of a view in pixels.
        scale: part of the image's area that a crop has, from and to.
        ratio: width over height of a crop, from and to.
        flip: chance of a mirrored view.
        jitter: strength s, which means brightness, contrast and saturation 0.8 s and hue 0.2 s; or these
            four themselves. See `colour_jitter`.
        jitter_p: chance that colours are jittered.
        gray_p: chance of a gray view.
        gray_first: gray before the jitter (MoCo v1), not after it.
        blur_p: chance of blur.
        blur_kernel: side of the blur's kernel, odd; None: nearest to 10 % of `size`.
        blur_sigma: standard deviation of the blur in pixels, from and to.
    """

    size: Annotated[int, Field(ge=1)]
    scale: tuple[Chance, Chance] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: Chance = 0.5
    jitter: Amount | tuple[Amount, Amount, Amount, Amount] = 1.0
    jitter_p: Chance = 0.8
    gray_p: Chance = 0.2
    gray_first: bool = False
    blur_p: Chance = 0.5
    blur_kernel: Annotated[int, Field(ge=1)] | None = None
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("scale", "ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must go from a number above 0 to one not below it")
        if self.amounts[3] > 0.5:
            raise ValueError("hue can't be shifted by more than 0.5, half of the colour circle")
        if self.kernel % 2 == 0:
            raise ValueError("blur_kernel must be odd")
        if self.blur_p > 0 and self.kernel // 2 >= self.size:
            raise ValueError("blur_kernel must be below twice the size, or blur_p 0")
        return self

    @property
    def amounts(self) -> tuple[float, float, float, float]:
        """Jitter of brightness, contrast, saturation and hue."""
        if isinstance(self.jitter, tuple):
            return self.jitter
        return 0.8 * self.jitter, 0.8 * self.jitter, 0.8 * self.jitter, 0.2 * self.jitter

    @property
    def kernel(self) -> int:
        """Side of the blur's kernel: odd, and at least 3 unless set."""
        return self.blur_kernel or max(3, 2 * (self.size // 20) + 1)

    @classmethod
    def simclr(cls, size: int, **changes: Any) -> Self:
        """As Chen et al. 2020 (arXiv 2002.05709); for CIFAR-10 they take `jitter=0.5, blur_p=0`."""
        return cls(size=size, **changes)

    @classmethod
    def moco_v1(cls, size: int, **changes: Any) -> Self:
        """As He et al. 2020 (arXiv 1911.05722): gray, then jitter of every view, no blur."""
        jitter = (0.4, 0.4, 0.4, 0.4)
        paper: dict[str, Any] = {"scale": (0.2, 1), "jitter": jitter, "jitter_p": 1, "blur_p": 0}
        return cls(**paper | {"size": size, "gray_first": True} | changes)

    @classmethod
    def moco_v2(cls, size: int, **changes: Any) -> Self:
        """As Chen et al. 2020 (arXiv 2003.04297): jitter 0.4, 0.4, 0.4, 0.1, and blur."""
        paper: dict[str, Any] = {"size": size, "scale": (0.2, 1), "jitter": 0.5}
        return cls(**paper | changes)


def simclr_view(images: Tensor, draws: Draws, settings: Views) -> Tensor:
    """One view of each image: crop and flip, colour jitter, gray, blur. Float `[N, 3, size, size]`.

    Call it twice with the same draws object for two views. See `Views` for the papers.
    """
    s = settings
    brightness, contrast, saturation, hue = s.amounts
    views = random_resized_crop(images, draws, s.size, s.scale, s.ratio, s.flip)
    if s.gray_first:
        views = grayscale(views, draws, s.gray_p)
    views = colour_jitter(views, draws, brightness, contrast, saturation, hue, s.jitter_p)
    if not s.gray_first:
        views = grayscale(views, draws, s.gray_p)
    if s.blur_p > 0:
        views = gaussian_blur(views, draws, s.blur_p, s.blur_sigma, s.kernel)
    return views


def random_resized_crop(
    images: Tensor,
    draws: Draws,
    size: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """Cut a random part out of each image, resize it to `size` and mirror some: float `[N, 3, size, size]`.

    The parts are drawn as by torchvision's RandomResizedCrop, see `crop_boxes`.

    Args:
        scale: part of the area, from and to.
        ratio: width over height, from and to.
        flip: chance of a mirrored result.
    """
    boxes = crop_boxes(draws, images.shape[2], images.shape[3], scale, ratio)
    mirrored = draws.chance(flip).to(images.device)
    return crop_resize(images, boxes.to(images.device), size, mirrored)


def crop_boxes(
    draws: Draws, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Random boxes in whole pixels, int64 `[N, 4]`: top, left, height, width.

    The area is uniform and the logarithm of the ratio, too. Of `TRIES` boxes the first that fits in the image
    counts; if none does, the largest box in the middle whose ratio is allowed.
    """
    drawn = draws.uniform(TRIES, 2)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * drawn[..., 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * drawn[..., 1])
    tall, wide = (area / shape).sqrt().round().long(), (area * shape).sqrt().round().long()  # [N, TRIES]
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    middle = min(max(width / height, ratio[0]), ratio[1])
    middle_tall = min(height, max(1, round(width / middle)))
    middle_wide = min(width, max(1, round(height * middle)))
    tall = tall.gather(1, first)[:, 0].where(found, torch.tensor(middle_tall, device=tall.device))
    wide = wide.gather(1, first)[:, 0].where(found, torch.tensor(middle_wide, device=wide.device))
    room = torch.stack([height - tall, width - wide], dim=1)  # how far the box can be moved
    place = ((room + 1) * draws.uniform(2)).long().minimum(room)
    place = place.where(found[:, None], room // 2)
    return torch.cat([place, tall[:, None], wide[:, None]], dim=1)


def crop_resize(images: Tensor, boxes: Tensor, size: int, mirrored: Tensor) -> Tensor:
    """Boxes of images, resized to `[N, 3, size, size]` (bilinear, `align_corners=False`).

    Each result is what `F.interpolate` makes of its box alone. Bilinear weights reach two pixels, so that
    boxes up to twice `size` need no more care; of a larger one a grid of n x n points a pixel is taken and
    averaged, with n the smallest for which the points are at most two pixels apart: no pixel of the box is
    left out, and fine textures don't turn into false coarse ones.

    Args:
        boxes: int64 `[N, 4]`: top, left, height, width.
        mirrored: bool `[N]`: results to flip. They are flipped afterwards: on a CPU, to sample from right to
            left takes up to twice the time.
    """
    largest = max(images.shape[2:])
    if largest <= 2 * size:
        return flip(_sample(images, boxes, size), mirrored)
    points = ((boxes[:, 2:].amax(dim=1) + 2 * size - 1) // (2 * size)).clamp(min=1)
    result = images.new_empty(len(images), images.shape[1], size, size)
    for n in range(1, math.ceil(largest / (2 * size)) + 1):
        rows = (points == n).nonzero()[:, 0]
        if len(rows):
            fine = _sample(images.index_select(0, rows), boxes[rows], n * size)
            result.index_copy_(0, rows, F.avg_pool2d(fine, n))
    return flip(result, mirrored)


def _sample(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    steps = torch.arange(size, device=images.device, dtype=images.dtype) + 0.5
    boxes = boxes.to(images.dtype)
    places = []
    for axis, side in enumerate(images.shape[2:]):
        start, length = boxes[:, axis, None], boxes[:, axis + 2, None]
        pixels = start + steps * (length / size) - 0.5
        # Nothing outside the box has a say: as if it had been cut out before.
        pixels = pixels.maximum(start).minimum(start + length - 1)
        places.append((2 * pixels + 1) / side - 1)  # what grid_sample calls -1..1
    y, x = places
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_crop(images: Tensor, draws: Draws, size: int, flip: float = 0.5) -> Tensor:
    """Cut a random square out of each image without resizing, and mirror some: `[N, 3, size, size]`.

    Pixels are copied, so that any dtype is taken and results are exact.
    """
    count, channels, height, width = images.shape
    if not 0 < size <= min(height, width):
        raise ValueError(f"no crop of {size} pixels fits in images of {height} x {width}")
    steps = torch.arange(size, device=images.device)
    rows = draws.integers(height - size + 1).to(images.device)[:, None] + steps
    columns = draws.integers(width - size + 1).to(images.device)[:, None] + steps
    columns = columns.flip(1).where(draws.chance(flip).to(images.device)[:, None], columns)
    band = images.gather(2, rows[:, None, :, None].expand(count, channels, size, width))
    return band.gather(3, columns[:, None, None, :].expand(count, channels, size, size))


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror left to right the images for which `mask`, bool `[N]`, is true."""
    rows = mask.nonzero()[:, 0]
    return images.index_copy(0, rows, images.index_select(0, rows).flip(3))


def colour_jitter(
    images: Tensor,
    draws: Draws,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 0.8,
) -> Tensor:
    """Change colours at random with the meaning of torchvision's ColorJitter, for each image on its own.

    Args:
        brightness, contrast, saturation: factors are uniform in 1 - amount .. 1 + amount, at least 0.
        hue: shifts are uniform in -hue .. hue, in turns of the colour circle; at most 0.5.
        p: chance that an image is changed; then all four are, in random order.
    """
    changed = draws.chance(p)
    order = draws.permutations(4)
    amounts = (brightness, contrast, saturation, hue)
    ends = [(max(0.0, 1 - amount), 1 + amount) for amount in amounts[:3]] + [(-hue, hue)]
    low, high = torch.tensor(ends, device=draws.device).T
    values = (low + (high - low) * draws.uniform(4)).to(images.device)
    idle = torch.tensor(amounts, device=order.device)[order] == 0
    order = order.masked_fill(idle | ~changed[:, None], -1).to(images.device)
    # Slot by slot, images with the same turn are put side by side: 24 orders would make 24 small groups.
    result = images
    place = torch.arange(len(images), device=images.device)  # of each image in `result`
    for turns in order.unbind(1):
        groups = [(turns == operation).nonzero()[:, 0] for operation in range(-1, len(ADJUST))]
        together = torch.cat(groups)
        result = result.index_select(0, place[together])
        place = together.argsort()
        _, *parts = result.split([len(group) for group in groups])  # the first have no turn
        for operation, (adjust, part) in enumerate(zip(ADJUST, parts, strict=True)):
            adjust(part, values[groups[operation + 1], operation])
    return result.index_select(0, place)


def adjust_brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply with factors `[N]`, in place: 0 is black, 1 changes nothing."""
    return images.mul_(factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from each image's mean gray by factors `[N]`, in place: 0 is gray, 1 changes nothing."""
    factor = factor[:, None, None, None]
    mean = images.mean(dim=(2, 3)) @ images.new_tensor(LUMA)  # the mean of the gray is the gray of the mean
    mean = mean[:, None, None, None]
    return torch.addcmul(mean * (1 - factor), images, factor, out=images).clamp_(0, 1)


def adjust_saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """Move away from each pixel's gray by factors `[N]`, in place: 0 is gray, 1 changes nothing."""
    factor = factor[:, None, None, None]
    return torch.addcmul(luma(images).mul_(1 - factor), images, factor, out=images).clamp_(0, 1)


def adjust_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV by shifts `[N]` in turns of the circle, in place; value and saturation stay."""
    red, green, blue = images.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(low)
    # Colours scaled to 0..1 by `low` and `chroma`: the hue in sixths of a circle is green + blue + 1 - red
    # from red over green to cyan, and minus that from red over blue: no case for each third, which is slow.
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1)
    hue.copysign_(green - blue).add_(6 * shift[:, None, None])
    hue.sub_((hue / 6).floor_(), alpha=6)  # to 0..6
    # Each colour is high over a third of the circle, low over a third, and linear between.
    high = (
        (hue - 3).abs_().sub_(1),
        (hue - 2).abs_().neg_().add_(2),
        (hue - 4).abs_().neg_().add_(2),
    )
    for colour, part in zip((red, green, blue), high, strict=True):
        torch.addcmul(low, chroma, part.clamp_(0, 1), out=colour)
    return images


ADJUST = (adjust_brightness_, adjust_contrast_, adjust_saturation_, adjust_hue_)


def luma(images: Tensor) -> Tensor:
    """The gray `[N, 1, H, W]` of images: 0.2989 R + 0.587 G + 0.114 B."""
    red, green, blue = images.split(1, dim=1)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def grayscale(images: Tensor, draws: Draws, p: float) -> Tensor:
    """Make images gray, still with three channels, each with chance `p`."""
    chosen = draws.chance(p).to(images.device)
    rows = chosen.nonzero()[:, 0]
    gray = luma(images.index_select(0, rows)).expand(-1, 3, -1, -1)
    return images.index_copy(0, rows, gray)


def gaussian_blur(
    images: Tensor,
    draws: Draws,
    p: float,
    sigma: tuple[float, float] = (0.1, 2.0),
    kernel: int = 3,
) -> Tensor:
    """Blur images, each with chance `p` and its own standard deviation, uniform in `sigma` pixels.

    Args:
        kernel: side of the kernel in pixels, odd. It may not be above twice the image's side less one, as
            the image is mirrored at its border.
    """
    if kernel % 2 == 0 or kernel // 2 >= min(images.shape[2:]):
        raise ValueError(f"a kernel of {kernel} is even or too large for {tuple(images.shape)}")
    chosen = draws.chance(p)
    sigmas = draws.uniform(1, low=sigma[0], high=sigma[1]).expand(-1, 2)
    rows = chosen.nonzero()[:, 0].to(images.device)
    result = images.clone()
    if len(rows):
        sigmas = sigmas.to(images.device)[rows]
        sharp = images.index_select(0, rows)
        result.index_copy_(
            0, rows, kornia.filters.gaussian_blur2d(sharp, (kernel, kernel), sigmas, "reflect")
        )
    return result
