"""The scoreboard: what each pretext task gives downstream, at one budget of computing time.

    python tests/benchmarks/scoreboard.py --bed frames --data DATA --out OUT
    python tests/benchmarks/scoreboard.py --bed cifar10 --data DATA --out OUT --methods simclr,moco

DATA has `train/` (videos), `eval/DAVIS-2016-dev`, `eval/CamVid-0016E5` and `images/cifar10.tar.gz`. Each row
is made by the commands that a user types:

- frames: `vidtrack pretrain METHOD --data DATA/train`, then `vidtrack benchmark davis` with the frozen
  backbone as tracker (J&F on DAVIS-2016-dev) and `vidtrack probe` on CamVid (mIoU of the layer that held-out
  pixels chose).
- cifar10: `vidtrack pretrain METHOD --data DATA/images/cifar10.tar.gz data.size=32`, then `vidtrack probe`.

`supervised-vit` is trained on the labels of CIFAR-10 in both beds, for about the time that MAE takes.

`--share` scales the steps of the committed configs (1: 20 minutes of two idle cores per run). Snapshots along
the way of the run with seed 0 are probed for the curve. Finished work in OUT is not done again; with
`--max-minutes` the script stops, and goes on when it is started once more. The table is printed, and written
to OUT/scoreboard.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from commands import call, shortened, spread, tracking

from pretrain.backbones import save_backbone
from pretrain.catalogue import FILE, build_any
from pretrain.device import choose_device
from pretrain.images import read_images
from pretrain.probe.finetune import finetune

SHARED = ["simclr", "moco", "mae", "rotation", "colorization", "split_brain", "inpainting"]
BASELINES = ["random", "random-vit", "supervised-vit"]
BEDS = {
    "frames": [*SHARED, "jigsaw", "relative_patch", *BASELINES],
    "cifar10": [*SHARED, *BASELINES],
}
RANDOM = {
    ("frames", "random"): "random:resnet18",
    ("frames", "random-vit"): "random:vit_tiny_patch16_128",
    ("cifar10", "random"): "random:resnet18-small",
    ("cifar10", "random-vit"): "random:vit_tiny_patch4_32",
}
SUPERVISED = {"supervised-vit": "random-vit"}
EPOCHS = 3  # with labels: all patches of 150,000 images, reckoned to take as long as MAE with 250,000
COLUMNS = {
    "frames": {"J&F": "tracking", "CamVid mIoU": "pixels"},
    "cifar10": {
        "kNN": "knn",
        "linear": "linear",
        "linear, 1 % labels": "few",
        "fine-tuned, 1000 labels": "tuned",
    },
}
SNAPSHOTS = 4
TUNED = ("mae", "random-vit", "supervised-vit")


class OutOfTime(Exception):
    """The time given is up; what was done is kept."""


def train(method: str, seed: int, run: Path, options: Any, left: float) -> None:
    """Pretrain, or write the random weights of a baseline."""
    run.mkdir(parents=True, exist_ok=True)
    if (run / FILE).is_file():
        return
    if spec := RANDOM.get((options.bed, method)):
        save_backbone(build_any(f"{spec}#{seed}"), run / FILE)
        return
    if start := SUPERVISED.get(method):
        labelled(f"{RANDOM[options.bed, start]}#{seed}", seed, run / FILE, options)
        return
    changes = [f"seed={seed}", *shortened(method, options.share)]
    changes += [f"snapshots={0 if seed else SNAPSHOTS}"]  # one curve for each row
    if options.bed == "frames":
        changes += [f"data.cache={options.out / 'frames'}", f"data.limit={options.limit}"]
        data = options.data / "train"
    else:
        changes += ["data.size=32"]
        data = options.data / "images" / "cifar10.tar.gz"
    words = ["pretrain", method, "--data", str(data), "--out", str(run), "--quiet"]
    call([*words, "--max-minutes", f"{left:.2f}", *changes], run.with_suffix(".log"))
    if not (run / FILE).is_file():
        raise OutOfTime


def labelled(spec: str, seed: int, path: Path, options: Any) -> None:
    """What the same time gives with labels: CIFAR-10, in both beds, as frames of videos have none."""
    side = {"frames": 128, "cifar10": 32}[options.bed]
    archive = options.data / "images" / "cifar10.tar.gz"
    images, test = read_images(archive, 32, "train"), read_images(archive, 32, "test", 1000)
    tuned = finetune(
        build_any(spec),
        images.images,
        images.labels,
        test.images,
        test.labels,
        len(images.classes),
        choose_device("auto"),
        epochs=max(1, round(EPOCHS * options.share)),
        size=side,
        seed=seed,
    )
    print(f"{spec}: {tuned.accuracy:.3f} of CIFAR-10 right after {tuned.epochs:g} epochs", flush=True)
    save_backbone(tuned.backbone, path)


def scores(run: Path, options: Any) -> dict[str, Any]:
    """What the backbone of a run gives, and what its snapshots gave on the way."""
    log, data = run.with_suffix(".log"), options.data / "eval"
    snapshots = [str(path) for path in sorted((run / "snapshots").glob("*.safetensors"))]
    if options.bed == "frames":
        score = tracking(run / FILE, run / "davis", data, log)["J&F"]
        camvid = ["--data", str(data / "CamVid-0016E5"), "--quiet", "--out"]
        if not (run / "camvid" / "results.json").is_file():
            call(["probe", *(snapshots or [str(run)]), *camvid, str(run / "camvid")], log)
        found = json.loads((run / "camvid" / "results.json").read_text())["rows"]
        curve = [pixels(row) for row in found]
        return {"tracking": score, "pixels": curve[-1], "curve": curve}
    words = ["--data", str(options.data / "images" / "cifar10.tar.gz"), "--quiet", "--heads", "linear"]
    fewer = [*words, "--limit", "5000", "--test-limit", "2000", "--out"]
    words += ["--limit", "10000", "--test-limit", "5000", "--out"]
    if not (run / "probe" / "results.json").is_file():
        call(["probe", str(run), *words, str(run / "probe"), "--shares", "0.01,1"], log)
    if snapshots and not (run / "curve" / "results.json").is_file():
        call(["probe", *snapshots, *fewer, str(run / "curve"), "--shares", "1", "--layers", "last"], log)
    row = json.loads((run / "probe" / "results.json").read_text())["rows"][0]
    found = {
        "knn": max(one["accuracy"] for one in row["scores"] if one["head"] == "knn"),
        "linear": of(row, "linear", 1.0),
        "few": of(row, "linear", 0.01),
        "layer": row["layer"],
        "curve": [],
    }
    if snapshots:
        rows = json.loads((run / "curve" / "results.json").read_text())["rows"]
        found["curve"] = [
            next(one["accuracy"] for one in row["scores"] if one["head"] == "knn") for row in rows
        ]
    if run.name.startswith(TUNED):  # MAE is judged by fine-tuning
        if not (run / "tuned" / "results.json").is_file():
            tuning = ["--shares", "0.1", "--layers", "last", "--finetune", "--epochs", "10"]
            call(["probe", str(run), *words, str(run / "tuned"), *tuning], log)
        tuned = json.loads((run / "tuned" / "results.json").read_text())["rows"][0]
        found["tuned"] = next(one["accuracy"] for one in tuned["scores"] if one["head"] == "finetune")
    return found


def pixels(row: dict[str, Any]) -> float:
    """mIoU of the layer that held-out pixels chose."""
    return float(next(one["mIoU"] for one in row["scores"] if one["layer"] == row["layer"]))


def of(row: dict[str, Any], head: str, share: float) -> float:
    """Accuracy of a kind of classifier on the layer that held-out labels chose."""
    wanted = (head, row["layer"], share)
    found = (one for one in row["scores"] if (one["head"], one["layer"], one["share"]) == wanted)
    return float(next(found)["accuracy"])


def table(bed: str, found: dict[str, dict[int, Any]], share: float) -> str:
    """Markdown: mean and spread (standard deviation) over the seeds, and the curve of the first seed."""
    columns = COLUMNS[bed]
    lines = [f"| {bed}, {share:.3g} of the config's steps | seeds | {' | '.join(columns)} | curve |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    for method, seeds in found.items():
        cells = []
        for key in columns.values():
            values = [100 * row[key] for row in seeds.values() if key in row]
            if not values:
                cells.append("")
                continue
            cells.append(spread(values, 1))
        curve = " ".join(f"{100 * value:.1f}" for value in next(iter(seeds.values()))["curve"])
        lines.append(f"| {method} | {len(seeds)} | {' | '.join(cells)} | {curve} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bed", choices=list(BEDS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", help="with commas between them; all of the bed by default")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of the configs")
    parser.add_argument("--limit", type=int, default=8000, help="frames of the videos at most")
    parser.add_argument("--max-minutes", type=float, default=1e6)
    options = parser.parse_args()
    options.out = options.out / options.bed
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.max_minutes
    methods = options.methods.split(",") if options.methods else BEDS[options.bed]
    found: dict[str, dict[int, Any]] = {}
    try:
        for seed in (int(word) for word in options.seeds.split(",")):  # one seed of all before the next
            for method in methods:
                run = options.out / f"{method}-{seed}"
                left = (end - time.monotonic()) / 60
                if left <= 0 and not (run / "row.json").is_file():
                    raise OutOfTime
                if not (run / "row.json").is_file():
                    train(method, seed, run, options, left)
                    (run / "row.json").write_text(json.dumps(scores(run, options)))
                found.setdefault(method, {})[seed] = json.loads((run / "row.json").read_text())
                print(method, seed, found[method][seed], flush=True)
    except OutOfTime:
        print("out of time: the same command goes on")
    made = table(options.bed, found, options.share)
    (options.out / "scoreboard.md").write_text(made + "\n")
    (options.out / "scoreboard.json").write_text(json.dumps(found, indent=1))
    print(made)


if __name__ == "__main__":
    main()
