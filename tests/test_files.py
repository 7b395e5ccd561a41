"""Outputs appear whole or not at all."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vidtrack.files as module
from pretrain.errors import InputError
from vidtrack.files import (
    atomic_file,
    bundled_configs,
    complete,
    locked_file,
    replace,
    require_free,
    sha256,
    work_folder,
    write_json,
)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []


def test_existing_files_are_safe(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"), atomic_file(target):
        pass
    with pytest.raises(RuntimeError), atomic_file(target, overwrite=True) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "mine"
    write_json(target, {"a": 1})
    assert target.read_text() == '{\n  "a": 1\n}\n'


def test_folders_of_the_user_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name, sentence in {"mine": "not replaced", "file": "not a folder", "link": "not a folder"}.items():
        with pytest.raises(InputError, match=sentence):
            require_free(tmp_path / name, overwrite=True, folder=True)
    with pytest.raises(InputError, match="is a folder"):
        require_free(tmp_path / "mine", overwrite=True)
    (tmp_path / "mine" / "report.json").write_text("{}")
    require_free(tmp_path / "mine", overwrite=True, folder=True)
    monkeypatch.chdir(tmp_path / "mine")
    for name in (".", "..", str(tmp_path)):
        with pytest.raises(InputError, match="not replaced"):
            require_free(name, overwrite=True, folder=True)


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be"):
        require_free(tmp_path / "file" / "out")


def test_replacing_a_folder(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    replace(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in tmp_path.rglob("*")] == ["old", "new"]


def test_hash_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = sha256(tmp_path)
    assert sha256(tmp_path / "a") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256(tmp_path) != before


def test_bundled_configs_are_found() -> None:
    assert (bundled_configs() / "track" / "laptop.yaml").is_file()


def test_work_waits_for_the_next_run_and_is_told_from_the_users(tmp_path: Path) -> None:
    out, partial, lock = tmp_path / "out", tmp_path / "out.partial", tmp_path / ".out.lock"
    partial.mkdir()
    (partial / "thesis.txt").write_text("mine")
    for _ in range(2):  # a refusal leaves nothing that would make it ours
        with pytest.raises(InputError, match="did not write"), work_folder(out):
            pass
    assert sorted(tmp_path.iterdir()) == [partial] and (partial / "thesis.txt").read_text() == "mine"
    shutil.rmtree(partial)

    with pytest.raises(RuntimeError), work_folder(out) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert sorted(tmp_path.iterdir()) == [lock, partial]
    with work_folder(out) as folder:
        assert folder == partial and (folder / "half").exists()
        with pytest.raises(InputError, match=r"another run is writing .*out\.partial"), work_folder(out):
            pass
    with work_folder(out, fresh=True) as folder:
        assert not list(folder.iterdir())
        (folder / "half").write_text("")
    assert list(tmp_path.iterdir()) == []
    with work_folder(out) as folder:
        (folder / "whole").write_text("")
        complete(folder, out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_result_that_another_run_has_just_finished_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    with pytest.raises(InputError, match="exists already"), work_folder(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    with work_folder(tmp_path / "out", overwrite=True) as folder:
        complete(folder, tmp_path / "out")
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_what_was_there_comes_back_when_replacing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "new", tmp_path / "old")
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"] and (tmp_path / "old/old").exists()
    (tmp_path / "old").rename(tmp_path / ".old.replaced")  # a kill between the two
    replace(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in tmp_path.rglob("*")] == ["old", "new"]


def test_ctrl_c_is_too_late_for_what_is_nearly_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    before = signal.getsignal(signal.SIGINT)
    real = module.replace

    def pressed(source: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        real(source, target)

    monkeypatch.setattr(module, "replace", pressed)
    complete(tmp_path / "new", tmp_path / "out")
    assert (tmp_path / "out").is_dir() and signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()


def test_a_file_is_written_by_one_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    refused = pytest.raises(InputError, match=r"another run is writing .*a\.safetensors")
    with locked_file(path), refused, locked_file(path):
        pass
    path.write_text("")
    with pytest.raises(InputError, match="exists already"), locked_file(path):
        pass
    (path.parent / ".a.partial-77.safetensors").write_text("half")  # by a kill
    (path.parent / ".ab.partial-77.safetensors").write_text("of another")
    with locked_file(path, overwrite=True):
        pass
    assert sorted(path.parent.iterdir()) == [path.parent / ".ab.partial-77.safetensors", path]


def test_the_work_of_a_killed_run_is_told_from_the_users(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from vidtrack.files import work_folder\n"
        "with work_folder(Path('out')) as folder:\n"
        "    (folder / 'half').write_text('')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == -signal.SIGKILL
    with work_folder(tmp_path / "out") as folder:
        assert (folder / "half").exists()
        complete(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
