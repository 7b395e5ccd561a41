"""Keypoints as a benchmark: which protocol a folder asks for, scores over sequences, predictions, layouts."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.pose import PoseSet, score
from vidtrack.benchmark.pose_task import find_pose
from vidtrack.labels.cocokeypoints import write_coco
from vidtrack.labels.keypointfiles import write_csv
from vidtrack.labels.keypoints import Keypoints

from .conftest import save_gray
from .said import copied, perfect, predict, scores_of

NAN = np.nan
SIZE = 30, 40  # height, width: a diagonal of 50
HEADER = "frame,instance,keypoint,x,y,visible"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def draw_frames(folder, count=5, names="{:05d}.jpg", size=SIZE):
    for index in range(count):
        save_gray(folder / names.format(index), np.full((*size, 3), 40 * index % 256, np.uint8))
    return folder


@pytest.fixture
def make(tmp_path):
    """Function that writes sequences of 5 frames: `make({name: lines of the CSV})` -> root."""

    def make_set(sequences, root=tmp_path / "set"):
        for name, lines in sequences.items():
            draw_frames(root / "JPEGImages/480p" / name)
            write(root / f"Keypoints/{name}.csv", HEADER, *lines)
        return root

    return make_set


WALK = ("1,0,a,10,10,1", "1,0,b,20,20,1", "3,0,a,10,12.5,1", "3,0,b,20,30,1", "4,0,a,10,20,1")
RUN = ("0,0,a,5,5,1", "2,0,a,5,6,1")
BADJA = ("1,0,upper_left_1,10,10,1", "1,0,nose,9,9,1", "3,0,upper_left_1,12,10,1", "3,0,nose,9,20,1")


def test_what_a_task_is(make):
    task = find_pose(make({"walk": WALK, "run": RUN}))
    assert (task.benchmark, task.title, task.data.name) == ("pose", "set", "set")
    assert task.keys == ("PCK@0.05", "PCK@0.025", "PCK@0.0125")
    assert (task.protocol["name"], task.protocol["alpha"]) == ("frame-diagonal", 0.05)
    json.dumps(task.protocol)
    run, walk = task.items
    assert (run.name, run.frames, walk.name) == ("run", 5, "walk")
    (only,) = walk.runs()
    assert (only.name, only.start, only.end, only.direction, list(only.annotations)) == (
        "",
        1,
        5,
        "forward",
        [1],
    )
    assert (run.runs()[0].start, run.runs()[0].end) == (0, 3)
    with walk.video() as folder:
        assert folder.name == "walk"
    assert (walk.frame(2).shape, round(float(walk.frame(2).mean()))) == ((*SIZE, 3), 80)
    np.testing.assert_array_equal(walk.truth(3).xy, [[[10, 12.5], [20, 30]]])
    assert walk.truth(2) is None


def test_scores_by_hand(make, tmp_path):
    # Copies are 2.5, 10 and 10 px off in walk, where b is not annotated in frame 4; 1 px in run.
    task = find_pose(make({"walk": WALK, "run": RUN}))  # 2.5, 1.25 and 0.625 px
    total, records = scores_of(task, tmp_path, copied)
    assert total == pytest.approx({"PCK@0.05": 2 / 4, "PCK@0.025": 1 / 4, "PCK@0.0125": 0})
    assert records["walk"]["scores"]["PCK@0.05"] == pytest.approx(1 / 3)  # the mean over sequences is 2/3
    assert records["walk"]["series"] == {"all": [None, None, None, 0.5, 0.0]}
    detail = records["walk"]["detail"]
    assert (detail["points"], detail["lost"]) == (3, 0)
    assert detail["keypoints"]["a"] == {
        "points": 2,
        "correct": {"PCK@0.05": 1, "PCK@0.025": 0, "PCK@0.0125": 0},
    }
    assert detail["keypoints"]["b"]["points"] == 1
    assert detail["instances"]["0"] == {"points": 3, "correct": detail["correct"]}
    assert detail["correct"] == {"PCK@0.05": 1, "PCK@0.025": 0, "PCK@0.0125": 0}
    json.dumps(records, allow_nan=False)


def test_perfect_predictions_and_another_alpha(make, tmp_path):
    task = find_pose(make({"walk": WALK, "run": RUN}), alpha=0.2)
    assert task.keys == ("PCK@0.2", "PCK@0.1", "PCK@0.05")
    total, records = scores_of(task, tmp_path / "perfect", perfect)
    assert set(total.values()) == {1.0}
    assert records["walk"]["series"] == {"all": [None, None, None, 1, 1]}
    assert scores_of(task, tmp_path / "copied", copied)[0]["PCK@0.2"] == 1  # 10 px
    assert task.summarize({}) == dict.fromkeys(task.keys)


def test_lost_points_and_frames_are_wrong(make, tmp_path):
    (item,) = find_pose(make({"walk": WALK})).items

    def lose(given, index):
        true = item.truth(index) or given
        xy = true.xy.copy()
        xy[0, 0] = NAN
        return replace(true, xy=xy)

    record = item.score(predict(item, tmp_path, lose))
    assert record["scores"]["PCK@0.05"] == pytest.approx(1 / 3)
    assert record["detail"]["lost"] == 2

    folder = tmp_path / "part"
    write_csv(folder / "keypoints.csv", [(3, "3", item.truth(3))])
    record = item.score(folder)
    assert record["scores"]["PCK@0.05"] == pytest.approx(2 / 3)
    assert (record["detail"]["lost"], record["series"]["all"][3:]) == (1, [1.0, 0.0])
    assert item.predicted(folder, 4) is None
    np.testing.assert_array_equal(item.predicted(folder, 3).xy, item.truth(3).xy)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("0,0,a,1,1,1", "2,0,a,1,1,1"), "has none of the frames 3 to 4"),
        (("3,0,c,1,1,1",), "has the keypoint c, but the truth has a, b"),
        (("3,1,a,1,1,1",), "has the instance 1, but the truth has 0"),
    ],
)
def test_predictions_of_something_else(make, tmp_path, lines, message):
    (item,) = find_pose(make({"walk": WALK})).items
    path = write(tmp_path / "wrong/keypoints.csv", HEADER, *lines)
    with pytest.raises(InputError, match=rf"wrong/keypoints\.csv {message}"):
        item.score(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=r"wrong/keypoints\.csv is missing"):
        item.score(path.parent)


def test_the_folder_decides_about_the_protocol(make, tmp_path):
    root = make({"walk": WALK})
    assert find_pose(root).protocol["name"] == "frame-diagonal"
    masks = root / "Annotations/480p/walk"
    for index in (3, 4):
        save_gray(masks / f"{index:05d}.png", np.ones(SIZE, np.uint8))
    task = find_pose(root)
    assert (task.protocol["name"], task.keys[0]) == ("badja", "PCK@0.2")
    assert find_pose(root, "frame-diagonal").keys[0] == "PCK@0.05"
    write(root / "Keypoints/walk.heads.csv", "frame,instance,x1,y1,x2,y2", "3,0,0,0,3,4", "4,0,0,0,30,40")
    task = find_pose(root)
    assert (task.protocol["name"], task.keys) == ("posetrack", ("PCKh@0.5", "PCKh@0.25", "PCKh@0.125"))
    # 0.5 * 0.6 * 5 = 1.5 px in frame 3, 15 px in frame 4: copies are 2.5, 10 and 10 px off
    total, _ = scores_of(task, tmp_path, copied)
    assert total == pytest.approx({"PCKh@0.5": 1 / 3, "PCKh@0.25": 0, "PCKh@0.125": 0})

    make({"run": RUN})
    with pytest.raises(InputError, match="run to frame-diagonal and walk to posetrack: choose one"):
        find_pose(root)


def test_the_joints_of_badja_ask_for_silhouettes(make, tmp_path):
    with pytest.raises(InputError, match="Annotations/480p/bear is missing: the protocol badja needs"):
        find_pose(make({"bear": BADJA}))
    faces = [line.replace("upper_left_1", "left_ear") for line in BADJA]
    assert find_pose(make({"face": faces}, tmp_path / "faces")).protocol["name"] == "frame-diagonal"


def test_several_instances_have_no_silhouette(make):
    root = make({"walk": (*WALK, "1,1,a,1,1,1", "3,1,a,1,1,1")})
    save_gray(root / "Annotations/480p/walk/00003.png", np.ones(SIZE, np.uint8))
    assert find_pose(root).protocol["name"] == "frame-diagonal"


@pytest.mark.parametrize("given", ["", "JPEGImages", "JPEGImages/480p"])
def test_frames_and_silhouettes_elsewhere(make, tmp_path, given):
    root = make({"bear": BADJA, "horse": BADJA})
    davis = tmp_path / "davis"
    davis.mkdir()
    (root / "JPEGImages").rename(davis / "JPEGImages")
    for name in ("bear", "horse"):
        mask = np.zeros(SIZE, np.uint8)
        mask[:10, :10] = 255
        save_gray(davis / f"Annotations/480p/{name}/00003.png", mask)
    with pytest.raises(InputError, match="JPEGImages has no frames of bear"):
        find_pose(root)
    task = find_pose(root, frames=davis / given)
    assert task.protocol["name"] == "badja"
    with task.items[1].video() as folder:
        assert folder == davis / "JPEGImages/480p/horse"
    # within 0.2 * sqrt(100) = 2 px: the first joint moves by 2 px, the nose by 11
    assert scores_of(task, tmp_path, copied)[0]["PCK@0.2"] == 0.5

    (davis / "JPEGImages/480p/bear").rename(davis / "JPEGImages/480p/cow")
    with pytest.raises(InputError, match="has no frames of bear: put them into a folder of that name"):
        find_pose(root, frames=davis / given)
    draw_frames(davis / "JPEGImages/480p/bear")
    draw_frames(davis / "JPEGImages/1080p/bear")
    if given != "JPEGImages/480p":
        with pytest.raises(InputError, match=r"several resolutions \(1080p, 480p\)"):
            find_pose(root, frames=davis / given)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        find_pose(root, frames=tmp_path / "nowhere")


def test_one_file(make, tmp_path):
    root = make({"walk": WALK, "run": RUN})
    task = find_pose(root / "Keypoints/walk.csv")
    assert [item.name for item in task.items] == ["walk"]
    moved = draw_frames(tmp_path / "pictures")
    with find_pose(root / "Keypoints/walk.csv", frames=moved).items[0].video() as folder:
        assert folder == moved  # the folder itself, as there is one sequence


DLC = (
    ",".join(["scorer", "me", "me", "me", "me"]),
    ",".join(["bodyparts", "snout", "snout", "tail", "tail"]),
    ",".join(["coords", "x", "y", "x", "y"]),
    *("labeled-data/m/img007.png,10,10,20,20", "labeled-data/m/img103.png,11,10,,"),
    "labeled-data/m/img041.png,10,10,22,20",
)


def deeplabcut(tmp_path, *numbers):
    folder = tmp_path / "labeled-data/m"
    for number in numbers:
        save_gray(folder / f"img{number:03d}.png", np.full((*SIZE, 3), number, np.uint8))
    return write(folder / "CollectedData_me.csv", *DLC)


def test_labels_of_deeplabcut_name_their_pictures(tmp_path):
    task = find_pose(deeplabcut(tmp_path, 7, 41, 60, 103))
    (item,) = task.items
    assert (item.name, item.frames, item.runs()[0].end) == ("CollectedData_me", 4, 4)
    assert [float(item.frame(n).mean()) for n in range(4) if item.truth(n)] == [7, 41, 103]
    np.testing.assert_array_equal(item.truth(1).xy, [[[10, 10], [22, 20]]])
    assert scores_of(task, tmp_path, copied)[0] == {"PCK@0.05": 1, "PCK@0.025": 2 / 3, "PCK@0.0125": 1 / 3}


def test_a_picture_that_deeplabcut_names_is_missing(tmp_path):
    with pytest.raises(
        InputError, match=r"CollectedData_me\.csv names the image .*img041\.png, which is no picture"
    ):
        find_pose(deeplabcut(tmp_path, 7, 103))


def test_labels_of_deeplabcut_on_the_whole_video(tmp_path):
    file = deeplabcut(tmp_path)
    with pytest.raises(InputError, match="has no frames of CollectedData_me"):
        find_pose(file)
    frames = draw_frames(tmp_path / "video", 110, size=(2, 2))
    (item,) = find_pose(file, frames=frames).items
    assert [n for n in range(item.frames) if item.truth(n)] == [7, 41, 103]


def test_deeplabcut_h5(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    csv = deeplabcut(tmp_path, 7, 41, 103)
    table = pandas.read_csv(csv, header=[0, 1, 2], index_col=0)
    table.columns.names = ["scorer", "bodyparts", "coords"]
    table.to_hdf(csv.with_suffix(".h5"), key="df_with_missing")
    items = [find_pose(csv.with_suffix(suffix)).items[0] for suffix in (".csv", ".h5")]
    np.testing.assert_array_equal(items[0].pose.xy, items[1].pose.xy)


def test_coco_counts_its_pictures_or_says_their_numbers(tmp_path):
    folder = draw_frames(tmp_path / "pictures", 3)
    points = [Keypoints.from_points([(5 + n, 5)], ["a"]) for n in range(3)]
    file = tmp_path / "pictures/keypoints.json"
    write_coco(file, [(n, f"{n:05d}.jpg", points[n]) for n in (0, 2)], SIZE)
    (item,) = find_pose(file).items  # frame_index says 0 and 2
    assert [item.truth(n) is not None for n in range(3)] == [True, False, True]

    data = json.loads(file.read_text())
    for image in data["images"]:
        del image["frame_index"]
    file.write_text(json.dumps(data))
    (item,) = find_pose(file).items  # by the names of the pictures
    assert [item.truth(n) is not None for n in range(3)] == [True, False, True]
    for image in data["images"]:
        image["file_name"] = f"other{image['file_name']}"
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"lists 2 pictures without frame_index, but .*pictures has 3"):
        find_pose(file)
    (folder / "00001.jpg").unlink()
    (item,) = find_pose(file).items
    np.testing.assert_array_equal(item.truth(1).xy, points[2].xy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "coco"}, "no keypoint protocol coco: choose badja, posetrack, frame-diagonal, jhmdb"),
        ({"alpha": 0}, "alpha is 0"),
        ({"alpha": NAN}, "alpha is nan"),
        ({"protocol": "jhmdb"}, "set/joint_positions is missing"),
    ],
)
def test_wrong_choices(make, arguments, message):
    with pytest.raises(InputError, match=message):
        find_pose(make({"walk": WALK}), **arguments)


def test_wrong_layouts(make, tmp_path):
    with pytest.raises(InputError, match="none is missing"):
        find_pose(tmp_path / "none")
    with pytest.raises(InputError, match="has no folder Keypoints"):
        find_pose(tmp_path)
    (tmp_path / "empty/Keypoints").mkdir(parents=True)
    write(tmp_path / "empty/Keypoints/walk.heads.csv", "frame")
    with pytest.raises(InputError, match="Keypoints holds no keypoints"):
        find_pose(tmp_path / "empty")
    root = make({"walk": WALK})
    write(root / "Keypoints/walk.json", "{}")
    with pytest.raises(InputError, match="two files of keypoints of walk"):
        find_pose(root)


def test_fingerprints_tell_of_any_change(make, tmp_path):
    root = make({"walk": WALK})
    masks = root / "Annotations/480p/walk"
    for index in range(5):
        save_gray(masks / f"{index:05d}.png", np.ones(SIZE, np.uint8))
    before = find_pose(root, "badja").items[0].fingerprint()
    assert before == pickle.loads(pickle.dumps(find_pose(root, "badja").items[0])).fingerprint()
    assert len(before) == 64

    def changed(path, content):
        kept = path.read_bytes()
        content(path)
        now = find_pose(root, "badja").items[0].fingerprint()
        path.write_bytes(kept)
        assert find_pose(root, "badja").items[0].fingerprint() == before
        return now != before

    assert changed(
        root / "JPEGImages/480p/walk/00002.jpg", lambda p: save_gray(p, np.ones((*SIZE, 3), np.uint8))
    )
    assert changed(root / "Keypoints/walk.csv", lambda p: write(p, HEADER, *WALK[:4], "4,0,a,10,21,1"))
    assert changed(masks / "00003.png", lambda p: save_gray(p, 2 * np.ones(SIZE, np.uint8)))
    assert not changed(masks / "00002.png", lambda p: save_gray(p, 2 * np.ones(SIZE, np.uint8)))
    write(root / "Keypoints/walk.heads.csv", "frame,instance,x1,y1,x2,y2", "3,0,0,0,3,4", "4,0,0,0,3,4")
    one = find_pose(root).items[0].fingerprint()
    write(root / "Keypoints/walk.heads.csv", "frame,instance,x1,y1,x2,y2", "3,0,0,0,3,4", "4,0,0,0,3,5")
    assert find_pose(root).items[0].fingerprint() != one


REAL = [  # folder, frames, protocol, PCK of copies of each sequence
    ("DLC-openfield", None, "frame-diagonal", {"m4s1": 0.013}),
    ("PoseTrack-bonn", None, "posetrack", {"060470979": 0.121}),
    ("BADJA", "DAVIS-2016-dev", "badja", {"bear": 0.518, "horsejump-low": 0.347}),
]


@pytest.mark.parametrize(("folder", "frames", "protocol", "expected"), REAL)
def test_real_sets(data, tmp_path, folder, frames, protocol, expected):
    task = find_pose(data / "eval" / folder, frames=None if frames is None else data / "eval" / frames)
    assert (task.protocol["name"], task.title) == (protocol, folder)
    total, records = scores_of(task, tmp_path / "copied", copied)
    main = task.keys[0]
    assert {name: round(record["scores"][main], 3) for name, record in records.items()} == expected
    tighter = [total[key] for key in task.keys]
    assert tighter == sorted(tighter, reverse=True)
    for item in task.items:
        pose: PoseSet = item.pose
        same = score(pose, dict.fromkeys(pose.numbers, pose.given))
        assert records[item.name]["scores"][main] == same["PCK"]
        assert records[item.name]["detail"]["points"] == same["points"]
    assert set(scores_of(task, tmp_path / "perfect", perfect)[0].values()) == {1.0}
