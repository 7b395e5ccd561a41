"""Comparing two results: paired differences, their interval, what is refused, and the command."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy.stats import norm

from pretrain.errors import InputError
from vidtrack.benchmark.compare import bootstrap_interval, compare, load_results, split_row
from vidtrack.commands.compare import compare as command

SCORES = {
    "bear": (0.5, 0.52),
    "cow": (0.6, 0.63),
    "dog": (0.7, 0.69),
    "fox": (0.8, 0.85),
    "goat": (0.2, 0.24),
    "owl": (0.4, 0.41),
}


def make(*rows: dict[str, float | None], names: tuple[str, ...] = ("default", "lab")) -> dict[str, Any]:
    """Results with rows of main scores by sequence; the second, lower-is-better score is 10 times that."""
    return {
        "schema": 2,
        "benchmark": "boxes",
        "title": "boxes [test]",
        "keys": ["IoU", "error"],
        "lower": ["error"],
        "data": "/data",
        "data_sha256": "ab",
        "protocol": {"split": "dev", "size": None},
        "versions": {},
        "sweep": None,
        "rows": [
            {
                "name": names[n],
                "scores": {"IoU": 0.5, "error": None},
                "settings": {},
                "sequences": {
                    name: {"scores": {"IoU": v, "error": None if v is None else 10 * v}, "series": {}}
                    for name, v in row.items()
                },
            }
            for n, row in enumerate(rows)
        ],
    }


A = make({name: pair[0] for name, pair in SCORES.items()})
B = make({name: pair[1] for name, pair in SCORES.items()})


def slow_bca(values: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """Efron (1987) word by word, for the mean."""
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(samples)])
    mean = values.mean()
    bias = norm.ppf(((means < mean).mean() + (means <= mean).mean()) / 2)
    left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    ends = []
    for z in norm.ppf([0.025, 0.975]):
        share = norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        ends.append(float(np.quantile(means, share)))
    return ends[0], ends[1]


def test_differences_are_paired_by_sequence() -> None:
    shuffled = copy.deepcopy(B)
    shuffled["rows"][0]["sequences"] = dict(reversed(shuffled["rows"][0]["sequences"].items()))
    found = compare(A, shuffled).differences[0]
    assert found.scores == SCORES
    changes = [b - a for a, b in SCORES.values()]
    assert found.mean == pytest.approx(np.mean(changes)) and found.share_better == pytest.approx(5 / 6)
    assert found.interval is not None and found.interval[0] < found.mean < found.interval[1]
    assert found.better == "B"
    low, high = found.interval
    assert found.verdict == (
        f"B is better: +0.023 IoU (95 % interval {low:+.3f} to {high:+.3f}, 6 sequences)."
    )


def test_the_other_way_round_is_the_mirror_image() -> None:
    there, back = compare(A, B).differences[0], compare(B, A).differences[0]
    assert there.interval is not None and back.interval is not None
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), abs=2e-3)
    assert back.better == "A" and back.verdict.startswith("A is better: -0.023 IoU")
    assert back.share_better == pytest.approx(1 / 6)


def test_lower_can_be_better() -> None:
    comparison = compare(A, B)
    error = comparison.differences[1]
    assert [d.key for d in comparison.differences] == ["IoU", "error"] and error.lower
    assert error.better == "A" and error.share_better == pytest.approx(1 / 6)
    assert "A is better: +0.233 error" in error.verdict
    assert compare(A, B, "error").differences == (error,)


@pytest.mark.parametrize("count", [3, 8, 30])
def test_the_interval_is_bca(count: int) -> None:
    values = np.random.default_rng(count).exponential(1, count)
    width = np.ptp(slow_bca(values, 4000, 1))
    assert bootstrap_interval(values, 4000) == pytest.approx(slow_bca(values, 4000, 2), abs=0.06 * width)
    assert bootstrap_interval(values, 500, 3) == bootstrap_interval(values, 500, 3)
    assert bootstrap_interval(values, 500, 3) != bootstrap_interval(values, 500, 4)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(0.3, 1, 25), 400, n) for n in range(150)]
    assert 0.87 <= np.mean([low <= 0.3 <= high for low, high in intervals]) <= 0.99


def test_equal_results_and_equal_differences() -> None:
    same = compare(A, A).differences[0]
    assert (same.mean, same.interval, same.better, same.share_better) == (0, (0, 0), None, 0)
    assert same.verdict.startswith("No clear difference between A and B: +0.000 IoU")
    shifted = make({name: pair[0] + 0.1 for name, pair in SCORES.items()})
    always = compare(A, shifted).differences[0]
    assert always.interval == pytest.approx((0.1, 0.1)) and always.better == "B"
    with pytest.raises(ValueError, match="two values"):
        bootstrap_interval([1.0])


def test_no_clear_difference() -> None:
    mixed = make({name: a + (0.1 if n % 2 else -0.1) for n, (name, (a, _)) in enumerate(SCORES.items())})
    found = compare(A, mixed).differences[0]
    assert found.better is None and found.verdict.startswith("No clear difference between A and B: ")


def test_few_sequences_conclude_little() -> None:
    def pair(count: int) -> str:
        names = list(SCORES)[:count]
        return compare(make(dict.fromkeys(names, 0.1)), make(dict.fromkeys(names, 0.3))).verdict

    assert pair(6).endswith("6 sequences).") and pair(6).startswith("B is better")
    assert pair(5).startswith("B seems better") and pair(5).endswith(
        "with fewer than 6 sequences this says little."
    )
    assert pair(1) == "Nothing can be concluded about IoU: only one sequence is scored in both."
    assert pair(0) == "Nothing can be concluded about IoU: no sequence is scored in both."


def test_sequences_of_only_one_and_without_a_score() -> None:
    a, b = make({"x": 0.1, "y": 0.2, "z": None}), make({"y": 0.3, "z": 0.5, "w": 0.7})
    comparison = compare(a, b)
    assert comparison.only_a == ("x",) and comparison.only_b == ("w",)
    assert comparison.differences[0].scores == {"y": (0.2, 0.3)}


REFUSED = {
    "benchmark": ({"benchmark": "points"}, r"different benchmarks, boxes \(IoU, error\) and points"),
    "keys": ({"keys": ["IoU"]}, "different benchmarks"),
    "data": ({"data_sha256": "cd"}, "measured on different data: "),
    "protocol": ({"protocol": {"split": "val", "size": None}}, r'differ in split \("dev" and "val"\)'),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_means_something_else_is_refused(what: str) -> None:
    change, sentence = REFUSED[what]
    with pytest.raises(InputError, match=sentence):
        compare(A, {**B, **change})


def test_other_data_are_told_by_their_sequences() -> None:
    with pytest.raises(InputError, match=r"data \(only A has x; only B has y, z\)"):
        compare(make({"x": 0.1}), {**make({"y": 0.1, "z": 0.2}), "data_sha256": "cd"})


def test_rows_are_chosen_by_name() -> None:
    both = make({n: a for n, (a, _) in SCORES.items()}, {n: b for n, (_, b) in SCORES.items()})
    assert compare(both, both, rows=("default", "lab")).differences == compare(A, B).differences
    assert compare(both, A, rows=("lab", None)).names == ("lab", "default")
    with pytest.raises(InputError, match=r"A has several rows: choose one of default, lab"):
        compare(both, A)
    with pytest.raises(InputError, match="B has no row small: choose one of default"):
        compare(A, A, rows=(None, "small"))
    with pytest.raises(InputError, match="no score J: choose one of IoU, error"):
        compare(A, B, "J")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_results_are_read_from_a_file_or_its_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "run" / "results.json", A)
    assert load_results(file) == load_results(tmp_path / "run") == A
    write(tmp_path / "run" / "table.json", B)
    assert load_results(tmp_path / "run") == B and load_results(file) == A


def damaged(*place: str | int, value: Any) -> dict[str, Any]:
    result: Any = copy.deepcopy(A)
    inner = result
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return dict(result)


FOREIGN = {
    "not JSON": ("{", "can't be read as JSON"),
    "a list": ([1], "no results of vidtrack benchmark"),
    "a report": ({"frames": []}, "no results of vidtrack benchmark"),
    "old": ({"schema": 1, "benchmark": "davis"}, "damaged or of another version: run the benchmark again"),
    "no rows": (damaged("rows", value=[]), "damaged at rows: "),
    "no number": (damaged("rows", 0, "sequences", "bear", "scores", "IoU", value="0.5"), "damaged at rows.0"),
    "nan": (
        damaged("rows", 0, "sequences", "bear", "scores", "IoU", value=float("nan")),
        "damaged at rows.0",
    ),
    "no scores": (
        damaged("rows", 0, "sequences", "bear", value={}),
        "damaged at rows.0.sequences.bear.scores",
    ),
    "protocol": (damaged("protocol", value=None), "damaged at protocol"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_other_files_are_one_sentence(tmp_path: Path, what: str) -> None:
    content, sentence = FOREIGN[what]
    file = write(tmp_path / "results.json", content)
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        load_results(tmp_path)
    assert str(refused.value).startswith(str(file)) and "\n" not in str(refused.value)


def test_missing_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="is missing: give the results"):
            load_results(path)


def test_a_row_after_the_hash(tmp_path: Path) -> None:
    folder = tmp_path / "a#b"
    folder.mkdir()
    (tmp_path / "a").mkdir()
    assert split_row(folder) == (folder, None)
    assert split_row(f"{tmp_path / 'a'}#c") == (tmp_path / "a", "c")
    assert split_row(f"{folder}#default") == (folder, "default")
    assert split_row(f"{tmp_path}#runs/x#1") == (tmp_path, "runs/x#1")
    assert split_row("nothing#row") == (Path("nothing#row"), None)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`run(*arguments)` -> exit code, stdout and stderr, in a folder with the results A, B and AB."""
    write(tmp_path / "A" / "results.json", A)
    write(tmp_path / "B" / "results.json", B)
    both = make({n: a for n, (a, _) in SCORES.items()}, {n: b for n, (_, b) in SCORES.items()})
    write(tmp_path / "AB" / "results.json", both)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app(list(arguments))
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


