"""The index of a folder of videos: what it finds, and what it looks at again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrack.files import write_json
from vidtrack.learn.index import build
from vidtrack.learn.index.build import build_index
from vidtrack.learn.index.settings import Index
from vidtrack.learn.index.shots import Shot, clock, find_shots
from vidtrack.learn.index.table import table
from vidtrack.learn.index.verdicts import Footage
from vidtrack.video import save_png
from vidtrack.video.spans import SpanReader

Maker = Callable[..., list[np.ndarray]]


def index(
    folder: Path, cache: Path, settings: Index | None = None, threads: int = 1, only: str = "*"
) -> Footage:
    files = sorted(folder.glob(only))
    return build_index(folder, files, settings or Index(), cache, 6.0, 4, None, threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, scene: Maker, film: Callable) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    one, two = scene(1, 36), scene(2, 24)
    film(folder / "a.mp4", one + two, g="250", sc_threshold="0")
    film(folder / "again.mp4", [p[::2, ::2] for p in one], crf="30")
    shutil.copy(folder / "a.mp4", folder / "twin.mp4")
    film(folder / "bars.mp4", [np.pad(p, ((16, 16), (0, 0), (0, 0))) for p in scene(3, 24)])
    noise = np.random.default_rng(0)
    still = scene(4, 1, size=(320, 240))[0].astype(int)
    film(
        folder / "still.mp4", [(still + noise.integers(-6, 7, still.shape)).clip(0, 255).astype(np.uint8)] * 3
    )
    noisy = [(still + noise.integers(-6, 7, still.shape)).clip(0, 255).astype(np.uint8) for _ in range(30)]
    film(folder / "still.mp4", noisy)
    for i, picture in enumerate(noisy):
        picture[100:112, 9 * i : 9 * i + 12] = 255  # a small thing moves
    film(folder / "walk.mp4", noisy)
    film(folder / "short.mp4", scene(5, 5))
    (folder / "text.mp4").write_text("no video")
    (folder / "frames").mkdir()
    for i, picture in enumerate(scene(6, 30)):
        save_png(folder / "frames" / f"{i}.png", picture)
    return folder


def test_what_is_kept_and_why_the_rest_is_not(folder: Path, tmp_path: Path) -> None:
    found = index(folder, tmp_path)
    assert [(s.name, s.begin, s.box) for s in found.shots] == [
        ("a.mp4", 0, None),
        ("a.mp4", 3, None),
        ("bars.mp4", 0, (16, 80, 0, 96)),
        ("frames", 0, None),
        ("walk.mp4", 0, None),
    ]
    assert found.shots[0].end == 3 - Fraction(1, 24)
    assert (found.videos, found.cuts) == (9, 1)
    assert {d.name: d.reason for d in found.dropped} == {
        "again.mp4": "duplicate",
        "short.mp4": "too short",
        "still.mp4": "static",
        "text.mp4": "broken",
        "twin.mp4": "duplicate",
    }
    why = {d.name: d.why for d in found.dropped}
    assert why["again.mp4"] == "it shows the same as a.mp4 from 0:00.0 to 0:03.0"
    assert why["twin.mp4"] == "it holds the same bytes as a.mp4"
    assert "only 3 frames at 6/s" in why["short.mp4"] and "text" in why["text.mp4"]
    lines = table(found).splitlines()
    assert lines[0] == "9 videos, 1 hard cut, black bars cropped from 1 shot"
    rows = [line.split() for line in lines[1:] if "─" not in line]
    assert rows[1] == ["learned", "from", "4", "5", "0.2"] and ["duplicate", "2", "1", "0.0"] in rows


def test_what_a_cut_file_lacks_is_told(
    tmp_path: Path, scene: Maker, film: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "cut.mkv", scene(1, 48), g="6")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = index(tmp_path, tmp_path / "cache", only="*.mkv")
    (shot,), (lost,) = found.shots, found.dropped
    assert float(shot.end) + lost.seconds == pytest.approx(4, abs=0.05) and 1 < lost.seconds < 3
    assert lost.name == f"cut.mkv from {clock(shot.end)} on" and lost.reason == "missing"
    assert f"ends there, {lost.seconds:.1f} seconds too early" in lost.why
    row = next(line.split() for line in table(found).splitlines() if "missing" in line)
    assert row == ["missing", "1", "0", "0.0"]
    monkeypatch.setattr(build, "_watch", None)
    assert index(tmp_path, tmp_path / "cache", only="*.mkv") == found  # it is kept with the index


def test_threads_change_nothing(folder: Path, tmp_path: Path) -> None:
    assert index(folder, tmp_path / "1", threads=1) == index(folder, tmp_path / "3", threads=3)


def test_each_part_can_be_turned_off(folder: Path, tmp_path: Path) -> None:
    off = Index(cuts=None, static=None, bars=None, duplicates=None)
    found = index(folder, tmp_path, off)
    assert found.cuts == 0 and all(shot.box is None for shot in found.shots)
    assert {d.name for d in found.dropped} == {"short.mp4", "text.mp4", "twin.mp4"}


def test_only_what_is_new_is_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Maker, film: Callable
) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(folder, data)
    seen: list[str] = []
    watch = build._watch
    monkeypatch.setattr(
        build, "_watch", lambda path, name, *rest: (seen.append(name), watch(path, name, *rest))[1]
    )

    def again(settings: Index | None = None) -> tuple[list[str], Footage]:
        seen.clear()
        found = index(data, cache, settings)
        return sorted(seen), found

    first = again()
    assert len(first[0]) == 8  # without the twin
    assert again() == ([], first[1])
    assert again(Index(static=None, duplicates=None))[0] == []  # decided afterwards
    assert len(again(Index(bars=30))[0]) == 8
    again()
    os.utime(data / "bars.mp4", (0, 0))
    (data / "frames" / "3.png").rename(data / "frames" / "x.png")  # what is called so comes last
    film(data / "new.mp4", scene(7, 24))
    assert again()[0] == ["bars.mp4", "frames", "new.mp4"]
    (data / "frames" / "29.png").unlink()
    assert again()[0] == ["frames"]
    (data / "new.mp4").unlink()
    again()
    assert "new.mp4" not in json.loads((cache / "index.json").read_text())["films"]
    (data / "a.mp4").unlink()  # now the twin is no twin
    assert again()[0] == ["twin.mp4"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"settings": [1, 6.0, 24], "films": {"bars.mp4": 1}}']
)
def test_a_damaged_index_is_made_again(folder: Path, tmp_path: Path, text: str) -> None:
    first = index(folder, tmp_path, only="bars*")
    (tmp_path / "index.json").write_text(text)
    assert index(folder, tmp_path, only="bars*") == first
    value = json.loads((tmp_path / "index.json").read_text())
    value["films"]["bars.mp4"]["shots"] = [["x"]]
    write_json(tmp_path / "index.json", value)
    assert index(folder, tmp_path, only="bars*") == first


def test_an_interrupted_index_keeps_what_it_has(folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(folder, sorted(folder.iterdir()), Index(), tmp_path, 6.0, 4, stop, 1)
    assert sorted(json.loads((tmp_path / "index.json").read_text())["films"]) == ["a.mp4", "again.mp4"]


def test_a_long_group_of_pictures_and_many_short_ones_give_the_same_shots(
    tmp_path: Path, scene: Maker, film: Callable
) -> None:
    pictures = scene(1, 40, 0.2) + scene(2, 31, 0.2) + scene(3, 40, 3.0)
    found = []
    for name, options in {
        "long.mp4": {"g": "250", "sc_threshold": "0"},
        "short.mp4": {"g": "12", "sc_threshold": "0", "bf": "2"},
        "each.avi": {"codec": "mjpeg"},
        "order.avi": {"codec": "mpeg4", "bf": "2"},
    }.items():
        with SpanReader(film(tmp_path / name, pictures, **options)) as reader:
            found.append([shot.begin for shot in find_shots(reader, name, Index())])
    assert found == [[0, Fraction(40, 12), Fraction(71, 12)]] * 4


def test_a_shot_ends_before_the_cut_where_frames_are_denser_than_on_average(
    tmp_path: Path, scene: Maker
) -> None:
    """Screen recordings: two frames a second for 20 seconds, thirty around the cut."""
    slow, fast = [Fraction(i, 2) for i in range(40)], [Fraction(i, 30) for i in range(30)]
    times = [*slow, *(20 + t for t in fast), *(21 + t for t in fast), *(22 + t for t in slow)]
    pictures = scene(1, 70, 0.2) + scene(2, 70, 0.2)
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"bf": "0", "preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 90000)
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 90000), Fraction(1, 90000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with SpanReader(tmp_path / "a.mp4") as reader:
        assert reader.info.rate < 4
        first, second = find_shots(reader, "a.mp4", Index())
        assert second.begin == 21 and 21 - Fraction(1, 30) < first.end < 21
        assert [len(list(reader.between(s.begin, s.end))) for s in (first, second)] == [70, 70]


def test_names_that_are_no_utf8_are_kept(tmp_path: Path, scene: Maker, film: Callable) -> None:
    data = tmp_path / "data"
    data.mkdir()
    film(tmp_path / "a.mp4", scene(1, 24)).rename(os.fsdecode(os.fsencode(data) + b"/caf\xe9.mp4"))
    first = index(data, tmp_path)
    assert [shot.name for shot in first.shots] == ["caf\udce9.mp4"]
    assert index(data, tmp_path) == first


def test_a_shot_is_the_same_after_json(tmp_path: Path) -> None:
    shot = Shot(
        tmp_path,
        "a",
        Fraction(1, 3),
        Fraction(7, 2),
        (0, 4, 2, 8),
        (8, 4),
        Fraction(30000, 1001),
        2.5,
        (1, None),
    )
    value = json.loads(json.dumps(shot.to_json()))
    assert Shot.from_json(value, tmp_path, "a", (8, 4), Fraction(30000, 1001)) == shot
    assert shot.frames(6) == 19 and shot.shape == (4, 6)
    assert str(shot) == "a from 0:00.3 to 0:03.5" and clock(Fraction(3725)) == "1:02:05.0"
