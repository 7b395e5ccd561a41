"""The training engine: one Lightning Trainer factory, exact resume, a clean stop.

Everything random in a run is a pure function of (seed, step, position), see `pretrain.sampler`, so a run that
was stopped and resumed sees the same batches and ends with the same weights as one that was not.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.check import Check, undisturbed
from pretrain.config import Config
from pretrain.device import choose_precision
from pretrain.distributed import mean_metrics, rank, world_size
from pretrain.errors import InputError
from pretrain.folder import CHECKPOINT
from pretrain.interrupts import Handlers
from pretrain.log import append
from pretrain.sampler import StepSampler, loader

Report = Callable[[dict[str, float]], None]  # a record of a run
Share = Annotated[float, Field(ge=0, lt=1)]


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
    betas: tuple[Share, Share] = (0.9, 0.999)
    momentum: Share = 0.9
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    final_ratio: float = Field(default=0.01, ge=0, le=1)


class Engine(Config):
    """How a run is carried out; none of these changes what is learned, except the precision."""

    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(str)] = "auto"  # 32 is a number
    workers: int = Field(default=0, ge=0)
    checkpoint_minutes: float = Field(default=8.0, ge=0)
    log_every: int = Field(default=10, ge=1)


def cosine_warmup(step: int, settings: Optimizer) -> float:
    """Factor of the learning rate at a step: linear warm-up, then half a cosine to `final_ratio`."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    span = max(1, settings.steps - settings.warmup_steps)
    progress = min(1.0, (step - settings.warmup_steps) / span)
    return settings.final_ratio + (1 - settings.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def all_warm_up(settings: Optimizer) -> list[str]:
    """A sentence where a run ends before it has learned at its learning rate."""
    if settings.steps > settings.warmup_steps:
        return []
    return [
        f"the whole run is warm-up (optimizer.steps={settings.steps}, optimizer.warmup_steps="
        f"{settings.warmup_steps}): its learning rate stays low; set optimizer.warmup_steps lower"
    ]


def make_optimizer(
    module: torch.nn.Module, settings: Optimizer, groups: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """What `configure_optimizers` returns: an optimizer without weight decay on biases and norms.

    Args:
        module: whose parameters are trained.
        settings: see `Optimizer`.
        groups: groups of parameters with options of their own; None: all trainable ones, alike.
    """
    spared = {id(p) for name, p in module.named_parameters() if p.ndim <= 1 or name.endswith("bias")}
    split: list[dict[str, Any]] = []
    for group in groups or [{"params": module.parameters()}]:
        trained = [p for p in group["params"] if p.requires_grad]
        options = {key: value for key, value in group.items() if key != "params"}
        split.append({**options, "params": [p for p in trained if id(p) not in spared]})
        split.append({**options, "params": [p for p in trained if id(p) in spared], "weight_decay": 0.0})
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
    other metrics is the mean over the batches of the step, those of all processes.

    Args:
        out: folder of the run.
        settings: see `Engine`.
        batch: samples in a batch, of one process, for the throughput.
        max_minutes: stop (with a checkpoint) after so long; None: never.
        report: called with a dict `step, steps, loss, learning_rate, samples_per_second, waiting, ...`;
            `waiting` is the share of the time in which there was no batch to compute with, and `minutes`
            those of all stretches of the run up to its checkpoints.
        check: see `Check`. It leaves no trace in the run: random states and modes come back, and the
            throughput does not count its time. Where it was due when a run was stopped, the run that goes on
            makes it first.

    Attributes:
        interrupted: a signal has come, see `listening`.
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
        self.handlers: Handlers | None = None
        self.checking = False
        self.out_of_time = False
        self.began = self.saved = self.reported = self.looked = time.monotonic()
        self.before = self.unseen = 0.0  # minutes of earlier stretches, and those since the last check
        self.step = self.first_step = self.reported_step = 0
        self.metrics: list[dict[str, Tensor]] = []  # of the batches of a step that will be reported
        self.free, self.waited = self.began, 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager: the first signal stops the run after its step; the second one is as before."""
        self.handlers = Handlers(self._stop)
        try:
            yield
        finally:
            self.handlers.restore()

    def _stop(self, number: int) -> None:
        assert self.handlers is not None
        self.interrupted.set()
        self.handlers.restore()
        if self.checking:
            raise KeyboardInterrupt  # a check can be long

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = self.saved = self.reported = self.looked = time.monotonic()

    def state_dict(self) -> dict[str, float]:
        """The clocks of the run, which its checkpoint keeps."""
        return {"minutes": self.before + _minutes(self.began), "unseen": self.unseen + _minutes(self.looked)}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.before, self.unseen = state_dict["minutes"], state_dict["unseen"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.handlers is not None:
            self.handlers.renew()  # Lightning's handler of SIGTERM would leave without a checkpoint
        self.step = self.first_step = self.reported_step = trainer.global_step
        self.look(trainer, module)
        self.free = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.waited += time.monotonic() - self.free

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._reports(self.step + 1, trainer):
            self.metrics.append({key: value.detach() for key, value in trainer.callback_metrics.items()})
        if trainer.global_step != self.step:  # else in the middle of a step
            self.after_step(trainer, module)
        self.free = time.monotonic()

    def after_step(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Report, stop, save and look, whatever is due."""
        step, now = trainer.global_step, time.monotonic()
        self.step = step
        if self._reports(step, trainer):
            metrics = mean_metrics(self.metrics, trainer.strategy.root_device)
            self.metrics = []
            samples = (step - self.reported_step) * self.batch * trainer.world_size
            samples *= trainer.accumulate_grad_batches
            minutes = _minutes(self.began)
            record = {
                "step": step,
                "steps": trainer.max_steps,
                **metrics,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "samples_per_second": samples / max(1e-9, now - self.reported),
                "waiting": self.waited / max(1e-9, now - self.reported),
                "minutes": self.before + minutes,
                "minutes_left": minutes * (trainer.max_steps - step) / max(1, step - self.first_step),
            }
            self.reported, self.reported_step, self.waited = now, step, 0.0
            if trainer.is_global_zero:
                append(self.out, record)
                if self.report:
                    self.report(record)
            if not math.isfinite(metrics.get("loss", 0.0)):
                raise self.diverged(f"the loss is not finite at step {step}")
        if self.max_minutes is not None and now - self.began >= 60 * self.max_minutes:
            self.out_of_time = True
        stop = _any(trainer, self.interrupted.is_set() or self.out_of_time)
        if stop:
            trainer.should_stop = True
        elif step < trainer.max_steps and _any(
            trainer, now - self.saved >= 60 * self.settings.checkpoint_minutes
        ):
            self.save(trainer)
        if not stop or step == trainer.max_steps:  # who stops early doesn't wait for it
            self.look(trainer, module)

    def _reports(self, step: int, trainer: L.Trainer) -> bool:
        return step % self.settings.log_every == 0 or step == trainer.max_steps

    def look(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Make the check if it is due, as if nothing had happened; a signal ends it, and the run."""
        unseen = self.unseen + _minutes(self.looked)
        if self.check is None or not _any(trainer, self.check.due(self.step, trainer.max_steps, unseen)):
            return
        began = time.monotonic()
        if trainer.is_global_zero:
            try:
                self.checking = True
                with undisturbed(module):
                    self.check(self.step)
            except KeyboardInterrupt:
                if not self.interrupted.is_set():
                    raise
            finally:
                self.checking = False
        trainer.strategy.barrier()
        now = time.monotonic()
        self.reported += now - began
        if _any(trainer, self.interrupted.is_set()):
            trainer.should_stop = True  # the run that goes on makes the check
        else:
            self.looked, self.unseen = now, 0.0

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write the checkpoint atomically; never one that has diverged over one that has not.

        Raises:
            InputError: a weight is not finite any more.
        """
        assert trainer.model is not None
        if not all(bool(value.isfinite().all()) for value in trainer.model.parameters()):
            raise self.diverged(f"weights are not finite at step {trainer.global_step}")
        partial = self.out / f"{CHECKPOINT}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.out / CHECKPOINT)
        self.saved = time.monotonic()

    def diverged(self, what: str) -> InputError:
        """The sentence for a run that can't go on."""
        return InputError(
            f"{what}: the run diverged; begin it anew with --overwrite and a lower optimizer.learning_rate."
        )


def _minutes(since: float) -> float:
    return (time.monotonic() - since) / 60


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
    half = choose_precision(engine.precision, device) == torch.bfloat16
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

    Raises:
        KeyboardInterrupt: at a second signal.
        InputError: the run has diverged: a loss or weight is not finite.
        RuntimeError: a process that prepares batches died.
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
    batches = loader(data, sampler, engine.workers, collate)
    with callback.listening():
        try:
            trainer.fit(module, batches, ckpt_path=str(checkpoint) if first else None, weights_only=True)
        except SystemExit as error:  # what Lightning makes of it
            raise KeyboardInterrupt from error
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RuntimeError(
                "a process that prepares batches died, as it does when memory is short: run the same command "
                f"again to go on from the last checkpoint, with fewer of them than engine.workers="
                f"{engine.workers} if it dies again"
            ) from error
    return trainer.global_step
