"""The training engine: one Lightning Trainer factory, exact resume, a clean stop.

Everything random in a run is a pure function of (seed, step, position), see `pretrain.sampler`, so a run that
was stopped and resumed sees the same batches and ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import BeforeValidator, Field
from torch.utils.data import Dataset

from pretrain.check import Check, undisturbed
from pretrain.config import Config
from pretrain.device import fast_dtype
from pretrain.distributed import rank, world_size
from pretrain.errors import InputError
from pretrain.log import LOG, append, trim
from pretrain.origin import git_commit, versions
from pretrain.sampler import StepSampler, loader

CHECKPOINT = "last.ckpt"
Report = Callable[[dict[str, float]], None]  # a record of a run


class Optimizer(Config):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) or SGD, with linear warm-up and cosine decay.

    A step takes `accumulate` batches of `batch` samples in each process; their gradients are averaged. Steps
    are those of the optimizer. Batch norms see one batch at a time.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=16, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_steps: int = 100
    final_ratio: float = 0.01


class Engine(Config):
    """How a run is carried out; none of these changes what is learned, except the precision."""

    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(str)] = "auto"  # 32 is a number
    workers: int = 0
    checkpoint_minutes: float = 8.0
    log_every: int = 10


def cosine_warmup(step: int, settings: Optimizer) -> float:
    """Factor of the learning rate at a step: linear warm-up, then half a cosine to `final_ratio`."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    span = max(1, settings.steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / span)
    return settings.final_ratio + (1 - settings.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(
    module: torch.nn.Module, settings: Optimizer, groups: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What `configure_optimizers` returns: an optimizer without weight decay on biases and norms.

    Args:
        module: whose parameters are trained.
        settings: see `Optimizer`.
        groups: groups of parameters with options of their own; None: all trainable ones, alike.
    """
    split: list[dict[str, Any]] = []
    for group in groups or [{"params": module.parameters()}]:
        trained = [p for p in group["params"] if p.requires_grad]
        options = {key: value for key, value in group.items() if key != "params"}
        split.append({**options, "params": [p for p in trained if p.ndim > 1]})
        split.append({**options, "params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0})
    split = [group for group in split if group["params"]]
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer: torch.optim.Optimizer
    if settings.name == "sgd":
        optimizer = torch.optim.SGD(split, lr=rate, momentum=settings.momentum, weight_decay=decay)
    else:
        optimizer = torch.optim.AdamW(split, lr=rate, betas=settings.betas, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_warmup(step, settings))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class RunCallback(Callback):
    """Checkpoints on time, stops on time or on a signal, and reports loss and throughput.

    All this happens between steps, never between the batches of a step. What is reported of the loss and of
    other metrics is from the last batch of the step.

    Args:
        out: folder of the run.
        settings: see `Engine`.
        batch: samples in a batch, of one process, for the throughput.
        max_minutes: stop (with a checkpoint) after so long; None: never.
        report: called with a dict `step, steps, loss, learning_rate, samples_per_second, waiting, ...`;
            `waiting` is the share of the time in which there was no batch to compute with.
        check: see `Check`. It leaves no trace in the run: random states and modes come back, and the
            throughput does not count its time.
    """

    def __init__(
        self,
        out: Path,
        settings: Engine,
        batch: int,
        max_minutes: float | None,
        report: Report | None,
        check: Check | None = None,
    ) -> None:
        self.out, self.settings, self.batch = out, settings, batch
        self.max_minutes, self.report, self.check = max_minutes, report, check
        self.interrupted = threading.Event()
        self.out_of_time = False
        self.began = self.saved = self.reported = time.monotonic()
        self.step = self.first_step = self.reported_step = 0
        self.free, self.waited = self.began, 0.0
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = self.saved = self.reported = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, lambda *_: self.interrupted.set())

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for number in self.before:  # again: Lightning's handler of SIGTERM would leave without a checkpoint
            signal.signal(number, lambda *_: self.interrupted.set())
        self.step = self.first_step = self.reported_step = trainer.global_step
        if self.step == 0:
            self.look(trainer, module)
        self.free = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.waited += time.monotonic() - self.free

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self.step:  # else in the middle of a step
            self.after_step(trainer, module)
        self.free = time.monotonic()

    def after_step(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Report, stop, save and look, whatever is due."""
        step, now = trainer.global_step, time.monotonic()
        self.step = step
        if step % self.settings.log_every == 0 or step == trainer.max_steps:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            samples = (step - self.reported_step) * self.batch * trainer.world_size
            samples *= trainer.accumulate_grad_batches
            minutes = (now - self.began) / 60
            record = {
                "step": step,
                "steps": trainer.max_steps,
                **metrics,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "samples_per_second": samples / max(1e-9, now - self.reported),
                "waiting": self.waited / max(1e-9, now - self.reported),
                "minutes": minutes,
                "minutes_left": minutes * (trainer.max_steps - step) / max(1, step - self.first_step),
            }
            self.reported, self.reported_step, self.waited = now, step, 0.0
            if trainer.is_global_zero:
                append(self.out, record)
                if self.report:
                    self.report(record)
            if not math.isfinite(metrics.get("loss", 0.0)):
                raise RuntimeError(f"the loss is not finite at step {step}; try a lower learning rate")
        if self.max_minutes is not None and now - self.began >= 60 * self.max_minutes:
            self.out_of_time = True
        stop = _any(trainer, self.interrupted.is_set() or self.out_of_time)
        if stop:
            trainer.should_stop = True
        elif _any(trainer, now - self.saved >= 60 * self.settings.checkpoint_minutes):
            self.save(trainer)
        if not stop or step == trainer.max_steps:  # who stops early doesn't wait for it
            self.look(trainer, module)

    def look(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Make the check if it is due, as if nothing had happened."""
        if self.check is None or not _any(trainer, self.check.due(self.step, trainer.max_steps)):
            return
        began = time.monotonic()
        if trainer.is_global_zero:
            with undisturbed(module):
                self.check(self.step)
        trainer.strategy.barrier()
        self.reported += time.monotonic() - began

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.save(trainer)

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self.restore_signals()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, error: BaseException) -> None:
        self.restore_signals()

    def restore_signals(self) -> None:
        """Give Ctrl-C back to whoever had it before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint atomically."""
        partial = self.out / f"{CHECKPOINT}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.out / CHECKPOINT)
        self.saved = time.monotonic()


def _any(trainer: L.Trainer, one: bool) -> bool:
    """Whether one of the processes says so: all must stop and save at the same step."""
    if trainer.world_size == 1:
        return one
    return bool(trainer.strategy.reduce_boolean_decision(one, all=False))


def make_trainer(
    callback: RunCallback, optimizer: Optimizer, engine: Engine, device: torch.device
) -> L.Trainer:
    """The one Trainer factory.

    Args:
        callback: see `RunCallback`.
        optimizer: for the number of steps, and of batches in a step.
        engine: see `Engine`; precision "auto" is bf16 autocast where it is fast, else float32.
        device: see `pretrain.device.choose_device`.
    """
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The sampler makes a resume exact, and one tree-spec call is deprecated inside Lightning itself.
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".* in eval mode at the start of training.*")  # a teacher is
    half = engine.precision == "bf16" or (engine.precision == "auto" and fast_dtype(device) == torch.bfloat16)
    return L.Trainer(
        accelerator=device.type,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if world_size() > 1 else 1,
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")) if world_size() > 1 else 1,
        strategy="ddp" if world_size() > 1 else "auto",
        precision="bf16-mixed" if half else "32-true",
        max_steps=optimizer.steps,
        accumulate_grad_batches=optimizer.accumulate,
        max_epochs=-1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=callback.out,
    )


def fit(
    module: L.LightningModule,
    data: Dataset[Any],
    collate: Callable[[list[Any]], Any],
    optimizer: Optimizer,
    engine: Engine,
    seed: int,
    callback: RunCallback,
    device: torch.device,
    first: int,
) -> int:
    """Take the steps of a run that are left, or load what a run without any has learned.

    Args:
        module: what is trained.
        data: its `__getitem__` takes a `Draw`.
        collate: makes a batch of samples.
        optimizer, engine: settings of the run.
        seed: of the draws.
        callback: see `RunCallback`; its folder holds the checkpoint.
        device: where to compute.
        first: number of steps already done.

    Returns:
        The number of steps that are done now.
    """
    checkpoint = callback.out / CHECKPOINT
    if first >= optimizer.steps:
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
        return first
    length: int = len(data)  # type: ignore[arg-type]
    sampler = StepSampler(
        length, optimizer.batch, optimizer.steps, seed, first, rank(), world_size(), optimizer.accumulate
    )
    trainer = make_trainer(callback, optimizer, engine, device)
    trainer.fit(
        module, loader(data, sampler, engine.workers, collate), ckpt_path=str(checkpoint) if first else None
    )
    return trainer.global_step


def steps_done(out: Path) -> int:
    """Number of steps in the run's checkpoint, 0 if there is none.

    Raises:
        InputError: the checkpoint can't be read.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return 0
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:  # any damage of the file ends here
        raise InputError(f"{path} can't be read; remove it to begin the run anew.") from error


def prepare_run(out: Path, config: Config, overwrite: bool, products: tuple[str, ...]) -> int:
    """Make or continue the folder of a run; returns the number of steps already done.

    A folder with the same resolved config is continued. The config, the versions and the git commit are
    written beside the results. With `overwrite` an earlier run's files, among them its `products`, go.

    Raises:
        InputError: the folder holds something else, or a run of another config, and `overwrite` is False.
    """
    resolved = config.model_dump(mode="json")
    record = out / "config.json"
    if out.exists() and any(out.iterdir()) and not overwrite:
        before = json.loads(record.read_text())["config"] if record.is_file() else None
        if before is None:
            raise InputError(f"{out} exists and holds no run: choose another --out, or add --overwrite.")
        if before == resolved:
            first = steps_done(out)
            trim(out, first)
            return first
        if any((out / name).exists() for name in (CHECKPOINT, LOG)):  # else it never began
            changed = sorted(k for k in resolved.keys() | before.keys() if resolved.get(k) != before.get(k))
            raise InputError(
                f"{out} holds a run with other settings ({', '.join(changed)}): choose another --out, "
                "or add --overwrite to begin anew."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} can't be made: {error.strerror}; choose another --out.") from error
    for name in (CHECKPOINT, LOG, *products):
        (out / name).unlink(missing_ok=True)
    record.write_text(
        json.dumps({"config": resolved, "versions": versions(), "commit": git_commit()}, indent=2) + "\n"
    )
    return 0
