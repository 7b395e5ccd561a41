"""Where the class token of a vision transformer looks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.pictures import Picture, sheet

SHOWN = 8  # images in the picture


def attention(backbone: nn.Module, images: Tensor) -> Picture:
    """The attention of the class token in the last block, head by head, as in Caron et al. 2021 (arXiv
    2104.14294, figure 1).

    Args:
        backbone: see `class_attention`.
        images: RGB float `[N, 3, H, W]` in 0..1; the first eight are shown.

    Raises:
        ValueError: the backbone is no vision transformer with a class token.
    """
    shown = images[:SHOWN].float()
    maps = class_attention(backbone, shown)  # [N, heads, h, w]
    heads = maps.shape[1]
    scaled = maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    scaled = F.interpolate(scaled, size=shown.shape[2:], mode="nearest")
    tiles = torch.cat([shown[:, None], _colours(scaled).to(shown.device)], dim=1)  # [N, 1 + heads, 3, H, W]
    per_row = 1 if 1 + heads > 4 else 2  # images in a row of the sheet
    return Picture(
        "Attention",
        sheet(tiles.flatten(0, 1), per_row * (1 + heads)),
        f"Beside each image where the class token looks in the last block, one picture for each of {heads} "
        "heads; the brightest patch gets the most attention.",
    )


@torch.no_grad()
def class_attention(backbone: Any, images: Tensor) -> Tensor:
    """Attention of the class token to the patches in the last block: float `[N, heads, h, w]`.

    A row of attention also has a share for the class token itself and for registers: the maps sum to less
    than 1. Computed in evaluation mode; the mode is restored afterwards.

    Args:
        backbone: a `pretrain.vit.ViT`, or `TimmFeatures` of a plain vision transformer.
        images: RGB float `[N, 3, H, W]` in 0..1.

    Raises:
        ValueError: the backbone is no vision transformer with a class token.
    """
    net = getattr(backbone, "vit", None) or getattr(backbone, "net", None)
    blocks = getattr(net, "blocks", None)
    layer: Any = getattr(blocks[-1], "attn", None) if blocks is not None and len(blocks) else None
    if not hasattr(layer, "qkv") or getattr(net, "cls_token", None) is None:
        raise ValueError(f"{type(backbone).__name__} is no vision transformer with a class token")
    kept: list[Tensor] = []
    handle = layer.qkv.register_forward_hook(lambda _module, _given, out: kept.append(out))
    training = backbone.training
    try:
        maps = list(backbone.eval()(images).values())
    finally:
        handle.remove()
        backbone.train(training)
    weights, _ = weights_and_values(layer, kept[0], rows=1)  # [N, heads, 1, T]
    rows, columns = maps[-1].shape[2:]
    return weights[:, :, 0, -rows * columns :].unflatten(2, (rows, columns))


def weights_and_values(layer: Any, qkv: Tensor, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """What timm's fused attention doesn't return: its weights and the values that it weights.

    Args:
        layer: timm's Attention.
        qkv: what `layer.qkv` gave: `[N, T, 3 * heads * d]`.
        rows: of the first so many tokens only; None: of all T.

    Returns:
        Weights float `[N, heads, rows, T]`, each row sums to 1; values float `[N, heads, T, d]`.
    """
    parts = qkv.unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [3, N, heads, T, d]
    q, k, v = parts.unbind(0)
    q, k = layer.q_norm(q[:, :, :rows]).float(), layer.k_norm(k).float()
    return torch.softmax(layer.scale * q @ k.transpose(2, 3), dim=3), v.float()


def _colours(maps: Tensor) -> Tensor:
    """Float `[N, M, H, W]` in 0..1 to colours from black over red to yellow, `[N, M, 3, H, W]` in 0..1."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_INFERNO).reshape(256, 3)[:, ::-1]
    levels = maps.clamp(0, 1).mul(255).round().long().cpu()
    return torch.from_numpy(table.copy())[levels].permute(0, 1, 4, 2, 3).float() / 255
