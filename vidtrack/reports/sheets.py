"""Pictures of a training run as figures of its page."""

from __future__ import annotations

from collections.abc import Sequence

from pretrain.pictures import Picture
from vidtrack.reports.charts import text
from vidtrack.reports.page import embedded

WIDE = 1100  # CSS pixels that a picture is enlarged to, in whole steps
LARGE = 300_000  # pixels of a picture above which it becomes a JPEG
SHEETS = """
.sheet{margin:0 0 26px}
.sheet:last-child{margin:0}
.sheet h3{margin:0 0 2px}
.sheet figcaption{margin:0 0 8px}
.sheet img{display:block;max-width:100%;height:auto}
.pixel{image-rendering:pixelated}
"""


def pictures_section(title: str, pictures: Sequence[Picture]) -> str:
    """A section with a figure for each picture; nothing without any. `SHEETS` is its style."""
    if not pictures:
        return ""
    figures = "".join(_figure(picture) for picture in pictures)
    return f"<section><h2>{text(title)}</h2>{figures}</section>"


def _figure(picture: Picture) -> str:
    height, width = picture.image.shape[:2]
    scale = max(1, min(4, WIDE // width))
    small = height * width <= LARGE
    css = f" class='pixel' style='width:{scale * width}px'" if scale > 1 else ""
    title, caption = text(picture.title), text(picture.caption)
    return (
        f"<figure class='sheet'><h3>{title}</h3><figcaption>{caption}</figcaption>"
        f"<img alt='{title}'{css} {embedded(picture.image, small)}></figure>"
    )
