"""TAP-Vid as a task: queries, what a tracker is given, and scores of predictions on disk."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pretrain.errors import InputError
from vidtrack.benchmark.point_metrics import tapvid_metrics, within_by_frame
from vidtrack.benchmark.predictions import Writer, folder_of
from vidtrack.benchmark.tapvid import TapVidSet, sample_queries, to_pixels, to_raster
from vidtrack.labels.keypoints import Keypoints
from vidtrack.video.folder import list_images
from vidtrack.video.images import read_image

FRAMES, SIZE = 12, (30, 40)  # height, width
KEYS = (
    "AJ", "delta-avg", "OA", "J-1", "J-2", "J-4", "J-8", "J-16",
    "delta-1", "delta-2", "delta-4", "delta-8", "delta-16",
)  # fmt: skip


def make(seed: int = 0) -> dict:
    """Four points: one always visible, one from frame 3 on with a gap, one only in frame 5, one never."""
    random = np.random.default_rng(seed)
    occluded = np.ones((4, FRAMES), bool)
    occluded[0] = False
    occluded[1, 3:] = False
    occluded[1, 7:9] = True
    occluded[2, 5] = False
    return {
        "video": random.integers(0, 256, (FRAMES, *SIZE, 3), np.uint8),
        "points": random.random((4, FRAMES, 2)),
        "occluded": occluded,
    }


@pytest.fixture
def save(tmp_path):
    """Function that writes sequences: `save({name: sequence})` -> path of the pickle."""

    def write(content, name="tapvid_davis.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
        return tmp_path / name

    return write


def track(item, folder, change=lambda points, index: points):
    """What a perfect tracker writes, `change`d, run by run."""
    for run in item.runs():
        writer = Writer(folder, run)
        (given,) = run.annotations.values()
        for index in range(run.start, item.frames):
            truth = item.truth(index)
            place = [truth.names.index(name) for name in given.names]
            xy, visible = truth.xy[:, place], truth.visible[:, place]
            points = Keypoints(xy, visible, visible.astype(np.float32), given.names, ("0",))
            writer.put(SimpleNamespace(index=index, name=f"{index:05d}", labels=change(points, index)))
        writer.close()
    return item.score(folder)


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 13))))
def test_queries_are_sampled_as_in_a_loop(occluded):
    first, strided = [], []
    for t in range(occluded.shape[1]):
        for n in range(occluded.shape[0]):
            if not occluded[n, t] and occluded[n, :t].all():
                first.append((n, t))
            if not occluded[n, t] and t % 5 == 0:
                strided.append((n, t))
    for mode, expected in (("first", first), ("strided", strided)):
        points, frames = sample_queries(occluded, mode)
        assert list(zip(points.tolist(), frames.tolist(), strict=True)) == expected


def test_a_task_of_the_first_queries(save):
    path = save({"goat": make(0), "dog": make(1)})
    task = TapVidSet.find(path)
    assert (task.benchmark, task.title, task.keys) == ("points", "TAP-Vid davis, queries first", KEYS)
    assert task.data == path and [item.name for item in task.items] == ["goat", "dog"]
    assert task.protocol == {
        "queries": "first", "stride": None, "size": 256, "raster": 256, "thresholds": [1, 2, 4, 8, 16]
    }  # fmt: skip
    runs = task.items[0].runs()
    assert [(run.name, run.start, run.end, run.direction, list(run.annotations)) for run in runs] == [
        ("q00000", 0, None, "forward", [0]),
        ("q00003", 3, None, "forward", [3]),
        ("q00005", 5, None, "forward", [5]),
    ]
    for run, name, point, frame in zip(
        runs, ["point0", "point1", "point2"], (0, 1, 2), (0, 3, 5), strict=True
    ):
        keypoints = run.annotations[frame]
        assert keypoints.names == (name,) and keypoints.visible.all()
        expected = make(0)["points"][point, frame] * 256 - 0.5
        assert keypoints.xy[0, 0] == pytest.approx(expected, abs=1e-4)


def test_a_task_of_strided_queries_at_the_videos_own_size(save):
    task = TapVidSet.find(save({"goat": make()}), "strided", None)
    assert task.title == "TAP-Vid davis, queries strided, own size"
    assert task.protocol["stride"] == 5 and task.protocol["size"] is None
    (item,) = task.items
    runs = item.runs()
    assert [(run.name, run.start, run.direction, list(run.annotations)) for run in runs] == [
        ("q00000", 0, "both", [0]),
        ("q00005", 0, "both", [5]),
        ("q00010", 0, "both", [10]),
    ]
    given = [run.annotations[frame] for run, frame in zip(runs, (0, 5, 10), strict=True)]
    assert [keypoints.names for keypoints in given] == [
        ("point0@0",),
        ("point0@5", "point1@5", "point2@5"),
        ("point0@10", "point1@10"),
    ]
    assert given[1].xy[0, 1] == pytest.approx(make()["points"][1, 5] * (40, 30) - 0.5, abs=1e-5)


def test_one_run_needs_no_name(save):
    entry = make()
    entry["occluded"][1:] = True
    (item,) = TapVidSet.find(save([entry])).items
    assert [run.name for run in item.runs()] == [""]


@pytest.mark.parametrize("size", [256, None, 32])
def test_the_frames_of_a_tracker(save, size):
    entry = make()
    (item,) = TapVidSet.find(save([entry]), size=size).items
    with item.video() as folder:
        files = list_images(folder)
        assert [file.name for file in files] == [f"{t:05d}.png" for t in range(FRAMES)]
        for t, file in enumerate(files):
            expected = entry["video"][t]
            if size is not None:
                expected = np.asarray(
                    Image.fromarray(expected).resize((size, size), Image.Resampling.LANCZOS)
                )
            assert np.array_equal(read_image(file), expected)
            assert np.array_equal(item.frame(t), expected)
    assert not folder.exists()
    item.frame(0)[:] = 7  # drawn on, it must not change the video
    assert np.array_equal(item.sequence.image(0), entry["video"][0])


def test_places_and_pixels():
    size = (30, 40)
    # The centre of the first pixel and of the last, in fractions of the frame.
    assert to_pixels(np.array([[0.5 / 40, 0.5 / 30], [39.5 / 40, 29.5 / 30]]), size) == pytest.approx(
        np.array([[0, 0], [39, 29]])
    )
    points = np.random.default_rng(0).random((5, 2))
    assert to_raster(to_pixels(points, size), size) == pytest.approx(points * 256)


@pytest.mark.parametrize("size", [256, None, 100])
@pytest.mark.parametrize("queries", ["first", "strided"])
def test_a_perfect_tracker(save, tmp_path, queries, size):
    task = TapVidSet.find(save({"goat": make(0), "dog": make(1)}), queries, size)
    records = {}
    for item in task.items:
        records[item.name] = record = track(item, tmp_path / item.name)
        assert record["scores"] == dict.fromkeys(KEYS, 1.0)
        assert record["detail"]["lost"] == 0
        visible = 11 + 6 if queries == "first" else (11 + 11 + 11) + (6 + 6) + 0
        assert record["detail"]["points"] == visible
        series = record["series"]["all"]
        assert len(series) == FRAMES and {value for value in series if value is not None} == {1.0}
        assert (series[0] is None) == (queries == "first")
    assert task.summarize(records) == dict.fromkeys(KEYS, 1.0)


@pytest.mark.parametrize("size", [256, None, 128])
@pytest.mark.parametrize(("shift", "near"), [(1.5, 4), (3, 3), (15.9, 1), (17, 0)])
def test_distances_are_those_on_the_raster(save, tmp_path, size, shift, near):
    (item,) = TapVidSet.find(save([make()]), size=size).items
    width = item.frame_size[1]

    def moved(points, index):
        points.xy[..., 0] += np.float32(shift * width / 256)
        return points

    scores = track(item, tmp_path / "out", moved)["scores"]
    assert scores["delta-avg"] == pytest.approx(near / 5)
    assert [scores[f"delta-{d}"] for d in (16, 8, 4, 2, 1)] == [1.0] * near + [0.0] * (5 - near)
    assert scores["OA"] == 1.0


@pytest.mark.parametrize("queries", ["first", "strided"])
def test_equal_to_the_metrics_of_the_whole_arrays(save, tmp_path, queries):
    """Noisy and partly lost predictions of several runs end up where they belong."""
    random = np.random.default_rng(3)
    entry = make()
    (item,) = TapVidSet.find(save([entry]), queries).items
    shape = (len(item.points), FRAMES)
    xy = entry["points"][item.points] * 256 + random.normal(0, 4, (*shape, 2))
    xy[random.random(shape) < 0.1] = np.nan
    visible = random.random(shape) < 0.7

    def noisy(points, index):
        rows = [item.names.index(name) for name in points.names]
        points.xy[0], points.visible[0] = xy[rows, index] - 0.5, visible[rows, index]
        return points

    record = track(item, tmp_path / "out", noisy)
    truth = entry["points"][item.points] * 256, entry["occluded"][item.points]
    expected = tapvid_metrics(item.query_frames, *truth, xy, ~visible, queries)
    official = ["average_jaccard", "average_pts_within_thresh", "occlusion_accuracy"]
    official += [f"jaccard_{d}" for d in (1, 2, 4, 8, 16)] + [f"pts_within_{d}" for d in (1, 2, 4, 8, 16)]
    assert record["scores"] == pytest.approx({k: expected[o] for k, o in zip(KEYS, official, strict=True)})
    assert record["detail"]["lost"] > 0
    series = within_by_frame(item.query_frames, *truth, xy, queries)
    assert record["series"] == {"all": pytest.approx(series)}
    drawn = item.predicted(tmp_path / "out", 6)
    first = 6 if queries == "strided" else 0
    known = np.isfinite(xy[:, 6]).all(-1) & ((item.query_frames <= 6) | (first > 0))
    assert np.array_equal(drawn.labelled[0], known)
    assert drawn.xy[0][known] == pytest.approx(xy[known, 6] - 0.5, abs=1e-3)
    assert np.array_equal(drawn.visible[0], visible[:, 6] & known)


def test_points_that_a_file_lacks_are_lost(save, tmp_path):
    (item,) = TapVidSet.find(save([make()])).items
    record = track(item, tmp_path / "out")
    run = item.runs()[1]  # of point 1, frames 3 to 11
    file = folder_of(tmp_path / "out", run) / "keypoints.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("10,")))
    lacking = item.score(tmp_path / "out")
    assert lacking["detail"] == {**record["detail"], "lost": 1}
    assert lacking["scores"]["delta-1"] == pytest.approx(16 / 17)
    assert lacking["series"]["all"][10] == 0.5


def test_the_truth_to_be_drawn(save):
    entry = make()
    (item,) = TapVidSet.find(save([entry])).items
    points = item.truth(8)
    assert points.names == ("point0", "point1", "point2")
    assert points.labelled.tolist() == points.visible.tolist() == [[True, False, False]]
    assert points.xy[0, 0] == pytest.approx(entry["points"][0, 8] * 256 - 0.5, abs=1e-4)


def test_the_mean_is_over_videos_not_points(save, tmp_path):
    long, short = make(0), make(1)
    short["occluded"][1:] = True
    task = TapVidSet.find(save({"long": long, "short": short}))

    def lost(points, index):
        points.xy[:] = np.nan
        return points

    records = {
        "long": track(task.items[0], tmp_path / "long"),
        "short": track(task.items[1], tmp_path / "short", lost),
    }
    summary = task.summarize(records)
    assert summary["AJ"] == summary["delta-avg"] == 0.5
    assert summary["OA"] == 0.5  # never occluded, never predicted as visible


def test_a_video_without_a_scored_point_has_no_scores(save, tmp_path):
    nothing = make()
    nothing["occluded"][:] = True
    nothing["occluded"][0, -1] = False  # given in the last frame
    task = TapVidSet.find(save({"goat": make(), "end": nothing}))
    records = {item.name: track(item, tmp_path / item.name) for item in task.items}
    assert records["end"]["scores"] == dict.fromkeys(KEYS)
    assert records["end"]["series"]["all"] == [None] * FRAMES
    assert task.summarize(records) == dict.fromkeys(KEYS, 1.0)
    assert task.summarize({"end": records["end"]}) == dict.fromkeys(KEYS)


def test_the_fingerprint_is_of_what_is_given_and_true(save):
    def of(entry, **options):
        return TapVidSet.find(save([entry]), **options).items[0].fingerprint()

    fingerprints = [of(make(0)), of(make(1)), of(make(0), queries="strided"), of(make(0), size=None)]
    assert len(set(fingerprints)) == 4 and fingerprints[0] == of(make(0))


def test_an_item_scores_in_another_process(save, tmp_path):
    (item,) = TapVidSet.find(save([make()])).items
    record = track(item, tmp_path / "out")
    code = (
        "import pickle, sys; item = pickle.loads(sys.stdin.buffer.read());"
        f"record = item.score(__import__('pathlib').Path({str(tmp_path / 'out')!r}));"
        "assert 'torch' not in sys.modules; sys.stdout.buffer.write(pickle.dumps(record))"
    )
    data = pickle.dumps(item)
    assert len(data) < 4000  # without the frames
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert pickle.loads(done.stdout) == record


@pytest.mark.parametrize("queries", ["first", "strided"])
def test_a_tracker_runs_it(save, tmp_path, queries):
    """Copying the given points is perfect where nothing moves, whenever they are given."""
    from vidtrack.tracker import load

    entry = make()
    entry["points"][:] = entry["points"][:, :1]
    entry["occluded"][:2] = False
    entry["occluded"][1, :3] = True  # given in frames 0, 3 and 5
    (item,) = TapVidSet.find(save([entry]), queries).items
    tracker = load("copy")
    with item.video() as video:
        for run in item.runs():
            writer = Writer(tmp_path / "out", run)
            with tracker.passes(video, run.annotations, run.direction, run.start, run.end) as passes:
                for result in passes:
                    writer.put(result)
            writer.close()
    record = item.score(tmp_path / "out")
    assert record["scores"]["delta-1"] == 1.0 and record["detail"]["lost"] == 0
    assert 0 < record["scores"]["OA"] < 1  # it never says that a point is occluded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": "last"}, "no queries 'last': choose first or strided"),
        ({"size": 0}, "size 0 is too small"),
        ({"size": -256}, "too small"),
    ],
)
def test_impossible_options(save, options, message):
    with pytest.raises(InputError, match=message):
        TapVidSet.find(save([make()]), **options)


@pytest.mark.parametrize(
    ("queries", "seen", "message"),
    [("first", [], "sequence dog, shows no point in any frame"), ("strided", [1, 4, 7], "frames 0, 5, 10")],
)
def test_a_sequence_without_a_query(save, queries, seen, message):
    entry = make()
    entry["occluded"][:] = True
    entry["occluded"][0, seen] = False
    with pytest.raises(InputError, match=message):
        TapVidSet.find(save({"goat": make(), "dog": entry}), queries)


def test_predictions_of_something_else(save, tmp_path):
    path = save([make()])
    (item,) = TapVidSet.find(path).items
    out = tmp_path / "out"
    track(item, out)
    (strided,) = TapVidSet.find(path, "strided").items
    with pytest.raises(
        InputError, match=r"q00000 has the keypoint point0, but asked was for one of point0@0"
    ):
        strided.score(out)
    file = out / "q00005" / "keypoints.csv"
    text = file.read_text()
    file.write_text(text + "12,0,point2,1,1,1,1\n")
    with pytest.raises(InputError, match="q00005 has a frame 12, but 00000 has 12 frames"):
        item.score(out)
    file.write_text(text + "11,1,point2,1,1,1,1\n")
    with pytest.raises(InputError, match="q00005 has 2 instances"):
        item.score(out)
    file.unlink()
    with pytest.raises(InputError, match=r"q00005"):
        item.score(out)
