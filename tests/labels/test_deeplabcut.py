"""DeepLabCut's tables: literal CSV of each layout, what pandas writes and reads, round trips, errors."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.labels import Keypoints
from vidtrack.labels.deeplabcut import write_deeplabcut

NAN = float("nan")
COLLECTED = """scorer,Ann,Ann,Ann,Ann
bodyparts,snout,snout,tail,tail
coords,x,y,x,y
labeled-data/m4/img0012.png,1.5,2,,
labeled-data/m4/img0003.png,5,6,7,8
"""
THREE_COLUMNS = """scorer,,,Ann,Ann,Ann,Ann
bodyparts,,,snout,snout,tail,tail
coords,,,x,y,x,y
labeled-data,m4,img0012.png,1.5,2,,
labeled-data,m4,img0003.png,5,6,7,8
"""
RESULTS = """scorer,D,D,D,D,D,D
bodyparts,snout,snout,snout,tail,tail,tail
coords,x,y,likelihood,x,y,likelihood
0,1,2,0.25,3,4,1.0
1,-1,-1,-1,0,0,0
2,0,0,0.5,,,
"""
MULTI = """scorer,Ann,Ann,Ann,Ann,Ann,Ann
individuals,m1,m1,m2,m2,single,single
bodyparts,snout,snout,snout,snout,corner,corner
coords,x,y,x,y,x,y
labeled-data\\m4\\img7.png,1,2,3,4,5,6
"""


def read(folder: Path, text: str) -> dict[int, Keypoints]:
    (folder / "table").write_text(text)
    return Keypoints.load(folder / "table")


@pytest.mark.parametrize("text", [COLLECTED, THREE_COLUMNS, COLLECTED.replace("/", "\\")])
def test_hand_labels(tmp_path: Path, text: str) -> None:
    frames = read(tmp_path, text)
    assert list(frames) == [3, 12]
    for keypoints in frames.values():
        assert (keypoints.names, keypoints.instances) == (("snout", "tail"), ("0",))
    np.testing.assert_array_equal(frames[12].xy, [[[1.5, 2], [NAN, NAN]]])
    np.testing.assert_array_equal(frames[3].xy, [[[5, 6], [7, 8]]])
    assert frames[12].confidence.tolist() == [[1, 0]]
    assert frames[12].visible.tolist() == [[True, False]]


def test_tracking_results(tmp_path: Path) -> None:
    frames = read(tmp_path, RESULTS)
    assert list(frames) == [0, 1, 2]
    np.testing.assert_array_equal(frames[0].xy, [[[1, 2], [3, 4]]])
    assert frames[0].confidence.tolist() == [[0.25, 1]]
    assert not frames[1].labelled.any()  # DeepLabCut's padding
    assert frames[1].confidence.tolist() == [[0, 0]]
    np.testing.assert_array_equal(frames[2].xy, [[[0, 0], [NAN, NAN]]])  # found in the corner


def test_several_animals(tmp_path: Path) -> None:
    (keypoints,) = read(tmp_path, MULTI).values()
    assert keypoints.instances == ("m1", "m2", "single") and keypoints.names == ("snout", "corner")
    nothing = [NAN, NAN]
    np.testing.assert_array_equal(keypoints.xy, [[[1, 2], nothing], [[3, 4], nothing], [nothing, [5, 6]]])


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (COLLECTED, "coords,x,y,x,y\n", "", "columns of DeepLabCut"),
        (COLLECTED, "bodyparts,snout", "individuals,snout", "columns of DeepLabCut"),
        (COLLECTED, "1.5,2,,", "1.5,2", "line 4 has 3 values for 5 columns"),
        (COLLECTED, "1.5", "left", "line 4: a coordinate is 'left'"),
        (COLLECTED, "img0003", "img0012", "line 5 is frame 12 once more"),
        (COLLECTED, "img0003", "last", "line 5 names the image 'last.png', which has no frame number"),
        (COLLECTED, "m4/img0003", "m5/img0003", "several videos (labeled-data/m4 and labeled-data/m5)"),
        (COLLECTED.replace("/", "\\"), "m4\\img0003", "m5\\img0003", "several videos (labeled-data/m4 and"),
        (COLLECTED, "Ann,Ann\n", "Ann,Bob\n", "several scorers"),
        (COLLECTED, "x,y,x,y", "x,y,x,z", "the coordinate 'z'"),
        (COLLECTED, "x,y,x,y", "x,y,x,likelihood", "only one of x and y"),
        (COLLECTED, "x,y,x,y", "x,y,x,x", "the column Ann, tail, x twice"),
        (COLLECTED, COLLECTED[COLLECTED.index("labeled") :], "", "has no rows"),
        (RESULTS, "\n1,", "\n1.5,", "line 5: the frame is '1.5'"),
        (RESULTS, "0.25", "inf", "line 4: a coordinate is 'inf'"),
    ],
)
def test_errors(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    read(tmp_path, text)
    assert old in text
    with pytest.raises(InputError, match=re.escape(message)):
        read(tmp_path, text.replace(old, new, 1))


def video(
    instances: tuple[str, ...], names: tuple[str, ...] = ("a", "b")
) -> list[tuple[int, str, Keypoints]]:
    random = np.random.default_rng(0)
    frames = []
    for index in (5, 6, 9):
        shape = (len(instances), len(names))
        xy = random.uniform(1, 100, (*shape, 2)).astype(np.float32)
        xy[random.random(shape) < 0.3] = NAN
        confidence = random.random(shape).astype(np.float32)
        frames.append((index, "x", Keypoints(xy, random.random(shape) < 0.5, confidence, names, instances)))
    return frames


def check(frames: list[tuple[int, str, Keypoints]], loaded: dict[int, Keypoints]) -> None:
    assert list(loaded) == [index for index, _, _ in frames]
    for index, _, keypoints in frames:
        again = loaded[index]
        assert (again.names, again.instances) == (keypoints.names, keypoints.instances)
        np.testing.assert_array_equal(again.xy, keypoints.xy)
        np.testing.assert_array_equal(again.confidence, keypoints.confidence)
        np.testing.assert_array_equal(again.visible, keypoints.labelled)


INSTANCES = [("0",), ("m1",), ("m1", "m2")]


@pytest.mark.parametrize("instances", INSTANCES)
def test_written_csv_reads_back(tmp_path: Path, instances: tuple[str, ...]) -> None:
    frames = video(instances)
    write_deeplabcut(tmp_path / "a.csv", iter(frames), scorer="me")
    check(frames, Keypoints.load(tmp_path / "a.csv"))
    first = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert set(first.split(",")) == {"scorer", "me"}


def slow_frame(frames: list[tuple[int, str, Keypoints]], pandas: Any, multi: bool) -> Any:
    """The table as DeepLabCut's create_df_from_prediction builds it."""
    parts = frames[0][2]
    levels = [["vidtrack"], list(parts.names), ["x", "y", "likelihood"]]
    names = ["scorer", "bodyparts", "coords"]
    if multi:
        levels.insert(1, list(parts.instances))
        names.insert(1, "individuals")
    columns = pandas.MultiIndex.from_product(levels, names=names)
    rows = [np.dstack([k.xy, k.confidence]).reshape(-1).astype(float) for _, _, k in frames]
    return pandas.DataFrame(rows, columns=columns, index=[index for index, _, _ in frames])


