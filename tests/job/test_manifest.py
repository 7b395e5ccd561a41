"""Which stretches of an earlier run are still right, and records that survive a cut-off line."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidtrack.job.manifest import labels_hash, reusable, span_of, spans
from vidtrack.job.records import NAME, Records, RecordWriter
from vidtrack.labels import Boxes, Keypoints, Maps, Masks

from .conftest import labels

FRAMES = 9
ANNOTATED = st.dictionaries(st.integers(0, FRAMES - 1), st.sampled_from("ab"), min_size=1)


def manifest(annotations: dict[int, str], **changes: Any) -> dict[str, Any]:
    named = {str(n): value for n, value in annotations.items()}
    return {"video": "v", "start": 0, "annotations": named, **changes}


def neighbours(frame: int, annotations: dict[int, str]) -> list[tuple[int, str] | None]:
    """What a frame depends on: the annotations before and after it."""
    before = [n for n in annotations if n < frame]
    after = [n for n in annotations if n > frame]
    found = [max(before) if before else None, min(after) if after else None]
    return [None if n is None else (n, annotations[n]) for n in found]


@settings(max_examples=300, deadline=None)
@given(old=ANNOTATED, new=ANNOTATED, done=st.sets(st.integers(0, FRAMES - 1)), ended=st.booleans())
def test_spans_are_used_again_exactly_where_nothing_changed(
    old: dict[int, str], new: dict[int, str], done: set[int], ended: bool
) -> None:
    found = reusable(manifest(old), manifest(new), done, FRAMES if ended else None)
    for span in spans(sorted(new), 0):
        inside = [f for f in range(FRAMES) if f not in new and span_of(f, sorted(new)) == span]
        right = all(f not in old and f in done and neighbours(f, old) == neighbours(f, new) for f in inside)
        if inside:
            assert (span in found) == (right and (ended or span[1] is not None))
    assert found <= set(spans(sorted(new), 0))


@pytest.mark.parametrize("change", [{"video": "w"}, {"video": None}, {"start": 1}, {"more": 1}])
def test_another_setting_makes_all_new(change: dict[str, Any]) -> None:
    assert reusable(manifest({0: "a"}), manifest({0: "a"}), set(range(9)), 9)
    assert not reusable(manifest({0: "a"}), manifest({0: "a"}, **change), set(range(9)), 9)
    assert not reusable(manifest({0: "a"}, video=None), manifest({0: "a"}, video=None), set(range(9)), 9)


@pytest.mark.parametrize("kind", [Masks, Keypoints, Boxes, Maps])
def test_hashes_see_every_change(kind: type[Any]) -> None:
    same, again, other = labels(kind, 3), labels(kind, 3), labels(kind, 3, off=1)
    assert labels_hash(same) == labels_hash(again) != labels_hash(other)
    if kind is Masks:
        again.names[1] = "blue"
    elif kind is Maps:
        again.values[20, 20, 0] += 1
    else:
        again.confidence.flat[0] = 0.5
    assert labels_hash(same) != labels_hash(again)


def test_records(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path, [{"index": 4, "name": "four"}])
    writer.append({"index": 1, "name": "ä"})
    writer.append({"index": 4, "name": "later"})
    writer.close()
    whole = (tmp_path / NAME).read_bytes()
    for cut in range(len(whole) + 1):  # killed at any byte
        (tmp_path / NAME).write_bytes(whole[:cut])
        records = Records(tmp_path)
        lines = whole[:cut].count(b"\n")
        assert [r["index"] for r in records.all()] == [[], [4], [1, 4], [1, 4]][lines]
        assert (1 in records) == (lines > 1)
        if lines:
            assert records.read(4)["name"] == ("later" if lines == 3 else "four")
