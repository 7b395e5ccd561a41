"""What whole HTML pages have in common: one file that fetches and runs nothing, light or dark, with facts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from vidtrack.reports.charts import style_variables, text
from vidtrack.reports.page_style import STYLE

# Nothing is fetched and nothing is run, whatever the names in the data look like.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
DARK = ("#62aef0", "#f5a24d", "#5cc98d", "#ea80cd", "#ab94f5", "#d6b75a")
QUALITY = 88  # of JPEGs


def whole_page(title: str, body: Sequence[str], style: str = "") -> str:
    """An HTML document.

    Args:
        title: plain text.
        body: its parts, HTML; empty ones are left out.
        style: CSS beside that of all pages.
    """
    dark = f"@media (prefers-color-scheme:dark){{:root{{{style_variables(DARK)}}}}}"
    css = f":root{{{style_variables()}}}{dark}{STYLE}{style}"
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{text(title)}</title><style>{css}</style></head>\n"
        f"<body><main>{chr(10).join(part for part in body if part)}</main></body></html>\n"
    )


def facts(values: Mapping[str, Any]) -> str:
    """A list of names and values; nothing for an empty one."""
    pairs = "".join(f"<dt>{text(name)}</dt><dd>{text(plain(value))}</dd>" for name, value in values.items())
    return f"<dl>{pairs}</dl>" if pairs else ""


def plain(value: Any) -> str:
    """A JSON value as a reader wants it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def embedded(image: np.ndarray, lossless: bool = False, quality: int = QUALITY) -> str:
    """Attributes of an `<img>` that holds a picture: its size and source.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        lossless: PNG, which is larger, instead of JPEG.
        quality: of the JPEG, 0..100.
    """
    kind, options = (".png", []) if lossless else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    done, data = cv2.imencode(kind, image[..., ::-1], options)
    if not done:
        raise ValueError(f"a picture of shape {list(image.shape)} can't be encoded")
    source = base64.b64encode(data.tobytes()).decode()
    media = "png" if lossless else "jpeg"
    return f"width='{image.shape[1]}' height='{image.shape[0]}' src='data:image/{media};base64,{source}'"
