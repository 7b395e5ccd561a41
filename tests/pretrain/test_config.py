"""Configs: overrides, types, and errors that name the nearest key."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from pretrain.config import Config, find_config, load_config
from pretrain.errors import InputError


class Inner(Config):
    steps: int = 1
    rate: float = 0.1


class Outer(Config):
    name: str = "a"
    inner: Inner = Inner()
    pair: tuple[int, int] = (1, 2)


class Mapped(Config):
    shares: dict[Literal["apples", "pears"], float] = Field(default={"apples": 1.0}, min_length=1)
    inner: Inner = Inner()


def bundled(tmp_path: Path) -> Path:
    (tmp_path / "track").mkdir()
    (tmp_path / "track" / "x.yaml").write_text("inner:\n  steps: 5\n")
    return tmp_path


def test_overrides_win_and_the_rest_stays(tmp_path: Path) -> None:
    config = load_config(Outer, "track/x", ["inner.rate=2e-3", "pair=[3, 4]", "name=b"], bundled(tmp_path))
    assert config == Outer(name="b", inner=Inner(steps=5, rate=0.002), pair=(3, 4))


def test_a_path_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    assert load_config(Outer, str(tmp_path / "mine.yaml"), [], tmp_path) == Outer()


class Deep(Config):
    inner: Inner = Inner(steps=3)
    outer: Outer = Outer(name="z", inner=Inner(rate=0.7))


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", ["inner.rate=2"], Deep(inner=Inner(steps=3, rate=2))),
        ("inner:\n  rate: 2\n", [], Deep(inner=Inner(steps=3, rate=2))),
        ("inner:\n  rate: 2\n", ["inner.steps=1"], Deep(inner=Inner(steps=1, rate=2))),
        ("", ["inner={}"], Deep()),
        ("", ["outer.inner.steps=9"], Deep(outer=Outer(name="z", inner=Inner(steps=9, rate=0.7)))),
        ("", ["outer.pair=[5, 6]"], Deep(outer=Outer(name="z", inner=Inner(rate=0.7), pair=(5, 6)))),
        ("outer:\n  inner: {rate: 1}\n", [], Deep(outer=Outer(name="z", inner=Inner(rate=1)))),
    ],
)
def test_what_a_section_leaves_out_is_what_the_schema_says_of_that_section(
    tmp_path: Path, text: str, overrides: list[str], expected: Deep
) -> None:
    """A section may have other defaults in one schema than in another."""
    (tmp_path / "mine.yaml").write_text(text)
    assert load_config(Deep, str(tmp_path / "mine.yaml"), overrides, tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", [], {"apples": 1.0}),
        ("", ["shares.pears=3"], {"apples": 1.0, "pears": 3.0}),  # added to the default
        ("", ["shares={pears: 3}"], {"pears": 3.0}),
        ("", ["shares={pears: 3}", "shares.apples=2"], {"pears": 3.0, "apples": 2.0}),
        ("shares:\n  pears: 5\n", [], {"pears": 5.0}),
        ("shares:\n  pears: 5\n", ["shares.apples=2"], {"pears": 5.0, "apples": 2.0}),
    ],
)
def test_mappings_are_added_to_or_replaced(
    tmp_path: Path, text: str, overrides: list[str], expected: dict[str, float]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert load_config(Mapped, str(tmp_path / "mine.yaml"), overrides, tmp_path).shares == expected
    assert Mapped().shares == {"apples": 1.0}  # the default itself stays as it is


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("shares.pear=3", r"there is no key shares\.pear; did you mean shares\.pears\?"),
        ("shares={pear: 3}", r"there is no key shares\.pear; did you mean shares\.pears\?"),
        ("zzz=3", "valid keys are shares.apples, shares.pears, inner.steps"),
        ("shares.pears=many", r"shares\.pears: .*'many'"),
        ("shares.pears.x=3", "pears is a single value|valid number"),
        ("shares.apples.x=3", "apples is a single value"),
        ("shares={}", "shares: .*at least 1"),
    ],
)
def test_mistakes_in_mappings(tmp_path: Path, override: str, sentence: str) -> None:
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(InputError, match=sentence) as error:
        load_config(Mapped, str(tmp_path / "mine.yaml"), [override], tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("inner.step=3", "no key inner.step; did you mean inner.steps?"),
        ("iner.rate=3", r"no key iner\.rate; did you mean inner\.rate\?"),
        ("zzz=3", "valid keys are name, inner.steps, inner.rate, pair"),
        ("inner.steps=many", "inner.steps: .*'many'"),
        ("inner.steps", "write key=value"),
        ("name.x=3", "there is no key|single value|valid string"),
        ("inner.steps=[", "not a valid YAML value"),
    ],
)
def test_errors_are_one_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        load_config(Outer, "track/x", [override], bundled(tmp_path))
    assert "\n" not in str(error.value)


def test_unknown_config_lists_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of track/x"):
        load_config(Outer, "track/y", [], bundled(tmp_path))


@pytest.mark.parametrize(
    ("name", "says"),
    [("track/laptp", "did you mean track/laptop?"), ("laptop", "did you mean track/laptop?")]
    + [(name, "one of track/laptop, track/x.") for name in ("my/laptop.yaml", "track/none", "")],
)
def test_the_nearest_config_is_named(tmp_path: Path, name: str, says: str) -> None:
    folder = bundled(tmp_path)
    (folder / "track" / "laptop.yaml").write_text("")
    with pytest.raises(InputError) as error:
        find_config(name, folder)
    assert str(error.value).endswith(says)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just text"])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml"):
        load_config(Outer, str(tmp_path / "bad.yaml"), [], tmp_path)
