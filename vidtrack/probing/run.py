"""Judge backbones on one set of data, and write the results.

`OUT/results.json` (schema 1):

    schema, kind ("images" or "pixels"), title, data, size, train, test, classes, notes, settings, versions
    rows: of each backbone its name, weights (SHA-256), layer (chosen on held-out labels), seconds,
          scores, confusion (rows are true classes), of images also embedding, chance

`OUT/results.csv` has a line for each score.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pretrain.catalogue import build_any
from pretrain.device import choose_device
from pretrain.errors import InputError
from pretrain.probe import ProbeSettings, pixel_probe, probe
from pretrain.probe.data import DIGITS, labelled
from pretrain.probe.features import choose_layers
from pretrain.probe.run import require_labels
from vidtrack.benchmark.environment import versions
from vidtrack.files import complete, require_free, require_outside, work_folder, write_json
from vidtrack.probing.frames import SPLIT, PixelPicture, find_halves, has_frames

Report = Callable[[str, int, int], None]
Finish = Callable[[Path, dict[str, Any], Sequence[PixelPicture]], None]


def judge(
    backbones: Sequence[str],
    data: Path,
    out: Path | None = None,
    settings: ProbeSettings | None = None,
    *,
    size: int | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    resolution: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Report | None = None,
    finish: Finish | None = None,
) -> dict[str, Any]:
    """Probe backbones on images with classes, or on frames with masks; which it is, the data says.

    Args:
        backbones: see `pretrain.catalogue.build_any`; each gets a row.
        data: folder or tar file of images, the word "digits", or a folder with `JPEGImages` and
            `Annotations`.
        out: folder of the results, written when all is done; None: nothing is written.
        settings: see `ProbeSettings`. Where `shares` isn't set, those of 1, 10 and 100 % are taken that
            have an image for each class.
        size: side of the images; of frames, the short side that larger ones are shrunk to. None: their own.
        limit, test_limit: at most so many images to train and to test on.
        resolution: of frames: folder under `JPEGImages`, if there are several.
        device: auto, cpu, cuda or mps.
        overwrite: replace existing results.
        progress: called with what is done, and the number of steps done and of all.
        finish: called with the folder of the results, before it gets its name, with the results and with
            pictures of test frames: writes the report there.

    Returns:
        What `results.json` has.

    Raises:
        InputError: an unusable backbone, layer or data, or an output that exists.
    """
    settings = settings or ProbeSettings()
    target = None if out is None else require_free(out, overwrite, folder=True)
    if target is not None:
        require_outside(target, (data, *(name for name in backbones if Path(name).exists())))
    if len(set(backbones)) < len(backbones):
        raise InputError("one backbone is named twice: name each once.")
    where = choose_device(device)
    built = {name: build_any(name) for name in backbones}
    for module in built.values():  # before any work is done
        if settings.layers not in ("all", "last"):
            choose_layers(module, settings.layers)
    report = progress or (lambda what, done, total: None)
    pictures: list[PixelPicture] = []
    place = nullcontext() if target is None else work_folder(target, overwrite, fresh=True)
    with place as folder:
        if str(data) != DIGITS and has_frames(data):
            results = _pixels(
                built, data, settings, size, limit, test_limit, resolution, where, report, pictures
            )
        else:
            results = _images(built, data, settings, size, limit, test_limit, where, report)
        results |= {"device": str(where), "versions": versions()}
        if folder is not None and target is not None:
            _write(folder, target, results, pictures, finish)
    return results


def _images(
    built: dict[str, Any],
    data: Path,
    settings: ProbeSettings,
    size: int | None,
    limit: int | None,
    test_limit: int | None,
    device: torch.device,
    report: Report,
) -> dict[str, Any]:
    found = labelled(data, size, limit, test_limit, settings.seed, partial(report, "reading images"))
    labels = require_labels(found.train, "training")
    blank = torch.zeros(2, 3, found.size, found.size, device=device)
    for backbone in built.values():  # some take no images of this size: told before any work is done
        with torch.inference_mode():
            backbone.to(device).eval()(blank)
        backbone.cpu()
    notes = list(found.notes)
    if "shares" not in settings.model_fields_set:
        settings, left_out = _possible(settings, len(labels), len(set(labels.tolist())))
        notes += left_out
    if settings.k > len(labels):
        notes.append(
            f"{settings.k} neighbours are more than there are training images: all {len(labels)} vote."
        )
    skipped = {name for images in (found.train, found.test) for name, _ in images.skipped}
    if skipped:
        notes.append(f"{len(skipped)} files can't be read and were left out, such as {min(skipped)}.")
    rows = []
    for name, backbone in built.items():
        result = probe(backbone, found.train, found.test, settings, device, _named(report, name, built))
        head, share = ("linear" if "linear" in settings.heads else "knn"), max(settings.shares)
        rows.append(
            {
                "name": name,
                "weights": _digest(backbone),
                "layer": result.layer,
                "chance": result.chance,
                "seconds": result.seconds,
                "scores": [asdict(score) for score in result.scores],
                "confusion": result.confusion.tolist(),
                "confusion_of": {"head": head, "layer": result.layer, "share": share},
                "embedding": {
                    "images": result.embedded.tolist(),
                    "places": [[round(float(v), 3) for v in place] for place in result.places],
                    "labels": result.labels.tolist(),
                },
            }
        )
    return {
        "schema": 1,
        "kind": "images",
        "title": data.name if str(data) == DIGITS else data.absolute().name,
        "data": str(data),
        "size": found.size,
        "train": len(found.train),
        "test": len(found.test),
        "classes": list(found.train.classes),
        "notes": notes,
        "settings": settings.model_dump(mode="json"),
        "rows": rows,
    }


def _pixels(
    built: dict[str, Any],
    data: Path,
    settings: ProbeSettings,
    size: int | None,
    limit: int | None,
    test_limit: int | None,
    resolution: str | None,
    device: torch.device,
    report: Report,
    pictures: list[PixelPicture],
) -> dict[str, Any]:
    given = sorted(settings.model_fields_set & {"shares", "heads", "k", "temperature", "finetune", "pool"})
    if given:
        raise InputError(f"{data} has masks, whose pixels are probed linearly: leave out --{given[0]}.")
    halves = find_halves(data, resolution, limit, test_limit)
    rows: list[dict[str, Any]] = []
    classes: tuple[int, ...] = ()
    for name, backbone in built.items():
        begin = time.monotonic()
        chosen = choose_layers(backbone, None if settings.layers in ("all", "last") else settings.layers)
        result = pixel_probe(
            backbone,
            halves.images(halves.train),
            halves.masks(halves.train),
            halves.images(halves.test),
            halves.masks(halves.test),
            halves.void,
            chosen[-1:] if settings.layers == "last" else chosen,
            device,
            size=size,
            seed=settings.seed,
            progress=_named(report, name, built),
        )
        best, classes = result.best, result.classes
        rows.append(
            {
                "name": name,
                "weights": _digest(backbone),
                "layer": best.layer,
                "seconds": time.monotonic() - begin,
                "pixels": result.pixels,
                "scores": [
                    {
                        "layer": one.layer,
                        "mIoU": one.miou,
                        "accuracy": one.accuracy,
                        "held_out": one.held_out,
                        "strength": one.strength,
                        "IoU": {str(class_): value for class_, value in one.iou.items()},
                    }
                    for one in result.layers
                ],
                "confusion": best.confusion.tolist(),
                "confusion_of": {"head": "linear", "layer": best.layer, "share": 1.0},
            }
        )
        images, masks = halves.images(halves.test), halves.masks(halves.test)
        for number, predicted in zip(result.shown, best.predicted, strict=True):
            frame = halves.test[number]
            picture = PixelPicture(frame.name, name, images[number], masks[number], predicted, halves.void)
            pictures.append(picture)
    return {
        "schema": 1,
        "kind": "pixels",
        "title": data.absolute().name,
        "data": str(data),
        "size": size,
        "train": len(halves.train),
        "test": len(halves.test),
        "classes": [halves.names.get(class_, str(class_)) for class_ in classes],
        "ids": list(classes),
        "void": halves.void,
        "notes": [f"{SPLIT[0].upper()}{SPLIT[1:]}."],
        "settings": settings.model_dump(mode="json", include={"layers", "seed"}),
        "rows": rows,
    }


def _possible(settings: ProbeSettings, count: int, classes: int) -> tuple[ProbeSettings, list[str]]:
    """The settings with the usual shares that have an image for each class, and what was left out."""
    shares = [share for share in settings.shares if share * count >= classes]
    notes = [
        f"{100 * share:g} % of the labels is less than one for each class: left out."
        for share in settings.shares
        if share not in shares
    ]
    return settings.model_copy(update={"shares": tuple(shares)}), notes


def _named(report: Report, name: str, among: dict[str, Any]) -> Report:
    """Progress of one backbone of several."""
    if len(among) == 1:
        return report
    return lambda what, done, total: report(f"{name}: {what}", done, total)


def _digest(backbone: torch.nn.Module) -> str:
    """SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for key, value in sorted(backbone.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{key}\0{list(value.shape)}\0".encode())
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def _write(
    folder: Path,
    target: Path,
    results: dict[str, Any],
    pictures: Sequence[PixelPicture],
    finish: Finish | None,
) -> None:
    """All files into `folder`, which then gets the name `target`."""
    try:
        write_json(folder / "results.json", results)
        with (folder / "results.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(_lines(results))
        if finish is not None:
            finish(folder, results, pictures)
        complete(folder, target)
    except OSError as error:
        raise InputError(f"{target} can't be written ({error.strerror}): choose another output.") from error


def _lines(results: dict[str, Any]) -> list[list[Any]]:
    """A head, and a line for each score; what isn't known is empty."""
    keys = ["head", "layer", "share", "labels", "accuracy", "held_out", "strength", "epochs"]
    if results["kind"] == "pixels":
        keys = ["layer", "mIoU", "accuracy", "held_out", "strength"]
    lines: list[list[Any]] = [["backbone", *keys]]
    for row in results["rows"]:
        lines += [[row["name"], *(score[key] for key in keys)] for score in row["scores"]]
    if results["kind"] == "pixels":
        lines[0] += [f"IoU {name}" for name in results["classes"]]
        scores = [score for row in results["rows"] for score in row["scores"]]
        for line, score in zip(lines[1:], scores, strict=True):
            line += [score["IoU"].get(str(class_)) for class_ in results["ids"]]
    return lines
