"""The public face: a Tracker carries labels through videos; a Session, which it makes, frame by frame."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretrain.catalogue import FILE as OF_PRETRAIN
from pretrain.catalogue import OF_TRAIN, SNAPSHOTS
from pretrain.device import choose_device
from pretrain.errors import InputError
from pretrain.folder import file_of_run
from vidtrack.files import sha256
from vidtrack.given import Direction
from vidtrack.labels import Masks
from vidtrack.labels.agree import agree
from vidtrack.model.embedder import PRECISIONS, Embedder, LabEmbedder, NetworkEmbedder, Precision
from vidtrack.model.tracker_file import is_tracker_file, load_tracker
from vidtrack.passes import Passes, Reader
from vidtrack.propagate.presets import variant
from vidtrack.propagate.settings import QUALITIES, Propagation
from vidtrack.session import KINDS, Labels, Result, Session
from vidtrack.tolerance import OnError
from vidtrack.video import probe

DEFAULT = "default"
BUNDLED = (DEFAULT, "small", "free")  # names of the weights that come with vidtrack
SO_FAR = ("best.safetensors", "last.safetensors")  # what a run of `vidtrack train` leaves on the way


class Tracker:
    """An embedder with its propagation settings; made by `load`.

    Attributes:
        name: what was loaded.
        settings: see `Propagation`.
        weights: SHA-256 of the tracker file, None without one.
    """

    def __init__(
        self, name: str, embedder: Embedder | None, settings: Propagation, weights: str | None = None
    ) -> None:
        self.name, self.embedder, self.settings, self.weights = name, embedder, settings, weights

    def changed(self, quality: str | None = None, preset: str | None = None, **settings: Any) -> Tracker:
        """A tracker with the same embedder and other settings.

        Args:
            quality: "fast", "default" or "best", see `QUALITIES`; stronger than the tracker file's settings.
            preset: "crw", "dino" or "vfs", see `vidtrack.propagate.presets`; not together with `quality`.
            **settings: fields of `Propagation`, the strongest; "native" is a word for `size=None`.

        Raises:
            InputError: an unknown word or an impossible setting.
        """
        now = _settings(self.settings.model_dump(), _changes(quality, preset, settings))
        return Tracker(self.name, self.embedder, now, self.weights)

    def session(self) -> Session:
        """A new session: frames come one by one."""
        return Session(self.embedder, self.settings)

    def propagate(
        self,
        source: Path | str | Reader,
        annotations: Mapping[int, Labels | Path | str] | None = None,
        *,
        masks: Mapping[int, Labels | Path | str] | None = None,
        direction: Direction = "forward",
        start: int = 0,
        end: int | None = None,
        on_error: OnError = "repeat",
    ) -> Iterator[Result]:
        """Carry annotations through a video; yields one result per frame from `start` on, in order.

        Args:
            source: video file or folder of frames, or a `vidtrack.video.LiveReader`.
            annotations: `Masks`, `Keypoints`, `Boxes` or `Maps` by frame number, all of one kind; or paths
                of mask files (see `Masks.load`). Each says all about its frame: an object that it lacks is
                not in it.
            masks: another name of `annotations`, for paths.
            direction: "forward" carries each annotation on to the next and the end, "backward" back to the
                one before and the start, "both" does both and joins them. Frames that no annotation reaches
                get empty labels.
            start: the first frame.
            end: the frame after the last; None: to the end.
            on_error: of frames that can't be decoded, "repeat" takes the one before once more, as long as
                they are no more than a tenth of all; "skip" yields no result; "stop" raises.

        Raises:
            InputError: no annotation, an unusable video or annotation, or too much damage.
        """
        for value in (annotations, masks):
            if value is not None and not isinstance(value, Mapping):
                raise InputError("give annotations by frame number: {0: Masks.load('first.png')}.")
        if twice := set(annotations or {}) & set(masks or {}):
            raise InputError(f"frame {min(twice)} has annotations and masks: give it one of the two.")
        given = {**(annotations or {}), **(masks or {})}
        with self.passes(source, given, direction, start, end, on_error=on_error) as passes:
            for result in passes:
                if result.labels is not None:
                    yield result

    def passes(
        self,
        source: Path | str | Reader,
        annotations: Mapping[int, Labels | Path | str],
        direction: Direction = "forward",
        start: int = 0,
        end: int | None = None,
        **options: Any,
    ) -> Passes:
        """As `propagate`, as an object that also knows the video, warnings and times; see `Passes`."""
        if not isinstance(source, (str, Path)) and not hasattr(source, "info"):
            raise InputError(
                f"a video is a path, not {type(source).__name__}: frames in memory go through "
                "session(), one by one."
            )
        given: dict[Any, Any] = {
            int(number) if isinstance(number, np.integer) else number: labels
            for number, labels in annotations.items()
        }
        if any(isinstance(value, (str, Path)) for value in given.values()):
            info = probe(source) if isinstance(source, (str, Path)) else source.info
            size = (info.height, info.width)
            given = {
                number: Masks.load(value, size=size, empty=len(given) > 1)
                if isinstance(value, (str, Path))
                else value
                for number, value in given.items()
            }
            if all(isinstance(value, Masks) and not value.objects for value in given.values()):
                raise InputError("the masks have no object: mark at least one pixel in one of them.")
        for value in given.values():
            if not isinstance(value, KINDS):
                raise InputError(
                    "an annotation must be Masks, Keypoints, Boxes, Maps or the path of a mask file, not "
                    f"{type(value).__name__}."
                )
        if all(isinstance(n, int) and isinstance(value, Masks) for n, value in given.items()):
            given = dict(agree(given))
        passes = Passes(self.session, source, given, direction, start, end, **options)
        passes.warnings += [
            sentence
            for number, value in annotations.items()
            if isinstance(value, (str, Path))
            for sentence in given[int(number)].warnings
        ]
        return passes

    def describe(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON values."""
        embedder = self.embedder
        return {
            "tracker": self.name,
            "weights": self.weights,
            "propagation": self.settings.model_dump(mode="json"),
            "device": str(embedder.device) if embedder else "cpu",
            "precision": embedder.precision if embedder else "none",
        }


