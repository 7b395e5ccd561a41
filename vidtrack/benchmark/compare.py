"""Is one result better than another? Paired differences over sequences, with a bootstrap interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pretrain.errors import InputError
from vidtrack.benchmark.ranking import is_lower
from vidtrack.benchmark.results import ONE, RESULTS_JSON, TABLE, TABLE_JSON, as_table

LEVEL = 0.95
FEW = 6  # with five sequences, all of them better on one side by chance isn't rarer than 1 in 20


@dataclass(frozen=True)
class Difference:
    """What two rows differ in by one score.

    Attributes:
        key: name of the score.
        lower: lower values are better.
        scores: of A and of B by sequence, for all sequences where both have one.
        mean: of B - A over these sequences; None without any.
        interval: of the mean, 95 %, by bias-corrected and accelerated bootstrap over sequences (Efron 1987);
            None with fewer than two sequences.
        share_better: share 0..1 of the sequences where B is better than A (equal ones count as not).
    """

    key: str
    lower: bool
    scores: dict[str, tuple[float, float]]
    mean: float | None
    interval: tuple[float, float] | None
    share_better: float | None

    @property
    def better(self) -> Literal["A", "B"] | None:
        """Which one is better: None if the interval holds 0, or there is none."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return None
        return "B" if (self.interval[0] > 0) != self.lower else "A"

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        count = len(self.scores)
        if self.interval is None or self.mean is None:
            found = "no sequence is" if count == 0 else "only one sequence is"
            return f"Nothing can be concluded about {self.key}: {found} scored in both."
        low, high = self.interval
        figures = f"{self.mean:+.3f} {self.key} (95 % interval {low:+.3f} to {high:+.3f}, {count} sequences)"
        few = f"; with fewer than {FEW} sequences this says little" if count < FEW else ""
        if self.better is None:
            return f"No clear difference between A and B: {figures}{few}."
        verb = "seems" if few else "is"
        return f"{self.better} {verb} better: {figures}{few}."

    def to_json(self) -> dict[str, Any]:
        """JSON values; `difference` is B - A."""
        return {
            "key": self.key,
            "lower": self.lower,
            "sequences": {n: {"a": a, "b": b, "difference": b - a} for n, (a, b) in self.scores.items()},
            "mean_difference": self.mean,
            "interval": None if self.interval is None else list(self.interval),
            "share_better": self.share_better,
            "better": self.better,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """Row B of some results against row A of the same or other results.

    Attributes:
        title: of the benchmark.
        names: of the two rows.
        differences: one for each score compared, the main one first.
        only_a, only_b: sequences that only one of the two has; they are left out.
        settings: by name what both were made with, where that differs: values of A and B.
        samples, seed: of the bootstrap.
    """

    title: str
    names: tuple[str, str]
    differences: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    settings: dict[str, tuple[Any, Any]]
    samples: int
    seed: int

    @property
    def verdict(self) -> str:
        """Of the first score."""
        return self.differences[0].verdict

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "title": self.title,
            "a": self.names[0],
            "b": self.names[1],
            "verdict": self.verdict,
            "keys": [difference.to_json() for difference in self.differences],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "settings": {name: {"a": a, "b": b} for name, (a, b) in self.settings.items()},
            "level": LEVEL,
            "samples": self.samples,
            "seed": self.seed,
        }


