"""`vidtrack pretrain`: images in, a backbone file out."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.backbones import ARCHES, save_backbone
from pretrain.catalogue import FILE, SNAPSHOTS, make_backbone
from pretrain.checkpoint import load_exactly, read_checkpoint
from pretrain.device import choose_device
from pretrain.distributed import begin, first_alone, rank, sync_batch_norm, world_size
from pretrain.draws import Draws
from pretrain.engine import RunCallback, fit, make_optimizer
from pretrain.errors import InputError
from pretrain.folder import begin_run, look_or_begin, run_folder, write_record
from pretrain.images import ImageSet
from pretrain.methods import method_class
from pretrain.methods.base import Method
from pretrain.sampler import Draw
from pretrain.settings import Data, PretrainConfig, schema
from pretrain.vit import SIZES
from pretrain.weights import write_weights

LOOKS = 256  # images whose brightness is kept on record
MODEL = "model.safetensors"  # the whole method: the backbone and what only the pretext task needs
PRODUCTS = (FILE, MODEL, "images.json", "skipped.json", "report.html", f"{SNAPSHOTS}/[0-9]*.safetensors")


class ImageDataset(Dataset[tuple[int, int, int]]):
    """Which image at which step and position; `batch` fetches the pixels of a whole batch at once.

    Args:
        images: uint8 `[N, S, S, 3]`.
    """

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw) -> tuple[int, int, int]:
        return draw[1:]

    def batch(self, chosen: list[tuple[int, int, int]]) -> tuple[Tensor, int, int]:
        """The images uint8 `[B, 3, S, S]`, the step, and which of all batches of the step they are."""
        pixels = torch.from_numpy(self.images[[index for _, _, index in chosen]])
        step, position, _ = chosen[0]
        return pixels.permute(0, 3, 1, 2), step, position // len(chosen)


class Pretraining(L.LightningModule):
    """The steps of any method.

    Args:
        method: see `Method`.
        config: the run's config.
        out: folder of the run, for snapshots.
    """

    def __init__(self, method: Method, config: PretrainConfig, out: Path) -> None:
        super().__init__()
        self.method, self.config, self.out = method, config, out
        count, steps = config.snapshots, config.optimizer.steps
        self.marks = {round(steps * (number + 1) / count) for number in range(count)}

    def training_step(self, batch: tuple[Tensor, int, int], batch_idx: int) -> Tensor:
        pixels, step, part = batch
        parts = world_size() * self.config.optimizer.accumulate
        draws = Draws(self.config.seed, step, len(pixels), part, parts, pixels.device)
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
            views = self.method.views(pixels.float().div_(255), draws)
        losses = self.method.loss(views)
        for name, value in losses.items():
            self.log(name, value, batch_size=len(pixels))
        return losses["loss"]

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        # Not in `on_train_batch_end`: Lightning calls the callbacks first. A checkpoint that one of them
        # writes would lack what the method does after the step, and a run that is killed then the snapshot.
        super().optimizer_step(*args, **options)
        step = self.trainer.global_step + 1
        self.method.after_step(step, self.config.optimizer.steps)
        if step in self.marks and self.trainer.is_global_zero:
            path = self.out / SNAPSHOTS / f"{step:07d}.safetensors"
            path.parent.mkdir(exist_ok=True)
            _save_whole(self.method.trunk(), path)

    def configure_optimizers(self) -> Any:
        return make_optimizer(self.method, self.config.optimizer, self.method.groups())


@dataclass
class PretrainResult:
    """How a call of `pretrain` ended: `done`, or stopped early by `interrupted` or the time limit."""

    out: Path
    steps: int
    done: bool
    interrupted: bool
    skipped: list[tuple[str, str]]


def pretrain(
    read: Callable[[Data], ImageSet],
    config: PretrainConfig,
    out: Path,
    device: str = "auto",
    max_minutes: float | None = None,
    overwrite: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> PretrainResult:
    """Run a pretext task, or go on with a run that was stopped.

    The folder gets `backbone.safetensors`, `model.safetensors` (the whole method, for pictures and `vidtrack
    colorize`), `config.json`, `log.jsonl`, and `skipped.json` (images that can't be read). Started by
    `torchrun`, the processes share each step: gradients are averaged, and batch norms and contrastive losses
    are those of the batches of all.

    Args:
        read: gives the images of `config.data`; called once.
        config: of the method, see `pretrain.settings.schema`.
        out: folder of the run.
        device: "auto", "cpu", "cuda" or "mps".
        max_minutes: stop with a checkpoint after so long.
        overwrite: replace what `out` holds.
        report: called now and then with the state of the run.

    Raises:
        InputError: settings that don't fit each other or the images, or an `out` that holds something else.
    """
    began = time.monotonic()
    where = choose_device(device)
    begin(where)
    settings = config.optimizer
    if config.data.side() < config.data.size:
        raise InputError(
            f"data.stored={config.data.stored} is smaller than data.size={config.data.size}: raise the one "
            "or lower the other."
        )
    torch.manual_seed(config.seed)
    method = make_method(config)
    smallest = min_batch(method)
    if settings.batch < smallest:
        raise InputError(
            f"optimizer.batch={settings.batch} is too small for batch norm: give {smallest} or more."
        )
    if settings.accumulate > 1 and method.whole_steps:
        chunk = f"; {config.method}.chunk=64 saves memory" if hasattr(config.of_method(), "chunk") else ""
        raise InputError(
            f"optimizer.accumulate={settings.accumulate} does not go with {config.method}, which needs all "
            f"images of a step at once: leave it at 1 and raise optimizer.batch{chunk}."
        )
    with run_folder(out):
        return _run(method, read, config, out, where, began, max_minutes, overwrite, report)


def _run(
    method: Method,
    read: Callable[[Data], ImageSet],
    config: PretrainConfig,
    out: Path,
    where: torch.device,
    began: float,
    max_minutes: float | None,
    overwrite: bool,
    report: Callable[[dict[str, float]], None] | None,
) -> PretrainResult:
    """What `pretrain` does once the folder is its own."""
    settings = config.optimizer
    first = first_alone(lambda: look_or_begin(out, config, overwrite, PRODUCTS))
    images = read(config.data)
    together = settings.batch * settings.accumulate * world_size()
    if len(images) < together:
        raise InputError(
            f"there are only {len(images)} images, fewer than a batch of {together}: "
            "lower optimizer.batch or give more images."
        )
    method.prepare(images.images, config.seed)
    if first:
        first_alone(lambda: _require_same_images(out, images))
    first_alone(lambda: begin_run(out, config, first, PRODUCTS))
    first_alone(lambda: _record_images(out, images))
    if world_size() > 1:
        sync_batch_norm(method)
    module = Pretraining(method.to(memory_format=torch.channels_last), config, out)
    minutes = None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - began) / 60)
    callback = RunCallback(out, config.engine, settings.batch, minutes, report)
    data = ImageDataset(images.images)
    first = fit(module, data, data.batch, settings, config.engine, config.seed, callback, where, first)
    done = first >= settings.steps
    if done and rank() == 0:
        _save(method, config, out)
    return PretrainResult(out, first, done, callback.interrupted.is_set(), images.skipped)


def make_method(config: PretrainConfig) -> Method:
    """The untrained method of a config, with its backbone.

    Raises:
        InputError: settings that don't fit each other.
    """
    kind, settings, size = method_class(config.method), config.of_method(), config.data.size

    def make(**changes: Any) -> Any:
        return make_backbone(config.backbone, size, **changes)

    made: Method = kind(kind.make_backbone(make, settings), settings, size)
    return made


def load_method(run: Path) -> tuple[Method, PretrainConfig]:
    """The trained method of a finished run, in evaluation mode, and the run's config.

    Raises:
        InputError: the folder holds no finished run, or its files are damaged.
    """
    record, weights = run / "config.json", run / MODEL
    if not record.is_file() or not weights.is_file():
        raise InputError(f"{run} holds no finished run of vidtrack pretrain ({MODEL} is missing).")
    try:
        values = json.loads(record.read_text(encoding="utf-8"))["config"]
        config = schema(values["method"]).model_validate(values)
        began = config
        if config.backbone.arch not in (*ARCHES, *SIZES) and (run / FILE).is_file():
            own = config.backbone.model_copy(update={"arch": str(run / FILE)})  # the first may be gone
            began = config.model_copy(update={"backbone": own})
        method = make_method(began)
        load_exactly(method, read_checkpoint(weights)[0], weights)
    except InputError:
        raise
    except Exception as error:  # any damage of the files ends here
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{run} can't be read as a run of vidtrack pretrain ({reason}).") from error
    return method.eval(), config


def min_batch(method: Method) -> int:
    """The smallest batch that a method can learn from: batch norm needs two values of each channel."""
    normed = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in method.modules())
    return 2 if normed else 1


def _save(method: Method, config: PretrainConfig, out: Path) -> None:
    write_weights(method.state_dict(), out / f"{MODEL}.partial", {"method": config.method})
    (out / f"{MODEL}.partial").replace(out / MODEL)
    _save_whole(method.trunk(), out / FILE)


def _save_whole(backbone: Any, path: Path) -> None:
    """Write a backbone file that is never there in part."""
    partial = path.with_name(f"{path.name}.partial")
    save_backbone(backbone, partial)
    partial.replace(path)


def _require_same_images(out: Path, images: ImageSet) -> None:
    """Draws are indices of images: a run may only go on with the images that it began with."""
    path = out / "images.json"
    if not path.is_file():
        return
    now = _about(images)
    then = {"looks": now["looks"], **json.loads(path.read_text(encoding="utf-8"))}  # older runs have none
    if then | {"looks": []} != now | {"looks": []} or _differ(then["looks"], now["looks"]):
        raise InputError(
            f"{out} was begun with other images than --data holds now: restore them, choose another --out, "
            "or add --overwrite to begin anew."
        )


def _about(images: ImageSet) -> dict[str, Any]:
    names = hashlib.sha256(os.fsencode("\n".join(images.names))).hexdigest()
    some = images.images[np.linspace(0, len(images) - 1, min(len(images), LOOKS)).round().astype(int)]
    looks = [round(float(one.mean())) for one in some]
    return {"images": len(images), "side": images.images.shape[1], "names": names, "looks": looks}


def _differ(then: list[int], now: list[int]) -> bool:
    """Whether images have other mean brightness than two versions of a decoder give, in gray levels."""
    return len(then) != len(now) or any(abs(a - b) > 2 for a, b in zip(then, now, strict=True))


def _record_images(out: Path, images: ImageSet) -> None:
    if rank() == 0:
        write_record(out / "images.json", _about(images))
        write_record(out / "skipped.json", [{"file": name, "why": why} for name, why in images.skipped])
