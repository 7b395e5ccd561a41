"""Masks painted in colours: each flat colour is an object, black is background, soft edges are undone."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np

from pretrain.errors import InputError
from vidtrack.labels.masks import MAX_OBJECTS, Masks
from vidtrack.labels.neighbours import WIDTHS, extremes, flat
from vidtrack.labels.palette import PALETTE
from vidtrack.labels.values import masks_from_values

# An edge colour is hardly ever flat, is no common colour, lies between colours found this near, and is
# (nearly) on the straight line between two of them, or so rare that it doesn't matter.
_FLAT = 0.1  # share of flat pixels from which on a colour is an object: that of a square of 3x3 is 1/9
_COMMON = 0.25  # share of the painted pixels above which a colour is never an edge colour
_BOX_TOLERANCE = 4
_LINE_TOLERANCE = 12.0
_SLACK = 0.05  # shares of a mixture that rounding may make less than 0
_LEFT = 4  # so many colours that are rare, but no blends, are small objects; more are a soft brush
_PARENTS = 64  # most frequent real colours that are tried as parents: bounds the number of pairs
_CORNERS = 10  # of them, where three meet
_RARE = 0.005  # share of the painted pixels below which a colour may be a blend of three
_SOFT = 16  # so many blends, and edges are soft
_NEAR, _END = 8, 0.05  # levels from a colour, and share of its pixels: the flat end of its soft edge
_BESIDE, _RING = 17, 0.9  # or a square around the colour, and the share of its end's pixels that lie in one
_PHOTO = 0.25  # share of pixels without a flat colour above which the picture is a photo, not a mask


def masks_from_colors(rgb: np.ndarray, where: str, void: int | None = None) -> Masks:
    """Ids from a picture in which each object has one colour.

    Only gray colours: read as a gray mask. Only colours of the DAVIS / VOC palette: the palette's ids.
    Otherwise ids 1, 2, ... by first appearance, row by row. `colors` of the result lists them.

    Args:
        rgb: uint8 `[H, W, 3]`.
        where: what the user calls the file, for messages.
        void: the value of pixels without a label: of the palette's index, or of all three channels.

    Raises:
        InputError: more than 254 colours.
    """
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all():
        return masks_from_values(rgb[..., 0], where, void)
    unique, flat_index = np.unique(codes(rgb).ravel(), return_inverse=True)
    index = flat_index.reshape(rgb.shape[:2]).astype(np.int32)
    table = np.stack([unique >> 16, unique >> 8 & 255, unique & 255], axis=1).astype(np.uint8)  # [N, 3]
    named = codes(np.where(table == 191, np.uint8(192), table))  # the files of DAVIS have 191 for 192
    warnings: list[str] = []
    if not np.isin(named, codes(PALETTE)).all():
        edge, width = _edge_colors(rgb, index, table, where)
        if edge.any():
            pixels = int(edge[index].sum())
            index = _to_nearest(index, table, edge, width)
            warnings.append(
                f"{where} has soft edges: {pixels} pixels of {int(edge.sum())} mixed colours went to the"
                " nearest of the real colours."
            )
    used = np.unique(index)
    if np.isin(named[used], codes(PALETTE)).all():
        result = _by_palette(named[index], where, void)
    else:
        result = _by_appearance(index, table, where, void)
    result.warnings = warnings + result.warnings
    result.keys = dict(result.colors)
    return result


def codes(colors: np.ndarray) -> np.ndarray:
    """Colours uint8 `[..., 3]` as one int32 each, 0 for black."""
    wide = colors.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _by_palette(painted: np.ndarray, where: str, void: int | None) -> Masks:
    """Masks whose ids are the palette's indices of `painted` (codes, int `[H, W]`)."""
    order = np.argsort(codes(PALETTE))
    values = order[np.searchsorted(codes(PALETTE)[order], painted)]
    result = masks_from_values(values.astype(np.uint8), where, void)
    # Not simply the palette's colours of the ids: index 255 alone becomes object 1.
    result.colors = {i: _rgb(PALETTE[values[result.ids == i][0]]) for i in result.objects}
    return result


