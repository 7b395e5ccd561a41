"""The papers' findings, shown small: CIFAR-10, ResNet-18 or ViT-Ti, short runs, one table for each question.

    python tests/benchmarks/pretrain_ablations.py --data cifar10.tar.gz --out OUT --only head,batch

Each run sees the same number of images (`--images`), so that only the setting in question differs. Features
are judged by weighted kNN and a linear probe on `--limit` training and 5,000 test images. Finished runs in
OUT are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.config import load_config
from pretrain.device import choose_device
from pretrain.images import ImageSet, read_images
from pretrain.methods.base import Method
from pretrain.probe.features import extract
from pretrain.probe.few import held_out
from pretrain.probe.knn import knn
from pretrain.probe.linear import Standard, choose_linear, predict
from pretrain.run import load_method, pretrain
from pretrain.settings import schema
from vidtrack.files import bundled_configs

QUESTIONS: dict[str, tuple[str, list[tuple[str, list[str]]]]] = {
    "head": ("simclr", [(head, [f"simclr.head={head}"]) for head in ("none", "linear", "mlp")]),
    "batch": ("simclr", [(str(n), [f"optimizer.batch={n}"]) for n in (64, 128, 256, 512)]),
    "queue": ("moco", [(str(n), [f"moco.queue={n}"]) for n in (512, 2048, 4096, 16384)]),
    "momentum": ("moco", [(str(m), [f"moco.momentum={m}"]) for m in (0.0, 0.9, 0.99, 0.999)]),
    "ratio": ("mae", [(str(r), [f"mae.ratio={r}"]) for r in (0.25, 0.5, 0.75, 0.9)]),
    "masking": ("mae", [(kind, [f"mae.masking={kind}"]) for kind in ("random", "block", "grid")]),
}


class AfterHead(nn.Module):
    """SimCLR's features after the projection head, as a feature map of one place."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        self.channels, self.strides = {"head": 0}, {"head": 1}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = list(self.method.backbone(images).values())[-1].float().mean(dim=(2, 3))
        return {"head": self.method.head(features)[:, :, None, None]}


def judge(backbone: nn.Module, train: ImageSet, test: ImageSet) -> dict[str, float]:
    """kNN and linear accuracy of the pooled last layer."""
    device = choose_device("auto")
    name = list(backbone.channels)[-1]
    x, y = (extract(backbone, images, device, layers=[name])[name] for images in (train, test))
    labels, truth = (torch.from_numpy(images.labels) for images in (train, test))
    near = knn(x, labels, y, len(train.classes))
    scale = Standard.of(x)
    held = torch.from_numpy(held_out(train.labels))
    linear = predict(choose_linear(scale(x), labels, len(train.classes), held), scale(y))
    return {"knn": float((near == truth).float().mean()), "linear": float((linear == truth).float().mean())}


def run(question: str, value: str, changes: list[str], options: Any, data: dict[str, ImageSet]) -> Any:
    """Train one setting and judge it; what was found before is read, also by another question."""
    method = QUESTIONS[question][0]
    batch = next((int(c.split("=")[1]) for c in changes if c.startswith("optimizer.batch=")), options.batch)
    steps = options.images // batch
    settings = [
        "data.size=32",
        f"seed={options.seed}",
        f"optimizer.batch={batch}",
        f"optimizer.steps={steps}",
        f"optimizer.warmup_steps={max(1, steps // 20)}",
    ]
    config, usual = (
        load_config(schema(method), f"pretrain/{method}", settings + more, bundled_configs())
        for more in (changes, [])
    )
    same = config.model_dump() == usual.model_dump() and batch == options.batch
    out = options.out / f"{method}-{'usual' if same else f'{question}-{value}'}-{options.seed}"
    record = out / "row.json"
    if record.is_file():
        return json.loads(record.read_text())
    pretrain(lambda _: data["pretrain"], config, out)
    trained: Method = load_method(out)[0]
    row = judge(trained.backbone, data["train"], data["test"])
    if method == "simclr" and value != "none" and (same or question == "head"):
        row |= {
            f"{key}_after": v for key, v in judge(AfterHead(trained), data["train"], data["test"]).items()
        }
    record.write_text(json.dumps(row))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a tar file or folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(QUESTIONS))
    parser.add_argument("--images", type=int, default=25_600, help="that each run sees, with repetition")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--limit", type=int, default=10_000, help="training images of the probes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = {
        "pretrain": read_images(options.data, 32, "train"),
        "train": read_images(options.data, 32, "train", options.limit),
        "test": read_images(options.data, 32, "test", 5000),
    }
    for question in options.only.split(","):
        method, settings = QUESTIONS[question]
        print(
            f"\n| {method}: {question} | kNN | linear | after the head: kNN | linear |\n|---|---|---|---|---|"
        )
        for value, changes in settings:
            row = run(question, value, changes, options, data)
            keys = ("knn", "linear", "knn_after", "linear_after")
            cells = [f"{100 * row[key]:.1f}" if key in row else "" for key in keys]
            print(f"| {value} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