def test_the_command_prints_a_table_and_the_verdict(run) -> None:
    code, out, err = run("A", "B")
    assert code == 0 and not err
    lines = [re.split(r"\s*[│┃]\s*", line.strip())[1:-1] for line in out.splitlines()]
    assert ["bear", "0.500", "0.520", "+0.020"] in lines and ["dog", "0.700", "0.690", "-0.010"] in lines
    assert ["mean", "0.533", "0.557", "+0.023"] in lines and ["B is better in", "", "", "83%"] in lines
    assert "boxes [test]: IoU" in out and any(line[:2] == ["error (lower)", "+0.233"] for line in lines)
    assert out.splitlines()[-1] == compare(A, B).verdict
    assert run("AB#default", "AB#lab")[1].splitlines()[-1] == compare(A, B).verdict
    assert run("AB", "AB", "--row", "default", "--row", "lab")[1].splitlines()[-1] == compare(A, B).verdict
    code, out, _ = run("A", "B", "--key", "error")
    assert out.splitlines()[-1] == compare(A, B, "error").verdict and "all scores" not in out
    assert run("A", "B", "--quiet") == (0, "", "")


def test_the_command_writes_json(run, tmp_path: Path) -> None:
    assert run("A", "B", "--json", "out.json", "--samples", "500", "--seed", "7")[0] == 0
    written = json.loads((tmp_path / "out.json").read_text())
    expected = compare(A, B, samples=500, seed=7)
    assert written == json.loads(json.dumps(expected.to_json()))
    assert written["keys"][0]["sequences"]["bear"]["difference"] == pytest.approx(0.02)
    code, out, err = run("A", "B", "--json", "out.json")
    assert code == 2 and "--overwrite" in err and not out
    assert run("B", "A", "--json", "out.json", "--overwrite")[0] == 0
    assert json.loads((tmp_path / "out.json").read_text())["keys"][0]["better"] == "A"


