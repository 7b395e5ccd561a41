"""The light transformer that turns encoded visible patches into pixels of all patches; thrown away later."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.errors import InputError
from pretrain.masking import take
from pretrain.timm_networks import timm_module


def positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed position embeddings: sines and cosines of row and column, float `[L, width]`, row by row.

    As in MAE and MoCo v3 (Chen et al. 2021, arXiv 2104.02057), of Vaswani et al. 2017 (arXiv 1706.03762).

    Args:
        grid: rows and columns.
        width: a multiple of 4.
    """
    from timm.layers import build_sincos2d_pos_embed

    made: Tensor = build_sincos2d_pos_embed(list(grid), width)
    return made


class Decoder(nn.Module):
    """A mask token in the place of each masked patch, positions on all, some blocks, one linear layer.

    Args:
        encoded: width of the encoded patches.
        grid: rows and columns of patches.
        outputs: values of a patch: patch² x channels.
        width, blocks, heads: of the transformer.

    Raises:
        InputError: the width can't be split into heads or positions.
    """

    def __init__(
        self, encoded: int, grid: tuple[int, int], outputs: int, width: int, blocks: int, heads: int
    ) -> None:
        super().__init__()
        if width % 4 or width % heads:
            raise InputError(
                f"mae.decoder_width={width} must be a multiple of 4 and of mae.decoder_heads={heads}."
            )
        timm_module()  # its error is ours
        from timm.models.vision_transformer import Block

        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.positions: Tensor
        self.embed = nn.Linear(encoded, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", positions(grid, width), persistent=False)
        made = [Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(blocks)]
        self.blocks = nn.Sequential(*made)
        self.norm = norm(width)
        self.pixels = nn.Linear(width, outputs)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, encoded: Tensor, restore: Tensor) -> Tensor:
        """Encoded visible patches to the values of all patches, float `[N, L, outputs]`.

        Args:
            encoded: `[N, 1 + K, encoded]`, the class token first.
            restore: int64 `[N, L]`, see `pretrain.masking.visible_first`.
        """
        x = self.embed(encoded)
        count, length = restore.shape
        hidden = self.mask_token.to(x.dtype).expand(count, length + 1 - x.shape[1], -1)
        patches = take(torch.cat([x[:, 1:], hidden], dim=1), restore) + self.positions  # [N, L, width]
        x = self.blocks(torch.cat([x[:, :1], patches], dim=1))
        out: Tensor = self.pixels(self.norm(x[:, 1:]))
        return out
