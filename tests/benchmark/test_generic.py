"""Objects that appear later: what is given and scored, and runs put together."""

import json
import pickle

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.generic import find_generic
from vidtrack.benchmark.mask_files import check_results
from vidtrack.benchmark.metrics import contour_accuracy, region_similarity

from .conftest import SIZE, save_gray, save_palette

FRAMES = 9
NOTHING = np.zeros(SIZE, np.uint8)


def squares(index, ids):
    """Ids of frame `index`: a square of 7 for each of `ids`, one below the other, moving to the right."""
    result = np.zeros(SIZE, np.uint8)
    for id_ in ids:
        result[8 * (id_ - 1) : 8 * id_ - 1, 2 * index : 2 * index + 7] = id_
    return result


def make(root, name="a", resolution="480p", annotations=None):
    """A sequence: object 1 from frame 0 on, 2 from 4 on; 1 is lost in 6. Every second frame is annotated."""
    if annotations is None:
        ids = {0: [1], 2: [1], 4: [1, 2], 6: [2], 8: [1, 2]}
        annotations = {index: squares(index, of) for index, of in ids.items()}
    for index in range(FRAMES):
        save_gray(
            root / "JPEGImages" / resolution / name / f"{index:05d}.jpg", np.zeros((*SIZE, 3), np.uint8)
        )
    for index, ids in annotations.items():
        save_palette(root / "Annotations" / resolution / name / f"{index:05d}.png", ids)
    return root


def item_of(root, **options):
    (item,) = find_generic(root, **options).items
    return item


def test_given_and_scored(tmp_path):
    task = find_generic(make(tmp_path / "set"))
    assert (task.benchmark, task.title) == ("davis", "set all")
    assert task.keys == ("J&F-Mean", "J-Mean", "F-Mean")
    (item,) = task.items
    item = pickle.loads(pickle.dumps(item))
    assert (item.frames, item.objects, item.given) == (FRAMES, (1, 2), {1: 0, 2: 4})
    assert item.judged == {1: (2, 4, 6, 8), 2: (6, 8)}  # with the last, and where 1 is lost
    first, second = item.runs()
    assert (first.name, first.start, first.soft) == ("from-00000", 0, True)
    assert (second.name, second.start, second.soft) == ("from-00004", 4, True)
    np.testing.assert_array_equal(first.annotations[0].ids, squares(0, [1]))
    np.testing.assert_array_equal(
        second.annotations[4].ids, squares(4, [2])
    )  # the object 1 isn't given again
    assert item.truth(1) is None and item.truth(4).objects == [1, 2]


def test_one_run_where_all_appear_at_once(tmp_path):
    root = make(tmp_path, annotations={3: squares(3, [1, 2]), 5: squares(5, [1])})
    item = item_of(root)
    (run,) = item.runs()
    assert (run.name, run.start, run.soft, list(run.annotations)) == ("", 3, False, [3])
    assert item.judged == {1: (5,), 2: (5,)}
    for index in range(3, FRAMES):
        save_palette(tmp_path / f"out/{index:05d}.png", squares(index, [1]))
    record = item.score(tmp_path / "out")
    assert record["scores"]["J&F-Mean"] == 1  # 2 is lost: empty against empty
    assert record["series"]["1"] == [None] * 5 + [1.0] + [None] * 3
    assert item.predicted(tmp_path / "out", 2) is None


def test_scores_are_those_of_a_slow_loop(tmp_path):
    item = item_of(make(tmp_path))
    results = {index: np.roll(squares(index, [1, 2]), 1, axis=1) for index in range(FRAMES)}
    for index, ids in results.items():
        save_palette(tmp_path / f"out/{index:05d}.png", ids)  # put together by another tool
    record = json.loads(json.dumps(item.score(tmp_path / "out")))
    j, f = {1: [], 2: []}, {1: [], 2: []}
    for id_, frames in {1: (2, 4, 6, 8), 2: (6, 8)}.items():
        for index in frames:
            truth = squares(index, {2: [1], 4: [1, 2], 6: [2], 8: [1, 2]}[index]) == id_
            j[id_].append(float(region_similarity(truth, results[index] == id_)))
            f[id_].append(float(contour_accuracy(truth, results[index] == id_)))
    assert j[1][2] == 0  # a result where the truth has lost the object
    means = [np.mean([np.mean(values[id_]) for id_ in (1, 2)]) for values in (j, f)]
    assert record["scores"] == pytest.approx(
        {"J&F-Mean": np.mean(means), "J-Mean": means[0], "F-Mean": means[1]}
    )
    lists = record["detail"]["1"]["J"]
    assert [lists[index] for index in (2, 4, 6, 8)] == pytest.approx(j[1])
    assert [index for index in range(FRAMES) if lists[index] is None] == [0, 1, 3, 5, 7]


