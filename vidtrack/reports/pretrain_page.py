"""`report.html` of a pretext task: what was learned, as one page that needs nothing else, on any screen."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.draws import Draws
from pretrain.images import ImageSet
from pretrain.log import duration
from pretrain.methods.base import Method
from pretrain.pictures import Picture, components, neighbours
from pretrain.run import load_method
from pretrain.settings import PretrainConfig
from pretrain.vit import ViT
from vidtrack.files import atomic_file
from vidtrack.reports.charts import text
from vidtrack.reports.curves import curves, read_log
from vidtrack.reports.page import facts, whole_page
from vidtrack.reports.sheets import SHEETS, pictures_section

SHOWN = 12  # images that the method is asked about
COMPARED = 480  # images among which the nearest are looked for
SKIPPED = 50  # files that are named, of those that can't be read
CODE = re.compile(r"`([^`]+)`")
NAMES = {
    "learning_rate": "learning rate",
    "samples_per_second": "images per second",
    "waiting": "share of the time without data",
}
_OWN = """
.text p{margin:0 0 10px;max-width:74ch}
.text p:last-child{margin:0}
"""


def write_page(run: Path | str, images: ImageSet) -> None:
    """Write `report.html` into the folder of a finished run of `vidtrack pretrain`.

    It shows what was run, every curve of the log, what the method makes of some images, nearest neighbours,
    principal components, and where a transformer looks.

    Args:
        run: see `pretrain.run.pretrain`.
        images: that it learned from.

    Raises:
        InputError: the folder holds no finished run, or the page can't be written.
    """
    run = Path(run)
    method, config = load_method(run)
    page = render_page(
        described(method),
        config,
        read_log(run / "log.jsonl"),
        all_pictures(method, config, images),
        json.loads((run / "config.json").read_text(encoding="utf-8")),
        _backbone(method.trunk()),
        images,
    )
    with atomic_file(run / "report.html", overwrite=True) as partial:
        partial.write_text(page, encoding="utf-8")


def render_page(
    description: str,
    config: PretrainConfig,
    log: Sequence[Mapping[str, float]],
    pictures: Sequence[Picture],
    record: Mapping[str, Any],
    backbone: Mapping[str, Any],
    images: ImageSet,
) -> str:
    """The HTML that `write_page` writes.

    Args:
        description: of the method: a line, then paragraphs.
        config: of the run.
        log: see `read_log`.
        pictures: see `all_pictures`.
        record: what `config.json` holds.
        backbone: facts of it by name.
        images: that it learned from.
    """
    title, _, paragraphs = description.partition("\n\n")
    body = [
        f"<header><p class='kind'>vidtrack pretrain {text(config.method)}</p>"
        f"<h1>{_prose(title.rstrip('.'))}</h1>"
        f"{_summary(config, log, images)}</header>",
        _about(paragraphs),
        curves(log, NAMES),
        pictures_section("What it learned", pictures),
        _run(config, record, backbone, images),
    ]
    return whole_page(f"{config.method}: {' '.join(title.split())}", body, _OWN + SHEETS)


def described(method: Method) -> str:
    """What the file of a method says of it: the task in a line, then the paper and the idea."""
    return (sys.modules[type(method).__module__].__doc__ or type(method).__name__).strip()


@torch.no_grad()
def all_pictures(method: Method, config: PretrainConfig, images: ImageSet) -> list[Picture]:
    """The method's own pictures, then those that can be made of every backbone; each time the same."""
    size, trunk = config.data.size, method.trunk()
    some, many = (_pixels(images, choose(images, count), size) for count in (SHOWN, COMPARED))
    draws = Draws(config.seed, config.optimizer.steps, len(some))  # after the last step: unseen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        found = list(method.pictures(some, draws))
        if isinstance(trunk, ViT):
            from pretrain.attention import attention

            found.append(attention(trunk, some))
        return [*found, components(trunk, some), neighbours(trunk, many, queries=min(6, len(many)))]


