"""The rows of a benchmark's table: trackers with their settings, and masks of other tools."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pretrain.errors import InputError
from vidtrack.benchmark.task import Run

MOST = 200  # rows: more than a table or a plot can show, and surely a mistake


class Tracker(Protocol):
    """What can be benchmarked: `vidtrack.tracker.Tracker`, or anything else with these methods."""

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values; `tracker` its name, `weights` the hash of its weights or None."""

    def passes(
        self,
        source: Path,
        annotations: Mapping[int, Any],
        direction: Any = "forward",
        start: int = 0,
        end: int | None = None,
        **options: Any,
    ) -> Any:
        """One `vidtrack.Result` per frame, in order; see `vidtrack.tracker.Tracker.passes`."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table.

    Attributes:
        name: shown in the table, unique.
        tracker: that is run; None: `masks` are scored.
        masks: folder of masks that are there already, a folder for each sequence.
        swept: the settings that make the difference to other rows of a sweep.
    """

    name: str
    tracker: Tracker | None = None
    masks: Path | None = None
    swept: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What the tracker describes, or where the masks are; JSON values."""
        described = {"masks": str(self.masks)} if self.tracker is None else self.tracker.describe()
        loaded: dict[str, Any] = json.loads(json.dumps(described))
        return loaded

    @property
    def folder(self) -> str:
        """The name as one that a folder can have everywhere."""
        return re.sub(r"[^\w.,=+-]+", "_", self.name).strip("._") or "_"

    def results(self, video: Path, run: Run, cache_bytes: int) -> Iterator[Any]:
        """The tracker's results of one run; embeddings come from the disk where `cache_bytes` allows it."""
        assert self.tracker is not None
        options: dict[str, Any] = {"soft": True} if run.soft else {}
        embedder = getattr(self.tracker, "embedder", None)
        if cache_bytes and embedder is not None:
            from vidtrack.cache import EmbeddingCache, default_folder, embedding_key

            tracker: Any = self.tracker
            cache = EmbeddingCache(default_folder(), embedding_key(video, tracker), cache_bytes)
            options["embed"] = cache.wrap(embedder, tracker.settings.size)
        with self.tracker.passes(
            video, run.annotations, run.direction, run.start, run.end, **options
        ) as passes:
            yield from passes


def rows_of(
    load: Callable[[str], Any],
    trackers: Sequence[str],
    masks: Sequence[Path] = (),
    sweep: Mapping[str, Sequence[Any]] | None = None,
) -> list[Row]:
    """The rows for trackers, each with every combination of the swept settings, and for masks.

    Args:
        load: makes a tracker from its name; called once per tracker.
        trackers: their names.
        masks: folders of masks.
        sweep: values by setting, see `parse_sweep`.

    Raises:
        InputError: a tracker can't be loaded, a setting doesn't exist or has an impossible value, or there
            are too many combinations.
    """
    combinations: list[dict[str, Any]] = [{}]
    if sweep:
        combinations = [
            dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())
        ]
    if len(combinations) * len(trackers) > MOST:
        raise InputError(
            f"the sweep has {len(combinations) * len(trackers)} combinations: give at most {MOST}."
        )
    rows: list[Row] = []
    for name in trackers:
        tracker = load(name)
        # Labels that are only copied are the same with all settings.
        for swept in combinations if getattr(tracker, "embedder", tracker) is not None else [{}]:
            own = tracker.changed(**swept) if swept else tracker
            words = [_short(name), *(f"{key}={written(value)}" for key, value in swept.items())]
            rows.append(Row(_unique(" ".join(words), rows), own, None, swept))
    for folder in masks:
        rows.append(Row(_unique(folder.name or str(folder), rows), None, folder))
    return rows


def parse_sweep(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Values by setting from words like `topk=5,10` and `temperature=0.03,0.05`.

    Settings are the fields of `Propagation`, and `quality` and `preset`. The distances of `context` are
    joined by `+`: `context=1+3+6,7`.

    Raises:
        InputError: a word of another form, an unknown setting, or one that comes twice.
    """
    from vidtrack.propagate.settings import Propagation

    known = [*Propagation.model_fields, "quality"]
    sweep: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not name or not equals or not all(values.split(",")):
            raise InputError(f"--sweep {text}: give a setting and its values, like topk=5,10.")
        if name not in known:
            raise InputError(f"--sweep {text}: there is no setting {name}, but {', '.join(known)}.")
        if name in sweep:
            raise InputError(f"--sweep {text}: {name} comes twice, give all its values at once.")
        found = [_value(name, value) for value in values.split(",")]
        if len(set(found)) < len(found):  # 5 and 5.0 are the same
            raise InputError(f"--sweep {text}: a value comes twice.")
        sweep[name] = found
    return sweep


def _value(name: str, text: str) -> Any:
    """A word of the command line as the setting wants it: the checks of `Propagation` come later."""
    if name.endswith("context"):
        return text.replace("+", ",")
    if text in ("none", "native"):
        return None
    if text in ("on", "off"):
        return text == "on"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def written(value: Any) -> str:
    """The inverse of `_value`: a swept value as a user writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", "+")


def _short(name: str) -> str:
    """A tracker's name: of a file without its folder and suffix, of a run's backbone that of the run."""
    path = Path(name)
    if path.name == "backbone.safetensors":  # every run has one
        path = path.absolute().parent
    return path.stem if path.is_file() else path.absolute().name if path.is_dir() else name


def _unique(name: str, rows: Iterable[Row]) -> str:
    names, folders = {row.name for row in rows}, {row.folder for row in rows}
    for number in itertools.count(2):
        tried = name if number == 2 else f"{name} {number - 1}"
        if tried not in names and Row(tried).folder not in folders:
            return tried
    raise AssertionError
