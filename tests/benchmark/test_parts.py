"""VIP and folders of classes: layouts, what is given and scored, and totals over sequences."""

import json
import pickle
import shutil

import numpy as np
import pytest

from pretrain.errors import InputError
from vidtrack.benchmark.mask_files import check_results
from vidtrack.benchmark.part_metrics import confusion, instance_ap, mean_iou
from vidtrack.benchmark.parts import INSTANCE_KEYS, find_parts

from .conftest import SIZE, save_gray, save_palette

FRAMES = 4
VIDEOS = "videos1", "videos2"


def noise(seed, values):
    return np.random.default_rng(seed).choice(values, SIZE).astype(np.uint8)


def categories(video, index):
    return noise(10 * int(video[-1]) + index, [0, 2, 5, 19, 255] if index else [0, 2, 5, 13])


def people(index):
    """Two people with a face (1, 3) and a coat (2, 4) each, who move to the right."""
    ids = np.zeros(SIZE, np.uint8)
    for number, top in enumerate([1, 13]):
        ids[top : top + 4, 1 + index : 9 + index] = 2 * number + 1
        ids[top + 4 : top + 8, 1 + index : 9 + index] = 2 * number + 2
    return ids


def instances(index):
    """VIP numbers instances in each frame anew: from 1 in the first, in the others from 11, another way."""
    return np.array([0, 1, 2, 3, 4] if index == 0 else [0, 14, 11, 12, 13], np.uint8)[people(index)]


def kinds(index):
    return {1: 13, 2: 6, 3: 13, 4: 6} if index == 0 else {14: 13, 11: 6, 12: 13, 13: 6}


@pytest.fixture
def vip(tmp_path):
    root = tmp_path / "VIP"
    for video in VIDEOS:
        for index in range(FRAMES):
            name = f"{video}/{25 * index + 1:012d}"
            save_gray(root / "VIP_Fine/Images" / f"{name}.jpg", np.zeros((*SIZE, 3), np.uint8))
            labels = root / "VIP_Fine/Annotations"
            save_gray(labels / "Category_ids" / f"{name}.png", categories(video, index))
            save_gray(labels / "Instance_ids" / f"{name}.png", instances(index))
            lines = "".join(f"{id_} {class_}\n" for id_, class_ in kinds(index).items())
            (labels / "Instance_ids" / f"{name}.txt").write_text(lines)
    lists = root / "VIP_Fine/lists"
    lists.mkdir()
    (lists / "val_videos.txt").write_text("\n".join(VIDEOS))
    (lists / "train_videos.txt").write_text("VIP/videos2\n")
    return root


def stem(index):
    return f"{25 * index + 1:012d}"


def test_vip_classes(vip, tmp_path):
    task = find_parts(vip)
    assert (task.benchmark, task.title, task.keys) == ("parts", "VIP val", ("mIoU",))
    assert [item.name for item in task.items] == list(VIDEOS)
    assert [item.name for item in find_parts(vip, "train").items] == ["videos2"]
    records, total = {}, np.zeros((20, 20), np.int64)
    for item in task.items:
        item = pickle.loads(pickle.dumps(item))
        (run,) = item.runs()
        given = run.annotations[0]
        assert (run.name, run.start, run.soft) == ("", 0, False) and given.objects == [2, 5, 13]
        np.testing.assert_array_equal(given.ids, categories(item.name, 0))
        for index in range(FRAMES):
            result = noise(index + 100, [0, 2, 5, 7])
            save_palette(tmp_path / "out" / item.name / f"{stem(index)}.png", result)
            matrix = confusion(categories(item.name, index), result, 20)
            total += matrix
            record = item.score(tmp_path / "out" / item.name) if index == FRAMES - 1 else None
        records[item.name] = json.loads(json.dumps(record))
        assert record["series"]["all"][-1] == pytest.approx(mean_iou(matrix, among="any"))
        assert None not in record["series"]["all"]  # the given frame is scored
    # 0, 2, 5, 13, 19 of the truth, and 7, which only the result has.
    assert task.summarize(records)["mIoU"] == pytest.approx(mean_iou(total, among="any"))
    assert (total.sum(0) + total.sum(1) > 0).sum() == 6
    summed = np.sum([record["detail"]["confusion"] for record in records.values()], axis=0)
    np.testing.assert_array_equal(summed, total)


def test_perfect_classes(vip, tmp_path):
    (item,) = find_parts(vip, "train").items
    for index in range(FRAMES):
        save_palette(tmp_path / f"out/videos2/{stem(index)}.png", categories("videos2", index))
    check_results(find_parts(vip, "train"), tmp_path / "out")  # their 255 is no class
    assert item.score(tmp_path / "out/videos2")["scores"] == {"mIoU": 1.0}
    save_palette(tmp_path / f"out/videos2/{stem(0)}.png", categories("videos2", 0) + 20)
    with pytest.raises(InputError, match=r"0{11}1.png has the id 20, but the objects .* are 1, 2, .*, 19\."):
        check_results(find_parts(vip, "train"), tmp_path / "out")


