"""Inpainting: what was where the hole is? The context encoder.

Pathak, Krähenbühl, Donahue, Darrell, Efros 2016, "Context Encoders: Feature Learning by Inpainting" (arXiv
1604.07379). A part of the image is blanked with the mean colour, and a decoder fills it in from the deepest
feature map: to guess what is missing, the backbone has to understand what is there. The squared error makes
fillings blurred, as a mean of all that is possible; an adversarial loss with a small weight makes them look
like images.

As in the paper: the masks (a central square of half the side, or random blocks over a quarter of the image),
the channel-wise fully-connected layer, images in -1..1, the weights 0.999 and 0.001, ten times the weight
where a central filling overlaps its context, and a discriminator that learns ten times slower. What differs:

- The backbone is a ResNet (or any other) instead of AlexNet. With AlexNet the authors could not make the
  adversarial loss converge and learned features with the squared error alone: `adversarial=false`.
- The decoder always paints the whole image, and the hole is scored; theirs paints the square alone for
  central masks. So one code does for both kinds.
- The discriminator sees the square of a central mask, as theirs does. For random masks it sees the image with
  its holes filled, theirs the painted image as a whole, which the squared error doesn't hold to the context
  here.
- Both networks are updated in the same step from the same fillings; theirs take turns. The gradients of the
  one sum are exactly those of two separate losses, see `Inpainting.loss`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.inputs import IMAGENET_MEAN
from pretrain.methods.base import Method, Views, deepest, full_precision, width
from pretrain.methods.inpainting_networks import Decoder, Discriminator
from pretrain.pictures import Picture, sheet
from pretrain.views import Chance, random_resized_crop

SHARE = 0.25  # of the image that is missing: half the side squared, and at most so much of random blocks
TRIES = 16  # random blocks that are drawn for an image
OVERLAP = 7 / 128  # of the side: how far a central filling reaches into its context
SOME = 1000  # images that the mean colour is taken from


class InpaintingSettings(Config):
    """Settings of `Inpainting`.

    Attributes:
        masks: "central", a square of half the side; or "random", blocks that cover up to a quarter. The
            paper's features are better with random ones.
        overlap: pixels around a hole, not blanked, that are to be painted too, with `border_weight` times
            the weight: the filling shall fit in. None: 7 of 128 pixels for central masks, 0 for random ones.
        border_weight: see `overlap`.
        adversarial: whether there is a discriminator.
        adversarial_weight: of the adversarial loss; the squared error has the rest of 1.
        decoder_width: channels that the decoder begins with.
        discriminator_width: channels that the discriminator begins with.
        discriminator_rate: its learning rate, a tenth of `optimizer.learning_rate` in the paper.
        scale: area of the random crop, as a share of the image.
        flip: probability of mirroring.
    """

    masks: Literal["central", "random"] = "random"
    overlap: int | None = Field(default=None, ge=0)
    border_weight: float = Field(default=10.0, gt=0)
    adversarial: bool = True
    adversarial_weight: float = Field(default=0.001, ge=0, lt=1)
    decoder_width: int = Field(default=256, ge=1)
    discriminator_width: int = Field(default=16, ge=1)
    discriminator_rate: float = Field(default=1e-4, gt=0)
    scale: tuple[Chance, Chance] = (0.35, 1.0)
    flip: Chance = 0.5


class Inpainting(Method):
    """Paint what is missing of an image, from the deepest feature map of what is left.

    Args:
        backbone: see `Method`.
        settings: see `InpaintingSettings`.
        size: side of the images in pixels.

    Attributes:
        colour: RGB `[3, 1, 1]` in 0..1 that holes have: the mean of the training images.

    Raises:
        InputError: the overlap reaches beyond the image, or see `Decoder`.
    """

    Settings: ClassVar[type[Config]] = InpaintingSettings
    colour: Tensor

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings = settings
        self.overlap = settings.overlap
        if self.overlap is None:
            self.overlap = round(OVERLAP * size) if settings.masks == "central" else 0
        if self.overlap > size // 4:
            raise InputError(
                f"inpainting.overlap={self.overlap} reaches beyond the image: give at most {size // 4} for "
                f"data.size={size}."
            )
        strides: Any = backbone.strides
        self.decoder = Decoder(width(backbone), list(strides.values())[-1], size, settings.decoder_width)
        self.discriminator: Discriminator | None = None
        if settings.adversarial:
            side = size // 2 if settings.masks == "central" else size
            self.discriminator = Discriminator(side, settings.discriminator_width)
        self.register_buffer("colour", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))

    def prepare(self, images: np.ndarray, seed: int) -> None:
        """Take the mean colour of the images."""
        some = images[:: max(1, len(images) // SOME)]
        mean = some.mean(axis=(0, 1, 2), dtype=np.float64) / 255
        self.colour.copy_(torch.from_numpy(mean).view(3, 1, 1))

    def views(self, images: Tensor, draws: Draws) -> Views:
        """Whole crops `images` `[N, 3, size, size]`, and `masks`, bool `[N, 1, size, size]`: missing."""
        crops = random_resized_crop(
            images, draws, self.size, scale=self.settings.scale, flip=self.settings.flip
        )
        return {"images": crops, "masks": self.masks(draws).to(images.device)}

    def masks(self, draws: Draws) -> Tensor:
        """A mask for each sample, bool `[N, 1, size, size]`; True = missing."""
        if self.settings.masks == "random":
            return random_blocks(draws, self.size)
        return central_square(self.size, draws.device).expand(draws.count, -1, -1, -1)

    def paint(self, images: Tensor, masks: Tensor) -> Tensor:
        """What the decoder paints of images in 0..1 with holes, float32 `[N, 3, size, size]` in -1..1."""
        blanked = torch.where(masks, self.colour.to(images.dtype), images)
        painted: Tensor = self.decoder(deepest(self.backbone(blanked)))
        return painted

    def loss(self, views: Views) -> dict[str, Tensor]:
        """`loss`, the sum of what both networks learn from; `reconstruction`, `generator`, `discriminator`.

        To the generator (backbone and decoder) the discriminator's parameters are constants, and to the
        discriminator the fillings are. So no term has gradients of both, and one backward pass and one step
        of one optimizer update both networks at once, each by its own loss.
        """
        images, masks = views["images"], views["masks"]
        painted = self.paint(images, masks)
        target = 2 * images.float() - 1
        with full_precision(painted):
            error = self.reconstruction(painted, target, masks)
        if self.discriminator is None:
            return {"loss": error, "reconstruction": error}
        real, filled = self.judged(target, masks), self.judged(torch.where(masks, painted, target), masks)
        wish = constant(self.discriminator, filled)
        scores = self.discriminator(real), self.discriminator(filled.detach())
        with full_precision(painted):
            generator = F.softplus(-wish).mean()  # -log D
            discriminator = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
            share = self.settings.adversarial_weight
            loss = (1 - share) * error + share * generator + discriminator
        return {
            "loss": loss,
            "reconstruction": error,
            "generator": generator,
            "discriminator": discriminator,
        }

    def reconstruction(self, painted: Tensor, target: Tensor, masks: Tensor) -> Tensor:
        """The squared error in the holes and their borders, divided by their size; images in -1..1."""
        holes = masks.float()
        reach = F.max_pool2d(holes, 2 * self.overlap + 1, stride=1, padding=self.overlap)
        weights = holes + self.settings.border_weight * (reach - holes)
        errors = (weights * (painted - target).square()).sum(dim=(1, 2, 3))
        return (errors / (painted.shape[1] * reach.sum(dim=(1, 2, 3)))).mean()

    def judged(self, images: Tensor, masks: Tensor) -> Tensor:
        """What the discriminator sees of images: the square of a central mask, else all."""
        if self.settings.masks == "random":
            return images
        side = self.size // 2
        start = (self.size - side) // 2
        return images[..., start : start + side, start : start + side]

    def groups(self) -> list[dict[str, Any]]:
        """The generator, and the discriminator with its own learning rate and the betas of DCGAN."""
        judge = [] if self.discriminator is None else list(self.discriminator.parameters())
        known = {id(parameter) for parameter in judge}
        groups: list[dict[str, Any]] = [{"params": [p for p in self.parameters() if id(p) not in known]}]
        if judge:
            groups.append({"params": judge, "lr": self.settings.discriminator_rate, "betas": (0.5, 0.999)})
        return groups

    @torch.no_grad()
    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """Images with holes, the same ones filled, and what was there."""
        masks = self.masks(draws).to(images.device)
        found = (self.paint(images, masks) + 1) / 2
        blanked, filled = torch.where(masks, self.colour, images), torch.where(masks, found, images)
        errors = [
            float((guess - images).square().sum() / (3 * masks.sum())) ** 0.5 for guess in (filled, blanked)
        ]
        caption = (
            "Each image with a hole, filled, and as it was. In the holes the error is "
            f"{errors[0]:.3f} of 0..1 (root mean square); with the mean colour it is {errors[1]:.3f}."
        )
        triples = torch.stack([blanked, filled, images], dim=1).flatten(0, 1)
        return [Picture("Fillings", sheet(triples, 6), caption)]


def constant(network: nn.Module, inputs: Tensor) -> Tensor:
    """What a network says, with its parameters as constants: only the inputs get gradients.

    Running statistics of batch norms stay as they are.
    """
    fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
    copies = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found: Tensor = torch.func.functional_call(network, {**fixed, **copies}, (inputs,))
    return found


def central_square(size: int, device: torch.device | str = "cpu") -> Tensor:
    """The mask of a square of half the side in the middle, bool `[1, 1, size, size]`; True = missing."""
    side = size // 2
    start = (size - side) // 2
    steps = torch.arange(size, device=device)
    inside = (steps >= start) & (steps < start + side)
    return (inside[:, None] & inside)[None, None]


def random_blocks(draws: Draws, size: int) -> Tensor:
    """Masks of random blocks, bool `[N, 1, size, size]`; True = missing.

    `TRIES` blocks with sides of an eighth to a quarter of the image are drawn at any pixel; they may
    overlap. Each is taken with which no more than a quarter of the image is missing: a few pixels less are.
    """
    shortest, longest = max(1, size // 8), max(1, size // 4)
    spread = longest - shortest
    sides = shortest + draws.integers(spread + 1, TRIES, 2)
    room = size - sides
    starts = ((room + 1) * draws.uniform(TRIES, 2)).long().minimum(room)
    steps = torch.arange(size, device=starts.device)
    inside = (steps >= starts[..., None]) & (steps < (starts + sides)[..., None])  # [N, TRIES, 2, size]
    inside = inside.byte()  # torch's bool is ten times slower here
    most = int(SHARE * size * size)
    masks = inside.new_zeros(draws.count, size, size)
    for number in range(TRIES):
        rows, columns = inside[:, number].unbind(1)  # [N, size] each
        block = rows[:, :, None] & columns[:, None, :]
        fits = (masks | block).sum(dim=(1, 2), dtype=torch.int32) <= most
        masks |= block & fits.byte()[:, None, None]
    return masks.bool()[:, None]
