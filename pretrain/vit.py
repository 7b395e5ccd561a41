"""Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) of timm as backbones with feature maps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.errors import InputError
from pretrain.inputs import ImageInput, Input, channels_of
from pretrain.timm_networks import create, first_line, timm_module

LARGEST_PATCH, LARGEST_SIDE = 64, 256  # pixels; patches in a row: what a file asks for is not just allocated
SIZES = ("vit_tiny", "vit_small", "vit_base")
BARE = re.compile(r"^(vit_(?:tiny|small|base))(?:_patch(\d+)_(\d+))?$")


class ViT(ImageInput):
    """A ViT that returns the patch tokens after each block as feature maps.

    Args:
        arch: "vit_tiny" (192 channels, 12 blocks), "vit_small" (384) or "vit_base" (768).
        patch: side of a patch in pixels.
        size: side of the images that it is built for; others get interpolated position embeddings, and are
            padded to whole patches.
        input: see `pretrain.inputs.convert`.

    Attributes:
        vit: timm's VisionTransformer.
        channels: block name to number of channels; the last one is after the final norm.
        strides: block name to pixels per cell.
    """

    def __init__(self, arch: str, patch: int, size: int, input: Input = "rgb") -> None:
        super().__init__(input)
        if arch not in SIZES:
            raise InputError(f"there is no transformer {arch!r}: choose one of {', '.join(SIZES)}.")
        if not 1 <= patch <= LARGEST_PATCH or not patch <= size <= LARGEST_SIDE * patch:
            raise InputError(
                f"images of {size} pixels in patches of {patch}: choose patches up to {LARGEST_PATCH} "
                f"pixels, and at most {LARGEST_SIDE} of them in a row."
            )
        if size % patch:
            raise InputError(f"images of {size} pixels don't consist of whole patches of {patch}.")
        self.arch, self.patch, self.image_size = arch, patch, size
        self.vit: Any = timm_module().create_model(
            f"{arch}_patch16_224",
            img_size=size,
            patch_size=patch,
            in_chans=channels_of(input),
            num_classes=0,
            dynamic_img_size=True,
            dynamic_img_pad=True,
        )
        names = [f"block{number + 1}" for number in range(len(self.vit.blocks))]
        self.channels = dict.fromkeys(names, int(self.vit.embed_dim))
        self.strides = dict.fromkeys(names, patch)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB images float `[N, 3, H, W]` in 0..1 to `{block: float [N, C, h, w]}`."""
        tokens, (rows, columns) = self.patches(images)  # [N, L, C]
        x = self.begin(tokens)
        maps = {}
        for name, block in zip(self.channels, self.vit.blocks, strict=True):
            x = block(x)
            maps[name] = x
        maps[name] = self.vit.norm(x)
        return {
            name: kept[:, 1:].transpose(1, 2).unflatten(2, (rows, columns)) for name, kept in maps.items()
        }

    def patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embedded patches with their position embeddings `[N, L, C]`, row by row, and the grid."""
        from timm.layers import resample_abs_pos_embed

        x = self.vit.patch_embed(self.normalised(images))  # [N, h, w, C]
        rows, columns = x.shape[1:3]
        positions = self.vit.pos_embed  # [1, 1 + L, C]
        if (rows, columns) != self.vit.patch_embed.grid_size:
            positions = resample_abs_pos_embed(positions, [rows, columns], num_prefix_tokens=1)
        return x.flatten(1, 2) + positions[:, 1:], (rows, columns)

    def begin(self, tokens: Tensor) -> Tensor:
        """Put the class token before embedded patches: `[N, L, C]` to `[N, 1 + L, C]`."""
        first = self.vit.cls_token + self.vit.pos_embed[:, :1]
        return torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)

    def encode(self, tokens: Tensor) -> Tensor:
        """Embedded patches `[N, L, C]`, all of an image or some, to encoded ones `[N, 1 + L, C]`."""
        return self.vit.norm(self.vit.blocks(self.begin(tokens)))

    def description(self) -> dict[str, Any]:
        """What a backbone file says of it."""
        return {
            "arch": self.arch,
            "patch": self.patch,
            "size": self.image_size,
            "input": self.input,
            "strides": self.strides,
            "channels": self.channels,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


class TimmFeatures(ImageInput):
    """Feature maps of any network of timm, with timm's own weights and normalisation.

    Args:
        name: timm's name, such as "resnet50.a1_in1k" or "vit_small_patch16_224.dino".
        pretrained: whether to load timm's weights (they are fetched once) or to leave random ones.
        path: a checkpoint with other weights, see `pretrain.timm_networks.create`.

    Raises:
        InputError: timm is missing, it gives no feature maps of this network, or the weights can't be had
            or don't fit.
    """

    def __init__(self, name: str, pretrained: bool = True, path: Path | None = None) -> None:
        options: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {})
        net: Any = create(name, pretrained, path, options)[0]
        if not hasattr(net, "forward_intermediates"):
            raise InputError(f"timm:{name} gives no feature maps.")
        config = net.pretrained_cfg
        super().__init__("rgb", config["mean"], config["std"])
        self.arch, self.net = f"timm:{name}", net
        self.norm = not name.startswith("hiera")  # which has no norm of its own for feature maps
        info = net.feature_info
        word = "block" if hasattr(net, "blocks") else "layer"
        names = [f"{word}{number + 1}" for number in range(len(info))]
        self.channels = {key: int(entry["num_chs"]) for key, entry in zip(names, info, strict=True)}
        self.strides = {key: int(entry["reduction"]) for key, entry in zip(names, info, strict=True)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """RGB images float `[N, 3, H, W]` in 0..1 to `{name: float [N, C, h, w]}`.

        Raises:
            InputError: the network takes no images of this size.
        """
        x = self.normalised(images)
        try:
            maps = self.net.forward_intermediates(x, norm=self.norm, intermediates_only=True)
        except (AssertionError, RuntimeError, ValueError) as error:  # each family refuses in its own way
            if "memory" in str(error):
                raise
            side = self.net.pretrained_cfg.get("input_size", (3, "?", "?"))[1]
            raise InputError(
                f"{self.arch} takes no images of {x.shape[3]} x {x.shape[2]} pixels ({first_line(error)}): "
                f"give --size {side}, or another network."
            ) from error
        return dict(zip(self.channels, maps, strict=True))
