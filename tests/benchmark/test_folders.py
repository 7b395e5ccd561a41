"""Lists of sequences."""

from pathlib import Path

import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.folders import read_names


def test_names_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text(
        " my bear \n\n/JPEGImages/480p/cat/00000.jpg /Annotations/480p/cat/00000.png\nlists/dog/\n"
    )
    assert read_names(path) == ["my bear", "cat", "dog"]
    for content, message in ((b"\n", "names no sequence"), (b"\xff\xfe", "can't be read: it is a text")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_names(path)
