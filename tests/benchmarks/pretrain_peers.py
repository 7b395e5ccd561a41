"""SimCLR and MoCo side by side with lightly's documented examples, on CIFAR-10.

    pip install lightly
    python tests/benchmarks/pretrain_peers.py --data cifar10.tar.gz --method simclr --out OUT

Same images, epochs, batch (256), augmentation, optimizer (SGD, 0.06, constant) and backbone (ResNet-18 with
the standard stem, 32 px), as in `examples/pytorch/{simclr,moco}.py` of lightly. Heads are each side's own:
lightly's for SimCLR has batch norm after both layers, vidtrack's has none. Each side is timed over its
whole training, augmentation included, and judged by the same weighted kNN on all of CIFAR-10. `--sides` says
who runs: theirs (float32, as shipped), half (theirs in bfloat16 and channels-last), ours. Finished rows in
OUT are not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import nn

from pretrain.backbones import build
from pretrain.catalogue import FILE
from pretrain.config import load_config
from pretrain.device import choose_device
from pretrain.images import ImageSet, read_images
from pretrain.probe.features import extract
from pretrain.probe.knn import knn
from pretrain.run import pretrain
from pretrain.settings import schema
from vidtrack.files import bundled_configs

BATCH = 256
RATE = 0.06
QUEUE = 4096
MOMENTUM = 0.99  # of lightly's example for MoCo
TEMPERATURE = 0.5  # the default of lightly's NTXentLoss, which both examples leave as it is


class Samples(torch.utils.data.Dataset[Any]):
    """PIL images with lightly's transform, as its examples feed them."""

    def __init__(self, images: ImageSet, transform: Any) -> None:
        self.images, self.transform = images.images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.images[index]))


def theirs(
    method: str, images: ImageSet, epochs: int, seed: int, half: bool, out: Path
) -> tuple[float, Path]:
    """Train as lightly's example does; images per second and a checkpoint of the ResNet."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform, SimCLRTransform

    torch.manual_seed(seed)
    resnet = torchvision.models.resnet18()
    backbone = nn.Sequential(*list(resnet.children())[:-1], nn.Flatten())
    kind = SimCLRProjectionHead if method == "simclr" else MoCoProjectionHead
    head = kind(512, 512, 128)
    transform: Any = MoCoV2Transform if method == "moco" else SimCLRTransform
    data = Samples(images, transform(input_size=32, gaussian_blur=0.0))
    batches = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=2)
    query = nn.Sequential(backbone, head)
    key = copy.deepcopy(query)
    if method == "moco":
        deactivate_requires_grad(key)
    criterion = NTXentLoss(TEMPERATURE, memory_bank_size=(QUEUE, 128) if method == "moco" else 0)
    if half:
        query, key = (net.to(memory_format=torch.channels_last) for net in (query, key))
    optimizer = torch.optim.SGD(query.parameters(), lr=RATE)
    began = time.monotonic()
    for epoch in range(epochs):
        for first, second in batches:
            if half:
                first, second = (x.contiguous(memory_format=torch.channels_last) for x in (first, second))
            if method == "moco":
                update_momentum(query, key, MOMENTUM)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                one = query(first)
                if method == "moco":
                    with torch.no_grad():
                        other = key(second)
                else:
                    other = query(second)
            loss = criterion(one.float(), other.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"lightly {method} epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    seconds = time.monotonic() - began
    path = out / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return epochs * (len(images) // BATCH) * BATCH / seconds, path


def ours(method: str, images: ImageSet, epochs: int, seed: int, out: Path) -> tuple[float, Path]:
    """Train with vidtrack under the example's settings; images per second and the backbone file."""
    steps = epochs * (len(images) // BATCH)
    augmentation = {
        "simclr": [
            "simclr.scale=[0.08,1]",
            "simclr.strength=1",  # half as strong is the paper's choice for images this small, and ours
            "simclr.blur=0",
            f"simclr.temperature={TEMPERATURE}",
        ],
        "moco": ["moco.version=2", "moco.blur=0", f"moco.temperature={TEMPERATURE}", f"moco.queue={QUEUE}"],
    }[method]
    if method == "moco":
        augmentation.append(f"moco.momentum={MOMENTUM}")
    settings = [
        f"seed={seed}",
        "data.size=32",
        "backbone.stem=standard",
        "optimizer.name=sgd",
        "optimizer.momentum=0",
        f"optimizer.learning_rate={RATE}",
        "optimizer.weight_decay=0",
        "optimizer.warmup_steps=0",
        "optimizer.final_ratio=1",
        f"optimizer.batch={BATCH}",
        f"optimizer.steps={steps}",
        "engine.log_every=100",
    ]
    config = load_config(schema(method), f"pretrain/{method}", settings + augmentation, bundled_configs())
    began = time.monotonic()
    pretrain(
        lambda _: images, config, out, report=lambda r: print(r["step"], round(r["loss"], 3), flush=True)
    )
    return steps * BATCH / (time.monotonic() - began), out / FILE


def accuracy(path: Path, train: ImageSet, test: ImageSet) -> float:
    """Weighted kNN (k 200, T 0.07) of the pooled last layer, on all images."""
    device = choose_device("auto")
    backbone = build(str(path))
    features = [extract(backbone, images, device, layers=["layer4"])["layer4"] for images in (train, test)]
    found = knn(features[0], torch.from_numpy(train.labels), features[1], len(train.classes))
    return float((found == torch.from_numpy(test.labels)).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a tar file or folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--method", choices=["simclr", "moco"], default="simclr")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many images (to measure speed)")
    parser.add_argument("--sides", default="theirs,ours", help="theirs, half (lightly in bfloat16), ours")
    options = parser.parse_args()
    train = read_images(options.data, 32, "train", options.limit)
    test = read_images(options.data, 32, "test")
    print("| method | side | seed | images/s | kNN |\n|---|---|---|---|---|", flush=True)
    for seed in range(options.seeds):
        for side in options.sides.split(","):
            out = options.out / f"{options.method}-{side}-{seed}"
            record = out / "row.json"
            if not record.is_file():
                out.mkdir(parents=True, exist_ok=True)
                if side == "ours":
                    rate, path = ours(options.method, train, options.epochs, seed, out / "run")
                else:
                    rate, path = theirs(options.method, train, options.epochs, seed, side == "half", out)
                row = {"images_per_second": rate, "knn": accuracy(path, train, test)}
                record.write_text(json.dumps(row))
            row = json.loads(record.read_text())
            rate, score = row["images_per_second"], row["knn"]
            print(f"| {options.method} | {side} | {seed} | {rate:.0f} | {100 * score:.2f} |", flush=True)


if __name__ == "__main__":
    main()