def _by_appearance(index: np.ndarray, table: np.ndarray, where: str, void: int | None) -> Masks:
    """Masks whose ids count the colours of `index` (int `[H, W]` into `table`) by first appearance."""
    used, first = np.unique(index.ravel(), return_index=True)
    order = used[np.argsort(first)]
    unlabelled = None
    if void is not None:
        white = (table == void).all(axis=1)
        unlabelled = white[index]
        order = order[~white[order]]
    order = order[table[order].any(axis=1)]
    if len(order) > MAX_OBJECTS:
        raise _too_many(where, len(order))
    ids = np.zeros(len(table), np.uint8)
    ids[order] = np.arange(1, len(order) + 1)
    return Masks(ids[index], unlabelled, colors={i: _rgb(table[c]) for i, c in enumerate(order, 1)})


def _rgb(color: np.ndarray) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])


def _too_many(where: str, count: int) -> InputError:
    return InputError(
        f"{where} has {count} colours, and each would be an object, but at most 254 fit: give each object one"
        " flat colour, on black or transparent and not over the picture, and save as PNG."
    )


def _edge_colors(rgb: np.ndarray, index: np.ndarray, table: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """Which colours are blends of their neighbours, bool `[N]`, and how wide a square shows their parents.

    Raises:
        InputError: nearly everything is a blend, as in a photo.
    """
    counts = np.bincount(index.ravel(), minlength=len(table))
    black = ~table.any(axis=1)
    painted = counts[~black].sum()
    real = black | (counts >= _COMMON * painted)
    real |= np.bincount(index.ravel(), weights=flat(index).ravel(), minlength=len(table)) >= _FLAT * counts
    if len(table) > MAX_OBJECTS and (~real)[index].mean() > _PHOTO:
        raise _too_many(where, len(table))
    edge, width = _blends(rgb, index, table, counts, real)
    if edge.sum() > _SOFT and np.median(counts[edge]) <= 10 * _few(index):
        # Where so much is mixed, most of it but once, the far ends of soft edges are flat, too.
        real &= ~_ends(index, table, counts, real)
        edge, width = _blends(rgb, index, table, counts, real)
        rest = ~real & ~edge & (counts <= _RARE * painted)  # near its ends a soft seam has no pure colour
        among = np.bincount(index.ravel(), _among_others(index, ~real[index]).ravel(), len(table)) / counts
        edge |= rest & (among >= 0.5)
    return edge, width


def _blends(
    rgb: np.ndarray, index: np.ndarray, table: np.ndarray, counts: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, int]:
    """As `_edge_colors`, where `real`, bool `[N]`, are none; `counts` are the pixels of each colour."""
    candidate = ~real[index]  # [H, W]
    if not candidate.any() or real.sum() < 2:
        return np.zeros(len(table), np.bool_), WIDTHS[0]
    parents = np.flatnonzero(real)
    parents = parents[np.argsort(-counts[parents], kind="stable")][:_PARENTS]
    blend = ~real & (counts <= _few(index))
    rest = ~real & ~blend
    blend[rest] = _line_distance(table[rest], table[parents]) <= _LINE_TOLERANCE
    rest &= ~blend & (counts <= _RARE * counts[table.any(axis=1)].sum())
    blend[rest] = _between_three(table[rest], table[parents[:_CORNERS]])
    for width in WIDTHS:
        share = np.bincount(index.ravel(), _between(rgb, candidate, width).ravel(), len(table)) / counts
        edge = blend & (share >= 0.5)
        # What is left is small objects; or a soft brush, once a wider square explained any of it: then all.
        if (~real & ~edge).sum() <= (_LEFT if width == WIDTHS[0] else 0):
            break
    return edge, width


def _few(index: np.ndarray) -> int:
    """So many pixels of one colour say nothing about an object."""
    return max(4, index.size // 20000)


def _among_others(index: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """bool `[H, W]`: a candidate that touches one of another colour."""
    low, _ = extremes(np.where(candidate, index, index.max() + 1).astype(np.float32), 3)
    _, high = extremes(np.where(candidate, index, -1).astype(np.float32), 3)
    return np.asarray(candidate & ((low != index) | (high != index)))


def _ends(index: np.ndarray, table: np.ndarray, counts: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Which of the `real` colours are hardly another than one that is more frequent, bool `[N]`.

    It has far more pixels, or nearly all of theirs are beside its own.
    """
    ends = np.zeros(len(table), np.bool_)
    for main in np.flatnonzero(real):
        near = np.abs(table.astype(np.int16) - table[main]).max(axis=1) <= _NEAR
        near &= real & (counts < counts[main])
        ends |= near & (counts <= _END * counts[main])
        if not (near & ~ends).any():
            continue
        around = cv2.dilate((index == main).astype(np.uint8), np.ones((_BESIDE, _BESIDE), np.uint8))
        beside = np.bincount(index.ravel(), weights=around.ravel(), minlength=len(table))
        ends |= near & (beside >= _RING * counts)
    return ends


def _between(rgb: np.ndarray, candidate: np.ndarray, width: int) -> np.ndarray:
    """bool `[H, W]`: each channel between the darkest and the lightest non-candidate pixel of the square."""
    low, _ = extremes(np.where(candidate[..., None], np.uint8(255), rgb), width)
    _, high = extremes(np.where(candidate[..., None], np.uint8(0), rgb), width)
    wide, low, high = rgb.astype(np.int16), low.astype(np.int16), high.astype(np.int16)
    inside = (wide >= low - _BOX_TOLERANCE) & (wide <= high + _BOX_TOLERANCE)
    return np.asarray(inside.all(axis=2))


def _line_distance(colors: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of each of `colors` `[N, 3]` to the nearest segment between two of `ends` `[M, 3]`, M >= 2."""
    points, ends = colors.astype(np.float32), ends.astype(np.float32)
    best = np.full(len(points), np.inf, np.float32)
    for i in range(len(ends)):
        for j in range(i):
            along = ends[j] - ends[i]
            share = np.clip((points - ends[i]) @ along / (along @ along), 0, 1)
            distance = np.linalg.norm(points - ends[i] - share[:, None] * along, axis=1)
            best = np.minimum(best, distance)
    return best


def _between_three(colors: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which of `colors` `[N, 3]` are mixed of any three of `corners` `[M, 3]`, bool `[N]`."""
    found = np.zeros(len(colors), np.bool_)
    for one, two, three in combinations(corners.astype(np.float64), 3):
        sides = np.stack([two - one, three - one], axis=1)  # [3, 2]
        shares = (colors - one) @ np.linalg.pinv(sides).T  # [N, 2]
        off = np.linalg.norm(colors - one - shares @ sides.T, axis=1)
        inside = (shares >= -_SLACK).all(axis=1) & (shares.sum(axis=1) <= 1 + _SLACK)
        found |= inside & (off <= _LINE_TOLERANCE)
    return found


def _to_nearest(index: np.ndarray, table: np.ndarray, edge: np.ndarray, width: int) -> np.ndarray:
    """`index` with each pixel of an edge colour given the most similar real colour nearby, else anywhere."""
    rows, columns = index.shape
    ys, xs = np.nonzero(edge[index])
    colors = table[index[ys, xs]].astype(np.int32)
    best = np.full(len(ys), np.iinfo(np.int32).max, np.int32)
    chosen = np.full(len(ys), -1, np.int32)
    steps = np.rint(np.linspace(-(width // 2), width // 2, 9)).astype(int)  # wide squares are sampled
    offsets = [(dy, dx) for dy in steps for dx in steps]
    # Nearest offsets first: of two equally similar colours the one closer by wins.
    for dy, dx in sorted(offsets, key=lambda o: o[0] ** 2 + o[1] ** 2):
        neighbour = index[np.clip(ys + dy, 0, rows - 1), np.clip(xs + dx, 0, columns - 1)]
        distance = ((table[neighbour].astype(np.int32) - colors) ** 2).sum(axis=1)
        better = ~edge[neighbour] & (distance < best)
        best[better], chosen[better] = distance[better], neighbour[better]
    kept = np.flatnonzero(~edge)
    for pixel in np.flatnonzero(chosen < 0):
        chosen[pixel] = kept[((table[kept].astype(np.int32) - colors[pixel]) ** 2).sum(axis=1).argmin()]
    result = index.copy()
    result[ys, xs] = chosen
    return result
