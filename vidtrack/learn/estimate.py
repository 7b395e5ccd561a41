"""How long a training will take on this machine, told before it begins."""

from __future__ import annotations

import copy
import time

import torch

from pretrain.device import choose_precision
from vidtrack.learn.module import ColorizerTraining
from vidtrack.learn.objectives.base import Views
from vidtrack.learn.objectives.passes import weighted_losses


def seconds_per_step(module: ColorizerTraining, device: torch.device) -> float:
    """Seconds of one step of the optimizer, measured on a copy of what is to be trained.

    Forward, loss and backward of one batch of noise, after a batch of one clip that pays for what is only
    done once. Decoding, checkpoints and validation are not in it. No random numbers of the run are used.

    Args:
        module: about to be trained; it stays as it is.
        device: where it will be.
    """
    config = module.config
    trial = copy.deepcopy(module).to(device).train()
    size = (config.clips.frames, 3, config.clips.crop, config.clips.crop)
    half = choose_precision(config.engine.precision, device) == torch.bfloat16
    took = 0.0
    for clips in (1, config.optimizer.batch):
        noise = torch.rand(clips, *size, generator=torch.Generator().manual_seed(0)).to(device)
        windows = torch.tensor([[0.25, 0.25, 0.5, 0.0]], device=device).expand(clips, 4)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            views = Views(noise, windows, config.seed, step=0)
            losses = weighted_losses(trial.model, trial.target, trial.objectives, config.objectives, views)
        losses["loss"].backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
    return took * config.optimizer.accumulate
