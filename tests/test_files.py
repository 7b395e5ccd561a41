"""Outputs appear whole or not at all."""

from pathlib import Path

import pytest

from pretrain.errors import InputError
from vidtrack.files import atomic_file, bundled_configs, replace, require_free, sha256, write_json


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