def test_unknown_classes_of_vip_are_void(vip, tmp_path):
    ids = categories("videos2", 0)
    ids[:2] = 77
    save_gray(vip / f"VIP_Fine/Annotations/Category_ids/videos2/{stem(0)}.png", ids)
    (item,) = find_parts(vip, "train").items
    given = item.runs()[0].annotations[0]
    assert given.void[:2].all() and not given.void[2:].any()
    assert not given.ids[:2].any()


def test_layout_of_aten(vip):
    inside = vip / "VIP_Fine"
    for folder in ("Category_ids", "Instance_ids"):
        (inside / "Annotations" / folder).rename(inside / folder)
    (inside / "Annotations").rmdir()
    assert len(find_parts(inside).items) == len(find_parts(inside, instances=True).items) == 2
    shutil.rmtree(inside / "lists")
    assert len(find_parts(inside, "any").items) == 2


def test_vip_instances(vip, tmp_path):
    task = find_parts(vip, instances=True)
    assert task.keys == INSTANCE_KEYS == ("AP-Mean", *(f"AP-{n}0" for n in range(1, 10)))
    records = {}
    for item in task.items:
        item = pickle.loads(pickle.dumps(item))
        (run,) = item.runs()
        np.testing.assert_array_equal(run.annotations[0].ids, instances(0))
        assert item.truth(2).objects == [11, 12, 13, 14]
        for index in range(FRAMES):
            result = people(index)  # the ids of the first frame all along
            if item.name == "videos2":
                result[result == 4] = 0
            save_palette(tmp_path / item.name / f"{stem(index)}.png", result)
        records[item.name] = json.loads(json.dumps(item.score(tmp_path / item.name)))
    assert records["videos1"]["scores"] == dict.fromkeys(INSTANCE_KEYS, 1.0)
    # Faces: all found. Coats: half of them, all right: precision 1, recall 1/2.
    assert records["videos2"]["scores"] == pytest.approx(dict.fromkeys(INSTANCE_KEYS, 3 / 4))
    assert records["videos2"]["detail"]["counts"] == {"6": 2 * FRAMES, "13": 2 * FRAMES}
    assert records["videos2"]["series"]["all"] == [3 / 4] * FRAMES
    # Over both: recall of coats 3/4.
    assert task.summarize(records) == pytest.approx(dict.fromkeys(INSTANCE_KEYS, 7 / 8))


def test_instances_that_stay_behind(vip, tmp_path):
    """Copies of the first frame overlap less and less: against instance_ap on overlaps by hand."""
    item = find_parts(vip, instances=True).items[0]
    for index in range(FRAMES):
        save_palette(tmp_path / f"{stem(index)}.png", instances(0))
    scores = item.score(tmp_path)["scores"]
    moved = [1.0, 7 / 9, 6 / 10, 5 / 11]  # of 8 columns, 0 to 3 further
    overlaps = {class_: [iou for iou in moved for _ in "ab"] for class_ in (6, 13)}
    expected = instance_ap({6: 8, 13: 8}, overlaps)
    assert scores["AP-Mean"] == pytest.approx(expected.mean()) and 0 < expected.mean() < 1
    assert [scores[key] for key in INSTANCE_KEYS[1:]] == pytest.approx(list(expected))


def test_what_is_wrong_with_vip(vip):
    inside = vip / "VIP_Fine"
    text = inside / f"Annotations/Instance_ids/videos1/{stem(1)}.txt"

    def refused(message, *args):
        with pytest.raises(InputError, match=message):
            find_parts(vip, *args)

    refused(r"lists has no split test: there is train, val", "test")
    for content, message in {
        "1 13\nx 2\n": "line 2: a line is 'id class'",
        "1\n": "line 1: a line is 'id class'",
        "1 20\n": "line 1: ids go from 1 to 254, classes from 0 to 19",
        "255 1\n": "line 1: ids go from",
    }.items():
        text.write_text(content)
        refused(rf"videos1/{stem(1)}.txt {message}", "val", True)
    text.write_bytes(b"\xff\xfe")
    refused(r"txt can't be read: it has a line 'id class'", "val", True)
    text.unlink()
    refused(r"txt is missing: it has a line 'id class'", "val", True)
    find_parts(vip)  # classes don't need it
    (inside / f"Annotations/Instance_ids/videos1/{stem(0)}.txt").write_text("9 13\n")
    text.write_text("1 13\n")
    refused(rf"{stem(0)}.png has no instance", "val", True)
    (inside / f"Images/videos1/{stem(2)}.jpg").unlink()
    refused(rf"videos1/{stem(2)}.jpg is missing")
    shutil.rmtree(inside / "Annotations/Category_ids/videos1")
    refused(r"Category_ids/videos1 is missing")
    shutil.rmtree(inside / "Annotations/Category_ids")
    refused(r"Category_ids is missing: the layout of VIP")


