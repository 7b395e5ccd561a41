"""Where a point's labels come from: the attention of one cell over the memory, in numbers and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrack.geometry import cell_to_pixel, pixel_to_cell, rescale_points, to_pixels, working_size
from vidtrack.pointers import as_keys, topk
from vidtrack.reports.overlay import contact_sheet
from vidtrack.reports.text import put_text, text_size

WIDTH = 720  # pixels of a picture on the sheet at most
COLUMNS = 5  # pictures in a row at most
_CYAN, _WHITE = (0, 220, 255), (255, 255, 255)


@dataclass(eq=False)
class PointerWeights:
    """The attention of one query cell over M memory frames of `h` x `w` cells.

    Attributes:
        frame: number of the query frame.
        point: `(x, y)` in pixels of it.
        cell: `(row, column)` of the cell that the point lies in.
        memory: numbers of the M memory frames, in the order in which the tracker keeps them.
        radius: half side of the search window in cells.
        stride: working pixels per cell.
        size: working size `(height, width)` of the frames.
        cosine: float32 `[M, h, w]`, -1..1; nan outside of the window.
        weight: float32 `[M, h, w]`, the softmax over all cells of the window in all memory frames together;
            sums to 1, 0 outside of the window.
        top: int64 `[k, 3]`, the cells that the tracker keeps, best first, as (position in `memory`, row,
            column).
        top_weight: float32 `[k]`, the softmax over these alone: the shares in which labels are copied.
    """

    frame: int
    point: tuple[float, float]
    cell: tuple[int, int]
    memory: tuple[int, ...]
    radius: int
    stride: int
    size: tuple[int, int]
    cosine: np.ndarray
    weight: np.ndarray
    top: np.ndarray
    top_weight: np.ndarray


def attention(
    query: Tensor, memory: Sequence[Tensor], cell: tuple[int, int], radius: int, k: int, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The attention of one cell: over its whole window, and over the k best cells as the tracker takes them.

    Args:
        query: unit embeddings `[h, w, C]`.
        memory: M of the same shape.
        cell: `(row, column)` of the query.
        radius: half side of the square window in cells, in every memory frame.
        k: number of pointers.
        temperature: of the softmax.

    Returns:
        `cosine`, `weight`, `top` and `top_weight` of `PointerWeights` as tensors on the CPU. The k are those
        of `vidtrack.pointers.topk`, in the precision of the embeddings; cosines are float32.
    """
    height, width, _ = query.shape
    row, column = cell
    rows = slice(max(0, row - radius), row + radius + 1)
    columns = slice(max(0, column - radius), column + radius + 1)
    cosine = torch.full((len(memory), height, width), float("nan"))
    stacked = torch.stack([frame[rows, columns].float() for frame in memory])  # [M, r, c, C]
    cosine[:, rows, columns] = (stacked @ query[row, column].float()).cpu()
    inside = ~cosine.isnan()
    weight = torch.zeros_like(cosine)
    weight[inside] = (cosine[inside] / temperature).softmax(dim=0)
    active = torch.zeros(height, width, dtype=torch.bool, device=query.device)
    active[row, column] = True
    keys = [as_keys(frame, radius) for frame in memory]
    found = topk(query, keys, radius, k, temperature, active=active)
    own = int((found.cells == row * width + column).nonzero()[0, 0])
    real = found.score[own].isfinite()  # a small window has fewer than k cells
    index, shares = found.index[own][real].cpu(), found.weight[own][real].cpu()
    place = index % (height * width)
    top = torch.stack([index // (height * width), place // width, place % width], dim=-1)
    return cosine, weight, top, shares


def point_weights(
    embeddings: Mapping[int, Tensor],
    image_size: tuple[int, int],
    frame: int,
    point: tuple[float, float],
    memory: Sequence[int],
    *,
    size: int | None,
    stride: int,
    radius: int,
    k: int,
    temperature: float,
) -> PointerWeights:
    """The attention of the cell that a point lies in.

    Args:
        embeddings: unit embeddings `[h, w, C]` of the frame and its memory, by frame number.
        image_size: `(height, width)` of the frames in pixels.
        frame: number of the query frame.
        point: `(x, y)` pixels inside of it.
        memory: numbers of the memory frames.
        size: short side at which the embeddings were computed, see `Propagation`.
        stride: working pixels per cell.
        radius, k, temperature: see `attention`.
    """
    working = working_size(*image_size, size)
    query = embeddings[frame]
    place = pixel_to_cell(
        rescale_points(torch.tensor([point], dtype=torch.float64), image_size, working), stride
    )
    limit = torch.tensor([query.shape[1] - 1, query.shape[0] - 1])
    column, row = torch.minimum((place[0] + 0.5).floor().long().clamp(min=0), limit).tolist()
    found = attention(query, [embeddings[n] for n in memory], (row, column), radius, k, temperature)
    cosine, weight, top, shares = (part.numpy() for part in found)
    return PointerWeights(
        frame, point, (row, column), tuple(memory), radius, stride, working, cosine, weight, top, shares
    )


def draw_pointers(images: Mapping[int, np.ndarray], weights: Sequence[PointerWeights]) -> np.ndarray:
    """A contact sheet with a row for each point, or several where many frames are attended to.

    First the query frame with the point and its cell; then each memory frame, gray, with the weights in
    colour (one scale for the row, from nothing to the largest weight, by the square root, so that small ones
    are seen), the window as a frame, and a ring with its share at each of the cells that the tracker keeps.

    Args:
        images: frames uint8 `[H, W, 3]` RGB by number, all of one size.
        weights: one for each row; all have equally many memory frames.

    Returns:
        uint8 `[h, w, 3]` RGB.
    """
    count = 1 + len(weights[0].memory)
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    pictures: list[np.ndarray] = []
    captions: list[str] = []
    for one in weights:
        pictures.append(_query(images[one.frame], one))
        captions.append(f"frame {one.frame}: point {one.point[0]:g}, {one.point[1]:g}")
        peak = float(one.weight.max())
        for position, number in enumerate(one.memory):
            pictures.append(_memory(images[number], one, position, peak))
            captions.append(
                f"frame {number}: weight {one.weight[position].sum():.2f}, "
                f"best cosine {np.nanmax(one.cosine[position]):.2f}"
            )
        blank = rows * columns - count  # the next point begins a row of its own
        pictures += [np.full((1, 1, 3), 255, np.uint8)] * blank
        captions += [""] * blank
    return contact_sheet(pictures, columns, captions)


def _query(image: np.ndarray, one: PointerWeights) -> np.ndarray:
    """The query frame with the point's cell and a cross at the point."""
    picture, scale = _shown(image)
    _square(picture, one, 0.5, image.shape, scale)
    x, y = (np.array(one.point) + 0.5) * scale - 0.5
    arm = max(8.0, min(picture.shape[:2]) / 30)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        begin, end = (x + 0.4 * arm * dx, y + 0.4 * arm * dy), (x + arm * dx, y + arm * dy)
        for color, thickness in (((0, 0, 0), 4), (_WHITE, 2)):
            cv2.line(picture, _fixed(begin), _fixed(end), color, thickness, cv2.LINE_AA, shift=4)
    return picture


def _memory(image: np.ndarray, one: PointerWeights, position: int, peak: float) -> np.ndarray:
    """A memory frame with the heat of its cells, the window and the kept cells."""
    picture, scale = _shown(image)
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    heat = torch.from_numpy(np.sqrt(one.weight[position] / peak))[None]
    shown = to_pixels(heat, one.size, one.stride, (picture.shape[0], picture.shape[1]))[0].numpy()[..., None]
    colors = cv2.applyColorMap(np.rint(shown * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = np.minimum(1, 2 * shown) * 0.85
    picture = np.ascontiguousarray(np.rint(gray * (1 - opacity) + colors * opacity).astype(np.uint8))
    _square(picture, one, one.radius + 0.5, image.shape, scale)
    mine = one.top[:, 0] == position
    cell = one.stride * picture.shape[0] / one.size[0]
    _rings(picture, _pixels(one.top[mine, 1:], one, image.shape, scale), one.top_weight[mine], cell)
    return picture


def _rings(picture: np.ndarray, centers: np.ndarray, shares: np.ndarray, cell: float) -> None:
    """A ring around each kept cell, `cell` pixels wide, and its share beside it where there is room."""
    ring = max(3.0, 0.7 * cell)
    digit = max(10.0, min(picture.shape[:2]) / 34)
    taken: list[tuple[float, float, float, float]] = [
        (x - ring, y - ring, x + ring, y + ring) for x, y in centers
    ]
    for x, y in centers:
        for color, thickness in (((0, 0, 0), 3), (_WHITE, 1)):
            cv2.circle(picture, _fixed((x, y)), round(ring * 16), color, thickness, cv2.LINE_AA, shift=4)
    for (x, y), share in zip(centers, shares, strict=True):
        text = f"{share:.2f}"
        width, height = text_size(text, digit)
        place = _free((x, y), ring, (width, height), picture.shape, taken)
        taken.append(_box(place, (width, height)))
        put_text(picture, text, place, digit, _WHITE)


def _free(
    center: tuple[float, float],
    ring: float,
    size: tuple[int, int],
    shape: tuple[int, ...],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """The nearest place around a ring where a text of `size` covers nothing; else the first one tried."""
    first = None
    for distance in np.arange(1, 12):
        for angle in np.arange(0, 2 * np.pi, np.pi / 8):
            reach = ring + distance * size[1] / 2
            x = center[0] + np.cos(angle) * (reach + size[0] / 2)
            y = center[1] - np.sin(angle) * (reach + size[1] / 2)
            box = _box((x, y), size)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] < shape[1] and box[3] < shape[0]
            first = first or (float(x), float(y))
            if inside and not any(_overlap(box, other) for other in taken):
                return float(x), float(y)
    assert first is not None
    return first


def _box(center: tuple[float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y = center
    return x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shown(image: np.ndarray) -> tuple[np.ndarray, float]:
    """A copy of a frame at the size of the sheet, and by how much it was scaled."""
    scale = min(1.0, WIDTH / image.shape[1])
    if scale == 1:
        return image.copy(), 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), scale


def _pixels(cells: np.ndarray, one: PointerWeights, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Cells `(row, column)` `[n, 2]` to `(x, y)` `[n, 2]` on a picture of the sheet."""
    xy = cell_to_pixel(torch.from_numpy(cells[:, ::-1].astype(np.float64)), one.stride)
    xy = rescale_points(xy, one.size, (shape[0], shape[1]))
    return np.asarray((xy.numpy() + 0.5) * scale - 0.5)


def _square(
    picture: np.ndarray, one: PointerWeights, half: float, shape: tuple[int, ...], scale: float
) -> None:
    """A thin frame `half` cells around the query cell; outside of the picture it is moved to the border."""
    corners = np.array(one.cell, np.float64) + np.array([[-half], [half]])  # [2, 2]
    limit = np.array([picture.shape[1] - 1, picture.shape[0] - 1])
    low, high = np.clip(_pixels(corners, one, shape, scale), 0, limit)
    cv2.rectangle(picture, _fixed(low), _fixed(high), _CYAN, 1, cv2.LINE_AA, shift=4)


def _fixed(xy: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates with 4 binary places."""
    return round(float(xy[0]) * 16), round(float(xy[1]) * 16)
