"""Alarms and proposals on confidences that say where an object drifts off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vidtrack.trust import DROP, LOW, REACH, WINDOW, alarms, proposals

NAN = float("nan")


def spans(values: list[float] | np.ndarray, annotated: tuple[int, ...] = (0,)) -> list[tuple[int, int]]:
    found = alarms({"1": np.array(values, float)}, annotated)
    return [(alarm.frame, alarm.last) for alarm in found]


@pytest.mark.parametrize(
    ("values", "annotated", "expected"),
    [
        ([1, 0.9, 0.8, 0.8, 0.9], (0,), []),
        ([1, 0.9, 0.6, 0.6, 0.6], (0,), [(2, 4)]),  # a drop, not made up for
        ([1, 0.9, 0.6, 0.7, 0.79, 0.9], (0,), [(2, 4)]),  # half of 1.0 to 0.6 is 0.8
        ([1, 0.9, 0.6, 0.6, 1, 0.9], (0, 4), [(2, 3)]),  # the user put it right
        ([1, 0.45, 0.52, 0.45, 0.56, 0.6], (0,), [(1, 3)]),  # it does not flicker at the limit
        ([1, 0.8, 0, 0, 0.9], (0,), [(2, 3)]),
        ([NAN, NAN, 1, 0.4, NAN], (2,), [(3, 3)]),
        ([1, 0.8, 1, 0.8], (0, 2), []),
        ([1, 0.2, 1, 0.9, 0.9], (0, 2), [(1, 1)]),  # what was before the annotation does not count
        ([NAN, NAN], (), []),
        ([], (), []),
    ],
)
def test_alarms(values: list[float], annotated: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert spans(values, annotated) == expected


def test_a_slow_fall_is_no_drop_until_it_is_low() -> None:
    per_frame = 0.9 * DROP / WINDOW
    values = 1 - per_frame * np.arange(40)
    assert spans(values) == [(int(np.argmax(values < LOW)), 39)]
    assert spans(1 - 1.2 * DROP / WINDOW * np.arange(15))[0][0] == int(np.ceil(WINDOW / 1.2))


def test_alarms_tell_objects_and_frames() -> None:
    series = {"2": np.array([1, 0.9, 0.3]), "1": np.array([1.0, 0, 0])}
    first, second = alarms(series, {0})
    assert (first.object, second.object) == ("1", "2")
    assert first.sentence("instance", 10) == (
        "instance 1 may be lost in frames 11 to 12: it is not seen in some of them."
    )
    assert second.sentence() == ("object 2 may drift in frame 2: its confidence falls from 1.00 to 0.30.")


def test_the_gain_is_what_is_won_around_the_frame() -> None:
    """Frame by frame, as the rule says it, for a frame between two annotations and one after them."""
    rng = np.random.default_rng(0)
    values = rng.random((2, 60))
    series = {"1": values[0], "2": values[1]}

    def won(t: int) -> float:
        low, high = (0, 20) if t < 20 else (20, 60)
        total = 0.0
        for row in values:
            for u in range(low + 1, high):
                total += (1 - row[u]) * max(0.0, 1 - abs(u - t) / (REACH * (high - low)))
        return total / 120

    gains = {t: won(t) for t in range(1, 60) if t != 20}
    best = max(gains, key=lambda t: gains[t])
    one = proposals(series, [20, 0], 1)[0]
    assert one.frame == best and one.gain == pytest.approx(gains[best])


def test_proposals_lie_where_the_loss_is() -> None:
    values = np.full(101, 0.95)
    values[70:] = 0.3
    assert 70 <= proposals({"1": values}, [0], 1)[0].frame <= 90
    assert 10 <= proposals({"1": values[::-1]}, [100], 1)[0].frame <= 30
    assert abs(proposals({"1": np.full(101, 0.7)}, [0], 1)[0].frame - 50) <= 2


def test_the_next_proposal_takes_the_ones_before_for_granted() -> None:
    values = np.full(120, 0.95)
    values[20:40], values[80:120] = 0.4, 0.3
    first, second = proposals({"1": values}, [0], 2)
    assert first.frame >= 80 and second.frame <= 60 and first.gain > second.gain > 0
    share = np.maximum(0, 1 - np.abs(np.arange(120) - first.frame) / (REACH * 120))
    share[0] = 0
    left = 1 - (1 - values) * (1 - share)
    expected = proposals({"1": left}, [0, first.frame], 1)[0]
    assert second.frame == expected.frame and second.gain == pytest.approx(expected.gain)
    assert proposals({"1": np.ones(50)}, [0]) == []
    assert proposals({}, [0]) == []
    assert proposals({"1": values}, range(120)) == []
    with pytest.raises(ValueError, match="at least one"):
        proposals({"1": values}, [])


def test_unexpected_frames_win_nothing_and_objects_count_alike() -> None:
    lost, fine = np.full(60, 0.95), np.full(60, NAN)
    lost[40:], fine[:5] = 0.2, 1
    alone, both = (proposals(series, [0], 1)[0] for series in ({"1": lost}, {"1": lost, "2": fine}))
    assert both.frame == alone.frame and both.gain == pytest.approx(alone.gain / 2)
    assert proposals({"1": fine}, [0]) == []


def test_a_long_video_is_looked_at_in_steps() -> None:
    values = np.full(5000, 0.95)
    values[3000:3500] = 0.1
    assert 3000 <= proposals({"1": values}, [0], 1)[0].frame < 3500


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 300)), elements=st.floats(0, 1) | st.just(NAN)),
    st.data(),
)
def test_anything_goes(values: np.ndarray, data: st.DataObject) -> None:
    length = values.shape[1]
    annotated = data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=4))
    series = {str(n): row for n, row in enumerate(values)}
    for alarm in alarms(series, annotated):
        inside = set(range(alarm.frame, alarm.last + 1))
        assert inside and not inside & annotated and 0 <= alarm.lowest <= alarm.before <= 1
    chosen = proposals(series, annotated)
    frames = [one.frame for one in chosen]
    assert len(set(frames)) == len(frames) <= 3 and not set(frames) & annotated
    assert all(0 <= frame < length for frame in frames) and all(one.gain > 0 for one in chosen)
