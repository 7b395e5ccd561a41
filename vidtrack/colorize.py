"""`vidtrack colorize`: colours of a few reference frames, carried through a gray video by the pointers.

The classic application of learned correspondence (Vondrick et al. 2018, arXiv 1806.09594): the tracker sees
gray frames only, finds where each place was in the reference, and copies the colour from there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from pretrain.errors import InputError
from vidtrack.benchmark.environment import peak_memory_mb, versions
from vidtrack.files import complete, require_free, require_outside, sha256, work_folder, write_json
from vidtrack.given import Direction
from vidtrack.labels.maps import Maps
from vidtrack.labels.masks import same_aspect
from vidtrack.passes import Passes
from vidtrack.propagate.carrier import Confidence
from vidtrack.session import Result, Session
from vidtrack.tolerance import OnError, describe_damage
from vidtrack.tracker import Tracker
from vidtrack.video import VideoInfo, VideoWriter, probe, read_image
from vidtrack.video.background import Behind

QUEUE = 8  # results that may wait for the writing thread
PEAK = 255.0  # width of the range of a and b, -128..127, as the PSNR counts it
BEST = 100.0  # dB of identical colours: JSON has no infinity
TINT = 2.0  # root mean square of a and b above which a video has colours, not just rounding errors
ALIKE = 0.5  # correlation of brightness below which a reference can't be the colour version of its frame
METHODS = ("colorized", "copy", "gray")
_NUMBERED = re.compile(r"(\d+)=(.+)")


def colorize_video(
    video: Path,
    references: Mapping[int, Path],
    tracker: Tracker,
    out: Path,
    *,
    direction: Direction = "forward",
    start: int = 0,
    end: int | None = None,
    on_error: OnError = "repeat",
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Colour a gray video; writes `colorized.mp4`, with the video's sound, and `report.json`.

    A video that has colours is turned gray first, for the tracker as well as for the brightness of the
    result, and its colours serve to score the result only: the PSNR of a and b of CIELAB over each frame that
    is no reference, beside those of two baselines, "copy" (the colours of the first reference, pixel by
    pixel) and "gray" (none at all).

    Args:
        video: video file or folder of frames.
        references: pictures with the colours of a frame, by its number.
        tracker: see `vidtrack.load`.
        out: folder of the results; it is absent or complete.
        direction: see `Passes`; frames that no reference reaches stay gray.
        start, end: first frame, and the one after the last.
        on_error: what is done about damaged frames, see `Tolerance`; skipped ones stay gray.
        overwrite: replace an existing `out`.
        progress: called with the number of frames done and of all (None if unknown).

    Returns:
        The content of `report.json`; `psnr_ab` is None for a video without colours.

    Raises:
        InputError: anything about video, references or output that the user has to change.
    """
    out = require_free(out, overwrite, folder=True).absolute()
    require_outside(out, (video, *references.values()))
    info = probe(video)
    warnings: list[str] = []
    colours = {
        number: load_reference(path, (info.height, info.width), warnings)
        for number, path in sorted(references.items())
    }
    _check_numbers(references, start, end)
    annotations = {number: Maps(to_lab(image)[..., 1:].copy()) for number, image in colours.items()}
    total = None if info.frames is None else max(0, min(info.frames, end or info.frames) - start)
    began = time.perf_counter()
    make = partial(GraySession, tracker.embedder, tracker.settings)
    with (
        work_folder(out, overwrite, fresh=True) as folder,
        Passes(make, video, annotations, direction, start, end, on_error=on_error) as passes,
    ):
        try:
            writer = _Writer(folder, passes.info, annotations)
            try:
                for done, result in enumerate(passes, 1):
                    if result.index in colours and not alike(colours[result.index], result.image):
                        warnings.append(
                            f"{references[result.index]} doesn't look like frame {result.index}: its colours "
                            "will land in wrong places unless it is that frame's colour version."
                        )
                    writer.put(result)
                    if progress:
                        progress(done, total)
                warnings += [*passes.warnings, *writer.close()]
            except BaseException:
                writer.abort()
                raise
            seconds = time.perf_counter() - began
            report = {
                "schema": 1,
                "input": {
                    "video": str(video),
                    "references": {
                        str(number): {"path": str(path), "sha256": sha256(path)}
                        for number, path in sorted(references.items())
                    },
                    "start": start,
                    "end": start + len(writer.frames),
                },
                "direction": direction,
                "frame_count": len(writer.frames),
                "width": info.width,
                "height": info.height,
                "rate": f"{info.rate.numerator}/{info.rate.denominator}",
                "psnr_ab": writer.scores(),
                "options": tracker.describe(),
                "weights": tracker.weights,
                "versions": versions(),
                "seconds": {
                    **{stage: round(value, 3) for stage, value in passes.seconds.items()},
                    "writing": round(writer.seconds, 3),
                    "total": round(seconds, 3),
                },
                "frames_per_second": round(len(writer.frames) / seconds, 2),
                "peak_memory_mb": peak_memory_mb(),
                "warnings": warnings,
                "damage": describe_damage(writer.frames, on_error, passes.damage),
                "frames": writer.frames,
            }
            write_json(folder / "report.json", report)
            complete(folder, out)
        except OSError as error:
            raise InputError(f"{out} can't be written: {error.strerror}; choose another --out.") from error
    return report