def load(
    tracker: str | Path = DEFAULT,
    *,
    device: str = "auto",
    threads: int | None = None,
    precision: Precision = "auto",
    quality: str | None = None,
    preset: str | None = None,
    **settings: Any,
) -> Tracker:
    """Load a tracker.

    Args:
        tracker: "default", "small" or "free" (weights that come with vidtrack), the path of a tracker file,
            of a backbone file, of the run that made it or of a foreign ResNet checkpoint, "timm:NAME" or
            "timm:NAME@FILE" (any backbone of timm, frozen), "random:NAME" (random weights), "lab" (colour
            patches without learning), or "copy" (the first labels copied).
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of torch; None leaves torch's choice.
        precision: of networks: "auto" (the fastest that the device computes well), "int8" (trackers of
            vidtrack train alone), "bfloat16" or "float32"; "lab" has float32.
        quality, preset, **settings: see `Tracker.changed`.

    Raises:
        InputError: unknown tracker, unusable file, a device that is not there, or an impossible setting.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    where = choose_device(device)
    _changes(quality, preset, settings)  # a misspelt word is told before anything is loaded
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown: choose one of {', '.join(PRECISIONS)}.")
    return _load(str(tracker), where, precision).changed(quality, preset, **settings)


def _load(name: str, where: torch.device, precision: Precision) -> Tracker:
    if name == "copy":
        return Tracker(name, None, Propagation())
    if name == "lab":
        return Tracker(name, LabEmbedder(where), Propagation())
    if name.startswith(("timm:", "random:")):
        from vidtrack.model.external import load_external

        return Tracker(name, load_external(name, where, precision), Propagation())
    path = bundled_weights(name) or Path(name)
    path = file_of_run(path, (OF_TRAIN, OF_PRETRAIN), (*SO_FAR, f"{SNAPSHOTS}/*.safetensors"))
    if not path.is_file():
        raise InputError(
            f"there is no tracker {name!r}: give default, small, free, lab, copy, timm:NAME, random:NAME or "
            "the path of a file made by vidtrack train or vidtrack pretrain."
        )
    if not is_tracker_file(path):
        from vidtrack.model.external import load_foreign

        return Tracker(name, load_foreign(path, where, precision), Propagation(), sha256(path))
    file = load_tracker(path)
    embedder = NetworkEmbedder(file.model, where, precision)
    return Tracker(name, embedder, _settings(file.propagation, {}), sha256(path))


def _changes(quality: str | None, preset: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change, by name."""
    if quality is not None and preset is not None:
        raise InputError(
            f"--quality {quality} and --preset {preset} both say how to carry: give one of them."
        )
    changed = {**_of_quality(quality), **_of_preset(preset), **settings}
    for name in ("context", "topk"):  # said explicitly, they hold for every kind of label
        if name in settings:
            changed.setdefault(f"point_{name}", settings[name])
    if changed.get("size") == "native":
        changed["size"] = None
    return changed


def _of_quality(quality: str | None) -> dict[str, Any]:
    if quality is not None and quality not in QUALITIES:
        raise InputError(f"--quality {quality} is unknown: choose one of {', '.join(QUALITIES)}.")
    return QUALITIES[quality or "default"]


def _of_preset(preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    paper = variant(preset)
    return {
        "preset": preset,
        "size": 480,  # the papers report DAVIS at 480p
        "topk": paper.topk,
        "temperature": paper.temperature,
        "radius": math.ceil(paper.radius),
        "context": paper.context,
    }


def bundled_weights(name: str) -> Path | None:
    """The tracker file of this name that comes with vidtrack; None if it is no name of `BUNDLED`."""
    if name not in BUNDLED:
        return None
    return Path(str(resources.files("vidtrack"))) / "weights" / f"{name}.safetensors"


def _settings(stored: dict[str, Any], changed: dict[str, Any]) -> Propagation:
    from pydantic import ValidationError

    try:
        return Propagation.model_validate({**stored, **changed})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # the settings' own sentence, which begins with the name of one
            raise InputError(f"--{first['msg'].removeprefix('Value error, ')}.") from error
        option = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(option, Propagation.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Propagation.model_fields)}."
            raise InputError(f"there is no setting {option}; {hint}") from error
        raise InputError(f"--{option} {first['input']!r}: {first['msg'].lower()}.") from error
