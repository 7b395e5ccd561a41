"""`report.html` of a run of `vidtrack train`: how it went, and what the tracker makes of unseen videos."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretrain.errors import InputError
from pretrain.log import duration
from pretrain.pictures import Picture
from vidtrack.files import atomic_file
from vidtrack.learn.held_out import ClipSet
from vidtrack.learn.validate import SCORE, Validation, read_validation
from vidtrack.model.colorizer import VideoColorizer
from vidtrack.reports.charts import Series, line_chart, swatch, text
from vidtrack.reports.curves import curve_charts, curves, known_value, read_log
from vidtrack.reports.page import facts, whole_page
from vidtrack.reports.sheets import SHEETS, pictures_section
from vidtrack.reports.track_pictures import track_pictures

REPORT = "report.html"
NAMES = {
    "learning_rate": "learning rate",
    "samples_per_second": "clips per second",
    "waiting": "share of the time without data",
}


def write_page(
    run: Path | str, model: VideoColorizer, clips: ClipSet | None, settings: Validation | None = None
) -> None:
    """Write `report.html` into the folder of a run of `vidtrack train`, done or not.

    It shows what was run, every curve of the log, the validations, and colours and walks of held-out clips.

    Args:
        run: the folder; `config.json` is in it.
        model: what the pictures are made with; its mode is left as it was.
        clips: held out; None: no pictures.
        settings: of the walks; None: the defaults.

    Raises:
        InputError: the folder holds no run, or the page can't be written.
    """
    run = Path(run)
    record, settings = _record(run), settings or Validation()
    pictures: list[Picture] = []
    if clips is not None:
        training = model.training
        pictures = track_pictures(model.eval(), clips, settings.temperature, settings.tolerance)
        model.train(training)
    names = sorted(set(clips.names)) if clips is not None else []
    page = render_page(
        record, read_log(run / "log.jsonl"), read_validation(run), pictures, _facts(model), names
    )
    with atomic_file(run / REPORT, overwrite=True) as partial:
        partial.write_text(page, encoding="utf-8")


def render_page(
    record: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
    validation: Sequence[Mapping[str, float]],
    pictures: Sequence[Picture],
    model: Mapping[str, Any],
    held_out: Sequence[str],
) -> str:
    """The HTML that `write_page` writes.

    Args:
        record: what `config.json` holds.
        log: see `vidtrack.reports.curves.read_log`.
        validation: see `vidtrack.learn.validate.read_validation`.
        pictures: see `track_pictures`.
        model: facts of it by name.
        held_out: the videos that pictures and validation are of.
    """
    objectives = (record.get("config") or {}).get("objectives") or {}
    title = "Learning to track by " + (" and ".join(objectives) or "watching")
    summary = _summary(log, validation)
    body = [
        f"<header><p class='kind'>vidtrack train</p><h1>{text(title)}</h1>{summary}</header>",
        _validation(validation),
        pictures_section("What it sees in unseen videos", pictures),
        curves(log, NAMES),
        _run(record, model, held_out),
    ]
    return whole_page(title, body, SHEETS)


def _record(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return {**found, "config": dict(found["config"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run} holds no run of vidtrack train (config.json is missing or damaged)."
        ) from error


def _facts(model: VideoColorizer) -> dict[str, Any]:
    """What is learned, in words; a run's model is its running average, which takes no gradient."""
    learned = (p for name, p in model.named_parameters() if not name.startswith("companion."))
    return {
        "parameters": f"{sum(p.numel() for p in learned):,}",
        "cells": f"{model.stride} x {model.stride} pixels",
        "compared": model.settings.embedding,
    }


def _summary(log: Sequence[Mapping[str, float]], validation: Sequence[Mapping[str, float]]) -> str:
    if not log:
        return "<p class='lead'>No step is done yet.</p>"
    last = log[-1]
    sentence = f"{last['step']:,.0f} of {last['steps']:,.0f} steps in {duration(last['minutes'])}"
    losses = [record["loss"] for record in log if math.isfinite(record.get("loss", math.nan))]
    if losses:
        part = max(1, len(losses) // 20)
        before, after = sum(losses[:part]) / part, sum(losses[-part:]) / part
        sentence += f"; loss {before:.3g} \N{RIGHTWARDS ARROW} {after:.3g}"
    if validation:
        best = max(validation, key=lambda record: record[SCORE])
        sentence += (
            f"; <strong>cycle accuracy {validation[0][SCORE]:.3f} \N{RIGHTWARDS ARROW} "
            f"{validation[-1][SCORE]:.3f}</strong>, the best {best[SCORE]:.3f} at step {best['step']:,}"
        )
    return f"<p class='lead'>{sentence}.</p>"


def _validation(records: Sequence[Mapping[str, float]]) -> str:
    """The score over the steps with its parts and the level of chance, then all other values."""
    if not records:
        return ""
    parts = sorted(
        {key for record in records for key in record if key.startswith(f"{SCORE}_")},
        key=lambda key: (len(key), key),
    )
    named = {SCORE: "mean", **{key: f"over {_frames(key)} and back" for key in parts}, "chance": "chance"}
    series = [
        Series(name, [known_value(record.get(key)) for record in records], style)
        for style, (key, name) in enumerate(named.items())
    ]
    steps = [record["step"] for record in records]
    first, last = records[0][SCORE], records[-1][SCORE]
    high = max(value for one in series for value in one.values if value is not None)
    chart = line_chart(
        "cycle accuracy",
        series,
        bounds=(0.0, min(1.0, 1.1 * high) or 1.0),
        places=steps,
        said=f"at {len(steps)} validations, from {first:.4g} to {last:.4g}",
    )
    legend = "".join(f"<span>{swatch(one.style)} {text(one.name)}</span>" for one in series)
    hidden = {SCORE, *parts, "chance", "seconds"}
    others = curve_charts(
        [{key: value for key, value in record.items() if key not in hidden} for record in records], {}
    )
    note = (
        "Clips of videos that are not learned from. A walk goes from each cell of an enlarged, maybe "
        "mirrored view to a later frame, and through the plain view back; the share that comes to the right "
        "place needs no labels. The horizontal axis counts steps."
    )
    return (
        f"<section><h2>Validation</h2><p class='note'>{note}</p><div class='legend'>{legend}</div>"
        f"<div class='grid'><div>{chart}</div>{''.join(others)}</div></section>"
    )


def _frames(key: str) -> str:
    count = key.removeprefix(f"{SCORE}_")
    return f"{count} frame" if count == "1" else f"{count} frames"


def _run(record: Mapping[str, Any], model: Mapping[str, Any], held_out: Sequence[str]) -> str:
    known = {name: value for name, value in {**model, "commit": record.get("commit")}.items() if value}
    settings = json.dumps(record.get("config"), indent=2, ensure_ascii=False)
    unseen = ""
    if held_out:
        count = f"{len(held_out)} video{'s' if len(held_out) > 1 else ''} held out"
        items = "".join(f"<br>{text(name)}" for name in held_out)
        unseen = f"<details><summary>{count}</summary>{items.removeprefix('<br>')}</details>"
    return (
        f"<section><h2>The run</h2>{facts(known)}<h3>Versions</h3>{facts(record.get('versions') or {})}"
        f"<details><summary>All settings</summary><pre>{text(settings)}</pre></details>{unseen}</section>"
    )
