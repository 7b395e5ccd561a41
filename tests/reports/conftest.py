"""Synthetic results of a benchmark, in the schema that its runner writes."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

KEYS = ["J&F-Mean", "J-Mean", "F-Mean"]


def _row(name: str, level: float, frames: dict[str, int], seed: int, swept: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    sequences = {}
    for place, (sequence, length) in enumerate(frames.items()):
        series = {}
        for label in ("1", "2")[: 1 + place % 2]:
            walk = level - np.linspace(0, 0.2, length) + rng.normal(0, 0.02, length).cumsum() * 0.4
            values: list[float | None] = [float(v) for v in walk.clip(0, 1)]
            values[0] = values[-1] = None
            series[label] = values
        known = [v for values in series.values() for v in values if v is not None]
        mean = float(np.mean(known))
        scores = dict(zip(KEYS, (mean, mean + 0.01, mean - 0.01), strict=True))
        sequences[sequence] = {
            "frames": length,
            "scores": scores,
            "detail": None,
            "series": series,
            "frames_per_second": 9.0,
        }
    means = {key: float(np.mean([s["scores"][key] for s in sequences.values()])) for key in KEYS}
    return {
        "name": name,
        "scores": means,
        "settings": {"tracker": "default", "radius": 12, "context": [1, 3, 6], **swept},
        "weights": "ab" * 32,
        "swept": swept,
        "folder": f"predictions/{name}",
        "propagation_seconds": 12.5,
        "frames_per_second": 9.25,
        "peak_memory_mb": 1104.2,
        "reused": [],
        "sequences": sequences,
    }


@pytest.fixture
def make_results() -> Callable[..., dict[str, Any]]:
    """`make_results({row: level}, {sequence: frames}, sweep=None)`: a sweep makes its own rows."""

    def make(
        rows: dict[str, float] | None = None,
        frames: dict[str, int] | None = None,
        sweep: dict[str, list[Any]] | None = None,
    ) -> dict[str, Any]:
        frames = frames or {"bear": 40, "dog": 30, "horse-jump": 25}
        rows = rows or {"default": 0.85, "lab": 0.6}
        if sweep:
            made = [
                _row(f"run{n}", 0.8 + 0.02 * (n % 5), frames, n, dict(zip(sweep, values, strict=True)))
                for n, values in enumerate(product(*sweep.values()))
            ]
        else:
            made = [_row(name, level, frames, n, {}) for n, (name, level) in enumerate(rows.items())]
        return {
            "schema": 2,
            "benchmark": "davis",
            "title": "DAVIS-2016 dev",
            "keys": list(KEYS),
            "lower": [],
            "data": "/data/DAVIS-2016-dev",
            "data_sha256": "cd" * 32,
            "protocol": {"year": 2016, "split": "dev", "size": None},
            "versions": {"python": "3.12.1", "torch": "2.9.0"},
            "sweep": sweep,
            "rows": made,
        }

    return make
