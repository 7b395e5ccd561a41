"""Files below a folder, and behind links."""

from __future__ import annotations

from pathlib import Path

from pretrain.walk import files_below


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    for path in (top / "a" / "1.png", top / "b" / "c" / "2.png", other / "3.png", other / "deep" / "4.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (top / "linked").symlink_to(other)
    (top / "file.png").symlink_to(other / "3.png")
    (top / "gone").symlink_to(tmp_path / "nothing")
    (top / "itself").symlink_to("itself")
    (other / "deep" / "up").symlink_to(top)
    (top / "b" / "up").symlink_to(top / "b")
    found = [path.relative_to(top).as_posix() for path in files_below(top)]
    assert found == ["a/1.png", "b/c/2.png", "file.png", "linked/3.png", "linked/deep/4.png"]
    assert list(files_below(tmp_path / "nothing")) == []
