"""The log of a run that was killed."""

from pathlib import Path

import pytest

from pretrain.log import LOG, append, duration, trim


@pytest.mark.parametrize(
    ("step", "left"),
    [(0, []), (2, [1, 2]), (9, [1, 2, 3]), (2.5, [1, 2])],
    ids=["none", "some", "all", "between"],
)
def test_what_came_after_the_checkpoint_goes(step: float, left: list[int], tmp_path: Path) -> None:
    for number in (1, 2, 3):
        append(tmp_path, {"step": number, "loss": 0.5})
    lines = (tmp_path / LOG).read_text().splitlines(keepends=True)
    trim(tmp_path, step)  # type: ignore[arg-type]
    assert (tmp_path / LOG).read_text() == "".join(lines[number - 1] for number in left)
    assert [path.name for path in tmp_path.iterdir()] == [LOG]


@pytest.mark.parametrize(
    "damage", ['{"step": 2, "lo', "nothing\n", '{"loss": 1}\n', "[1]\n", '{"step": 2}', "\x00\n"]
)
def test_lines_that_are_no_records_go(damage: str, tmp_path: Path) -> None:
    append(tmp_path, {"step": 1})
    whole = (tmp_path / LOG).read_text()
    (tmp_path / LOG).write_text(whole + damage)
    trim(tmp_path, 5)
    assert (tmp_path / LOG).read_text() == whole


def test_no_log_is_no_error(tmp_path: Path) -> None:
    trim(tmp_path, 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (0.0, "0 seconds"),
        (1 / 60, "1 second"),
        (0.5, "30 seconds"),
        (1, "1 minute"),
        (1.6, "2 minutes"),
        (119, "119 minutes"),
        (150, "2.5 hours"),
    ],
)
def test_times_as_one_says_them(minutes: float, said: str) -> None:
    assert duration(minutes) == said


def test_a_record_after_one_that_was_cut_off_is_whole(tmp_path: Path) -> None:
    append(tmp_path, {"step": 1}, "other.jsonl")
    with (tmp_path / "other.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    append(tmp_path, {"step": 3}, "other.jsonl")
    assert (tmp_path / "other.jsonl").read_text().splitlines() == [
        '{"step": 1}',
        '{"step": 2, "lo',
        '{"step": 3}',
    ]
