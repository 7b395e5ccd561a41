"""Where to compute, and in which precision: the same answer for training and tracking."""

from __future__ import annotations

import torch

from pretrain.errors import InputError


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is faster than float32: CUDA, and processors with bfloat16 instructions."""
    if device.type == "cuda":
        return torch.bfloat16
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """What `engine.precision` means: "bf16", "32", or "auto", which is the faster one."""
    if name == "auto":
        return fast_dtype(device)
    return torch.bfloat16 if name == "bf16" else torch.float32


def choose_device(name: str) -> torch.device:
    """The device that `--device auto|cpu|cuda|mps` means.

    Raises:
        InputError: the named device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(n for n in ("cuda", "mps", "cpu") if there[n]))
    if name not in there:
        raise InputError(f"--device {name} is unknown: choose auto, cpu, cuda or mps.")
    if not there[name]:
        raise InputError(f"--device {name}: this machine has no such device; use --device cpu.")
    return torch.device(name)