def compare(
    a: dict[str, Any],
    b: dict[str, Any],
    key: str | None = None,
    rows: tuple[str | None, str | None] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare B with A sequence by sequence.

    Sequences are what is drawn again in the bootstrap, because frames and objects of one video are not
    independent. So the mean is over sequences, also where the benchmark's own score is a mean over objects.

    Args:
        a, b: results of schema 2; both may be the same with two rows.
        key: the score; None: all of them, the main one first.
        rows: names of the rows of `a` and `b`; None for the only row.
        samples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: another benchmark, data or protocol, no such row or score, or several rows without a name.
    """
    names = rows or (None, None)
    first, second = _row(a, names[0], "A"), _row(b, names[1], "B")
    _require_same(a, b, first, second)
    if key is not None and key not in a["keys"]:
        raise InputError(f"There is no score {key}: choose one of {', '.join(a['keys'])}.")
    common = [name for name in first["sequences"] if name in second["sequences"]]
    settings = _unequal(_made_with(a, first), _made_with(b, second))
    if settings.pop("tracker", None):  # their names say that
        settings.pop("weights", None)
    differences = []
    for one in [key] if key is not None else a["keys"]:
        pairs = {n: tuple(row["sequences"][n]["scores"].get(one) for row in (first, second)) for n in common}
        scores = {n: (x, y) for n, (x, y) in pairs.items() if x is not None and y is not None}
        differences.append(_difference(one, is_lower(a, one), scores, samples, seed))
    return Comparison(
        title=a["title"],
        names=(first["name"], second["name"]),
        differences=tuple(differences),
        only_a=tuple(name for name in first["sequences"] if name not in second["sequences"]),
        only_b=tuple(name for name in second["sequences"] if name not in first["sequences"]),
        settings=settings,
        samples=samples,
        seed=seed,
    )


def bootstrap_interval(values: Sequence[float], samples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of at least two values.

    Bias-corrected and accelerated bootstrap (Efron 1987, "Better Bootstrap Confidence Intervals"). Values
    that are all the same have an interval without width.
    """
    from scipy import stats

    found = np.asarray(values, np.float64)
    if len(found) < 2:
        raise ValueError(f"an interval needs at least two values, not {len(found)}")
    if np.ptp(found) <= 1e-12 * max(1.0, float(np.abs(found).max())):  # the acceleration would be 0/0
        return float(found.mean()), float(found.mean())
    result = stats.bootstrap(
        (found,),
        np.mean,
        n_resamples=samples,
        confidence_level=LEVEL,
        method="BCa",
        batch=max(1, 2_000_000 // len(found)),
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def load_results(path: Path | str) -> dict[str, Any]:
    """Read the results of a benchmark.

    Args:
        path: `table.json` or `results.json`, or the folder that holds one of them.

    Raises:
        InputError: no such file, not JSON, not results of a benchmark, or those of another version.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        file = path / (TABLE_JSON if (path / TABLE_JSON).is_file() else RESULTS_JSON)
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing: give the results of a benchmark or their folder.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} can't be read as JSON: {error}") from error
    if not isinstance(found, dict) or "benchmark" not in found:
        raise InputError(f"{file} holds no results of vidtrack benchmark.")
    if found.get("schema") == ONE:
        try:
            found = as_table(found)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is damaged or of another version: run the benchmark again.") from error
    if found.get("schema") != TABLE:
        raise InputError(f"{file} has schema {found.get('schema')}: run the benchmark again.")
    try:
        _Results.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{file} is damaged at {place or 'its top'}: {problem['msg']}.") from error
    return found


def differing(values: dict[str, tuple[Any, Any]]) -> str:
    """What differs, in words: `size (640 and 480), radius (16 and 12)`."""
    return ", ".join(f"{n} ({json.dumps(a)} and {json.dumps(b)})" for n, (a, b) in values.items())


def split_row(path: Path | str) -> tuple[Path, str | None]:
    """`folder#row` as folder and row; of several readings, the longest path that exists is the folder."""
    text = str(path)
    if not Path(text).exists():
        parts = text.split("#")
        for count in range(len(parts) - 1, 0, -1):
            folder = Path("#".join(parts[:count]))
            if folder.exists():
                return folder, "#".join(parts[count:])
    return Path(path), None


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)  # "0.5" is no number


class _Sequence(_Strict):
    scores: dict[str, FiniteFloat | None]


class _Row(_Strict):
    name: str
    scores: dict[str, FiniteFloat | None]
    sequences: dict[str, _Sequence]


class _Results(_Strict):
    """What a comparison needs; all else may be anything."""

    benchmark: str
    title: str
    keys: Annotated[list[str], Field(min_length=1)]
    lower: list[str] = []
    data_sha256: str
    protocol: dict[str, Any]
    rows: Annotated[list[_Row], Field(min_length=1)]


def _row(results: dict[str, Any], name: str | None, which: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = results["rows"]
    names = ", ".join(row["name"] for row in rows)
    found = rows if name is None else [row for row in rows if row["name"] == name]
    if not found:
        raise InputError(f"{which} has no row {name}: choose one of {names}.")
    if len(found) > 1:
        raise InputError(f"{which} has several rows: choose one of {names} (FOLDER#ROW, or --row).")
    return found[0]


def _made_with(results: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Settings and versions of a row, by names such as `propagation.size`."""
    left = {"settings": row.get("settings"), "versions": results.get("versions")}
    flat: dict[str, Any] = {}
    while left:
        name, value = left.popitem()
        if isinstance(value, dict):
            left |= {f"{name}.{key}": value[key] for key in value}
        else:
            flat[name.removeprefix("settings.").removeprefix("versions.")] = value
    return {name: flat[name] for name in sorted(flat)}


def _unequal(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What both have, and not the same."""
    return {name: (a[name], b[name]) for name in a if name in b and a[name] != b[name]}


def _require_same(
    a: dict[str, Any], b: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Raises InputError unless two scores mean the same."""
    if a["benchmark"] != b["benchmark"] or a["keys"] != b["keys"]:
        ours, theirs = (f"{r['benchmark']} ({', '.join(r['keys'])})" for r in (a, b))
        raise InputError(
            f"A and B are different benchmarks, {ours} and {theirs}: compare results of the same."
        )
    if a["protocol"] != b["protocol"]:
        names = sorted(a["protocol"].keys() | b["protocol"].keys())
        left, right = (dict.fromkeys(names) | results["protocol"] for results in (a, b))
        told = differing(_unequal(left, right))
        raise InputError(f"The protocols of A and B differ in {told}: compare results of the same protocol.")
    if a["data_sha256"] != b["data_sha256"]:
        sides = (("A", first, second), ("B", second, first))
        alone = [
            f"only {side} has {', '.join(missing)}"
            for side, mine, other in sides
            if (missing := [name for name in mine["sequences"] if name not in other["sequences"]])
        ]
        why = f" ({'; '.join(alone)})" if alone else ""
        raise InputError(f"A and B were measured on different data{why}: compare results on the same data.")


def _difference(
    key: str, lower: bool, scores: dict[str, tuple[float, float]], samples: int, seed: int
) -> Difference:
    changes = [b - a for a, b in scores.values()]
    if not changes:
        return Difference(key, lower, scores, None, None, None)
    better = sum(change < 0 if lower else change > 0 for change in changes)
    return Difference(
        key=key,
        lower=lower,
        scores=scores,
        mean=float(np.mean(changes)),
        interval=bootstrap_interval(changes, samples, seed) if len(changes) > 1 else None,
        share_better=better / len(changes),
    )
