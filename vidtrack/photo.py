"""`vidtrack colorize --backbone RUN`: single photos, coloured by what a pretext task has learned.

Nothing is pointed at: a network that was trained to guess the colours of gray images (`vidtrack pretrain
colorization` or `split_brain`; Zhang et al. 2016, arXiv 1603.08511) guesses those of the photo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pretrain.device import choose_device
from pretrain.errors import InputError
from pretrain.limits import open_picture
from pretrain.methods.lab import LabMethod
from pretrain.run import MODEL, load_method
from vidtrack.benchmark.environment import peak_memory_mb, versions
from vidtrack.colorize import PEAK, TINT, psnr, to_lab
from vidtrack.files import complete, require_free, require_outside, sha256, work_folder, write_json
from vidtrack.video import probe, read_image, save_png

STRIP = 1 << 20  # pixels of a photo that are coloured at once: large photos take little memory
LONGEST = 8  # sides of a square: a longer photo is seen smaller


def colour_photos(
    photos: Sequence[Path],
    run: Path,
    out: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Colour photos; writes a PNG of each, named by its stem, and `report.json`.

    Of a photo only the lightness is used, and the result has it pixel by pixel. A photo that has colours is
    scored by them: the PSNR of a and b of CIELAB, beside that of no colours at all ("gray").

    Args:
        photos: pictures of any size, gray or in colour.
        run: folder of a finished run of `vidtrack pretrain colorization` or `split_brain`.
        out: folder of the results; it is absent or complete.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; None: torch's choice.
        overwrite: replace an existing `out`.
        progress: called with the number of photos done and of all.

    Returns:
        The content of `report.json`; `psnr_ab` of a photo without colours is None.

    Raises:
        InputError: anything about photos, run or output that the user has to change.
    """
    out = require_free(out, overwrite, folder=True).absolute()
    require_outside(out, (*photos, run))
    names = photo_names(photos)
    where = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    method = load_colours(run).to(where)
    began = time.perf_counter()
    records = []
    with work_folder(out, overwrite, fresh=True) as partial:
        try:
            for done, (photo, name) in enumerate(zip(photos, names, strict=True), 1):
                image = read_photo(photo)
                ab = guess(image, method)
                save_png(partial / name, recolour(image, ab))
                records.append(
                    {
                        "name": name,
                        "path": str(photo),
                        "sha256": sha256(photo),
                        "width": image.shape[1],
                        "height": image.shape[0],
                        "psnr_ab": score(image, ab),
                    }
                )
                if progress:
                    progress(done, len(photos))
            report = {
                "schema": 1,
                "run": str(run),
                "size": method.size,
                "weights": sha256(run / MODEL),
                "versions": versions(),
                "device": where.type,
                "seconds": round(time.perf_counter() - began, 3),
                "peak_memory_mb": peak_memory_mb(),
                "photos": records,
            }
            write_json(partial / "report.json", report)
            complete(partial, out)
        except OSError as error:
            raise InputError(f"{out} can't be written: {error.strerror}; choose another --out.") from error
    return report


def summary(report: dict[str, Any]) -> str:
    """What `colour_photos` did, in a line for the terminal."""
    records = report["photos"]
    text = f"{', '.join(record['name'] for record in records)} report.json"
    scores = [record["psnr_ab"] for record in records if record["psnr_ab"]]
    if scores:
        means = {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}
        told = ", ".join(f"{name} {value:.1f} dB" for name, value in means.items())
        text += f"; colours against the photos' own (PSNR of a and b): {told}"
    return text


def read_photo(photo: Path) -> np.ndarray:
    """RGB uint8 `[H, W, 3]`.

    Raises:
        InputError: it can't be read, or is a video.
    """
    try:
        with open_picture(photo, photo) as picture:
            moves = getattr(picture, "n_frames", 1) > 1 and picture.format in ("GIF", "PNG", "WEBP")
    except Exception:  # what it is no picture for, is told below
        moves = False
    if moves:
        raise InputError(f"{photo} is an animation, and --backbone colours photos: save one of its pictures.")
    try:
        return read_image(photo)
    except InputError as error:
        if not _is_video(photo):
            raise
        raise InputError(
            f"{photo} is a video, and --backbone colours photos: to colour a video give --reference, a frame "
            "of it in colours."
        ) from error


def _is_video(path: Path) -> bool:
    try:
        probe(path)
    except InputError:
        return False
    return True


def photo_names(photos: Sequence[Path]) -> list[str]:
    """The names of the results: `<stem>.png`.

    Raises:
        InputError: a photo is missing, or two would have the same name.
    """
    names: dict[str, Path] = {}
    for photo in photos:
        if photo.is_dir():
            raise InputError(f"{photo} is a folder: give photos, such as {photo}/*.jpg.")
        if not photo.is_file():
            raise InputError(f"there is no photo {photo}: give a picture.")
        name = f"{photo.stem}.png"
        if name in names:
            raise InputError(f"{names[name]} and {photo} would both become {name}: colour one at a time.")
        names[name] = photo
    return list(names)


def load_colours(run: Path) -> LabMethod:
    """The method of a run that predicts colours, in evaluation mode.

    Raises:
        InputError: no finished run, or one of another method.
    """
    method, config = load_method(run)
    if not isinstance(method, LabMethod):
        raise InputError(
            f"{run} is a run of {config.method}, which knows no colours: give one of colorization or "
            "split_brain."
        )
    return method


@torch.inference_mode()
def guess(image: np.ndarray, method: LabMethod) -> np.ndarray:
    """The colours of a photo by its lightness.

    The network sees the whole photo with the short side that it was trained with, padded to whole cells.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        method: see `load_colours`.

    Returns:
        float32 `[h, w, 2]`, a and b at the size that the network sees.
    """
    height, width = image.shape[:2]
    scale = min(method.size / min(height, width), LONGEST * method.size / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    backbone: Any = method.backbone
    device = next(method.parameters()).device
    pixels = torch.from_numpy(small).to(device).permute(2, 0, 1)[None].float() / 255
    stride = max(backbone.strides.values())
    pixels = F.pad(pixels, (0, -size[0] % stride, 0, -size[1] % stride), mode="replicate")
    ab = method.colours(pixels)
    ab = F.interpolate(ab, size=pixels.shape[2:], mode="bilinear", align_corners=False)
    return ab[0, :, : size[1], : size[0]].permute(1, 2, 0).cpu().numpy()


def recolour(image: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """The lightness of a photo with other colours.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        ab: float32 `[h, w, 2]`, enlarged to the photo's pixels.

    Returns:
        uint8 `[H, W, 3]` RGB; colours that sRGB doesn't have at this lightness are clipped to its range.
    """
    height, width = image.shape[:2]
    wide = cv2.resize(ab, (width, height), interpolation=cv2.INTER_LINEAR)
    result = np.empty_like(image)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        lab = np.concatenate([to_lab(image[strip])[..., :1], wide[strip]], axis=2, dtype=np.float32)
        rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        result[strip] = np.rint(rgb.clip(0, 1) * 255)
    return result


def score(image: np.ndarray, ab: np.ndarray) -> dict[str, float] | None:
    """The PSNR in dB of guessed colours, and of none ("gray"), against a photo's own; None if it has none.

    Both are seen at the size of `ab`.

    Args:
        image, ab: see `recolour`.
    """
    height, width = ab.shape[:2]
    truth = to_lab(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))[..., 1:]
    none = psnr(truth, np.zeros_like(truth))
    if none > 20 * np.log10(PEAK / TINT):
        return None
    return {"colorized": round(psnr(truth, ab), 3), "gray": round(none, 3)}
