"""Between decoded pictures and RGB arrays, with the matrix that the tags (or the custom) prescribe."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from pretrain.errors import InputError
from pretrain.limits import require_pixels
from vidtrack.video.container import reason

# AVColorSpace of a frame -> coefficients of swscale. RGB (0), unspecified (2) and the rest are not in it.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,  # BT.470 BG
    6: Colorspace.ITU601,  # SMPTE 170M
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
# Matrix numbers of ISO/IEC 23091-2 that we write (they are AVColorSpace's too).
_TAGS = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}
BT709 = 1  # primaries and transfer of everything we write: what the picture's RGB nearly is anyway


def customary_matrix(width: int, height: int) -> Colorspace:
    """Matrix of a video without colour tags: BT.709 for high definition, else BT.601, as players assume."""
    return Colorspace.ITU709 if max(width, height) >= 1280 or min(width, height) > 576 else Colorspace.ITU601


def matrix_tag(matrix: Colorspace) -> int:
    """The number by which a file names `matrix`."""
    return _TAGS[matrix]


def to_rgb(
    picture: av.VideoFrame, reformatter: VideoReformatter, size: tuple[int, int], rotation: int
) -> np.ndarray:
    """Upright RGB of a decoded picture.

    Args:
        picture: as decoded, any pixel format; alpha is dropped, more than 8 bits are scaled to 8.
        reformatter: kept from frame to frame, because it is expensive to set up.
        size: `(width, height)` before rotation; a picture of another size is resized to it.
        rotation: degrees counter-clockwise, a multiple of 90.

    Returns:
        uint8 `[H, W, 3]`, contiguous, writeable.
    """
    matrix = _MATRICES.get(int(picture.colorspace)) or customary_matrix(picture.width, picture.height)
    rgb = reformatter.reformat(
        picture,
        width=size[0],
        height=size[1],
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,  # RGB has none; a different one would make swscale convert between the two
    ).to_ndarray()
    upright = np.ascontiguousarray(np.rot90(rgb, rotation // 90))
    return upright if upright.flags.writeable else upright.copy()


def from_rgb(image: np.ndarray, reformatter: VideoReformatter, matrix: Colorspace) -> av.VideoFrame:
    """Picture yuv420p, limited range, by `matrix`, of RGB uint8 `[H, W, 3]`; H and W are even."""
    return reformatter.reformat(
        av.VideoFrame.from_ndarray(image, format="rgb24"),
        format="yuv420p",
        dst_colorspace=matrix,
        dst_color_range=ColorRange.MPEG,
    )


class Converter:
    """Makes the decoded pictures of one source upright RGB of the size of its first picture.

    Args:
        first: the first picture of the source.
        source: what the user calls it, for messages.

    Raises:
        InputError: the first picture has more pixels than are allowed.

    Attributes:
        coded_size: `(width, height)` before rotation.
        size: `(width, height)` upright.
        rotation: degrees counter-clockwise, 0, 90, 180 or 270.
        resized: number of pictures that had another size.
    """

    def __init__(self, first: av.VideoFrame, source: Path | str) -> None:
        # Only quarter turns: what else a matrix may say (flips, 45 degrees) no common reader applies.
        require_pixels(first.width, first.height, source)
        self.rotation = round(first.rotation / 90) * 90 % 360
        self.coded_size = (first.width, first.height)
        self.size = self.coded_size if self.rotation % 180 == 0 else self.coded_size[::-1]
        self.resized = 0
        self._source = source
        self._reformatter = VideoReformatter()

    def rgb(self, picture: av.VideoFrame) -> np.ndarray:
        """uint8 `[H, W, 3]`, owned by the caller.

        Raises:
            InputError: a pixel format that FFmpeg can decode but not convert, or too many pixels.
        """
        if (picture.width, picture.height) != self.coded_size:
            require_pixels(picture.width, picture.height, self._source)
            self.resized += 1
        try:
            return to_rgb(picture, self._reformatter, self.coded_size, self.rotation)
        except Exception as error:
            raise InputError(
                f"{self._source} has pixels of format {picture.format.name}, which can't be "
                f"made RGB ({reason(error)}): convert it to H.264 first."
            ) from error