# --- folders of classes


def make_classes(root, sequences):
    """`{name: {frame: ids}}`, six frames each."""
    for name, annotations in sequences.items():
        for index in range(6):
            save_gray(root / "JPEGImages/360p" / name / f"{index:05d}.jpg", np.zeros((*SIZE, 3), np.uint8))
        for index, ids in annotations.items():
            save_palette(root / "Annotations/360p" / name / f"{index:05d}.png", ids)
    return root


def test_folders_of_classes(tmp_path):
    truth = {
        "a": {index: noise(index, [1, 2, 4, 255]) for index in (1, 3, 5)},
        "b": {index: noise(50 + index, [1, 7]) for index in (0, 1)},
    }
    task = find_parts(make_classes(tmp_path, truth))
    assert task.protocol["classes"] == [1, 2, 4, 7]
    records, total = {}, np.zeros((8, 8), np.int64)
    for item in task.items:
        (run,) = item.runs()
        start = min(truth[item.name])
        assert (run.start, list(run.annotations)) == (start, [start])
        np.testing.assert_array_equal(run.annotations[start].void, truth[item.name][start] == 255)
        for index in range(start, 6):
            result = noise(index + 70, [0, 1, 2, 7])
            save_palette(tmp_path / "out" / item.name / f"{index:05d}.png", result)
            if index in truth[item.name] and index > start:  # the given frame isn't scored
                total += confusion(truth[item.name][index], result, 8)
        records[item.name] = json.loads(json.dumps(item.score(tmp_path / "out" / item.name)))
    check_results(task, tmp_path / "out")
    series = records["a"]["series"]["all"]
    assert [index for index, value in enumerate(series) if value is not None] == [3, 5]
    # 0 is no class here, and 7 only of b; a result's 0 is wrong.
    ious = [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in (1, 2, 4, 7)]
    assert task.summarize(records)["mIoU"] == pytest.approx(np.mean(ious))
    save_palette(tmp_path / "out/a/00005.png", noise(0, [3]))
    with pytest.raises(InputError, match=r"a/00005.png has the id 3, but the objects .* are 1, 2, 4, 7\."):
        check_results(task, tmp_path / "out")


def test_zero_is_a_class_where_the_truth_has_it(tmp_path):
    truth = {0: noise(0, [0, 3]), 4: noise(1, [0, 3])}
    (item,) = find_parts(make_classes(tmp_path, {"a": truth})).items
    result = np.full(SIZE, 3, np.uint8)
    save_palette(tmp_path / "out/00004.png", result)
    share = (truth[4] == 3).mean()
    assert item.score(tmp_path / "out")["scores"]["mIoU"] == pytest.approx((0 + share) / 2)


def test_what_is_wrong_with_classes(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is missing: give a folder in the layout of VIP"):
        find_parts(tmp_path / "nowhere")
    root = make_classes(tmp_path / "one", {"a": {0: noise(0, [1, 2])}})
    with pytest.raises(InputError, match="has one annotation per sequence"):
        find_parts(root)
    with pytest.raises(InputError, match=r"is no VIP data .* only that has instances"):
        find_parts(root, instances=True)
    with pytest.raises(InputError, match="has no class: all pixels are void"):
        find_parts(make_classes(tmp_path / "void", {"a": {0: noise(0, [255])}}))
    blank = {"a": {0: noise(0, [0, 255]), 1: noise(0, [1])}}
    with pytest.raises(InputError, match=r"a/00000.png has no class: the first annotation is given"):
        find_parts(make_classes(tmp_path / "blank", blank))


def test_real_camvid(data, tmp_path):
    task = find_parts(data / "eval/CamVid-0016E5")
    (item,) = task.items
    assert (item.frames, item.size, item.objects) == (30, (360, 480), tuple(range(1, 12)))
    given = item.runs()[0].annotations[0]
    for file in item.files:
        given.save(tmp_path / f"{file.stem}.png")  # copies, void as 255
    record = item.score(tmp_path)
    copied = task.summarize({item.name: record})["mIoU"]
    slow = np.zeros((12, 12), np.int64)
    copy = np.where(given.void, 0, given.ids).astype(np.uint8)
    for index in range(1, 30):
        slow += confusion(item.annotation(index), copy, 12)
    assert copied == record["scores"]["mIoU"] == pytest.approx(mean_iou(slow))
    assert 0.2 < copied < 0.9