class GraySession(Session):
    """A session that sees the brightness of its frames and nothing else."""

    def embed(self, frame: np.ndarray, region: Tensor | None = None) -> Tensor:
        """See `Session.embed`."""
        return super().embed(to_gray(frame), region)

    def carry(self, index: int, embedding: Tensor, frame: np.ndarray, region: Tensor | None = None) -> Any:
        """See `Session.carry`."""
        return super().carry(index, embedding, to_gray(frame), region)

    def read(self, carried: Any, frame: np.ndarray) -> tuple[Any, Confidence]:
        """See `Session.read`."""
        return super().read(carried, to_gray(frame))


class _Writer:
    """Colours, writes and scores each result in a thread, while the next frame is computed.

    Args:
        folder: receives `colorized.mp4`.
        info: of the video.
        references: `Maps` of a and b by frame number.
    """

    def __init__(self, folder: Path, info: VideoInfo, references: Mapping[int, Maps]) -> None:
        self.video = VideoWriter.like(folder / "colorized.mp4", info)
        self.references = references
        self.first = references[min(references)].values
        self.frames: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._thread = Behind(self._write, QUEUE)

    def put(self, result: Result) -> None:
        """Hand over a result; waits while the thread is `QUEUE` results behind."""
        self._thread.put(result)

    def _write(self, result: Result) -> None:
        began = time.perf_counter()
        skipped = result.labels is None
        values = np.zeros((*result.image.shape[:2], 1), np.float32) if skipped else result.labels.values
        values = np.nan_to_num(values)  # no colour is known: gray
        ab = np.broadcast_to(values, (*values.shape[:2], 2))  # nothing reached it: one channel perhaps
        self.video.write(colour(result.image, ab), result.time)
        about: dict[str, Any] = {
            "index": result.index,
            "name": result.name,
            "time": round(float(result.time), 6),
            "damaged": result.damaged,
            "doubtful": result.doubtful,
            "skipped": skipped,
            "reference": result.index in self.references,
            "confidence": round(result.confidence.get(0, 0.0), 4),
        }
        if not (about["reference"] or skipped):
            truth = to_lab(result.image)[..., 1:]
            found = (ab, self.first, np.zeros_like(truth))
            about["psnr_ab"] = {
                name: round(psnr(truth, one), 3) for name, one in zip(METHODS, found, strict=True)
            }
        self.frames.append(about)
        self.seconds += time.perf_counter() - began

    def close(self) -> list[str]:
        """Finish the video; returns its warnings."""
        self._thread.finish()
        self.video.close()
        return self.video.warnings

    def abort(self) -> None:
        """Stop at once and leave nothing open."""
        self._thread.abort()
        self.video.__exit__(KeyboardInterrupt, None, None)

    def scores(self) -> dict[str, float] | None:
        """Mean PSNR of each method in dB; None, and none per frame either, where the video is gray."""
        scored = [frame["psnr_ab"] for frame in self.frames if "psnr_ab" in frame]
        gray = PEAK / TINT
        if all(frame["gray"] > 20 * np.log10(gray) for frame in scored):
            for frame in self.frames:
                frame.pop("psnr_ab", None)
            return None
        return {name: round(sum(frame[name] for frame in scored) / len(scored), 3) for name in METHODS}


