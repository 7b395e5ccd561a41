"""The report in a real browser: its pictures and charts are drawn, in light and dark, also on a phone."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidtrack.reports.benchmark_page import write_page
from vidtrack.reports.benchmark_pictures import Picture

MAGENTA = (255, 0, 255)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Writes what isn't drawn into the page, where --dump-dom finds it.
SCRIPT = """<pre id="verdict"></pre><script>
window.addEventListener("load", () => {
  const box = svg => svg.getBBox();
  const root = document.documentElement;
  const bar = document.querySelector(".chart rect");
  document.getElementById("verdict").textContent = JSON.stringify({
    images: [...document.images].map(i => i.complete ? i.naturalWidth : 0),
    charts: [...document.querySelectorAll("svg")].map(s => Math.min(s.getBBox().width, s.getBBox().height,
      s.getBoundingClientRect().width)),
    overflow: root.scrollWidth - root.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
    line: bar && getComputedStyle(bar).fill,
  });
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of a Chromium; skips without one, except in CI, which must have one."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI needs a browser: none of {', '.join(BROWSERS)} is installed")
    pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")


@pytest.fixture
def page(make_results: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A page with a sweep, charts, and four pictures, all magenta."""
    results = make_results(sweep={"topk": [1, 2, 3], "temperature": [0.1, 0.2]})
    image = np.full((60, 80, 3), MAGENTA, np.uint8)
    pictures = [Picture("bear", 3, "run0", 0.5, kind, image, image) for kind in ("best", "worst")]
    write_page(tmp_path / "report.html", results, pictures)
    return tmp_path / "report.html"


def visit(browser: str, page: Path, *options: str, width: int = 1200) -> str:
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        f"--user-data-dir={page.parent / 'profile'}",
        "--virtual-time-budget=5000",
        f"--window-size={width},3000",
        *options,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def verdict(browser: str, page: Path, *options: str, width: int = 1200) -> dict[str, Any]:
    """What the browser says of a copy of the page that may run our script."""
    source = page.read_text(encoding="utf-8")
    checked = source.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    assert checked != source
    copy = page.with_name("checked.html")
    copy.write_text(checked.replace("</body>", f"{SCRIPT}</body>"), encoding="utf-8")
    dom = visit(browser, copy, "--dump-dom", *options, width=width)
    found = re.search(r'<pre id="verdict">(.+?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    return dict(json.loads(unescape(found[1])))


def test_pictures_and_charts_are_drawn(browser: str, page: Path) -> None:
    light = verdict(browser, page)
    assert light["images"] == [80] * 4
    assert len(light["charts"]) > 15 and min(light["charts"]) > 1
    assert light["overflow"] == 0 and light["background"] == "rgb(246, 247, 249)"
    dark = verdict(browser, page, "--blink-settings=preferredColorScheme=0", width=500)
    assert dark["images"] == [80] * 4 and min(dark["charts"]) > 1
    assert dark["overflow"] == 0 and dark["background"] == "rgb(20, 24, 28)"
    assert light["line"] == "rgb(28, 111, 181)" and dark["line"] == "rgb(98, 174, 240)"


def test_the_screenshot_shows_them(browser: str, page: Path) -> None:
    shot = page.with_name("shot.png")
    visit(browser, page, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB"), int)

    def near(color: tuple[int, int, int]) -> np.ndarray:
        return np.abs(pixels - color).max(axis=-1) < 12

    assert near(MAGENTA).sum() > 4 * 60 * 80  # four pictures, at least at their own size
    assert near((28, 111, 181)).sum() > 500  # bars and lines of the first row
    assert near((246, 247, 249)).mean() > 0.02 and near((255, 255, 255)).mean() > 0.2