def test_the_mean_is_over_objects_of_all_sequences(tmp_path):
    make(tmp_path, "a")
    make(tmp_path, "b", annotations={0: squares(0, [1]), 8: squares(8, [1])})
    task = find_generic(tmp_path)
    records = {}
    for item in task.items:
        for index in range(FRAMES):
            ids = NOTHING if item.name == "b" else squares(index, [1, 2])
            save_palette(tmp_path / f"out/{item.name}/{index:05d}.png", ids)
        records[item.name] = item.score(tmp_path / "out" / item.name)
    assert records["b"]["scores"]["J-Mean"] == 0
    # Object 1 of a is right in 3 of 4 frames, 2 in all, that of b in none.
    assert task.summarize(records)["J-Mean"] == pytest.approx((3 / 4 + 1 + 0) / 3)


def test_void_and_white(tmp_path):
    ids = squares(4, [1])
    ids[-1] = 255
    make(tmp_path, "void", annotations={0: squares(0, [1]), 4: ids})
    make(tmp_path, "white", annotations={0: squares(0, [1]) * 255, 4: squares(4, [1]) * 255})
    void, white = find_generic(tmp_path).items
    assert (void.objects, void.void, void.binary) == ((1,), 255, False)
    assert (white.objects, white.void, white.binary) == ((1,), None, True)
    result = squares(4, [1])
    result[-1] = 1
    save_palette(tmp_path / "out/00004.png", result)
    assert void.score(tmp_path / "out")["scores"]["J&F-Mean"] == 1  # the last row doesn't count
    assert white.score(tmp_path / "out")["scores"]["J&F-Mean"] < 1
    np.testing.assert_array_equal(white.runs()[0].annotations[0].ids, squares(0, [1]))


# --- layouts


def test_layouts(tmp_path):
    flat = make(tmp_path / "flat", resolution=".")
    assert find_generic(flat).protocol["resolution"] is None
    root = make(make(tmp_path / "set"), resolution="720p")
    with pytest.raises(InputError, match=r"several folders \(480p, 720p\): choose one with --resolution"):
        find_generic(root)
    assert find_generic(root, None, "720p").protocol["resolution"] == "720p"
    with pytest.raises(InputError, match=r"1080p is missing: there is 480p, 720p"):
        find_generic(root, None, "1080p")
    make(flat, "b", ".")
    (flat / "ImageSets/2017").mkdir(parents=True)
    (flat / "ImageSets/2017/val.txt").write_text("b\n")
    assert [item.name for item in find_generic(flat, "val").items] == ["b"]
    assert [item.name for item in find_generic(flat).items] == ["a", "b"]
    with pytest.raises(InputError, match=r"ImageSets has no split vla: there is val"):
        find_generic(flat, "vla")


def listed(objects, **more):
    frames = {str(id_): {"category": "dog", "frames": frames} for id_, frames in objects.items()}
    return json.dumps({"videos": {"a": {"objects": frames}, **more}})


def test_youtube_vos(tmp_path):
    root = make(tmp_path / "train", resolution=".")
    stems = [f"{index:05d}" for index in (4, 6, 8)]
    (root / "meta.json").write_text(listed({1: ["00002", "00004", "00008"], 2: stems}))
    task = find_generic(tmp_path, "train")
    assert (task.protocol["name"], task.title.split()[-1]) == ("youtube-vos", "train")
    (item,) = task.items
    assert item.given == {1: 2, 2: 4}  # not 0, where 1 is annotated first
    assert item.judged == {1: (4, 6, 8), 2: (6, 8)}
    # Listed but not annotated: the truth isn't public.
    (root / "meta.json").write_text(listed({1: ["00000", "00006", "00008"], 2: stems}))
    assert item_of(root).judged[1] == (2, 4, 8)


def test_val_of_youtube_vos_cannot_be_scored(tmp_path):
    root = make(tmp_path, resolution=".", annotations={0: squares(0, [1]), 4: squares(4, [2])})
    (root / "meta.json").write_text(listed({1: ["00000", "00004"], 2: ["00004", "00008"]}))
    with pytest.raises(InputError, match=r"nothing can be scored .*YouTube-VOS's val isn't public"):
        find_generic(root)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", r"meta.json can't be read: it is JSON like \{\"videos\""),
        ('{"videos": [1]}', "meta.json has no objects of a|can't be read"),
        ('{"videos": {"b": {"objects": {}}}}', "meta.json has no objects of a"),
        ('{"videos": {"a": {"objects": {"x": {"frames": []}}}}}', "meta.json can't be read"),
        (listed({1: []}), "object 1 of a needs frames"),
        (listed({255: ["00000"]}), "object 255 of a needs frames and an id in 1..254"),
        (listed({1: ["00000", "12345"]}), "lists object 1 in frame 12345, which a doesn't have"),
        (listed({2: ["00002"]}), r"gives object 2 of a in 00002, but .*/a/00002.png lacks it"),
        (listed({1: ["00001"]}), "gives object 1 of a in 00001, but 00001 has no annotation in a"),
    ],
)
def test_wrong_meta(tmp_path, meta, message):
    root = make(tmp_path, resolution=".")
    (root / "meta.json").write_text(meta)
    with pytest.raises(InputError, match=message):
        find_generic(root)


