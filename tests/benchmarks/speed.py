"""Frames per second, start-up and peak memory of `vidtrack propagate`, as one table.

    python tests/benchmarks/speed.py --data $VIDTRACK_DATA/eval

Everything that a user waits for counts: decoding, embedding, propagation, refinement, masks and overlay. The
command runs as a process of its own over the first frames of a video and over many; the speed is the slope
between the two, start-up what the slope leaves over of the short run, of each the best of `--repeat`
interleaved rounds. Videos: bear (one object) and schoolgirls (seven), enlarged and encoded as mp4.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.labels import Masks
from vidtrack.video import VideoWriter, read_image

SETS = (("DAVIS-2016-dev", 2016, "bear"), ("DAVIS-2017-240p", 2017, "schoolgirls"))
SIZES = ((854, 480), (1920, 1080))


@dataclass
class Case:
    """A video, where it is carried, and the seconds of its short and its long runs."""

    name: str
    video: Path
    mask: Path
    device: str
    lengths: tuple[int, int]
    seconds: dict[int, list[float]] = field(default_factory=dict)
    memory_mb: float = 0.0

    def measure(self, out: Path, options: list[str]) -> None:
        """One short and one long run."""
        for length in self.lengths:
            command = [sys.executable, "-m", "vidtrack.cli", "propagate", str(self.video), "--mask"]
            command += [str(self.mask), "--out", str(out), "--end", str(length), "--device", self.device]
            began = time.perf_counter()
            done = subprocess.run([*command, "--quiet", *options], capture_output=True, text=True)
            self.seconds.setdefault(length, []).append(time.perf_counter() - began)
            if done.returncode:
                raise InputError(f"{' '.join(command)}: {done.stderr.strip()}")
            report = json.loads((out / "report.json").read_text(encoding="utf-8"))
            self.memory_mb = max(self.memory_mb, report["peak_memory_mb"] or 0)
            shutil.rmtree(out)  # what is there would be used again

    def row(self) -> list[str]:
        """Frames per second, start-up and memory."""
        short, long = self.lengths
        slope = (min(self.seconds[long]) - min(self.seconds[short])) / (long - short)
        start = min(self.seconds[short]) - slope * short
        return [self.name, self.device, f"{1 / slope:.1f}", f"{start:.1f}", f"{self.memory_mb / 1000:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder eval of the project's data")
    parser.add_argument("--short", type=int, default=20, help="frames of the short runs")
    parser.add_argument("--long", type=int, default=80, help="frames of the long runs, at most 80")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--only", choices=("480p", "1080p"), help="leave the other size out")
    parser.add_argument("options", nargs="*", help="after --: options of propagate, like --quality fast")
    given = parser.parse_args()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for name, year, sequence in SETS:
            davis = DavisSet.find(given.data / name, year, "dev")
            (found,) = (one for one in davis.sequences if one.name == sequence)
            for width, height in SIZES:
                if given.only not in (None, f"{height}p"):
                    continue
                video, mask = enlarge(found, Path(folder), width, height)
                count = len(found.objects)
                title = f"{width}x{height}, {count} object{'s' if count > 1 else ''}"
                lengths = given.short, min(given.long, len(found.frames))
                cases += [Case(title, video, mask, device, lengths) for device in devices]
        for _ in range(given.repeat):
            for case in cases:
                case.measure(Path(folder) / "out", given.options)
    table = Table(title=" ".join(["vidtrack propagate", *given.options]))
    for column in ("video", "device", "frames/s", "start-up s", "peak GB"):
        table.add_column(column, justify="left" if column in ("video", "device") else "right")
    for case in cases:
        table.add_row(*case.row())
    Console(width=100).print(table)


def enlarge(sequence: DavisSequence, folder: Path, width: int, height: int) -> tuple[Path, Path]:
    """The sequence as mp4 and its first mask as PNG, both of another size."""
    video, mask = (folder / f"{sequence.name}-{height}.{suffix}" for suffix in ("mp4", "png"))
    with VideoWriter(video, width, height, Fraction(25)) as writer:
        for frame in sequence.frames:
            image = cv2.resize(read_image(frame), (width, height), interpolation=cv2.INTER_CUBIC)
            writer.write(np.ascontiguousarray(image))
    ids = sequence.annotation(0)
    ids = np.where(np.isin(ids, sequence.objects), ids, 0).astype(np.uint8)
    Masks(cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST), None).save(mask)
    return video, mask


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
