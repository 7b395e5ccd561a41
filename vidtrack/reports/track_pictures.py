"""What a tracker in training makes of videos that it never saw: colours that it copies, walks that return."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.pictures import Picture, sheet
from vidtrack.colorize import colour, psnr, to_gray, to_lab
from vidtrack.learn.clips import second_view, to_float
from vidtrack.learn.cycle_accuracy import Walks, follow
from vidtrack.learn.held_out import ClipSet
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.pointers import as_keys, read, topk

SHOWN = 6  # clips of which colours are copied
WALKED = 3  # clips whose walks are drawn
FINE = 2  # frames are enlarged so often before colours are copied: cells are smaller then
TOPK, TEMPERATURE = 4, 0.05  # as the tracker has it
_RIGHT, _WRONG = (60, 190, 90), (215, 60, 60)


@torch.no_grad()
def track_pictures(
    model: VideoColorizer, clips: ClipSet, temperature: float, tolerance: int
) -> list[Picture]:
    """All pictures of a model; each time the same.

    Args:
        model: in evaluation mode.
        clips: see `vidtrack.learn.held_out.choose_clips`.
        temperature, tolerance: of the walks, see `vidtrack.learn.validate.Validation`.
    """
    return [colours(model, clips), cycles(model, clips, temperature, tolerance)]


def colours(model: VideoColorizer, clips: ClipSet) -> Picture:
    """The last frame of clips, gray, coloured from the first one through the pointers of the model.

    The model sees the brightness of both frames and nothing else. Each cell of the last frame copies the mean
    colour of the cells that it points to; brightness is that of the frame itself.
    """
    rows, copied, still = [], [], []
    for number in _spread(len(clips.frames), SHOWN):
        first, last = (_image(clips.frames[number, place]) for place in (0, -1))
        found = copy_colours(model, first, last)  # [S, S, 2]
        given, truth = (to_lab(image)[..., 1:] for image in (first, last))
        copied.append(psnr(truth, found))
        still.append(psnr(truth, given))
        rows += [first, to_gray(last), colour(last, found), last]
    caption = (
        "In fours: the first frame of a clip; the last one, gray; the same with the colours that the model "
        f"copies from the first; and as it was. The colours are right to {np.mean(copied):.1f} dB, and to "
        f"{np.mean(still):.1f} dB where each pixel keeps the colour that was there in the first frame."
    )
    return Picture("Copied colours", sheet(_batch(rows), 8 if len(rows) > 4 else 4), caption)


def copy_colours(model: VideoColorizer, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The a and b of CIELAB that a gray frame gets from another one: float32 `[S, S, 2]`.

    Args:
        model: in evaluation mode.
        reference, target: uint8 `[S, S, 3]` RGB; of the target only the brightness is used.
    """
    device = next(model.parameters()).device
    pair = _batch([to_gray(reference), to_gray(target)]).to(device)
    pair = F.interpolate(pair, scale_factor=FINE, mode="bilinear", align_corners=False)
    there, here = model.embed(pair).permute(0, 2, 3, 1).float()  # [h, w, C] each
    height, width, _ = here.shape
    radius = max(height, width) // 2
    ab = torch.from_numpy(to_lab(reference)[..., 1:].copy()).permute(2, 0, 1)[None].to(device)
    values = F.interpolate(ab, (height, width), mode="area").flatten(2)[0].T  # [h*w, 2]
    pointers = topk(here, [as_keys(there, radius)], radius, TOPK, TEMPERATURE)
    copied = read(pointers, values).T.view(1, 2, height, width)
    full = F.interpolate(copied, target.shape[:2], mode="bilinear", align_corners=False)
    return np.asarray(full[0].permute(1, 2, 0).cpu().numpy())


def cycles(model: VideoColorizer, clips: ClipSet, temperature: float, tolerance: int) -> Picture:
    """Which walks through clips come back to where they should, see `vidtrack.learn.cycle_accuracy`."""
    device = next(model.parameters()).device
    chosen = _spread(len(clips.frames), WALKED)
    frames, windows = clips.frames[chosen].to(device), clips.windows[chosen].to(device)
    found = follow(model.embed, frames, windows, temperature, tolerance)
    second = second_view(to_float(frames), windows)  # [B, T, 3, S, S]
    rows = []
    for number in range(len(chosen)):
        start, end = (_image(second[number, place]) for place in (0, -1))
        rows += [
            _image(frames[number, 0]),
            start,
            end,
            *(draw_walks(start, found, number, k) for k in (0, len(found.ends) - 1)),
        ]
    shares = [float(right.sum() / found.counts.sum().clamp(min=1)) for right in found.right]
    caption = (
        "In fives: the first frame of a clip; the second view of it, enlarged and maybe mirrored; the last "
        "frame of that view; then which walks from the second view to a later frame and back come to the "
        f"right place in the first view: over one frame ({shares[0]:.0%} of these clips), and over all "
        f"({shares[-1]:.0%}). Green is right, red is wrong, and what is not tinted doesn't count, as it is "
        "at nearly the same place in both views."
    )
    return Picture("Walks forth and back", sheet(_batch(rows), 5), caption)


def draw_walks(image: np.ndarray, walks: Walks, clip: int, k: int) -> np.ndarray:
    """The second view uint8 `[S, S, 3]` with its cells tinted: green where the walk is right, red if not."""
    cells = round(walks.truth.shape[1] ** 0.5)
    right, counts = (
        part.view(cells, cells).cpu().numpy() for part in (walks.right[k, clip], walks.counts[clip])
    )
    tint = np.where(right[..., None], _RIGHT, _WRONG).astype(np.uint8)  # [c, c, 3]
    size = (image.shape[1], image.shape[0])
    large = cv2.resize(tint, size, interpolation=cv2.INTER_NEAREST)
    shown = cv2.resize(counts.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)[..., None] > 0
    mixed = np.rint(0.55 * to_gray(image) + 0.45 * large).astype(np.uint8)
    return np.where(shown, mixed, to_gray(image))


def _spread(length: int, count: int) -> list[int]:
    """At most `count` of 0 .. `length` - 1, evenly."""
    count = min(count, length)
    return [(2 * place + 1) * length // (2 * count) for place in range(count)]


def _image(frame: Tensor) -> np.ndarray:
    """A frame `[3, S, S]`, uint8 or float 0..1, as uint8 `[S, S, 3]`."""
    if frame.is_floating_point():
        frame = frame.clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())


def _batch(images: Sequence[np.ndarray]) -> Tensor:
    """Images uint8 `[S, S, 3]` as float `[N, 3, S, S]` in 0..1."""
    return to_float(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