@pytest.mark.parametrize("instances", INSTANCES)
def test_pandas_reads_what_is_written_and_writes_what_is_read(
    tmp_path: Path, instances: tuple[str, ...]
) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    frames = video(instances)
    multi = instances != ("0",)
    expected = slow_frame(frames, pandas, multi)
    write_deeplabcut(tmp_path / "a.csv", frames)
    write_deeplabcut(tmp_path / "a.h5", frames)
    by_csv = pandas.read_csv(tmp_path / "a.csv", header=list(range(3 + multi)), index_col=0)
    pandas.testing.assert_frame_equal(by_csv, expected, rtol=1e-6)
    by_h5 = pandas.read_hdf(tmp_path / "a.h5", "df_with_missing")
    pandas.testing.assert_frame_equal(by_h5, expected)
    check(frames, Keypoints.load(tmp_path / "a.h5"))
    for layout in ("table", "fixed"):
        path = tmp_path / f"{layout}.anything"
        expected.to_hdf(
            path, key="df_with_missing" if layout == "table" else "tracks", format=layout, mode="w"
        )
        check(frames, Keypoints.load(path))
    expected.to_csv(tmp_path / "b.csv")
    check(frames, Keypoints.load(tmp_path / "b.csv"))


def test_h5_is_the_table_that_older_pandas_reads(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    write_deeplabcut(tmp_path / "a.h5", video(("m1",)))
    with pandas.HDFStore(tmp_path / "a.h5", mode="r") as store:
        assert store.keys() == ["/df_with_missing"]
        storer = store.get_storer("df_with_missing")
        assert storer.is_table
        assert storer.attrs.pandas_version == "0.15.2"


def test_h5_of_hand_labels(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    read(tmp_path, COLLECTED)
    for index in (0, [0, 1, 2]):
        (tmp_path / "table").write_text(COLLECTED if index == 0 else THREE_COLUMNS)
        frame = pandas.read_csv(tmp_path / "table", header=[0, 1, 2], index_col=index)
        frame.to_hdf(tmp_path / "a.h5", key="df_with_missing", mode="w")
        frames = Keypoints.load(tmp_path / "a.h5")
        assert list(frames) == [3, 12]
        np.testing.assert_array_equal(frames[12].xy, [[[1.5, 2], [NAN, NAN]]])


def test_h5_with_very_many_columns(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("tables")
    frames = video(tuple(f"animal{i}" for i in range(30)), tuple(f"part{i}" for i in range(100)))
    write_deeplabcut(tmp_path / "a.h5", frames)
    check(frames, Keypoints.load(tmp_path / "a.h5"))


def test_damaged_and_other_h5(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    path = tmp_path / "a.h5"
    write_deeplabcut(path, video(("m1",)))
    content = path.read_bytes()
    for damaged in (content[:100], content[:3000], content[:8] + bytes(500)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="can't be read as a table of DeepLabCut"):
            Keypoints.load(path)
    pandas.DataFrame({"x": [1.0], "y": [2.0]}).to_hdf(path, key="t", mode="w")
    with pytest.raises(InputError, match="columns of DeepLabCut"):
        Keypoints.load(path)


@pytest.mark.parametrize("missing", [("pandas",), ("tables",), ("pandas", "tables")])
def test_h5_without_pandas_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "a.csv").write_text(RESULTS)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=re.escape("pip install 'vidtrack[deeplabcut]'")):
        Keypoints.load(tmp_path / "a.h5")
    with pytest.raises(InputError, match=re.escape("pip install 'vidtrack[deeplabcut]'")):
        write_deeplabcut(tmp_path / "b.h5", video(("0",)))
    assert not (tmp_path / "b.h5").exists()
    assert len(Keypoints.load(tmp_path / "a.csv")) == 3
    write_deeplabcut(tmp_path / "b.csv", video(("0",)))


def test_reading_csv_never_imports_pandas() -> None:
    assert importlib.util.find_spec("vidtrack.labels.deeplabcut") is not None
    import subprocess

    code = (
        "import sys, vidtrack.labels.deeplabcut; sys.exit('pandas' in sys.modules or 'tables' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
