"""Time of MAE's encoder with most patches masked against all patches, and of a whole step, as one table.

    python tests/benchmarks/mae_speed.py

Forward and backward of a ViT-Tiny on random images: all patches encoded, the visible ones only, and the loss
of the method with its decoder. The two encoders take turns; of each the best of `--repeat` rounds counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pretrain.device import choose_device
from pretrain.draws import Draws
from pretrain.masking import draw_mask
from pretrain.methods.mae import MAE, MAESettings, plain_attention
from pretrain.vit import ViT

CASES = ((128, 16), (32, 4))  # size of the images, size of a patch
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=0.75, help="share of the patches that is masked")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    table = Table(title=f"ViT-Tiny, batch {given.batch}, {given.ratio:.0%} masked, forward + backward")
    for column in ("images", "precision", "all ms", "visible ms", "share", "step ms", "images/s"):
        table.add_column(column, justify="left" if column in ("images", "precision") else "right")
    for size, patch in CASES:
        for name, dtype in PRECISIONS.items():
            whole, visible, step = measure(size, patch, dtype, given, device)
            table.add_row(
                f"{size} px, patch {patch}",
                name,
                f"{1000 * whole:.0f}",
                f"{1000 * visible:.0f}",
                f"{visible / whole:.2f}",
                f"{1000 * step:.0f}",
                f"{given.batch / step:.0f}",
            )
    Console(width=100).print(table)


def measure(
    size: int, patch: int, dtype: torch.dtype, given: argparse.Namespace, device: torch.device
) -> list[float]:
    """Seconds of the encoder on all patches, on the visible ones, and of the whole loss."""
    torch.manual_seed(0)
    method = MAE(ViT("vit_tiny", patch, size), MAESettings(ratio=given.ratio), size).to(device)
    images = torch.rand(given.batch, 3, size, size, device=device)
    mask = draw_mask("random", Draws(0, 0, given.batch, device=device), *method.grid, given.ratio)
    works: list[Callable[[], Tensor]] = [
        lambda: method.backbone.encode(method.backbone.patches(images)[0]).float().mean(),
        lambda: method.encode(images, mask)[0].float().mean(),
        lambda: method.loss({"images": images, "mask": mask})["loss"],
    ]
    best = [float("inf")] * len(works)
    with plain_attention(method, mask):  # both encoders as fast as can be
        for number in range(given.repeat + 1):
            for place, work in enumerate(works):
                took = seconds(work, method, dtype, device)
                if number:  # the first round warms up
                    best[place] = min(best[place], took)
    return best


def seconds(work: Callable[[], Tensor], method: MAE, dtype: torch.dtype, device: torch.device) -> float:
    """Of one forward and backward."""
    method.zero_grad(set_to_none=True)
    _wait(device)
    began = time.perf_counter()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        result = work()
    result.backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
