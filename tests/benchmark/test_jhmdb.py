"""JHMDB: its layout, and its scores beside a plain transcription of the published evaluation."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from pretrain.errors import InputError
from vidtrack.benchmark.jhmdb import JOINTS, SKELETON, normalized_distances, read_joints
from vidtrack.benchmark.pose_task import find_pose
from vidtrack.benchmark.predictions import Writer
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.labels.keypoints import Keypoints

from .conftest import save_gray

NAN = np.nan


def joints(frames, seed=0):
    """True places in MATLAB's pixels, `[2, 15, T]`; some are outside of the frame of 32x24."""
    return np.random.default_rng(seed).uniform(-3, 36, (2, 15, frames))


def add_video(root, action, video, places, pictures=None):
    for index in range(places.shape[2] if pictures is None else pictures):
        picture = root / "Rename_Images" / action / video / f"{index + 1:05d}.png"
        save_gray(picture, np.full((24, 32, 3), index, np.uint8))
    file = root / "joint_positions" / action / video / "joint_positions.mat"
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"pos_img": places, "scale": np.ones((1, places.shape[2]))})
    return file


def write_list(root, action, *lines, split=1):
    path = root / f"splits/{action}_test_split{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def root(tmp_path):
    """Two actions with two tested videos and one of training."""
    root = tmp_path / "JHMDB"
    add_video(root, "walk", "one", joints(4), pictures=5)
    add_video(root, "walk", "two", joints(3, seed=1))
    add_video(root, "brush hair", "one", joints(2, seed=2))
    write_list(root, "walk", "one.avi 2", "two.avi 1", "")
    write_list(root, "brush hair", "one.avi 2 ")
    write_list(root, "walk", "two.avi 2", split=2)
    return root


def keypoints(xy):
    xy = np.asarray(xy, np.float32)[None]
    seen = np.isfinite(xy).all(-1)
    return Keypoints(xy, seen, seen.astype(np.float32), JOINTS, ("0",))


def predict(item, folder, places):
    """Write places `[T, 15, 2]` as a tracker's predictions."""
    (run,) = item.runs()
    writer = Writer(folder / item.name, run)
    for index in range(run.start, run.end):
        writer.put(SimpleNamespace(index=index, name=f"{index:05d}", labels=keypoints(places[index])))
    writer.close()
    return folder / item.name


def published(truths, predictions, alpha, leave_out):
    """The rules of videowalk's code/eval/eval_pck.py, written plainly: places `[2, 15, T]` of each video."""
    errors = [[] for _ in range(15)]
    for truth, predicted in zip(truths, predictions, strict=True):
        for t in range(1, truth.shape[2]):
            seen = [j for j in range(15) if not leave_out or predicted[0, j, t] >= 0]
            if not seen:
                continue
            xs, ys = [truth[0, j, t] for j in seen], [truth[1, j, t] for j in seen]
            size = 0.6 * ((max(xs) - min(xs)) ** 2 + (max(ys) - min(ys)) ** 2) ** 0.5
            for j in seen:
                dx, dy = predicted[:, j, t] - truth[:, j, t]
                distance = (dx * dx + dy * dy) ** 0.5
                errors[j].append(distance / size if size else float("inf") if distance else NAN)
    return float(np.mean([np.mean([e <= alpha for e in joint]) if joint else 0 for joint in errors]))


@pytest.mark.parametrize("protocol", ["jhmdb", "jhmdb-videowalk"])
def test_equal_to_the_published_rules(root, tmp_path, protocol):
    task = find_pose(root, protocol)
    rng = np.random.default_rng(3)
    truths, predictions, records = [], [], {}
    for item in task.items:
        places = item.xy + rng.normal(0, 4, item.xy.shape)
        places[rng.random(places.shape[:2]) < 0.2] = NAN
        places = places.astype(np.float32).astype(np.float64)
        assert (places[..., 0] < 0).any()
        records[item.name] = item.score(predict(item, tmp_path, places))
        truths.append(item.xy.transpose(2, 1, 0))
        predictions.append(places.transpose(2, 1, 0))
        for key, alpha in (("PCK@0.1", 0.1), ("PCK@0.2", 0.2)):
            alone = published(truths[-1:], predictions[-1:], alpha, protocol == "jhmdb-videowalk")
            assert records[item.name]["scores"][key] == pytest.approx(alone)
    total = task.summarize(records)
    assert total == pytest.approx(
        {f"PCK@{a}": published(truths, predictions, a, protocol == "jhmdb-videowalk") for a in (0.1, 0.2)}
    )
    assert 0.05 < total["PCK@0.2"] < 0.95
    json.dumps(records, allow_nan=False)