def spoils():
    def unlink(path):
        return lambda root: (root / path).unlink()

    label, frame = "Annotations/480p/a", "JPEGImages/480p/a"
    return {
        "frame": (unlink(f"{frame}/00004.jpg"), r"a/00004.jpg is missing: .*a/00004.png annotates it"),
        "size": (
            lambda root: save_palette(root / label / "00004.png", squares(4, [1])[:20]),
            r"a/00004.png has 32x20 pixels, .* 32x24",
        ),
        "damaged": (
            lambda root: (root / label / "00004.png").write_bytes(b"\x89PNG"),
            r"a/00004.png can't be read as a mask",
        ),
        "no object": (
            lambda root: [save_palette(path, NOTHING) for path in (root / label).iterdir()],
            r"Annotations/480p/a marks no object",
        ),
        "once": (
            lambda root: [(root / label / f"{i:05d}.png").unlink() for i in (2, 4, 6, 8)],
            "no object that is annotated again",
        ),
        "no annotations": (
            lambda root: (root / "Annotations").rename(root / "Labels"),
            r"Annotations is missing: the layout has JPEGImages and Annotations",
        ),
        "a frame folder alone": (
            lambda root: save_gray(root / "JPEGImages/480p/b/00000.jpg", NOTHING),
            r"Annotations/480p/b is missing: each sequence needs",
        ),
    }


@pytest.mark.parametrize("name", spoils())
def test_what_is_wrong_is_said(tmp_path, name):
    spoil, message = spoils()[name]
    root = make(tmp_path)
    find_generic(root)
    spoil(root)
    with pytest.raises(InputError, match=message):
        find_generic(root)


def test_masks_of_other_tools(tmp_path):
    """SAM 2's folder per object: one that appears later has no file before."""
    task = find_generic(make(tmp_path))
    for index in range(FRAMES):
        for id_ in (1, 2):
            if index >= {1: 0, 2: 4}[id_]:
                path = tmp_path / f"out/a/{id_:03d}/{index:05d}.png"
                save_gray(path, squares(index, [id_]) > 0)
    check_results(task, tmp_path / "out")
    assert task.items[0].score(tmp_path / "out/a")["scores"]["J-Mean"] == pytest.approx((3 / 4 + 1) / 2)
    (tmp_path / "out/a/002/00008.png").unlink()
    with pytest.raises(InputError, match="a/00008 has no mask of object 2"):
        check_results(task, tmp_path / "out")


def test_fingerprint(tmp_path):
    root = make(tmp_path, resolution=".")
    before = item_of(root).fingerprint()
    assert item_of(root).fingerprint() == before
    (root / "meta.json").write_text(listed({1: ["00002", "00004"]}))
    assert item_of(root).fingerprint() != before


def test_perfect_runs_score_one(tmp_path):
    """End to end: what a perfect tracker writes for each run."""
    item = item_of(make(tmp_path))
    for run in item.runs():
        (id_,) = run.annotations[run.start].objects
        for index in range(run.start, FRAMES):
            ids = NOTHING if (index, id_) == (6, 1) else squares(index, [id_])
            save_palette(tmp_path / f"out/{run.name}/{index:05d}.png", ids)
    record = item.score(tmp_path / "out")
    assert record["scores"] == {"J&F-Mean": 1.0, "J-Mean": 1.0, "F-Mean": 1.0}
    np.testing.assert_array_equal(item.predicted(tmp_path / "out", 7).ids, squares(7, [1, 2]))
    np.testing.assert_array_equal(item.predicted(tmp_path / "out", 3).ids, squares(3, [1]))
    (tmp_path / "out/from-00004/00008.png").unlink()
    assert item.predicted(tmp_path / "out", 8) is None
    with pytest.raises(InputError, match=r"from-00004/00008.png is missing"):
        item.score(tmp_path / "out")


def test_real_sets(data):
    chair = item_of(data / "eval/PUMaVOS-chair")
    assert (chair.objects, chair.given, len(chair.judged[1])) == ((1,), {1: 0}, 59)
    girls = item_of(data / "eval/DAVIS-2017-240p", split="dev")
    assert girls.objects == tuple(range(1, 8)) and len(girls.runs()) == len(set(girls.given.values()))