def test_what_two_rows_were_made_with_is_told(run, tmp_path: Path) -> None:
    a, b = copy.deepcopy(A), copy.deepcopy(B)
    same = {"radius": 16, "context": [1, 3, 6]}
    a["rows"][0]["settings"] = {"tracker": "a", "weights": "x", "propagation": {"size": 640, **same}}
    b["rows"][0]["settings"] = {"tracker": "b", "weights": "y", "propagation": {"size": 480, **same}}
    b["rows"][0]["settings"] |= {"preset": None}  # what only one has is not compared
    a["versions"], b["versions"] = {"vidtrack": "0.2", "torch": "2"}, {"vidtrack": "0.3", "torch": "2"}
    found = compare(a, b)
    assert found.settings == {"propagation.size": (640, 480), "vidtrack": ("0.2", "0.3")}
    assert found.to_json()["settings"]["propagation.size"] == {"a": 640, "b": 480}
    for name, results in (("a.json", a), ("b.json", b)):
        (tmp_path / name).write_text(json.dumps(results))
    sentence = 'A and B differ in propagation.size (640 and 480), vidtrack ("0.2" and "0.3").'
    assert run("a.json", "b.json")[1].splitlines()[-2] == sentence
    b["rows"][0]["settings"]["tracker"] = "a"  # the same name, and other weights
    assert compare(a, b).settings["weights"] == ("x", "y")
    assert compare(a, a).settings == {} and "differ in" not in run("a.json", "a.json")[1]


MISTAKES = {
    "missing": (("A", "C"), "C is missing"),
    "row": (("A#small", "B"), "A has no row small"),
    "no row": (("AB", "A"), "A has several rows"),
    "twice": (("A#default", "B", "--row", "default"), "both after # and by --row"),
    "thrice": (("A", "B", "--row", "a", "--row", "b", "--row", "c"), "--row is given 3 times"),
    "key": (("A", "B", "--key", "J"), "There is no score J"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_sentence(run, mistake: str) -> None:
    arguments, sentence = MISTAKES[mistake]
    code, out, err = run(*arguments)
    assert code == 2 and not out and err.startswith("Error: ") and err.count("\n") == 1 and sentence in err