def test_what_a_task_is(root):
    task = find_pose(root)  # the layout tells
    assert (task.benchmark, task.title, task.keys) == ("pose", "JHMDB split 1", ("PCK@0.1", "PCK@0.2"))
    assert (task.protocol["name"], task.protocol["lost_points"]) == ("jhmdb", "wrong")
    assert [item.name for item in task.items] == ["brush hair-one", "walk-one"]
    walk = task.items[1]
    assert walk.frames == 5  # one more picture than annotated frames
    (run,) = walk.runs()
    assert (run.name, run.start, run.end, list(run.annotations)) == ("", 0, 4, [0])
    given = run.annotations[0]
    np.testing.assert_allclose(given.xy[0], joints(4)[:, :, 0].T - 1, rtol=1e-6)  # MATLAB's 1 is our 0
    assert (given.names, given.skeleton, given.visible.all()) == (JOINTS, SKELETON, True)
    assert walk.truth(3) is not None
    assert walk.truth(4) is None
    assert walk.frame(4).mean() == 4
    with walk.video() as folder:
        assert folder == root / "Rename_Images/walk/one"
    videowalk = find_pose(root, "jhmdb-videowalk", alpha=0.4)
    assert videowalk.title == "JHMDB split 1 as videowalk scores it"
    assert videowalk.keys == ("PCK@0.4", "PCK@0.2", "PCK@0.1")
    assert videowalk.protocol["lost_points"] == "left out of the score"


def test_perfect_and_copied_predictions(root, tmp_path):
    task = find_pose(root)
    records = {i.name: i.score(predict(i, tmp_path / "perfect", i.xy)) for i in task.items}
    assert task.summarize(records) == {"PCK@0.1": 1, "PCK@0.2": 1}
    assert records["walk-one"]["series"] == {"all": [None, 1, 1, 1, None]}
    copies = {i.name: i.score(predict(i, tmp_path, i.xy[[0] * len(i.xy)])) for i in task.items}
    expected = published(
        [i.xy.transpose(2, 1, 0) for i in task.items],
        [i.xy[[0] * len(i.xy)].astype(np.float32).transpose(2, 1, 0) for i in task.items],
        0.2,
        False,
    )
    assert task.summarize(copies)["PCK@0.2"] == pytest.approx(expected)
    assert task.summarize({}) == {"PCK@0.1": None, "PCK@0.2": None}


def video_of_a_line(tmp_path, moved):
    """A person whose joints stand on a line 100 px long: 0.6 of it is 60 px. `moved` px down in frame 1."""
    places = np.zeros((2, 15, 2))
    places[0] = np.linspace(0, 100, 15)[:, None] + 1
    places[1] = 11
    root = tmp_path / "line"
    add_video(root, "stand", "v", places)
    write_list(root, "stand", "v.avi 2")
    predicted = (places - 1).transpose(2, 1, 0).copy()
    predicted[1, :, 1] += moved
    return root, predicted


def test_by_hand(tmp_path):
    root, predicted = video_of_a_line(tmp_path, np.arange(15) + 0.5)  # right up to 6 px, and up to 12
    (item,) = find_pose(root).items
    predicted[0] += 1000  # the first frame doesn't count
    predicted[1, 0] = NAN  # was right
    record = item.score(predict(item, tmp_path, predicted))
    assert record["scores"] == pytest.approx({"PCK@0.1": 5 / 15, "PCK@0.2": 11 / 15})
    assert record["detail"]["lost"] == 1
    assert record["detail"]["joints"]["neck"] == {"points": 1, "correct": {"PCK@0.1": 0, "PCK@0.2": 0}}
    assert record["detail"]["joints"]["left_ankle"]["points"] == 1
    assert record["series"]["all"] == [None, pytest.approx(5 / 15)]


def test_lost_joints_leave_the_score_and_the_box_of_videowalk(tmp_path):
    root, predicted = video_of_a_line(tmp_path, np.full(15, 5.0))
    (strict,), (lenient,) = (find_pose(root, p).items for p in ("jhmdb", "jhmdb-videowalk"))
    predicted[1, 8:] = NAN
    folder = predict(strict, tmp_path, predicted)
    assert strict.score(folder)["scores"]["PCK@0.1"] == pytest.approx(8 / 15)
    # The box of the other eight is 50 px long: 5 px are more than 0.1 of 30, but less than 0.2. A joint that
    # is lost wherever it is scored has found nothing.
    record = lenient.score(folder)
    assert record["scores"] == pytest.approx({"PCK@0.1": 0, "PCK@0.2": 8 / 15})
    assert record["detail"]["joints"]["left_ankle"]["points"] == 0
    assert record["series"]["all"] == [None, 0]
    predicted[1, 0, 0] = -0.01  # left of the frame: lost, too
    assert (
        lenient.score(predict(strict, tmp_path / "left", predicted))["detail"]["joints"]["neck"]["points"]
        == 0
    )


def test_more_videos_than_one_are_pooled_before_the_mean(tmp_path):
    root, _ = video_of_a_line(tmp_path, 0)
    places = np.repeat(np.stack([np.linspace(0, 100, 15) + 1, np.full(15, 11.0)])[..., None], 5, axis=2)
    add_video(root, "stand", "w", places)
    write_list(root, "stand", "v.avi 2", "w.avi 2")
    task = find_pose(root)
    wrong = {"stand-v": 500, "stand-w": 0}
    records = {i.name: i.score(predict(i, tmp_path, i.xy + wrong[i.name])) for i in task.items}
    assert task.summarize(records)["PCK@0.1"] == pytest.approx(4 / 5)  # 1 frame wrong, 4 right


