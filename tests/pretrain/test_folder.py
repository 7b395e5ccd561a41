"""The folder of a run: which settings may change on the way, and what its files are to others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.config import Config
from pretrain.engine import Engine
from pretrain.errors import InputError
from pretrain.folder import CHECKPOINT, begin_run, file_of_run, look_at_run, look_or_begin


class Inner(Config):
    cache: str | None = None
    rates: tuple[float, ...] = (1.0, 2.0)


class Whole(Config):
    seed: int = 0
    name: str = "a"
    data: Inner = Inner()
    engine: Engine = Engine()


def prepare_run(out: Path, config: Config, overwrite: bool) -> int:
    first = look_at_run(out, config, overwrite)
    begin_run(out, config, first, ("product", "more/[0-9]*"))
    return first


def begun(out: Path, step: int = 3, **settings: Any) -> None:
    """A run of these settings that was stopped at `step`."""
    out.mkdir(exist_ok=True)
    assert prepare_run(out, Whole.model_validate(settings), False) == 0
    torch.save({"global_step": step}, out / CHECKPOINT)


def test_what_is_learned_does_not_depend_on_some_settings(tmp_path: Path) -> None:
    begun(tmp_path)
    other = {"data": {"cache": "there"}, "engine": {"workers": 2, "checkpoint_minutes": 1.0, "log_every": 3}}
    assert prepare_run(tmp_path, Whole.model_validate(other), False) == 3
    kept = json.loads((tmp_path / "config.json").read_text())["config"]
    assert kept["data"]["cache"] == "there" and kept["engine"]["workers"] == 2
    assert prepare_run(tmp_path, Whole(), False) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": {"precision": "bf16"}}, 'engine.precision: "auto" there, "bf16" here'),
        ({"data": {"cache": "x", "rates": [3]}}, "data.rates: [1.0, 2.0] there, [3.0] here"),
        ({"name": "b" * 80}, f'name: "a" there, "{"b" * 59}... here'),
        (
            {"seed": 1, "name": "b", "data": {"rates": [3]}, "engine": {"precision": "32"}},
            'seed: 0 there, 1 here; name: "a" there, "b" here; data.rates: [1.0, 2.0] there, [3.0] here, and '
            "1 more",
        ),
    ],
)
def test_other_settings_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    begun(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError) as told:
        prepare_run(tmp_path, Whole.model_validate(settings), False)
    assert f"other settings ({said}): choose another --out" in str(told.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    monkeypatch.setattr("pretrain.folder.world_size", lambda: 2)
    with pytest.raises(InputError, match=r"begun with 1 .* and 2 can't .* --nproc-per-node 1"):
        prepare_run(tmp_path, Whole(), False)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"config": record["config"]}))  # of before it was kept
    assert prepare_run(tmp_path, Whole(), False) == 3
    assert prepare_run(tmp_path, Whole(), True) == 0
    assert json.loads((tmp_path / "config.json").read_text())["processes"] == 2


NAMES, SO_FAR = ("first.bin", "second.bin"), ("best.bin", "old/*.bin")


def named(path: Path, *left: str) -> str:
    """What `file_of_run` finds, or says, where a run left some files."""
    folder = path.parent if path.name == CHECKPOINT else path
    for name in left:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    try:
        return str(file_of_run(path, NAMES, SO_FAR))
    except InputError as error:
        return str(error)


def test_a_finished_run_is_its_file(tmp_path: Path) -> None:
    begun(tmp_path)
    assert named(tmp_path, "best.bin", "second.bin") == str(tmp_path / "second.bin")
    assert named(tmp_path, "first.bin") == str(tmp_path / "first.bin")
    assert named(tmp_path / "best.bin") == str(tmp_path / "best.bin")
    assert named(tmp_path / "nothing") == str(tmp_path / "nothing")
    said = named(tmp_path / CHECKPOINT)
    assert said == f"{tmp_path / CHECKPOINT} is for going on with its run: give {tmp_path / 'first.bin'}."


@pytest.mark.parametrize(
    ("left", "best"),
    [((), None), (("old/1.bin", "old/2.bin"), "old/2.bin"), (("old/1.bin", "best.bin"), "best.bin")],
)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_stopped_run_tells_what_it_has(
    tmp_path: Path, left: tuple[str, ...], best: str | None, checkpoint: bool
) -> None:
    begun(tmp_path)
    path = tmp_path / CHECKPOINT if checkpoint else tmp_path
    what = "is for going on with its run" if checkpoint else "holds a run that was stopped"
    end = "." if best is None else f", or give {tmp_path / best}, which it left on the way."
    assert named(path, *left) == f"{path} {what}: run the command of the run again to finish it{end}"


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_finished_run_of_another_kind_was_not_stopped(tmp_path: Path, checkpoint: bool) -> None:
    begun(tmp_path)
    (tmp_path / "third.bin").write_text("")
    path = tmp_path / CHECKPOINT if checkpoint else tmp_path
    with pytest.raises(
        InputError, match=r"holds third\.bin, and a first\.bin or second\.bin is wanted: give"
    ):
        file_of_run(path, NAMES, SO_FAR, ("third.bin",))
    (tmp_path / "first.bin").write_text("")
    if not checkpoint:
        assert file_of_run(path, NAMES, SO_FAR, ("third.bin",)) == tmp_path / "first.bin"


def test_other_folders_and_checkpoints(tmp_path: Path) -> None:
    nothing = f"{tmp_path} holds no first.bin or second.bin: give the folder of a finished run, or a file."
    assert named(tmp_path) == nothing
    foreign = tmp_path / CHECKPOINT  # other programs call theirs so, too
    foreign.write_text("")
    assert file_of_run(foreign, NAMES, SO_FAR) == foreign
    assert named(tmp_path) == nothing


def test_looking_changes_nothing_and_beginning_takes_only_what_is_a_runs(tmp_path: Path) -> None:
    begun(tmp_path)
    mine = ("notes.txt", "more/mine", "more/x1")
    (tmp_path / "more").mkdir()
    for name in (*mine, "product", "more/1.safetensors"):
        (tmp_path / name).touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert look_at_run(tmp_path, Whole(name="b"), True) == 0 and look_at_run(tmp_path, Whole(), False) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    begin_run(tmp_path, Whole(), 3, ("product", "more/[0-9]*"))  # it goes on
    assert (tmp_path / "product").exists() and (tmp_path / CHECKPOINT).exists()
    begin_run(tmp_path, Whole(), 0, ("product", "more/[0-9]*"))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"config.json", "more", *mine}
    for name in mine[1:]:
        (tmp_path / name).rename(tmp_path / "more" / "7")
    begin_run(tmp_path, Whole(), 0, ("more/[0-9]*",))
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["report.html", "snapshots/0001.safetensors", "config.json"])
def test_a_folder_of_the_user_is_never_a_run(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(InputError, match="exists and holds no run: choose another"):
        look_at_run(tmp_path, Whole(), overwrite)


def test_a_run_whose_record_is_damaged_can_only_be_replaced(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="add --overwrite"):
        look_at_run(tmp_path, Whole(), False)
    assert look_at_run(tmp_path, Whole(), True) == 0


def test_a_run_that_is_to_be_replaced_stays_at_first(tmp_path: Path) -> None:
    begun(tmp_path / "old")
    before = (tmp_path / "old" / "config.json").read_bytes()
    assert look_or_begin(tmp_path / "old", Whole(name="b"), True, ()) == 0
    assert (tmp_path / "old" / "config.json").read_bytes() == before
    assert (tmp_path / "old" / CHECKPOINT).exists()
    (tmp_path / "new").mkdir()
    assert look_or_begin(tmp_path / "new", Whole(), True, ()) == 0
    assert (tmp_path / "new" / "config.json").is_file()