def choose(images: ImageSet, count: int) -> list[int]:
    """Numbers of at most `count` images, evenly over all; of videos evenly over all of these.

    Frames of one video are alike: among the nearest of many, nothing else would be found.
    """
    sources: dict[str, list[int]] = {}
    for number, name in enumerate(images.names):
        sources.setdefault(name.rpartition("#")[0] or name, []).append(number)
    share = 1
    while sum(min(share, len(source)) for source in sources.values()) < min(count, len(images)):
        share += 1
    inside = sorted(number for source in sources.values() for number in _spread(source, share))
    return _spread(inside, count)


def _spread(values: Sequence[int], count: int) -> list[int]:
    """At most `count` of the values, evenly, none twice."""
    count = min(count, len(values))
    return [values[(2 * place + 1) * len(values) // (2 * count)] for place in range(count)]


def _pixels(images: ImageSet, numbers: Sequence[int], size: int) -> Tensor:
    """Whole images float `[N, 3, size, size]` in 0..1."""
    pixels = torch.from_numpy(images.images[list(numbers)]).permute(0, 3, 1, 2).float().div(255)
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _summary(config: PretrainConfig, log: Sequence[Mapping[str, float]], images: ImageSet) -> str:
    size = config.data.size
    sentence = f"{len(images):,} images of {size} x {size} pixels, {config.optimizer.steps:,} steps"
    if log:
        sentence += f" in {duration(log[-1]['minutes'])}"
    losses = [record["loss"] for record in log if math.isfinite(record.get("loss", math.nan))]
    if losses:
        part = max(1, len(losses) // 20)
        first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
        sentence += f"; <strong>loss {first:.3g} \N{RIGHTWARDS ARROW} {last:.3g}</strong>"
    return f"<p class='lead'>{sentence}.</p>"


def _about(paragraphs: str) -> str:
    parts = [f"<p>{_prose(part)}</p>" for part in paragraphs.split("\n\n") if part.strip()]
    return f"<section class='text'><h2>The task</h2>{''.join(parts)}</section>" if parts else ""


def _prose(written: str) -> str:
    """A paragraph of a docstring as HTML."""
    return CODE.sub(r"<code>\1</code>", text(" ".join(written.split())))


def _run(
    config: PretrainConfig, record: Mapping[str, Any], backbone: Mapping[str, Any], images: ImageSet
) -> str:
    known = {
        "images": f"{len(images):,}" + (f" of {len(images.classes)} folders" if images.classes else ""),
        "stored at": f"{images.images.shape[1]} pixels",
        **backbone,
        "images a step": config.optimizer.batch,
        "commit": record.get("commit"),
    }
    known = {name: value for name, value in known.items() if value is not None}
    settings = json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False)
    skipped = ""
    if images.skipped:
        more = f", of which {SKIPPED} are named" if len(images.skipped) > SKIPPED else ""
        count = f"{len(images.skipped)} file{'s' if len(images.skipped) > 1 else ''} skipped{more}"
        named = facts(dict(images.skipped[:SKIPPED]))
        skipped = f"<details><summary>{count}</summary>{named}</details>"
    return (
        f"<section><h2>The run</h2>{facts(known)}<h3>Versions</h3>{facts(record.get('versions') or {})}"
        f"<details><summary>All settings</summary><pre>{text(settings)}</pre></details>{skipped}</section>"
    )


def _backbone(trunk: Any) -> dict[str, Any]:
    """What is kept of the run, in words."""
    says = trunk.description()
    halves = ", two side by side" if says.get("pair") else ""
    stem = f"{says['stem']} stem" if "stem" in says else f"patches of {says['patch']} pixels"
    (last, channels), stride = list(says["channels"].items())[-1], list(says["strides"].values())[-1]
    return {
        "backbone": f"{says['arch']}, {stem}{halves}",
        "input": says["input"],
        "parameters": f"{sum(parameter.numel() for parameter in trunk.parameters()):,}",
        "deepest features": f"{last}, {channels} channels, a cell for {stride} x {stride} pixels",
    }