def test_a_person_without_size_is_never_right():
    truth = np.zeros((2, 3, 2))
    distance, scored = normalized_distances(truth, truth, lost_left_out=False)
    assert scored.tolist() == [[False] * 3, [True] * 3]
    assert not (distance[1] <= 1e9).any()


def test_missing_frames_are_lost_and_other_predictions_are_refused(root, tmp_path):
    item = find_pose(root).items[1]
    write_csv(tmp_path / "part/keypoints.csv", [(1, "1", keypoints(item.xy[1]))])
    record = item.score(tmp_path / "part")
    assert record["scores"]["PCK@0.1"] == pytest.approx(1 / 3)
    assert record["detail"]["lost"] == 30
    assert item.predicted(tmp_path / "part", 2) is None
    write_csv(tmp_path / "wrong/keypoints.csv", [(1, "1", Keypoints.from_points([(1, 1)], ["tail"]))])
    with pytest.raises(InputError, match="has the keypoint tail, but the truth has neck, belly"):
        item.score(tmp_path / "wrong")


def test_items_travel_and_know_their_sources(root):
    item = find_pose(root).items[1]
    before = item.fingerprint()
    assert pickle.loads(pickle.dumps(item)).fingerprint() == before
    add_video(root, "walk", "one", joints(4, seed=9), pictures=5)
    assert find_pose(root).items[1].fingerprint() != before


def test_frames_elsewhere(root, tmp_path):
    moved = (root / "Rename_Images").rename(tmp_path / "frames")
    with pytest.raises(InputError, match="Rename_Images is missing"):
        find_pose(root)
    with find_pose(root, frames=moved).items[1].video() as folder:
        assert folder == moved / "walk/one"


def test_names_of_joints_fit_to_the_skeleton():
    ends = {frozenset((JOINTS[a], JOINTS[b])) for a, b in SKELETON}
    assert len(JOINTS) == 15
    assert len(ends) == 14
    for side in ("left", "right"):
        for pair in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            assert frozenset(f"{side}_{part}" for part in pair) in ends


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "splits").rename(r / "lists"), "splits is missing"),
        (lambda r: [p.unlink() for p in (r / "splits").iterdir()], "splits has no list"),
        (lambda r: write_list(r, "walk", "one.avi 3"), "split1.txt, line 1 is 'one.avi 3'"),
        (lambda r: write_list(r, "walk", "one.avi"), "split1.txt, line 1 is 'one.avi'"),
        (lambda r: write_list(r, "walk", "one.avi 2", "one.avi 2"), "line 2 names one once more"),
        (lambda r: write_list(r, "walk", "gone.avi 2"), "Rename_Images/walk/gone is missing"),
        (lambda r: mat(r).unlink(), "joint_positions.mat is missing"),
        (lambda r: mat(r).write_bytes(b"MATLAB 5.0"), "joint_positions.mat can't be read"),
        (lambda r: savemat(mat(r), {"joints": joints(4)}), "joint_positions.mat can't be read"),
        (lambda r: savemat(mat(r), {"pos_img": joints(4)[:, :14]}), "pos_img of 2x14x4 values"),
        (lambda r: savemat(mat(r), {"pos_img": joints(4) * NAN}), "all of them numbers"),
        (lambda r: savemat(mat(r), {"pos_img": joints(6)}), "joints of 6 frames, but .*one has 5"),
        (lambda r: savemat(mat(r), {"pos_img": joints(1)[..., None]}), "pos_img of 2x15x1x1"),
        (lambda r: savemat(mat(r), {"pos_img": np.zeros((2, 15, 0))}), "pos_img of|joints of 0 frames"),
    ],
)
def test_wrong_layouts(root, damage, message):
    damage(root)
    with pytest.raises(InputError, match=message):
        find_pose(root, "jhmdb")


def mat(root):
    return root / "joint_positions/walk/one/joint_positions.mat"


def test_nothing_is_tested(root):
    write_list(root, "walk", "one.avi 1")
    write_list(root, "brush hair", "one.avi 0")
    with pytest.raises(InputError, match="names no tested video"):
        find_pose(root)


def test_one_is_taken_from_coordinates(tmp_path):
    file = add_video(tmp_path, "a", "v", np.ones((2, 15, 2)))
    np.testing.assert_array_equal(read_joints(file), np.zeros((2, 15, 2)))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    file = add_video(root, "walk", "one", joints(3))
    return root, file, file.read_bytes()


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1500), st.binary(min_size=1, max_size=8), st.booleans(), st.binary(max_size=20))
def test_any_file_is_read_or_refused(damaged, place, inserted, cut, listed):
    root, file, content = damaged
    file.write_bytes(content[:place] + inserted + (b"" if cut else content[place + len(inserted) :]))
    for line in (b"one.avi 2", listed):
        write_list(root, "walk").write_bytes(line)
        try:
            task = find_pose(root)
        except InputError:
            continue
        assert np.isfinite(task.items[0].xy).all()
