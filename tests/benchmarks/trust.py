"""How well the confidence of masks foretells J, leaving one sequence out, and the coefficients to use.

    python tests/benchmarks/trust.py --data $VIDTRACK_DATA/eval

Each sequence is carried forward from its first frame and backward from its last, and then both ways at once
with both annotated. A logistic regression from what is seen of an object (`MaskConfidence.evidence`) to its J
is fitted on all sequences but one, each with the same weight, and judged on that one; "pooled" is Spearman's
correlation over all left-out frames together. What two passes make together is judged likewise, by its mean
probability alone. The coefficients from all sequences are those of `vidtrack/propagate/confidence.py`.
`--store FILE` keeps what was measured, and goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

import vidtrack
from pretrain.errors import InputError
from vidtrack.benchmark.davis import DavisSequence, DavisSet
from vidtrack.benchmark.metrics import region_similarity
from vidtrack.labels import Masks
from vidtrack.propagate.confidence import CALIBRATION, JOINED
from vidtrack.propagate.masks import MaskCarrier, coarse
from vidtrack.propagate.propagator import Carried
from vidtrack.session import Session
from vidtrack.video import read_image

SETS = (
    ("DAVIS-2016-dev", 2016, "dev"),
    ("DAVIS-2017-240p", 2017, "dev"),
    ("PUMaVOS-chair", 2017, "val"),
)
# Inverse strength of the ridge: with 1 it pulls all expected J towards the middle.
RIDGE = 10.0

Array = NDArray[np.float64]
Rows = dict[str, list[list[float]]]  # "one": of single passes, "two": of joined ones, see `measure`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder eval of the project's data")
    parser.add_argument("--tracker", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--store", type=Path, help="JSON file of what was measured")
    options = parser.parse_args()
    measured: dict[str, Rows] = {}
    if options.store is not None and options.store.is_file():
        measured = json.loads(options.store.read_text())
    tracker = vidtrack.load(options.tracker, threads=options.threads)
    for sequence in find_sequences(options.data):
        if sequence.name not in measured:
            measured[sequence.name] = measure(tracker, sequence)
            print(sequence.name, flush=True)
            if options.store is not None:
                options.store.write_text(json.dumps(measured))
    console = Console(width=110)
    for kind, title, coefficients in (
        ("one", "single passes", CALIBRATION),
        ("two", "both ways", JOINED),
    ):
        tables = {key: np.array(rows[kind]) for key, rows in measured.items()}
        left_out = {
            name: predict(table, fit([other for key, other in tables.items() if key != name]))
            for name, table in tables.items()
        }
        console.print(report(f"{title}, each sequence left out of the fit", tables, left_out))
        fitted = ", ".join(f"{value:.2f}" for value in fit(list(tables.values())))
        console.print(f"coefficients ({fitted}); in the code: {coefficients}\n")


def find_sequences(data: Path) -> list[DavisSequence]:
    """All sequences with a mask of every frame."""
    return [
        found for folder, year, split in SETS for found in DavisSet.find(data / folder, year, split).sequences
    ]


@torch.inference_mode()
def measure(tracker: vidtrack.Tracker, sequence: DavisSequence) -> Rows:
    """What is seen of each object in each carried frame, and as the last columns its mean probability and J.

    The mean probability was the confidence once. Of joined passes nothing else is seen; it stands twice.
    """
    images = [read_image(path) for path in sequence.frames]
    truth = [sequence.annotation(n) for n in range(len(images))]
    given = [Masks(np.where(np.isin(ids, sequence.objects), ids, 0).astype(np.uint8)) for ids in truth]
    session = tracker.session()
    embeddings = [session.embed(image) for image in images]
    last = len(images) - 1
    rows: Rows = {"one": [], "two": []}
    for begin in (0, last):
        session, found = carry(tracker, images, embeddings, given, begin, None)
        for index, carried in found.items():
            carrier = carrier_of(session)
            labels = coarse(carried.labels, carrier.fine)
            evidence = carrier.confidence.evidence(embeddings[index], labels).numpy()
            rows["one"] += scored(session, carried, images[index], truth[index], evidence)
    session, forward = carry(tracker, images, embeddings, given, 0, last)
    _, backward = carry(tracker, images, embeddings, given, last, 0)
    for index in range(1, last):
        fused = carrier_of(session).fuse(forward[index], backward[index], index / last)
        rows["two"] += scored(session, fused, images[index], truth[index])
    return rows


def carry(
    tracker: vidtrack.Tracker,
    images: Sequence[np.ndarray],
    embeddings: Sequence[torch.Tensor],
    given: Sequence[Masks],
    begin: int,
    ahead: int | None,
) -> tuple[Session, dict[int, Carried]]:
    """One pass from the first frame or the last one, perhaps with the annotation at its end known."""
    session = tracker.session()
    known = {n for n in (begin, ahead) if n is not None}
    session.begin(Masks, sorted({number for n in known for number in given[n].objects}))
    carrier, size = carrier_of(session), images[0].shape[:2]
    carrier.annotate(begin, embeddings[begin], (size[0], size[1]), given[begin])
    if ahead is not None:
        carrier.look_ahead(ahead, embeddings[ahead], (size[0], size[1]), given[ahead])
    order = range(1, len(images)) if begin == 0 else range(len(images) - 2, -1, -1)
    return session, {n: session.carry(n, embeddings[n], images[n]) for n in order if n != ahead}


def carrier_of(session: Session) -> MaskCarrier:
    """The carrier of a session that carries masks."""
    assert isinstance(session.carrier, MaskCarrier)
    return session.carrier


def scored(
    session: Session,
    carried: Carried,
    image: np.ndarray,
    truth: np.ndarray,
    evidence: np.ndarray | None = None,
) -> list[list[float]]:
    """A row for each object that has pixels: evidence (or the mean probability), mean probability, J."""
    carrier = carrier_of(session)
    masks, probability = carrier.shown(carried, image)
    return [
        [
            *([value] if evidence is None else evidence[carrier.objects.index(n)].tolist()),
            value,
            float(region_similarity(truth == n, masks.ids == n)),
        ]
        for n, value in probability.items()
    ]


def fit(tables: Sequence[Array]) -> Array:
    """Bias and weights of a logistic regression to J, which counts as the share of successes."""
    x = np.concatenate([table[:, :-2] for table in tables])
    y = np.concatenate([table[:, -1] for table in tables])
    weight = np.concatenate([np.full(len(table), 1 / len(table)) for table in tables])
    weight *= len(x) / weight.sum()
    # scikit-learn knows only yes and no: each row is both, with J and 1 - J as weights.
    model = LogisticRegression(C=RIDGE, max_iter=1000)
    model.fit(
        np.concatenate([x, x]), np.repeat([1, 0], len(x)), np.concatenate([y, 1 - y]) * np.tile(weight, 2)
    )
    return np.array([model.intercept_[0], *model.coef_[0]])


def predict(table: Array, coefficients: Array) -> Array:
    """Expected J of each row."""
    return np.asarray(1 / (1 + np.exp(-(coefficients[0] + table[:, :-2] @ coefficients[1:]))))


def report(title: str, tables: dict[str, Array], foretold: dict[str, Array]) -> Table:
    """Correlation and error of the expected J, sequence by sequence and over all frames together."""
    out = Table(title=f"Expected J: {title}")
    for column in (
        "sequence",
        "objects x frames",
        "mean J",
        "expected",
        "Spearman",
        "error",
        "before: Spearman",
    ):
        out.add_column(column, justify="left" if column == "sequence" else "right")
    parts = [(name, foretold[name], table[:, -1], table[:, -2]) for name, table in tables.items()]
    whole = ("pooled", *(np.concatenate([part[n] for part in parts]) for n in (1, 2, 3)))
    rows = []
    for name, x, y, old in [*parts, whole]:
        rows.append((y.mean(), x.mean(), correlation(x, y), np.abs(x - y).mean(), correlation(old, y)))
        out.add_row(
            str(name),
            str(len(y)),
            *(f"{value:.3f}" for value in rows[-1]),
            end_section=len(rows) >= len(parts),
        )
    means = np.mean(rows[:-1], axis=0)
    out.add_row("mean of sequences", "", *(f"{value:.3f}" for value in means))
    return out


def correlation(x: Array, y: Array) -> float:
    """Spearman's."""
    return float(spearmanr(x, y).statistic)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