def parse_references(texts: Sequence[str], start: int = 0) -> dict[int, Path]:
    """`["red.png", "40=blue.png"]` to paths by frame number; a bare path belongs to frame `start`.

    Raises:
        InputError: none, or two for one frame.
    """
    found: dict[int, Path] = {}
    for text in texts:
        match = _NUMBERED.fullmatch(text)
        number, path = (int(match[1]), match[2]) if match else (start, text)
        if number in found:
            raise InputError(
                f"--reference {text}: frame {number} has a reference already; give one for each frame, as "
                "FRAME=picture.png."
            )
        found[number] = Path(path)
    if not found:
        raise InputError("nothing is coloured: give the colour version of a frame, --reference colour.png.")
    return found


def load_reference(path: Path, size: tuple[int, int], warnings: list[str]) -> np.ndarray:
    """The colour version of a frame, uint8 `[H, W, 3]` RGB at `size` (height, width).

    A picture of another size and the same aspect ratio is resized; a sentence is added to `warnings`.

    Raises:
        InputError: no picture, another aspect ratio, or one without colours.
    """
    if not path.is_file():
        raise InputError(f"there is no picture {path}: give the colour version of a frame.")
    image = read_image(path)
    own, wanted = (f"{width}x{height}" for height, width in (image.shape[:2], size))
    if image.shape[:2] != size:
        if not same_aspect((image.shape[0], image.shape[1]), size):
            raise InputError(
                f"{path} is {own} but the video is {wanted}, another aspect ratio: give the colour version "
                "of one of its frames."
            )
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        warnings.append(f"{path} is {own} and was resized to the video's {wanted}.")
    if not np.ptp(image, axis=2).any():
        raise InputError(f"{path} has no colours: every pixel of it is gray.")
    return image


def to_gray(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` RGB with the brightness of an image (BT.601, as gray video has it) and no colour."""
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))


def to_lab(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` sRGB to CIELAB (D65) float32 `[H, W, 3]`: L in 0..100, a and b within -128..127."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def colour(image: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """An image's brightness with other colours.

    Args:
        image: uint8 `[H, W, 3]` RGB; only `to_gray` of it is used.
        ab: float32 `[H, W, 2]`, a and b of CIELAB.

    Returns:
        uint8 `[H, W, 3]` RGB; colours that sRGB doesn't have at this brightness are clipped to its range.
    """
    lab = np.concatenate([to_lab(to_gray(image))[..., :1], ab], axis=2, dtype=np.float32)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(rgb.clip(0, 1) * 255).astype(np.uint8))


def psnr(truth: np.ndarray, found: np.ndarray) -> float:
    """Peak signal-to-noise ratio of a and b in dB: `10 log10(255² / mean squared error)`, at most 100.

    Args:
        truth, found: float `[H, W, 2]`; the error is the mean over pixels and both channels.
    """
    error = float(np.mean(np.square(truth - found, dtype=np.float64)))
    return BEST if error == 0 else min(BEST, float(10 * np.log10(PEAK**2 / error)))


def alike(reference: np.ndarray, frame: np.ndarray) -> bool:
    """Whether two RGB images of one size have the same brightness, roughly."""
    small = [
        cv2.resize(to_gray(image)[..., 0], (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
        for image in (reference, frame)
    ]
    first, second = (part - part.mean() for part in small)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return bool(scale == 0 or (first * second).sum() / scale >= ALIKE)


def _check_numbers(references: Mapping[int, Path], start: int, end: int | None) -> None:
    for number, path in references.items():
        if number < start or (end is not None and number >= end):
            until = "the end" if end is None else f"frame {end - 1}"
            raise InputError(
                f"{path} belongs to frame {number}, which is not among those from frame {start} to {until}: "
                "give the reference of one of these, as FRAME=picture.png."
            )
