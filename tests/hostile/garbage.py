"""What the fuzzing draws from: damaged bytes, changed JSON, and tables of odd words."""

import copy
from typing import Any

from hypothesis import strategies as st

ODD = [
    "",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1",
    "2.5",
    "1e400",
    "9" * 400,
    "x",
    "é\u202e",
    "\ud800",
    "../x",
    "true",
]
NUMBERS = st.sampled_from([0, 1, -1, 2.5, 10**9, -(2**63), 2**64, 10**40, float("nan"), float("inf"), 1e308])
LEAVES = st.none() | st.booleans() | NUMBERS | st.sampled_from(ODD[:-2]) | st.text(max_size=5)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@st.composite
def changed(draw: Any, value: Any) -> Any:
    """JSON values in which one to three places hold something else, or nothing."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places: list[tuple[Any, Any]] = []
        waiting = [value]
        while waiting:
            one = waiting.pop()
            keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
            places += [(one, key) for key in keys]
            waiting += [one[key] for key in keys]
        if not places:
            return draw(ANY)
        holder, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = draw(ANY)
    return value


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """A file that breaks off, or some of whose bytes are others."""
    data = bytearray(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])
    for _ in range(draw(st.integers(0, 6))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def table(words: list[str]) -> st.SearchStrategy[str]:
    """Lines of words with commas, as a file of comma-separated values has them."""
    cell = st.sampled_from([*words, *ODD]) | st.text(max_size=4)
    line = st.lists(cell, min_size=1, max_size=9).map(",".join)
    return st.lists(line | st.sampled_from(["", ",", '"', "a b c"]), max_size=6).map("\n".join)
