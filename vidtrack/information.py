"""What `vidtrack info` tells: versions and device, and what to expect of a video."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from pretrain.device import choose_device, fast_dtype
from vidtrack.benchmark.environment import versions
from vidtrack.job.expect import clock, memory_bound_mb, stated
from vidtrack.labels.masks import Masks
from vidtrack.model.int8 import has_int8
from vidtrack.tracker import Tracker, load
from vidtrack.video import probe, read_frame


def describe_machine(device: str = "auto", threads: int | None = None) -> dict[str, str]:
    """Versions, device and threads, as lines of text by name."""
    if threads is not None:
        torch.set_num_threads(threads)
    where = choose_device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else ""
    fast = str(fast_dtype(where)).removeprefix("torch.")
    numbers = f"int8 and {fast}" if where.type == "cpu" and has_int8() else fast
    return {
        **versions(),
        "device": f"{where} {name} ({numbers}, {torch.get_num_threads()} threads)".replace("  ", " "),
    }


def describe_video(
    path: Path, tracker: str = "default", device: str = "auto", threads: int | None = None
) -> dict[str, str]:
    """Size, rate and length of a video, and the time and memory that tracking will take here.

    The expectation is measured: the video's first frame is tracked a few times with a quarter of the
    picture as object, the memory full. Decoding and writing, which run beside it, are not in it.

    Raises:
        InputError: not a usable video, or an unknown tracker.
    """
    about = probe(path)
    first = read_frame(path, 0)
    loaded = load(tracker, device=device, threads=threads)
    height, width = first.image.shape[:2]
    bound = memory_bound_mb(loaded, (height, width))
    ids = np.zeros((height, width), np.uint8)
    ids[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    seconds = _seconds_per_frame(loaded, first.image, Masks(ids))
    rate = f"{float(about.rate):.3f}".rstrip("0").rstrip(".")
    lines = {
        "video": f"{path} ({about.codec}{', with sound' if about.has_audio else ''})",
        "frames": "unknown" if about.frames is None else str(about.frames),
        "size": f"{about.width} x {about.height}"
        + (f", rotated by {about.rotation}" if about.rotation else ""),
        **(
            {}
            if about.pixel_aspect == 1
            else {"pixels": f"{float(about.pixel_aspect):.3f} times as wide as high"}
        ),
        "rate": f"{rate} frames/s ({about.rate.numerator}/{about.rate.denominator})",
        "duration": "unknown" if about.duration is None else f"{about.duration:.2f} s",
        "expected speed": f"{1 / seconds:.1f} frames/s with one object (tracker {loaded.name})",
    }
    if about.frames is not None:
        lines["expected time"] = clock(about.frames * seconds)
    if bound is not None:
        lines["expected memory"] = f"{stated(bound)}, however long the video is"
    return lines


def _seconds_per_frame(tracker: Tracker, image: np.ndarray, masks: Masks) -> float:
    """Time for one more frame like `image` once the memory is full."""
    session = tracker.session()
    session.step(image, masks)  # also warms up
    began = time.perf_counter()
    embedding = session.embed(image)
    embedded = time.perf_counter() - began
    # The other steps share the embedding: they only fill the memory.
    for index in range(1, max(tracker.settings.context) + 1):
        session.carry(index, embedding, image)
    began = time.perf_counter()
    session.read(session.carry(index + 1, embedding, image), image)
    return embedded + time.perf_counter() - began
