"""MAE: most patches of an image are hidden; what do they look like?

He, Chen, Xie, Li, Dollár, Girshick 2022, "Masked Autoencoders Are Scalable Vision Learners" (arXiv
2111.06377). A vision transformer encodes the visible patches only, which makes a step cheap; a light decoder
gets mask tokens for the hidden ones and predicts their pixels. To do that well from a quarter of an image,
the encoder has to know what is in it. Afterwards the decoder is thrown away and all patches are encoded.

As in the paper: 75 % masked, fixed sine-cosine positions, a class token, mean square error on masked patches
only, crop and flip as the only augmentation. What differs: a ViT-Tiny and a decoder of 128 channels and 2
blocks (the paper has ViT-Large, 512 and 8), in keeping with small images and 20 minutes of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pretrain.config import Config
from pretrain.draws import Draws
from pretrain.errors import InputError
from pretrain.masking import KINDS, Kind, draw_mask, masked_count, take, visible_first
from pretrain.methods.base import Method, Views, full_precision
from pretrain.methods.mae_decoder import Decoder, positions
from pretrain.pictures import Picture, sheet
from pretrain.views import random_resized_crop
from pretrain.vit import ViT

FLAT = 1e-6  # added to the variance of a patch, as in the paper: a flat one has none
FEW = 256  # patches up to which plain attention is used on CPUs
SHOWN = 8  # images in a picture
HIDDEN = 0.5  # gray of a masked patch in a picture


class MAESettings(Config):
    """What is hidden and what has to be found.

    Attributes:
        masking: "random" patches, "block": rectangles, or "grid": all but evenly spread ones; see
            `pretrain.masking`.
        ratio: share of the patches that is masked; the count is rounded and the same for all images.
        norm_pix_loss: each patch to predict is normalised by its own mean and spread. On by default: the
            paper finds better features by it (84.9 to 85.4 % fine-tuned, 73.5 to 73.9 % linear), as flat
            patches then count as much as contrasty ones. The network says nothing of a patch's brightness
            then: `MAE.pixels` takes it from the truth for pictures.
        channels: "rgb", or "l": encoder and targets are the lightness of Lab.
        scale: area of the random crop, as a share of the image.
        flip: probability of mirroring.
        decoder_width, decoder_blocks, decoder_heads: of the decoder, see `Decoder`.
    """

    masking: Kind = "random"
    ratio: float = Field(default=0.75, gt=0, lt=1)
    norm_pix_loss: bool = True
    channels: Literal["rgb", "l"] = "rgb"
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.2, 1.0)
    flip: float = Field(default=0.5, ge=0, le=1)
    decoder_width: int = Field(default=128, ge=4)
    decoder_blocks: int = Field(default=2, ge=1)
    decoder_heads: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must go from a number to one not below it")
        return self


class MAE(Method):
    """Pixels of hidden patches, predicted from the visible ones.

    Args:
        backbone: a `ViT`. Its position embeddings become fixed sines and cosines, also those of a backbone
            to go on from.
        settings: see `MAESettings`.
        size: side of the images in pixels.

    Raises:
        InputError: the backbone is no ViT, images don't consist of whole patches, or the ratio masks none
            or all of the patches.
    """

    Settings: ClassVar[type[Config]] = MAESettings
    backbone: ViT

    def __init__(self, backbone: nn.Module, settings: Any, size: int) -> None:
        super().__init__(backbone, size)
        self.settings = settings
        if not isinstance(backbone, ViT):
            raise InputError("mae learns vision transformers only: set backbone.arch=vit_tiny.")
        patch = backbone.patch
        if size % patch:
            raise InputError(
                f"data.size={size} doesn't consist of whole patches of {patch} pixels: give a multiple."
            )
        if settings.norm_pix_loss and patch == 1:
            raise InputError("patches of one pixel have no spread: set mae.norm_pix_loss=false.")
        side = size // patch
        self.patch, self.grid = patch, (side, side)
        masked = masked_count(settings.ratio, side * side)
        if not 0 < masked < side * side:
            raise InputError(
                f"mae.ratio={settings.ratio} masks {masked} of {side * side} patches: both kinds "
                "are needed, so choose another ratio or a smaller backbone.patch."
            )
        fix_positions(backbone)
        self.decoder = Decoder(
            int(backbone.vit.embed_dim),
            self.grid,
            patch * patch * len(backbone.mean),
            settings.decoder_width,
            settings.decoder_blocks,
            settings.decoder_heads,
        )

    @classmethod
    def make_backbone(cls, make: Any, settings: Any) -> nn.Module:
        backbone: nn.Module = make(input=settings.channels)
        return backbone

    def views(self, images: Tensor, draws: Draws) -> Views:
        """A random crop and what of it is hidden: `images` `[N, 3, size, size]`, `mask` bool `[N, L]`."""
        s = self.settings
        crops = random_resized_crop(images, draws, self.size, scale=s.scale, flip=s.flip)
        return {"images": crops, "mask": draw_mask(s.masking, draws, *self.grid, s.ratio)}

    def loss(self, views: Views) -> dict[str, Tensor]:
        with plain_attention(self, views["mask"]):
            prediction = self.reconstruct(views["images"], views["mask"])
        with full_precision(prediction):
            loss = masked_error(prediction.float(), self.targets(views["images"]), views["mask"])
        return {"loss": loss}

    def encode(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The class token and the visible patches, encoded: `[N, 1 + K, C]`; and how to restore their order.

        Args:
            images: float `[N, 3, size, size]` in 0..1.
            mask: bool `[N, L]`, True = masked, equally many for each image.
        """
        tokens, _ = self.backbone.patches(images)  # [N, L, C]
        order, restore = visible_first(mask)
        visible = order[:, : int((~mask[0]).sum())]
        return self.backbone.encode(take(tokens, visible)), restore

    def reconstruct(self, images: Tensor, mask: Tensor) -> Tensor:
        """What the network says of all patches, in the units of `targets`: `[N, L, patch² x channels]`."""
        encoded, restore = self.encode(images, mask)
        out: Tensor = self.decoder(encoded, restore)
        return out

    def targets(self, images: Tensor) -> Tensor:
        """To be predicted: normalised pixels of what the encoder sees, `[N, L, patch² x channels]`."""
        patches = patchify(self.backbone.normalised(images), self.patch)
        if not self.settings.norm_pix_loss:
            return patches
        mean, spread = _statistics(patches)
        return (patches - mean) / spread

    def pixels(self, prediction: Tensor, images: Tensor) -> Tensor:
        """The image that a prediction means, RGB `[N, 3, size, size]` in 0..1: `targets` undone.

        With `norm_pix_loss` a patch gets the mean and the spread that it has in the truth.

        Args:
            prediction: `[N, L, patch² x channels]`.
            images: the truth, RGB `[N, 3, size, size]` in 0..1.
        """
        if self.settings.norm_pix_loss:
            mean, spread = _statistics(patchify(self.backbone.normalised(images), self.patch))
            prediction = prediction * spread + mean
        seen = unpatchify(prediction, self.patch, self.grid) * self.backbone.std + self.backbone.mean
        return rgb(seen)

    @torch.no_grad()
    def pictures(self, images: Tensor, draws: Draws) -> list[Picture]:
        """What is left of some images, what the network makes of it, and the truth; and other masks."""
        shown, ratio = images[:SHOWN].float(), self.settings.ratio
        kinds = {kind: draw_mask(kind, draws, *self.grid, ratio)[: len(shown)] for kind in KINDS}
        truth = rgb(self.backbone.convert(shown))
        hidden, filled = self._filled(shown, kinds[self.settings.masking])
        undone = (
            " Brightness and contrast of a patch are the original's, as norm_pix_loss leaves them open."
            if self.settings.norm_pix_loss
            else ""
        )
        first = Picture(
            "Reconstructions",
            sheet(torch.cat([hidden, filled, truth]), len(shown)),
            f"Top: {1 - ratio:.0%} of the patches are visible. Middle: the others as the network sees them, "
            f"with the visible ones pasted. Bottom: the originals.{undone}",
        )
        few = max(1, len(shown) // 2)
        rows = []
        for mask in kinds.values():
            pairs = self._filled(shown[:few], mask[:few])
            rows.append(torch.stack(pairs, dim=1).flatten(0, 1))
        second = Picture(
            "Kinds of masks",
            sheet(torch.cat(rows), 2 * few),
            f"From top to bottom: {', '.join(kinds)}; each masked image with its reconstruction beside it. "
            f"The network was trained with masking={self.settings.masking}.",
        )
        return [first, second]

    def _filled(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of images, and it with the masked patches reconstructed: both RGB in 0..1."""
        truth = rgb(self.backbone.convert(images))
        where = mask.view(-1, 1, *self.grid)
        for axis in (2, 3):
            where = where.repeat_interleave(self.patch, axis)  # [N, 1, size, size]
        found = self.pixels(self.reconstruct(images, mask).float(), images)
        return truth.masked_fill(where, HIDDEN), found.where(where, truth)


@contextmanager
def plain_attention(module: nn.Module, mask: Tensor) -> Iterator[None]:
    """Turn off fused attention inside, where it is slow.

    On CPUs the backward pass of PyTorch's fused attention in bfloat16 takes so long for few tokens that a
    step without it needs a third less time (ViT-Tiny, 64 patches).

    Args:
        module: with timm's attention in it.
        mask: bool `[N, L]`, for the device and the number of patches.
    """
    layers: list[Any] = [layer for layer in module.modules() if getattr(layer, "fused_attn", False)]
    if mask.device.type != "cpu" or mask.shape[1] > FEW:
        layers = []
    for layer in layers:
        layer.fused_attn = False
    try:
        yield
    finally:
        for layer in layers:
            layer.fused_attn = True


def fix_positions(backbone: ViT) -> None:
    """Give a ViT fixed sine-cosine position embeddings; that of the class token is zero."""
    vit = backbone.vit
    table = positions(vit.patch_embed.grid_size, int(vit.embed_dim))
    with torch.no_grad():
        vit.pos_embed.copy_(torch.cat([torch.zeros(1, table.shape[1]), table])[None])
    vit.pos_embed.requires_grad_(False)


def patchify(images: Tensor, patch: int) -> Tensor:
    """`[N, C, H, W]` to the values of its patches, row by row: `[N, L, patch * patch * C]`, channels last."""
    x = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # [N, C, h, p, w, p]
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`: `[N, L, patch * patch * C]` to `[N, C, H, W]`."""
    x = patches.unflatten(2, (patch, patch, -1)).unflatten(1, grid)  # [N, h, w, p, p, C]
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def masked_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean square error over the values of masked patches.

    Args:
        prediction, target: `[N, L, D]`.
        mask: bool `[N, L]`, True = masked.
    """
    errors = (prediction - target).square().mean(dim=2)  # [N, L]
    return (errors * mask).sum() / mask.sum()


def rgb(seen: Tensor) -> Tensor:
    """RGB in 0..1 of what an encoder sees: RGB itself, or lightness `[N, 1, H, W]` in 0..1 as gray."""
    if seen.shape[1] == 1:
        from kornia.color import lab_to_rgb  # heavy, and most encoders see RGB

        light = 100 * seen.clamp(0, 1)
        seen = lab_to_rgb(torch.cat([light, torch.zeros_like(light), torch.zeros_like(light)], dim=1))
    return seen.clamp(0, 1)


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, `[N, L, 1]` both."""
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return mean, (variance + FLAT).sqrt()
