"""Maps drawn over a frame: false colours of one channel, or three channels as RGB."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from vidtrack.labels.maps import Maps

SHARE = 0.75  # of the map's colours in the picture; the rest is the gray frame
TAILS = (1.0, 99.0)  # percentiles that become the darkest and the brightest colour


class MapColours:
    """Draws the maps of one video on one scale, so that a colour means the same value in all frames.

    The scale is that of the annotations: their 1st to 99th percentile. Three channels whose values lie in
    0..1 or, as whole numbers, in 0..255 are taken for colours and keep them; three others are each stretched
    to their percentiles. Any other number of channels: false colours (viridis) of the first.

    Args:
        annotations: at least one, all with the same number of channels.
    """

    def __init__(self, annotations: Iterable[Maps]) -> None:
        known = [maps.values[maps.labelled] for maps in annotations]
        values = np.concatenate([each[:, : 3 if each.shape[1] == 3 else 1] for each in known])  # [n, 1 or 3]
        self.rgb = values.shape[1] == 3
        if self.rgb and values.min() >= 0 and values.max() <= 1:
            low, high = np.zeros(3), np.ones(3)
        elif self.rgb and values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all():
            low, high = np.zeros(3), np.full(3, 255.0)
        else:
            low, high = np.percentile(values, TAILS, axis=0)
        self.low = low.astype(np.float32)
        self.scale = (1 / np.maximum(high - low, 1e-9)).astype(np.float32)

    def draw(self, image: np.ndarray, maps: Maps) -> np.ndarray:
        """The map over the gray frame; pixels without a value show the gray frame alone.

        Args:
            image: uint8 `[H, W, 3]` RGB.
            maps: of the same size and number of channels.

        Returns:
            uint8 `[H, W, 3]`.
        """
        channels = 3 if self.rgb else 1
        unit = (maps.values[..., :channels] - self.low) * self.scale
        levels = np.rint(np.nan_to_num(unit).clip(0, 1) * 255).astype(np.uint8)
        if self.rgb:
            colours = levels
        else:
            colours = cv2.cvtColor(cv2.applyColorMap(levels[..., 0], cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        mixed = cv2.addWeighted(colours, SHARE, gray, 1 - SHARE, 0)
        cv2.copyTo(gray, (~maps.labelled).astype(np.uint8), mixed)
        return mixed
